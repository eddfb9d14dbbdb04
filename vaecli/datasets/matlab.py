"""Arrays in MATLAB 5 files, as far as SVHN needs them: numeric, real, compressed or not.

The format: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf ("MAT-File Format", Level 5).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaecli.errors import VaeError, file_error

_HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15
_TYPES = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays in a little-endian MATLAB 5 file by name, in the types they are stored in.

    Raises:
        VaeError: the file is not there, or is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise file_error(path, error) from error
    try:
        if content[126:_HEADER_BYTES] != b"IM":
            raise ValueError("no MATLAB 5 header")
        elements = _elements(memoryview(content)[_HEADER_BYTES:])
        return dict(_array(body) for kind, body in elements if kind == _MATRIX)
    except (ValueError, KeyError, struct.error, zlib.error, UnicodeDecodeError) as error:
        raise VaeError(f"{path}: damaged MATLAB file ({error})", "remove it; it will be fetched again") from error


def _elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The elements in a stretch of file, as (type, content)."""
    position = 0
    while position < len(data):
        kind, size = struct.unpack_from("<II", data, position)
        if kind >> 16:  # a small element: size, type and content in eight bytes
            yield kind & 0xFFFF, data[position + 4 : position + 4 + (kind >> 16)]
            position += 8
            continue
        body = data[position + 8 : position + 8 + size]
        if len(body) < size:
            raise ValueError("cut short")
        if kind == _COMPRESSED:
            yield from _elements(memoryview(zlib.decompress(body)))
            position += 8 + size  # these alone are not padded
        else:
            yield kind, body
            position += 8 + size + -size % 8


def _array(body: memoryview) -> tuple[str, NDArray[Any]]:
    """A matrix element: flags, dimensions, name, values."""
    parts = list(_elements(body))
    if len(parts) < 4:
        raise ValueError("an array without values")
    _, (_, dimensions), (_, name), (kind, values) = parts[:4]
    shape = np.frombuffer(dimensions, "<i4")
    return bytes(name).decode("ascii"), np.frombuffer(values, _TYPES[kind]).reshape(shape, order="F")
