"""Limits for files that are read: pixels, unpacked bytes, regular files only.

A picture of 34 bytes can have 89 million pixels, an archive of 2 MB can hold gigabytes, and a device never ends. Sizes
are compared before anything is decoded or unpacked. A variable of the environment raises each limit.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from vaecli.errors import UsageError, VaeError

if TYPE_CHECKING:
    from gzip import GzipFile

PIXELS = 89_478_485  # of a picture that is decoded; above it Pillow warns
UNPACKED = 2**29  # bytes that are unpacked from a file, or read from a pipe
RATIO = 16  # times its own size, to which a large file may be unpacked: arrays of pictures are rarely packed further
COPIES = 4  # of a part that are in memory at once: as it was unpacked, joined, decoded
MEGAPIXELS, MEGABYTES = "VAE_MAX_MEGAPIXELS", "VAE_MAX_MEGABYTES"  # the variables, in millions

CHUNK = 2**20  # bytes that are read at once


def check_pixels(width: int, height: int, name: str, copies: int = 1) -> None:
    """Raise VaeError where a picture has more pixels than may be decoded, `copies` of them at once."""
    pixels, most = width * height, most_pixels() // copies
    if pixels > most:
        problem = f"{name}: this is too large a picture, {height}x{width} pixels are more than {most // 10**6} million"
        raise VaeError(problem, f"make it smaller, or allow it: {MEGAPIXELS}={-(-pixels * copies // 10**6)}")


def most_pixels() -> int:
    """The pixels of a picture at most. Raises UsageError where the variable is no number."""
    return _limit(MEGAPIXELS, PIXELS)


def check_unpacked(size: int, packed: int, name: str) -> None:
    """Raise VaeError if `size` bytes, to which a file of `packed` bytes is unpacked, exceed the limit."""
    if size > most_unpacked(packed):
        problem = f"{name}: unpacks to {size / 1e6:,.0f} MB, from {packed / 1e6:,.1f} MB"
        raise VaeError(problem, f"if it is yours, allow it: {MEGABYTES}={-(-size // 10**6)}")


def check_part(size: int, name: str, packed: int = 0) -> None:
    """Raise VaeError if COPIES copies of a part of a file exceed the limit: it has `size` bytes, the file `packed`."""
    if COPIES * size > most_unpacked(packed):
        problem = f"{name}: {size / 1e6:,.0f} MB are too many for a part of a file"
        raise VaeError(problem, f"if it is yours, allow it: {MEGABYTES}={-(-COPIES * size // 10**6)}")


def most_unpacked(packed: int) -> int:
    """The bytes to unpack at most from a file of `packed` bytes. Raises UsageError where the variable is no number."""
    return max(_limit(MEGABYTES, UNPACKED), RATIO * packed)


def read_stream(stream: BinaryIO | GzipFile, name: str, packed: int = 0) -> bytes:
    """All that a pipe gives, or that a file of `packed` bytes unpacks to. Raises VaeError where it is too much."""
    most, content = most_unpacked(packed), io.BytesIO()
    while chunk := stream.read(CHUNK):
        content.write(chunk)
        if content.tell() > most:
            problem = f"{name}: more than {most / 1e6:,.0f} MB come out of it"
            raise VaeError(problem, f"name a file that is not packed, or allow more megabytes with {MEGABYTES}")
    return content.getvalue()


def check_file(path: Path) -> None:
    """Raise VaeError for a device, pipe or socket, which need never end; OSError where nothing can be found there."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a folder reports the error
        raise VaeError(f"{path}: is a device or a pipe, not a file", "name a file")


def read_file(path: Path) -> bytes:
    """A file whole. Raises VaeError for a device, pipe or socket, and OSError where it cannot be read."""
    check_file(path)
    return path.read_bytes()


def read_file_or_pipe(path: Path) -> bytes:
    """A file whole, or what comes from a pipe, as <(vae sample -o -) is. Raises VaeError and OSError as `read_file`."""
    if stat.S_ISFIFO(path.stat().st_mode):
        with path.open("rb") as stream:
            return read_stream(stream, str(path))
    return read_file(path)


def _limit(variable: str, default: int) -> int:
    """The limit, or that which the user has set in millions."""
    given = os.environ.get(variable)
    if not given:
        return default
    if not given.isdecimal():
        raise UsageError(f"{variable} {given}: expected a whole number, in millions", "unset it for the usual limit")
    return int(given) * 10**6
