"""Damaged files of every format that vae reads: each command ends as the specification says.

    python -m tests.faults.fuzz --minutes 30

A case is a number: with the same seed it is the same damage of the same file, given to the same command. Allowed are
exit codes from 0 to 4 and an error of two lines. Not allowed are a traceback, an unexpected error, a warning of a
library, a character that controls a terminal, a connection, another program, pickled code, a file that was not asked
for, MEMORY bytes and BUSY seconds. A worker runs many cases in one process, since importing PyTorch takes longer than a
hundred of them; where it dies or hangs, the case is known all the same. What is found is kept in a folder, and belongs
in found/ once it is mended.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import resource
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.command_line import PROJECT, Result, vae
from tests.conftest import TINY
from tests.faults.formats import Command, Format, all_formats

MEMORY = 2**30  # bytes beyond what the imported libraries take
SECONDS = 120.0  # of a case, before its worker is killed: beside other programs it may wait long
BUSY = 10.0  # seconds of processor time of a case
LARGEST_FILE = 2**28  # bytes that a case may write
CASES = 2000  # of one worker
CODES = {0, 1, 2, 3, 4}
SLOW = {"best.pt": 20, "checkpoint.pt": 2}  # formats that are tried once in so many turns: an export takes seconds


@dataclass(frozen=True)
class Case:
    """One damaged file, and the command that reads it."""

    format: Format
    content: bytes
    command: Command


@dataclass(frozen=True)
class Finding:
    """What is wrong about how a case ended."""

    number: int
    name: str  # of the format
    command: Command
    faults: list[str]
    content: bytes


def case(formats: list[Format], seed: int, number: int) -> Case | None:
    """The case of that number; None where it is not the turn of a slow format."""
    kind, turn = formats[number % len(formats)], number // len(formats)
    if not _has_turn(kind, turn):
        return None
    rng = random.Random(f"{seed}/{number}")  # noqa: S311 - it hides nothing
    with warnings.catch_warnings(action="ignore"):  # zipfile on names that are there twice
        return Case(kind, kind.damaged(rng), rng.choice(kind.commands))


def _has_turn(kind: Format, turn: int) -> bool:
    """Whether a format is tried this time; a slow one is the last time of so many."""
    every = SLOW.get(kind.name, 1)
    return turn % every == every - 1


def run_case(one: Case, folder: Path) -> tuple[Result, set[str]]:
    """Run the command on the damaged file in an empty `folder`. Gives the files that were made, too."""
    if one.format.beside is not None:
        shutil.copytree(one.format.beside, folder, dirs_exist_ok=True)
    file = folder / one.format.file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(one.content)
    before = _files(folder.parent)
    result = vae(*(part.format(file=file, folder=folder) for part in one.command))
    return result, _files(folder.parent) - before


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def faults_of(result: Result, made: set[str]) -> list[str]:
    """What is wrong with a result, in words."""
    found, lines = list[str](), result.err.splitlines()
    text = result.err + result.stdout.decode("utf-8", "replace")
    if result.code not in CODES:
        found.append(f"exit code {result.code}")
    if "Traceback" in text or "unexpected " in result.err.partition("error: ")[2][:30]:
        found.append("a traceback or an unexpected error")
    if control := re.search(r"[^\t\n\r -~\xa0-\U0010ffff]", text):
        found.append(f"the control character {control[0]!r}")
    if result.code and not (len(lines) > 1 and lines[-2].startswith("error: ") and lines[-1].startswith("hint: ")):
        found.append("no error of two lines")
    if result.code and len([line for line in lines if line.startswith(("error: ", "hint: "))]) != 2:
        found.append("more than one error")
    if re.search(r"(out of|not enough) memory|Unable to allocate|can't allocate", text):
        found.append("memory")
    stray = {name for name in made if ".part" in name or (result.code and "out." in name)}
    if stray:
        found.append(f"left {', '.join(sorted(stray))}")
    return found


def work(seed: int, first: int, last: int, base: Path, only: str) -> None:
    """Run the cases from `first` to `last` in this process, and report on stdout: a line before and after each."""
    report = os.fdopen(os.dup(1), "w", buffering=1)
    formats = chosen(all_formats(base / "files", base / "run"), only)
    leaks = tempfile.TemporaryFile()  # noqa: SIM115 - as long as this process
    os.dup2(leaks.fileno(), 1)
    os.dup2(leaks.fileno(), 2)
    events: list[str] = []
    scratch = base / "case"
    _watch(events, base)
    turns = range(first // len(formats), -(-last // len(formats)))
    _warm_up([one for one in formats if any(_has_turn(one, turn) for turn in turns)], scratch)
    resource.setrlimit(resource.RLIMIT_DATA, (_memory("VmData") + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in range(first, last):
        one = case(formats, seed, number)
        if one is None:
            continue
        report.write(f"{number}\n")
        leaks.truncate(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        events.clear()
        resident, begun = _memory("VmRSS"), time.process_time()
        with _recorded() as said, _empty(scratch) as folder:
            result, made = run_case(one, folder / "in")
        found = faults_of(result, made)
        if leaks.tell() or leaks.seek(0, os.SEEK_END):
            leaks.seek(0)
            found.append(f"a library wrote {leaks.read()[:200]!r}")
            leaks.seek(0)
        if said:
            found.append(f"a warning of a library: {said[0].category.__name__} {said[0].message}"[:200])
        if (peak := _memory("VmHWM") - resident) > MEMORY:
            found.append(f"{peak / 1e9:.1f} GB of memory")
        if (busy := time.process_time() - begun) > BUSY:
            found.append(f"{busy:.0f} s of processor time")
        record = {"faults": [*found, *events], "code": result.code, "err": result.err[-400:] if found else ""}
        report.write(json.dumps(record) + "\n")


def _warm_up(formats: list[Format], scratch: Path) -> None:
    """Import what the commands import, so that its memory is not a case's."""
    for one in formats:
        for command in one.commands:
            with _empty(scratch) as folder:
                run_case(Case(one, one.whole[0], command), folder / "in")


