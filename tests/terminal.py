"""A terminal for tests: a command runs in one, and what it draws is read back as pixels."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.command_line import PROJECT, heed_interrupts

Colour = tuple[int, int, int]

_DRAWN = re.compile(r"(\x1b\[[0-9;]*m|[ ▀])+")
_CELLS = re.compile(r"\x1b\[([0-9;]*)m|([^\n])|(\n)")


@dataclass(frozen=True)
class Seen:
    """The result of a command: its exit code, stdout, and what a person sees on the terminal."""

    code: int
    stdout: str
    screen: str

    @property
    def picture(self) -> NDArray[np.uint8]:
        """The picture among the lines on the screen, (h, w, 3)."""
        return pixels("\n".join(line for line in self.screen.splitlines() if _DRAWN.fullmatch(line)))


def vae_on_terminal(*args: str | Path, **how: Any) -> Seen:
    """Run a command on a terminal: see `on_terminal`."""
    return on_terminal("-m", "vaecli", *args, **how)


def on_terminal(
    *args: str | Path,
    columns: int = 80,
    lines: int = 24,
    env: Mapping[str, str] | None = None,
    piped: bool = True,
) -> Seen:
    """Run Python on a terminal of this size, in true colour: its stderr, and its stdout unless that is `piped`."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, *map(str, args)],
        env={**_environment(), **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if piped else theirs,
        stderr=theirs,
    )
    os.close(theirs)
    screen = _Screen(ours)
    stdout, _ = process.communicate()
    return Seen(process.returncode, (stdout or b"").decode(), screen.text())


def interrupted_in_shell(script: str, *, after: str) -> Seen:
    """Run a script of bash in a terminal of its own. Ctrl-C is pressed once the screen has the words `after`."""
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        heed_interrupts()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        ["bash", "-c", script],
        env=_environment(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        pass_fds=(theirs,),
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(theirs)
    screen = _Screen(ours)
    while after not in screen.so_far and process.poll() is None:
        time.sleep(0.01)
    os.write(ours, b"\x03")
    return Seen(process.wait(), "", screen.text())


class _Screen:
    """What is written to a terminal, of which we hold one end."""

    def __init__(self, ours: int) -> None:
        self._ours = ours
        self._read = b""
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def _watch(self) -> None:
        while True:
            try:
                chunk = os.read(self._ours, 65536)
            except OSError:  # every writer has closed the terminal
                return
            if not chunk:
                return
            self._read += chunk

    @property
    def so_far(self) -> str:
        return self._read.decode(errors="replace").replace("\r\n", "\n")

    def text(self) -> str:
        """All of it, once every writer has closed the terminal."""
        self._watcher.join()
        os.close(self._ours)
        return self.so_far


def _environment() -> dict[str, str]:
    """Of a command on a terminal in true colour."""
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    return {**kept, "PYTHONPATH": str(PROJECT), "TERM": "xterm", "COLORTERM": "truecolor"}


def pixels(drawn: str) -> NDArray[np.uint8]:
    """Half blocks in 24-bit colours as the pixels that they show, (h, w, 3): two rows to a line."""
    rows: list[list[tuple[Colour, Colour]]] = [[]]
    ink, paper = (-1, -1, -1), (-1, -1, -1)
    for codes, character, newline in _CELLS.findall(drawn.rstrip("\n")):
        if newline:
            rows.append([])
        elif character:
            assert character in " ▀", character
            rows[-1].append((ink if character == "▀" else paper, paper))
        else:
            ink, paper = _colours([int(code or 0) for code in codes.split(";")], ink, paper)
    cells = np.array(rows)  # (lines, columns, 2, 3)
    assert cells.min() >= 0, "a cell without a colour"
    return cells.transpose(0, 2, 1, 3).reshape(-1, cells.shape[1], 3).astype(np.uint8)


def _colours(codes: list[int], ink: Colour, paper: Colour) -> tuple[Colour, Colour]:
    while codes:
        code = codes.pop(0)
        if code == 0:
            ink, paper = (-1, -1, -1), (-1, -1, -1)
        elif code in (38, 48):
            assert codes.pop(0) == 2, "not a 24-bit colour"
            red, green, blue, *codes = codes
            ink, paper = ((red, green, blue), paper) if code == 38 else (ink, (red, green, blue))
        else:
            raise AssertionError(f"unexpected code {code}")
    return ink, paper
