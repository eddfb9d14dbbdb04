"""Running `vae` from a test: in this process where that is enough, in one of its own where it is not."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaecli.cli import main as cli

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Result:
    """What a command left: its exit code and both streams."""

    code: int
    stdout: bytes
    err: str

    @property
    def out(self) -> str:
        return self.stdout.decode()

    @property
    def json(self) -> dict[str, Any]:
        """The one line of JSON on stdout."""
        (line,) = self.out.splitlines()
        record = json.loads(line)
        assert isinstance(record, dict)
        return record

    @property
    def events(self) -> list[dict[str, Any]]:
        """Every line of stdout as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


def vae(*args: str | Path) -> Result:
    """Run a command in this process, off a terminal."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.run([str(arg) for arg in args])
    out.flush()
    assert isinstance(out.buffer, io.BytesIO)
    return Result(code, out.buffer.getvalue(), err.getvalue())


def vae_process(
    *args: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None, stdin: bytes = b""
) -> Result:
    """Run a command as its users do: a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "vaecli", *map(str, args)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **(env or {})},
        input=stdin,
        capture_output=True,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr.decode())


def python_and_its_memory(program: str, *args: str | Path) -> tuple[Result, int]:
    """Run a program of Python in a process of its own, and the most bytes that it had resident.

    Not by getrusage: there, a new process begins with the peak of the process that started it.
    """
    at_the_end = (
        "import atexit, pathlib\nstatus = pathlib.Path('/proc/self/status')\n"
        "atexit.register(lambda: print(status.read_text().partition('VmHWM:')[2].split()[0]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", at_the_end + program, *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        check=False,
    )
    assert done.stdout, done.stderr.decode()
    *out, kilobytes = done.stdout.splitlines(keepends=True)
    return Result(done.returncode, b"".join(out), done.stderr.decode()), 1024 * int(kilobytes)


def vae_and_its_memory(*args: str | Path) -> tuple[Result, int]:
    """The same for a command."""
    return python_and_its_memory("import sys; from vaecli.cli import main; sys.exit(main.run(sys.argv[1:]))", *args)


def heed_interrupts() -> None:
    """Give signals their meaning back: a job in the background of a script inherits some as ignored. A preexec_fn."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def exit_code(process: subprocess.Popen[Any] | subprocess.CompletedProcess[Any]) -> int:
    """Of a process that has ended, as a shell has it.

    A command that Ctrl-C ends dies of SIGINT if the tests run in the foreground of a terminal.
    """
    return 128 + signal.SIGINT if process.returncode == -signal.SIGINT else int(process.returncode)


def assert_refused(result: Result, code: int, *words: str) -> None:
    """The spec's two lines, this exit code, each of `words` in them, nothing on stdout, no traceback."""
    lines = result.err.splitlines()
    assert result.code == code, result.err
    assert lines[-2].startswith("error: "), result.err
    assert lines[-1].startswith("hint: "), result.err
    assert "Traceback" not in result.err
    assert result.stdout == b""
    for word in words:
        assert word in f"{lines[-2]} {lines[-1]}", f"{word!r} not in {result.err!r}"
