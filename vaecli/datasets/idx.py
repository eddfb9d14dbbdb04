"""IDX files, the format that MNIST came in: a short header, then the values, all big-endian."""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaecli.errors import VaeError, file_error

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read(path: Path) -> NDArray[Any]:
    """The array in an IDX file: two zero bytes, type, number of dimensions, each of them in 4 bytes, values.

    Maps the file, or reads it where only its .gz is there.

    Raises:
        VaeError: neither is there, or it is damaged.
    """
    found = present(path) or path
    try:
        packed = gzip.decompress(found.read_bytes()) if found != path else None
        with io.BytesIO(packed) if packed is not None else path.open("rb") as stream:
            zero, kind, dimensions = struct.unpack(">HBB", stream.read(4))
            shape = struct.unpack(f">{dimensions}I", stream.read(4 * dimensions))
            start = stream.tell()
            size = stream.seek(0, io.SEEK_END)
        dtype = np.dtype(_TYPES[kind])
        if zero or size != start + math.prod(shape) * dtype.itemsize or not math.prod(shape):
            raise ValueError("its size is not what its header says")
    except (struct.error, KeyError, ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise VaeError(f"{found}: damaged ({error})", "remove it; it will be fetched again") from error
    except OSError as error:
        raise file_error(found, error) from error
    if packed is not None:
        return np.frombuffer(packed, dtype, offset=start).reshape(shape)
    return np.memmap(path, dtype, "r", start, shape)


def present(path: Path) -> Path | None:
    """The file itself, or packed with gzip; None where neither is there."""
    packed = path.with_name(path.name + ".gz")
    return path if path.is_file() else packed if packed.is_file() else None
