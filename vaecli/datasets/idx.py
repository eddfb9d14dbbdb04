"""IDX files, MNIST's format: a short header, then the values, all big-endian."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaecli import limits
from vaecli.errors import VaeError, file_error

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read(path: Path) -> NDArray[Any]:
    """The array in an IDX file: two zero bytes, type, number of dimensions, each dimension in 4 bytes, values.

    Maps the file, or reads it where there is only its .gz. Raises VaeError where neither exists, or it is damaged.
    """
    found = find(path) or path
    content: NDArray[np.uint8]
    try:
        if found == path:
            content = np.memmap(path, np.uint8, "r")
        else:
            with gzip.open(found) as stream:
                content = np.frombuffer(limits.read_stream(stream, str(found), found.stat().st_size), np.uint8)
        zero, kind, dimensions = struct.unpack_from(">HBB", content.data)
        shape = struct.unpack_from(f">{dimensions}I", content.data, 4)
        values = content[4 + 4 * dimensions :].view(_TYPES[kind])
        if zero or values.size != math.prod(shape) or not values.size:
            raise ValueError("its size is not what its header says")
        return values.reshape(shape)
    except (struct.error, KeyError, ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise VaeError(f"{found}: damaged ({error})", "remove it; it will be fetched again") from error
    except OSError as error:
        raise file_error(found, error) from error


def find(path: Path) -> Path | None:
    """The file itself, or its .gz; None where neither exists."""
    packed = path.with_name(path.name + ".gz")
    return path if path.is_file() else packed if packed.is_file() else None
