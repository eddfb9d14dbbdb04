"""Arrays of images from outside: .npy and .npz, checked and brought to uint8. Nothing is ever unpickled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaecli.errors import VaeError, file_error

Pixels: TypeAlias = NDArray[np.uint8]

SUFFIXES = frozenset({".npy", ".npz"})
NAMES = ("images", "x", "x_train", "train_images", "data", "arr_0")  # where an .npz holds several
NPY_MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK\x03\x04"  # what an .npz begins with
CHUNK_BYTES = 2**24  # of an array, looked at and converted at once


def read_array(source: Path | BinaryIO, name: str) -> Pixels:
    """Read the images in a .npy or .npz as uint8 (n, h, w, c) with 1 or 3 channels.

    Takes uint8, booleans and floats in [0, 1], shaped (n, h, w) or (n, h, w, c). Floats are rounded to
    8 bits, a stretch at a time. A .npy file of uint8 is not read but mapped. Of several arrays in an .npz
    the one whose name says so (NAMES) is taken.

    Raises:
        VaeError: the file is damaged, pickled or no array file; the shape or type is another; a value is NaN
            or outside [0, 1]; several arrays and none that is plainly the images.
    """
    array = open_array(source, name)
    if array.dtype == np.uint8:
        return array
    return np.concatenate(list(byte_chunks(array, name)))


def open_array(source: Path | BinaryIO, name: str) -> NDArray[Any]:
    """The images in a .npy or .npz as (n, h, w, c), in the type they are stored in; a .npy file is mapped.

    Raises:
        VaeError: as in `read_array`, but that no value is looked at.
    """
    try:
        if isinstance(source, Path):
            with source.open("rb") as stream:
                if stream.read(len(NPY_MAGIC)) != NPY_MAGIC:
                    stream.seek(0)
                    return open_array(stream, name)
            loaded = np.load(source, mmap_mode="r", allow_pickle=False)  # costs nothing, whatever the type
        else:
            loaded = np.load(source, allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            with loaded:
                array, name = _choose(loaded, name)
        else:
            array = loaded
    except VaeError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise file_error(name, error) from error
        raise _no_array(name, error) from error
    except Exception as error:  # NumPy, zipfile and zlib each have their own way to refuse a damaged file
        raise _no_array(name, error) from error
    if not isinstance(array, np.ndarray):
        raise _no_array(name, "it holds no array")
    return _as_images(array, name)


def _no_array(name: str, reason: Exception | str) -> VaeError:
    text = str(reason)
    if "pickle" in text or "Python objects" in text:
        return VaeError(f"{name}: not an array of numbers", "save it with numpy.save, as uint8 or floats in [0, 1]")
    return VaeError(f"{name}: damaged array file ({text})", "save it again with numpy.save or numpy.savez")


def _choose(arrays: Any, name: str) -> tuple[Any, str]:  # noqa: ANN401 - NpzFile's items are untyped
    """The images among the arrays of an .npz, with the name to call them by in a message."""
    names = list(arrays.files)
    if not names:
        raise VaeError(f"{name}: holds no array", "save the images with numpy.savez(file, images=…)")
    chosen = names[0] if len(names) == 1 else next((known for known in NAMES if known in names), None)
    if chosen is None:
        raise VaeError(
            f"{name}: holds {len(names)} arrays ({', '.join(names)}), none of them called images",
            "save the images alone, or under the name images",
        )
    return arrays[chosen], name if len(names) == 1 else f"{name}: {chosen}"


def _as_images(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Check shape and type, and give grey images their one channel."""
    shape = "(" + ", ".join(map(str, array.shape)) + ")"
    wanted = "images are (n, h, w) or (n, h, w, c) with 1 or 3 channels"
    if array.ndim not in (3, 4):
        remedy = f"{wanted}; for one picture: array[None]" if array.ndim == 2 else wanted
        raise VaeError(f"{name}: wrong shape {shape}", remedy)
    if array.shape[0] == 0:
        raise VaeError(f"{name}: holds no images", wanted)
    if 0 in array.shape:
        raise VaeError(f"{name}: wrong shape {shape}", wanted)
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

    Raises:
        VaeError: a value is NaN or outside [0, 1].
    """
    rows = max(1, CHUNK_BYTES // array[:1].nbytes)
    for start in range(0, len(array), rows):
        values = array[start : start + rows].astype(np.float64)
        if np.isnan(values).any():
            raise VaeError(
                f"{name}: has values that are NaN", "images are numbers from 0 to 1; clean the array first"
            )
        lowest, highest = float(values.min()), float(values.max())
        if lowest < 0 or highest > 1:
            remedy = "divide by 255, or save as uint8" if lowest >= 0 and highest <= 255 else "scale the array first"
            raise VaeError(f"{name}: has values from {lowest:g} to {highest:g}, expected floats from 0 to 1", remedy)
        yield np.rint(values * 255).astype(np.uint8)


def is_array(path: Path) -> bool:
    """Whether a file's name says that it holds an array."""
    return path.suffix.lower() in SUFFIXES
