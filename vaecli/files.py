"""Writing files so that nobody ever sees half of one: beside their place first, then renamed into it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vaecli.errors import UsageError, VaeError, file_error


@contextlib.contextmanager
def replacing(path: Path, *, clobber: bool = True) -> Iterator[BinaryIO]:
    """Open a file to write that takes the place of `path` once the block ends well; else nothing changes.

    A path that is a device or a pipe (`/dev/stdout`) has no place to rename into and is written straight.

    Raises:
        VaeError: `path` cannot be written, or exists and `clobber` is false.
    """
    if not clobber and path.exists():
        raise VaeError(f"{path}: exists already", "drop --no-clobber to replace it, or name another file")
    if path.is_dir():
        raise VaeError(f"{path}: is a folder, not a file", "name a file")
    if path.exists() and not path.is_file():
        try:
            with path.open("wb") as stream:
                yield stream
        except OSError as error:
            raise file_error(path, error) from error
        return
    path = path.resolve()  # a link stays a link: what it points to is replaced
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")
    try:
        with beside.open("xb") as stream:
            if path.exists():
                with contextlib.suppress(OSError):
                    beside.chmod(path.stat().st_mode & 0o7777)
            yield stream
        beside.replace(path)
    except OSError as error:
        # An error about another file (an input that vanished) is not about this one.
        named = error.filename is not None and str(error.filename) not in (str(beside), str(path))
        raise file_error(error.filename if named else path, error) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, *, clobber: bool = True) -> None:
    """Replace `path` with `content`, whole or not at all. Raises VaeError where it cannot be written."""
    with replacing(path, clobber=clobber) as stream:
        stream.write(content)


def make_folder(path: Path) -> None:
    """Create a folder and its parents. Raises VaeError where that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise VaeError(f"{path}: is a file, not a folder", "name another folder") from error
    except OSError as error:
        raise file_error(path, error) from error


def check_standard_output(*, json: bool, binary: bool, instead: str) -> None:
    """Refuse `-o -` where stdout is not free for it; `instead` is what to do about --json. Raises UsageError."""
    if json:
        raise UsageError("--json and --output -: both are for stdout", instead)
    if binary and sys.stdout.isatty():
        raise UsageError("--output -: stdout is a terminal", "pipe it somewhere, or name a file")


@contextlib.contextmanager
def standard_output() -> Iterator[BinaryIO]:
    """Standard output for bytes, written as they come.

    Raises:
        VaeError: nobody reads it to the end, or it fails.
    """
    stream = sys.stdout.buffer
    try:
        yield stream
        stream.flush()
    except OSError as error:
        if error.filename is not None:  # it is about another file
            raise
        # What is left in Python's buffer would be tried again at exit, and complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise VaeError("stdout: closed before everything was through", "look at what reads it") from error
        raise file_error("stdout", error) from error
