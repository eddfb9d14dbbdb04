"""What a process leaves that dies at a file event, and what it does where the event fails.

An event: a file is opened for writing, renamed, removed, changed or synced; a folder is made or removed. Before each
one the folder is copied. The copy is what a process leaves that is killed there: what it has not written is lost, and
its locks are released.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.symlink", "os.link"}
CAN_FAIL = {"open", "os.rename", "os.mkdir", "os.fsync"}  # for lack of room, or on a bad disk

_watch: Callable[[str, Path], None] | None = None


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if _watch is None:
        return
    if (event == "open" and args[2] & WRITING) or event in CHANGES:
        name = args[1] if event == "os.rename" else args[0]
        if isinstance(name, str | bytes | os.PathLike):
            _watch(event, Path(os.fsdecode(name)))


sys.addaudithook(_audit)  # it cannot be removed


@contextlib.contextmanager
def watched(folder: Path, seen: Callable[[str], None]) -> Iterator[None]:
    """Call `seen` before each event in `folder` within the block. What it raises, the event raises."""
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

    with watched(folder, fail):
        work()
    return count >= number


def strays(folder: Path) -> list[str]:
    """The temporary files and folders below `folder`."""
    return [str(path.relative_to(folder)) for path in folder.rglob(".*")]
