"""Arrays of images: .npy and .npz files, checked and converted to uint8. Nothing is ever unpickled."""

from __future__ import annotations

import contextlib
import io
import os
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vaecli import limits
from vaecli.errors import VaeError, file_error, first_line
from vaecli.pictures.places import has_ending
from vaecli.processors import cut

Pixels: TypeAlias = NDArray[np.uint8]

SUFFIXES = frozenset({".npy", ".npz"})
NAMES = ("images", "x", "x_train", "train_images", "data", "arr_0")  # of the images in an .npz of several arrays
# Of their classes beside them: y beside x, y_train beside x_train.
LABEL_NAMES = ("y", "y_train", "labels", "train_labels", "targets", "classes")
NPY_MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK\x03\x04"  # what an .npz begins with
PICTURE = 100  # bytes that a picture takes beside its pixels: its name, its place
CHUNK_BYTES = 2**24  # of an array, checked and converted at once


def read_array(source: Path | BinaryIO, name: str) -> Pixels:
    """Read the images in a .npy or .npz as uint8 (n, h, w, c) with 1 or 3 channels.

    Takes uint8, booleans and floats in [0, 1], shaped (n, h, w) or (n, h, w, c). Floats are rounded to 8 bits, a
    chunk at a time. A .npy file of uint8 is memory-mapped. Of several arrays in an .npz the first of NAMES is taken.

    Raises:
        VaeError: the file is damaged, pickled or no array file; it has another shape or type; a value is NaN or
            outside [0, 1]; an .npz has several arrays and none of NAMES.
    """
    array = open_array(source, name)
    if array.dtype == np.uint8:
        return array
    return np.concatenate(list(byte_chunks(array, name)))


def open_array(source: Path | BinaryIO, name: str) -> NDArray[Any]:
    """The images in a .npy or .npz as (n, h, w, c), in their stored type; a .npy file is memory-mapped.

    Raises VaeError as `read_array` does, except that values are not checked.
    """
    with reading(name):
        if isinstance(source, Path):
            limits.check_file(source)
            with source.open("rb") as stream:  # numpy.load does not close a damaged .npz
                if stream.read(len(NPY_MAGIC)) != NPY_MAGIC:
                    stream.seek(0)
                    return open_array(stream, name)
        packed = size_of(source)
        array = np.load(source, mmap_mode="r" if isinstance(source, Path) else None, allow_pickle=False)
        if isinstance(array, np.lib.npyio.NpzFile):
            with array as arrays:
                array, name = _choose(arrays, name)
        if not isinstance(array, np.ndarray):
            raise TypeError("it holds no array")
    images = _as_images(array, name)
    limits.check_unpacked(PICTURE * len(images), packed, name)
    return images


def size_of(source: Path | BinaryIO) -> int:
    """The bytes of a file."""
    if isinstance(source, Path):
        return source.stat().st_size
    at = source.tell()
    size = source.seek(0, os.SEEK_END)
    source.seek(at)
    return size


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Read a .npy or .npz by NumPy within the block: what NumPy, zipfile and zlib say of damage names the file.

    Raises:
        VaeError: the file cannot be read, is damaged, or holds pickled objects.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # about headers of old versions
            yield
    except VaeError:
        raise
    except Exception as error:  # they raise many types
        if isinstance(error, OSError) and error.errno is not None:
            raise file_error(name, error) from error
        if "Object arrays" in str(error) or "Python objects" in str(error):
            remedy = "save it with numpy.save, as uint8 or floats in [0, 1]"
            raise VaeError(f"{name}: not an array of numbers", remedy) from error
        remedy = "save it again with numpy.save or numpy.savez"
        raise VaeError(f"{name}: damaged array file ({_reason(error)})", remedy) from error


def _reason(error: Exception) -> str:
    """The first sentence of an exception: those after it are about flags of NumPy's."""
    text = error.args[0] if isinstance(error, tokenize.TokenError) else first_line(error)
    return str(text).partition(". ")[0].rstrip(".").replace("`", "")  # in our messages they mark parameters


def read_labels(path: Path) -> NDArray[Any] | None:
    """The first of LABEL_NAMES in an .npz, as it is stored; None where there is none, or in another file."""
    if path.suffix.lower() != ".npz":
        return None
    try:
        with np.load(path, allow_pickle=False) as found:
            name = next((name for name in LABEL_NAMES if name in found.files), None)
            return None if name is None else np.asarray(unpacked(found, name, path.name, limits.COPIES))
    except Exception:  # pickled texts, for one: the images can be read all the same
        return None


