"""Standard output and standard error where they are closed, full, or nobody reads them any more.

What stderr cannot take is dropped: a note changes no result. What stdout cannot take fails the command, but at its end,
as with the tools of Unix: the work goes on. A reader of stdout that has left, as `head` does, is no failure.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterator
from typing import BinaryIO, TextIO

from vaecli.errors import OutputClosed, VaeError, file_error

STDIN = STDOUT = "-"  # the name of stdin as an INPUT, and of stdout as an output

_DIVERTING = threading.Lock()  # a second thread would restore what the first one diverted stderr to


class _Text(io.TextIOWrapper):
    """Text on a file descriptor. The first failure to write is kept, and all that follows is dropped."""

    failure: OSError | None = None

    def write(self, text: str) -> int:
        with self._kept():
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with self._kept():
            super().flush()

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = self.failure or error
            _drop(self)


def prepare() -> None:
    """Make stdin, stdout and stderr safe to use, for the command line alone.

    A closed descriptor is opened on os.devnull: else the next file of ours would get its number, and our messages.
    """
    for descriptor, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):  # stdin and stdout still fail
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # the lowest number that is free
    sys.stdout = _forgiving(sys.stdout, 1, own=False)
    # A descriptor of its own: while a library's messages are `diverted`, those of other threads are still shown.
    sys.stderr = _forgiving(sys.stderr, os.dup(2), own=True)


def _forgiving(stream: TextIO | None, descriptor: int, *, own: bool) -> _Text:
    """The stream with its own buffer, or with a new one on the descriptor."""
    if stream is None:
        return _Text(_buffered(descriptor), "utf-8")
    unbuffered = isinstance(stream.buffer, io.RawIOBase)  # by python -u: it may write a part of what it is given
    buffer = _buffered(descriptor) if unbuffered or own else stream.buffer
    # What the encoding of the terminal lacks is spelled out.
    return _Text(buffer, stream.encoding, "backslashreplace", line_buffering=unbuffered or stream.isatty())


def _buffered(descriptor: int) -> BinaryIO:
    return io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))


def finish() -> VaeError | None:
    """Write what is still to be written. Returns the error where stdout could not take all of it."""
    for stream in (sys.stderr, sys.stdout):
        stream.flush()
    failure = getattr(sys.stdout, "failure", None)
    return file_error("stdout", failure) if failure and not isinstance(failure, BrokenPipeError) else None


@contextlib.contextmanager
def binary_output() -> Iterator[BinaryIO]:
    """Standard output for the bytes of a picture or table.

    Raises:
        OutputClosed: its reader has closed it, as `head` does.
        VaeError: it cannot be written.
    """
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except OSError as error:
        if error.filename is not None:  # it is about another file
            raise
        _drop(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise OutputClosed("stdout: its reader has left", "nothing is wrong") from error
        raise file_error("stdout", error) from error


@contextlib.contextmanager
def diverted(descriptor: int) -> Iterator[None]:
    """Send what libraries in C write to stderr to another file descriptor within the block. One thread at a time."""
    with _DIVERTING:
        try:
            terminal = os.dup(2)
        except OSError:  # there is no stderr
            yield
            return
        try:
            os.dup2(descriptor, 2)
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _drop(stream: TextIO) -> None:
    """Point the descriptor at os.devnull, so that Python's flush at exit does not fail again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
