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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.command_line import PROJECT

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
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    read: list[bytes] = []

    def watch() -> None:
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # every writer has closed the terminal
                return
            if not chunk:
                return
            read.append(chunk)

    watcher = threading.Thread(target=watch)
    process = subprocess.Popen(
        [sys.executable, *map(str, args)],
        env={**kept, "PYTHONPATH": str(PROJECT), "TERM": "xterm", "COLORTERM": "truecolor", **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if piped else theirs,
        stderr=theirs,
    )
    os.close(theirs)
    watcher.start()
    stdout, _ = process.communicate()
    watcher.join()
    os.close(ours)
    return Seen(process.returncode, (stdout or b"").decode(), b"".join(read).decode().replace("\r\n", "\n"))


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