@contextlib.contextmanager
def _empty(folder: Path) -> Iterator[Path]:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "in").mkdir(parents=True)
    yield folder


@contextlib.contextmanager
def _recorded() -> Iterator[list[warnings.WarningMessage]]:
    """The warnings that a user would see, each time."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)
        yield said


def _watch(events: list[str], base: Path) -> None:
    """Keep in `events` what no file may cause: connections, programs, pickled code, files written elsewhere."""
    forbidden = (
        "socket.connect",
        "socket.getaddrinfo",
        "subprocess.Popen",
        "os.system",
        "os.exec",
        "pickle.find_class",
    )
    allowed = (str(base), str(tempfile.gettempdir()), os.devnull)

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event in forbidden:
            events.append(f"{event} {arguments!r}"[:200])
            if event.startswith("socket"):
                raise OSError("no network in this test")
        elif event == "open" and isinstance(arguments[0], str) and isinstance(arguments[2], int):
            written = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if written and not os.path.abspath(arguments[0]).startswith(allowed):  # noqa: PTH100 - it may be anything
                events.append(f"wrote {arguments[0]!r}"[:200])

    sys.addaudithook(heard)


def _memory(kind: str) -> int:
    """Bytes of this process."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.partition(f"{kind}:")[2].split()[0])


def chosen(formats: list[Format], only: str) -> list[Format]:
    """The formats with one of the names in `only`, which commas separate; all where it is empty."""
    return [one for one in formats if not only or one.name in only.split(",")]


def prepare(base: Path) -> None:
    """Make a training and an export of it, which the files of a run folder are taken from."""
    import numpy as np

    y, x = np.mgrid[:8, :8]
    centres = np.random.default_rng(0).uniform(2, 6, (60, 2, 1, 1))
    squares = (y - centres[:, 0]) ** 2 + (x - centres[:, 1]) ** 2
    np.save(base / "blobs.npy", np.round(255 * np.exp(-squares / 3)).astype(np.uint8))
    run = base / "run"
    for command in (
        ("train", "--data", base / "blobs.npy", "--run", run, "--epochs", "1", "--seed", "7", *TINY),
        ("export", "--run", run),
    ):
        made = vae(*command)
        assert made.code == 0, made.err


