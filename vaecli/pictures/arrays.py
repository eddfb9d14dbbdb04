"""Arrays of images: .npy and .npz files, checked and converted to uint8. Nothing is ever unpickled."""

from __future__ import annotations

import contextlib
import io
import math
import os
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vaecli import limits, noise
from vaecli.config import Binarize
from vaecli.errors import VaeError, file_error, first_line, without_backticks
from vaecli.events import Note
from vaecli.model_format import MAX_PIXEL
from vaecli.parallel import cut
from vaecli.pictures.places import has_ending

Pixels: TypeAlias = NDArray[np.uint8]

SUFFIXES = frozenset({".npy", ".npz"})
# Names of the images in an .npz of several arrays, and of their classes beside them.
NAMES = ("images", "x", "X", "x_train", "X_train", "train_images", "data", "arr_0")
LABEL_NAMES = ("y", "Y", "y_train", "Y_train", "labels", "train_labels", "target", "targets", "classes")
# The same of test images, which are held out of a training.
TEST_NAMES = ("x_test", "X_test", "test_images")
TEST_LABEL_NAMES = ("y_test", "Y_test", "test_labels")
NPY_MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK\x03\x04"  # what an .npz begins with
LARGEST_LABEL = 2**53  # integers below this are exact in float64
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
    return without_backticks(str(text).partition(". ")[0].rstrip("."))


class ReadLabels(NamedTuple):
    """The labels of images, if there are any that can be used."""

    values: NDArray[Any] | None  # (n,) whole numbers or texts
    problem: str = ""  # what is wrong with those that are there


def read_labels(path: Path, count: int, names: Sequence[str] = LABEL_NAMES) -> ReadLabels:
    """The labels of `count` images: the first of `names` in an .npz. Another file has none."""
    if path.suffix.lower() != ".npz":
        return ReadLabels(None)
    name = ""
    try:
        with np.load(path, allow_pickle=False) as found:
            name = next((name for name in names if name in found.files), "")
            if not name:
                return ReadLabels(None)
            values = np.asarray(unpacked(found, name, path.name, limits.COPIES))
    except Exception as error:  # the images can be read all the same
        pickled = "Object arrays" in str(error)
        reason = f"is pickled: save {name}.astype(str)" if pickled else f"cannot be read ({_reason(error)})"
        return ReadLabels(None, f"{name or path.name} {reason}")
    if values.shape == (count, 1):
        values = values[:, 0]
    if values.shape != (count,):
        remedy = f": save {name}.argmax(1)" if values.ndim == 2 and len(values) == count else ""
        return ReadLabels(None, f"{name} has the shape {values.shape}, not ({count},){remedy}")
    if values.dtype.kind == "b" or (values.dtype.kind == "f" and (np.abs(values) < LARGEST_LABEL).all()):
        whole = values.astype(np.int64)
        values = whole if (whole == values).all() else values
    if values.dtype.kind not in "iuU":
        return ReadLabels(None, f"{name} has the type {values.dtype}, not whole numbers or text")
    return ReadLabels(values)


def test_images(path: Path, name: str) -> Pixels | None:
    """The test images in an .npz that has training images beside them; None where there are none.

    Raises VaeError as `read_array` does.
    """
    if path.suffix.lower() != ".npz":
        return None
    with reading(name), np.load(path, allow_pickle=False) as arrays:
        parts = _train_and_test(arrays.files)
        if parts is None:
            return None
        _, test = parts
        images = _as_images(unpacked(arrays, test, name), f"{name}: {test}")
    return images if images.dtype == np.uint8 else np.concatenate(list(byte_chunks(images, f"{name}: {test}")))


def _train_and_test(names: Sequence[str]) -> tuple[str, str] | None:
    """The names of the training and the test images among the arrays of an .npz; None where there are not both."""
    train = next((known for known in NAMES if known in names), "")
    test = next((known for known in TEST_NAMES if known in names), "")
    return (train, test) if test and "train" in train else None


def array_notes(path: Path, name: str, count: int) -> tuple[Note, ...]:
    """What a person should know of the `count` images that `read_array` takes from a file.

    That an .npz has training and test images, of which it takes the former, and why the classes are not known.
    """
    if path.suffix.lower() != ".npz":
        return ()
    with reading(name), np.load(path, allow_pickle=False) as arrays:
        parts = _train_and_test(arrays.files)
    notes = [] if parts is None else [Note(f"{name}: its {parts[0]} is used, and not {parts[1]}")]
    if problem := read_labels(path, count).problem:
        notes.append(Note(f"{name}: its classes are not known: {problem}"))
    return tuple(notes)


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
    problem = f"holds {len(names)} arrays ({', '.join(names)}), none of them called {', '.join(NAMES[:-1])}"
    raise VaeError(f"{name}: {problem}", "save the images alone, or under one of these names")


def _as_images(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Check shape and type, and give (n, h, w) a channel axis."""
    shape = "(" + ", ".join(map(str, array.shape)) + ")"
    wanted = "images are (n, h, w) or (n, h, w, c) with 1 or 3 channels"
    if array.ndim not in (3, 4):
        remedy = wanted
        if array.ndim == 2:
            side = math.isqrt(array.shape[1])
            rows = side * side == array.shape[1] and array.shape[0] != array.shape[1]
            remedy += f"; of rows: array.reshape(-1, {side}, {side})" if rows else "; for one picture: array[None]"
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
            largest = float(array.max())
            remedy = (
                f"divide by {255 if 128 <= largest <= 255 else largest:g}" if lowest >= 0 else "scale the array first"
            )
            raise VaeError(f"{name}: has values from {lowest:g} to {highest:g}, expected floats from 0 to 1", remedy)
        yield to_uint8(values)


def to_uint8(images: NDArray[np.floating]) -> Pixels:
    """Floats in [0, 1] as the nearest of 0 to 255."""
    scaled = images * np.float32(MAX_PIXEL)
    pixels: Pixels = np.rint(scaled, out=scaled).astype(np.uint8)
    return pixels


def binarized(pixels: Pixels, how: Binarize, seed: int) -> Pixels:
    """Pixels (b, h, w, c), made 0 or 255 where that is asked for: by a threshold, or at random by their grey values.

    The random numbers depend on the seed and the picture alone.
    """
    if how == "none":
        return pixels
    share = pixels / np.float64(MAX_PIXEL)
    if how == "threshold":
        white = share >= 0.5
    else:
        keys = noise.keys(seed, "binarize", noise.digests(pixels))
        white = noise.uniform(keys, pixels[0].size).reshape(pixels.shape) < share
    return np.where(white, MAX_PIXEL, 0).astype(np.uint8)


def npy_header(shape: tuple[int, ...], dtype: DTypeLike) -> bytes:
    """The bytes that a .npy file of format 1.0 begins with; the values follow in C order."""
    header = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    return header.getvalue()


def is_array(place: str) -> bool:
    """Whether a path or an address has the ending of an array."""
    return has_ending(place, SUFFIXES)