def unpacked(arrays: Any, key: str, name: str, copies: int = 1) -> Any:  # noqa: ANN401 - NpzFile's items are untyped
    """One array of an .npz. Raises VaeError where this many copies would take more memory than the file may."""
    held = set(arrays.zip.namelist())
    size = arrays.zip.getinfo(key if key in held else f"{key}.npy").file_size
    limits.check_unpacked(copies * size, arrays.zip.fp.seek(0, os.SEEK_END), name)
    return arrays[key]


def _choose(arrays: Any, name: str) -> tuple[Any, str]:  # noqa: ANN401 - NpzFile's items are untyped
    """The images among the arrays of an .npz, and their name for messages."""
    names = list(arrays.files)
    if not names:
        raise VaeError(f"{name}: holds no array", "save the images with numpy.savez(file, images=…)")
    if len(names) == 1:
        return unpacked(arrays, names[0], name), name
    for known in NAMES:
        if known in names:
            return unpacked(arrays, known, name), f"{name}: {known}"
    problem = f"holds {len(names)} arrays ({', '.join(names)}), none of them called images"
    raise VaeError(f"{name}: {problem}", "save the images alone, or under the name images")


def _as_images(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Check shape and type, and give (n, h, w) a channel axis."""
    shape = "(" + ", ".join(map(str, array.shape)) + ")"
    wanted = "images are (n, h, w) or (n, h, w, c) with 1 or 3 channels"
    if array.ndim not in (3, 4):
        remedy = f"{wanted}; for one picture: array[None]" if array.ndim == 2 else wanted
        raise VaeError(f"{name}: wrong shape {shape}", remedy)
    if 0 in array.shape:
        raise VaeError(f"{name}: wrong shape {shape}, holds no images", wanted)
    if array.ndim == 3 and array.shape[2] in (1, 3) and array.shape[1] > 3:
        raise VaeError(f"{name}: wrong shape {shape}, as of one picture", f"{wanted}; for one picture: array[None]")
    if array.ndim == 4 and array.shape[3] not in (1, 3):
        remedy = f"{wanted}; channels first: array.transpose(0, 2, 3, 1)" if array.shape[1] in (1, 3) else wanted
        raise VaeError(f"{name}: wrong shape {shape}", remedy)
    if array.dtype not in (np.uint8, np.bool_) and array.dtype.kind != "f":
        raise VaeError(f"{name}: wrong type {array.dtype}", "save it as uint8, or as floats in [0, 1]")
    return array[..., np.newaxis] if array.ndim == 3 else array


def byte_chunks(array: NDArray[Any], name: str) -> Iterator[Pixels]:
    """Floats in [0, 1] (or booleans) rounded to 8 bits, about CHUNK_BYTES of the array at a time.

    Raises VaeError where a value is NaN or outside [0, 1].
    """
    for chunk in cut(array, max(1, CHUNK_BYTES // array[:1].nbytes)):
        with np.errstate(invalid="ignore"):  # the next line says it
            values = chunk.astype(np.float64)
        if np.isnan(values).any():
            raise VaeError(f"{name}: has values that are NaN", "images are numbers from 0 to 1; clean the array first")
        lowest, highest = float(values.min()), float(values.max())
        if lowest < 0 or highest > 1:
            remedy = "divide by 255, or save as uint8" if lowest >= 0 and highest <= 255 else "scale the array first"
            raise VaeError(f"{name}: has values from {lowest:g} to {highest:g}, expected floats from 0 to 1", remedy)
        yield to_uint8(values)


def to_uint8(images: NDArray[np.floating]) -> Pixels:
    """Floats in [0, 1] as the nearest of 0 to 255."""
    scaled = images * np.float32(255)
    pixels: Pixels = np.rint(scaled, out=scaled).astype(np.uint8)
    return pixels


def npy_header(shape: tuple[int, ...], dtype: DTypeLike) -> bytes:
    """The bytes that a .npy file of format 1.0 begins with; the values follow in C order."""
    header = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    return header.getvalue()


def is_array(place: str) -> bool:
    """Whether a path or an address has the ending of an array."""
    return has_ending(place, SUFFIXES)