def fuzz(seed: int, first: int, last: int, base: Path, *, until: float, only: str = "") -> Iterator[Finding | int]:
    """Run cases in workers until `time.monotonic()` is `until`: each finding, and after each case its exit code.

    `base` holds what `prepare` made.
    """
    while first < last and time.monotonic() < until:
        shutil.rmtree(base / "files", ignore_errors=True)
        command = [sys.executable, "-m", "tests.faults.fuzz", "--worker", str(base), "--only", only]
        command += ["--seed", str(seed), "--first", str(first), "--last", str(min(last, first + CASES))]
        cache = {"XDG_CACHE_HOME": str(base / "cache"), "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            command, env={**os.environ, **cache}, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, bufsize=0
        ) as worker:
            number = None
            for line in _lines(worker, until):
                if line is None or line.isdigit():
                    if line is None:
                        break
                    number = int(line)
                    continue
                assert number is not None
                record = json.loads(line)
                if record["faults"]:
                    yield _finding(seed, number, base, only, [*record["faults"], record["err"]])
                yield int(record["code"])
                first, number = number + 1, None
            worker.kill()
            worker.wait()
        if time.monotonic() >= until:
            return
        if number is not None:  # it died or hung
            yield _finding(seed, number, base, only, [f"died or hung: {worker.returncode}"])
            first = number + 1
        elif worker.returncode == 0:
            first = max(first, min(last, (first // CASES + 1) * CASES)) if first % CASES else first
        else:
            raise AssertionError(f"the worker failed to start: {worker.returncode}")


def _lines(worker: subprocess.Popen[bytes], until: float) -> Iterator[str | None]:
    """What a worker reports, line by line; None where it says nothing for too long."""
    assert worker.stdout is not None
    waiting, rest = selectors.DefaultSelector(), b""
    waiting.register(worker.stdout, selectors.EVENT_READ)
    patience = 5 * SECONDS  # to import everything
    while time.monotonic() < until:
        if not waiting.select(patience):
            yield None
            return
        new = os.read(worker.stdout.fileno(), 2**16)
        if not new:
            worker.wait()
            return
        *lines, rest = (rest + new).split(b"\n")
        yield from (line.decode() for line in lines)
        patience = SECONDS


def _finding(seed: int, number: int, base: Path, only: str, faults: list[str]) -> Finding:
    shutil.rmtree(base / "again", ignore_errors=True)
    one = case(chosen(all_formats(base / "again", base / "run"), only), seed, number)
    assert one is not None
    return Finding(number, one.format.name, one.command, faults, one.content)


def _say(*lines: str) -> None:
    sys.stdout.write("\n    ".join(lines) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Fuzz for some minutes, and keep what is found."""
    parser = argparse.ArgumentParser(description="Give damaged files of every format to the commands that read them.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--last", type=int, default=2**31)
    parser.add_argument("--only", default="", help="names of formats, with commas between them")
    parser.add_argument("--keep", type=Path, default=Path("found"), help="a folder for what is found")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.seed, given.first, given.last, given.worker, given.only)
        return 0
    codes, findings = Counter[int](), 0
    with tempfile.TemporaryDirectory() as base:
        prepare(Path(base))
        until = time.monotonic() + 60 * given.minutes
        for one in fuzz(given.seed, given.first, given.last, Path(base), until=until, only=given.only):
            if isinstance(one, int):
                codes[one] += 1
                continue
            findings += 1
            given.keep.mkdir(exist_ok=True)
            (given.keep / f"{given.seed}-{one.number}-{one.name.replace(' ', '-')}").write_bytes(one.content)
            _say(f"case {one.number}, {one.name}: vae {' '.join(one.command)}", *one.faults)
    _say(f"{codes.total()} cases, exit codes {dict(sorted(codes.items()))}, {findings} findings")
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main())
