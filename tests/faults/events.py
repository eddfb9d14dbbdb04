"""What a process leaves that dies at a file event, and what it does where the event fails.

An event: a file is opened for writing, renamed, removed, changed or synced; a folder is made or removed. Before each
one the folder is copied. The copy is what a process leaves that is killed there: what it has not written is lost, and
its locks are released. To fail, a write is an event, too: half of it gets to the disk.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.symlink", "os.link"}
CAN_FAIL = {"open", "os.rename", "os.mkdir", "os.fsync", "write"}  # for lack of room, or on a bad disk

_watch: Callable[[str, Path], None] | None = None


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if _watch is None:
        return
    if (event == "open" and args[2] & WRITING) or event in CHANGES:
        name = args[1] if event == "os.rename" else args[0]
        if isinstance(name, str | bytes | os.PathLike):
            _watch(event, Path(os.fsdecode(name)))


sys.addaudithook(_audit)  # it cannot be removed


class _Written(io.FileIO):
    """A file whose writes are events."""

    def write(self, data: Any, /) -> int:
        if _watch is not None:
            try:
                _watch("write", Path(os.fsdecode(self.name)))
            except OSError:
                super().write(memoryview(data).cast("B")[: len(data) // 2])
                raise
        return super().write(data)


def _open(file: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
    """As the built-in function, but that each write to a file of bytes is an event."""
    to_be_written = "b" in mode and "+" not in mode and "r" not in mode
    if _watch is None or not to_be_written or isinstance(file, int) or "opener" in named:
        return _builtin(file, mode, *more, **named)
    return io.BufferedWriter(_Written(file, mode.replace("b", "")))


_builtin = io.open


@contextlib.contextmanager
def watched(folder: Path, seen: Callable[[str], None], *, writes: bool = False) -> Iterator[None]:
    """Call `seen` before each event in `folder` within the block, with `writes`. What it raises, the event raises."""
    global _watch
    sync, inside = os.fsync, folder.absolute()

    def watch(event: str, path: Path) -> None:
        global _watch
        if inside not in path.absolute().parents and inside != path.absolute():
            return
        _watch, keep = None, _watch
        try:
            seen(event)
        finally:
            _watch = keep

    def synced(descriptor: Any) -> None:
        if _watch is not None:
            _watch("os.fsync", Path(f"/proc/self/fd/{descriptor}").readlink())
        sync(descriptor)

    _watch = watch
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", synced)
            if writes:
                patch.setattr(io, "open", _open)
                patch.setattr(builtins, "open", _open)
            yield
    finally:
        _watch = None


def left_by_kills(folder: Path, work: Callable[[], object], keep: Path) -> list[Path]:
    """Copies of `folder` as `work` leaves it where it is killed: before each of its events, and after the last."""
    copies: list[Path] = []

    def copy(event: str = "end") -> None:
        copies.append(keep / f"{len(copies):03}-{event}")
        if folder.exists():
            shutil.copytree(folder, copies[-1], symlinks=True)

    with watched(folder, copy):
        work()
    copy()
    return copies


def failing(folder: Path, number: int, error: int, work: Callable[[], object]) -> bool:
    """Do `work`, whose event of this number fails. Whether there was one."""
    count = 0

    def fail(event: str) -> None:
        nonlocal count
        if event in CAN_FAIL:
            count += 1
            if count == number:
                raise OSError(error, os.strerror(error))

    with watched(folder, fail, writes=True):
        work()
    return count >= number


def strays(folder: Path) -> list[str]:
    """The temporary files and folders below `folder`."""
    return [str(path.relative_to(folder)) for path in folder.rglob(".*")]
