"""Pictures from outside: image files, folders and arrays, read into uint8 and fitted to a model's shape.

Nothing here trusts a file: only the formats named below are opened, a picture's size is looked at before
it is decoded, and arrays are never unpickled.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from vaecli.errors import UsageError, VaeError, file_error

ImageShape: TypeAlias = tuple[int, int, int]  # (channels, height, width)
Pixels: TypeAlias = NDArray[np.uint8]

# Formats that are always loaded stand first: Pillow imports all of its plugins to try the last two.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
FORMAT_NAMES = "PNG, JPEG, WebP, BMP, GIF or TIFF"
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
ARRAY_SUFFIXES = frozenset({".npy", ".npz"})

LARGEST_PICTURE = 2**27  # pixels: 400 MB decoded, more than any camera makes
ARRAY_NAMES = ("images", "x", "x_train", "train_images", "data", "arr_0")  # where an .npz holds several
CHUNK_BYTES = 2**24  # of an array, looked at and converted at once
HANDFUL = 16  # pictures that a thread decodes before it looks for more
TOLERATED = 100  # of so many pictures in a folder one may be unreadable

_ORIENTATION = 0x0112  # the EXIF tag
_NPY_MAGIC = b"\x93NUMPY"
_ZIP_MAGIC = b"PK\x03\x04"


@dataclass(frozen=True)
class Picture:
    """A decoded picture, and what was done to it."""

    pixels: Pixels  # (h, w, c)
    flattened: bool = False  # there was transparency, which now is white
    fitted: bool = False  # it was cropped, resized or converted

    def fit(self, image_shape: ImageShape) -> Picture:
        """The picture in another shape, as `fit` makes it."""
        pixels = fit(self.pixels, image_shape)
        return Picture(pixels, self.flattened, fitted=pixels is not self.pixels)


@dataclass(frozen=True)
class Inputs:
    """What a command was given to look at, in a model's shape."""

    images: Pixels  # (n, h, w, c); a memory map where one .npy fitted as it was
    names: list[str]  # the path of each as it was given or found; `digits.npy[17]` for a row of an array
    fitted: int  # how many had to be cropped, resized or converted
    notes: tuple[str, ...]  # what was done to the pictures, in sentences for a person


def read_picture(source: Path | BinaryIO, name: str) -> Pixels:
    """Read one image file, upright, as (h, w, c) with 1 or 3 channels. Transparency becomes white.

    Raises:
        VaeError: the file is not there, is no picture, is cut short, or is larger than LARGEST_PICTURE.
    """
    with quiet_pillow():
        return decode(source, name).pixels


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow's warnings about odd files off the terminal: what matters in them is an error here.

    Filters are shared by all threads, so the thread that starts a pool holds this around all of its work.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def decode(source: Path | BinaryIO, name: str, at_least: tuple[int, int] | None = None) -> Picture:
    """Read one image file as `read_picture` does, for callers that hold `quiet_pillow` themselves.

    A JPEG may come out smaller than it is, by 2, 4 or 8, where it will be reduced to `at_least` (h, w).

    Raises:
        VaeError: as in `read_picture`.
    """
    try:
        with Image.open(source, formats=FORMATS) as image:
            _check_size(image, name)
            if at_least is not None:
                # Twice the larger side: orientation may swap the two, and the filter needs work left to do.
                side = 2 * max(at_least)
                image.draft(None, (side, side))
            image.load()
            return _upright_pixels(image, name)
    except VaeError:
        raise
    except UnidentifiedImageError as error:
        if isinstance(source, Path) and source.stat().st_size == 0:
            raise VaeError(f"{name}: is empty", "remove it, or copy it again") from error
        raise VaeError(f"{name}: not a picture", f"pictures are {FORMAT_NAMES} files") from error
    except Image.DecompressionBombError as error:
        raise _too_large(name) from error
    except OSError as error:
        if error.errno is not None:
            raise file_error(name, error) from error
        raise _damaged(name, error) from error
    except MemoryError as error:
        raise VaeError(f"{name}: not enough memory to decode it", "make the picture smaller") from error
    except Exception as error:  # a damaged file can trip Pillow anywhere, with any exception
        raise _damaged(name, error) from error


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > LARGEST_PICTURE:
        raise _too_large(name, f"{width}x{height}")


def _too_large(name: str, size: str = "this") -> VaeError:
    megapixels = LARGEST_PICTURE // 10**6
    return VaeError(
        f"{name}: {size} is too large a picture, the limit is {megapixels} megapixels", "make it smaller"
    )


def _damaged(name: str, error: Exception) -> VaeError:
    reason = str(error).strip() or type(error).__name__
    return VaeError(f"{name}: damaged picture ({reason})", "copy or download it again, or leave it out")


def _upright_pixels(image: Image.Image, name: str) -> Picture:
    """Decode a loaded image of whatever mode to (h, w, 1 or 3)."""
    with contextlib.suppress(Exception):  # EXIF that cannot be parsed turns nothing
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        return _deep_pixels(image, name)
    if image.mode == "1":
        image = image.convert("L")
    palette = image.mode in ("P", "PA")
    flattened = False
    if image.has_transparency_data:
        image, flattened = _flatten(image)
    elif image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode in ("LA", "La") else "RGB")
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        return Picture(pixels[:, :, np.newaxis], flattened)
    if palette and (pixels == pixels[:, :, :1]).all():  # a palette of greys
        return Picture(np.ascontiguousarray(pixels[:, :, :1]), flattened)
    return Picture(pixels, flattened)


def _flatten(image: Image.Image) -> tuple[Image.Image, bool]:
    """Lay a picture onto white. Says whether anything showed through."""
    grey = image.mode in ("L", "LA", "La")
    image = image.convert("RGBA")
    lowest, _ = image.getchannel("A").getextrema()
    seen_through = bool(lowest != 255)
    if seen_through:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB").getchannel("R") if grey else image.convert("RGB"), seen_through


def _deep_pixels(image: Image.Image, name: str) -> Picture:
    """Grey of more than 8 bits a sample: 16 bits, 32 that hold no more than 16, or [0, 1] floats."""
    samples = np.asarray(image)
    if samples.dtype.kind == "f":
        pixels = _to_bytes(samples[np.newaxis], name)[0]
    else:
        lowest, highest = int(samples.min()), int(samples.max())
        if lowest < 0 or highest > 0xFFFF:
            raise VaeError(
                f"{name}: samples from {lowest} to {highest}, more than 16 bits",
                "save it with 8 or 16 bits a sample",
            )
        pixels = ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 is white
    flattened = False
    see_through = image.info.get("transparency")
    if isinstance(see_through, int):
        hidden = samples == see_through
        flattened = bool(hidden.any())
        pixels = np.where(hidden, np.uint8(255), pixels)
    return Picture(pixels[:, :, np.newaxis], flattened)


def read_array(source: Path | BinaryIO, name: str) -> Pixels:
    """Read the images in a .npy or .npz as uint8 (n, h, w, c) with 1 or 3 channels.

    Takes uint8, booleans and floats in [0, 1], shaped (n, h, w) or (n, h, w, c). Floats are rounded to
    8 bits, a stretch at a time. A .npy file of uint8 is not read but mapped. Of several arrays in an .npz
    the one whose name says so (ARRAY_NAMES) is taken.

    Raises:
        VaeError: the file is damaged, pickled or no array file; the shape or type is another; a value is NaN
            or outside [0, 1]; several arrays and none that is plainly the images.
    """
    try:
        # A map costs nothing, whatever the type; streams and .npz files are read.
        loaded = np.load(source, mmap_mode="r" if isinstance(source, Path) else None, allow_pickle=False)
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
    if "pickle" in text:
        return VaeError(
            f"{name}: not an array of numbers", "save it with numpy.save, as uint8 or floats in [0, 1]"
        )
    return VaeError(f"{name}: damaged array file ({text})", "save it again with numpy.save or numpy.savez")


def _choose(arrays: Any, name: str) -> tuple[Any, str]:  # noqa: ANN401 - NpzFile's items are untyped
    """The images among the arrays of an .npz, with the name to call them by in a message."""
    names = list(arrays.files)
    if not names:
        raise VaeError(f"{name}: holds no array", "save the images with numpy.savez(file, images=…)")
    chosen = names[0] if len(names) == 1 else next((known for known in ARRAY_NAMES if known in names), None)
    if chosen is None:
        raise VaeError(
            f"{name}: holds {len(names)} arrays ({', '.join(names)}), none of them called images",
            "save the images alone, or under the name images",
        )
    return arrays[chosen], name if len(names) == 1 else f"{name}: {chosen}"


def _as_images(array: NDArray[Any], name: str) -> Pixels:
    """Check type and shape, and bring the values to uint8."""
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
        raise VaeError(
            f"{name}: wrong shape {shape}, as of one picture", f"{wanted}; for one picture: array[None]"
        )
    if array.ndim == 4 and array.shape[3] not in (1, 3):
        remedy = (
            f"{wanted}; channels first: array.transpose(0, 2, 3, 1)" if array.shape[1] in (1, 3) else wanted
        )
        raise VaeError(f"{name}: wrong shape {shape}", remedy)
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.dtype == np.uint8:
        return array
    if array.dtype != np.bool_ and array.dtype.kind != "f":
        raise VaeError(f"{name}: wrong type {array.dtype}", "save it as uint8, or as floats in [0, 1]")
    return _to_bytes(array, name)


def _to_bytes(array: NDArray[Any], name: str) -> Pixels:
    """Round floats in [0, 1] to 8 bits, never holding more than CHUNK_BYTES of them in memory."""
    pixels = np.empty(array.shape, np.uint8)
    rows = max(1, CHUNK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        values = array[start : start + rows].astype(np.float64)
        if np.isnan(values).any():
            raise VaeError(
                f"{name}: has values that are NaN", "images are numbers from 0 to 1; clean the array first"
            )
        lowest, highest = float(values.min()), float(values.max())
        if lowest < 0 or highest > 1:
            remedy = (
                "divide by 255, or save as uint8"
                if lowest >= 0 and highest <= 255
                else "scale the array first"
            )
            raise VaeError(
                f"{name}: has values from {lowest:g} to {highest:g}, expected floats from 0 to 1", f"{remedy}"
            )
        pixels[start : start + rows] = np.rint(values * 255)
    return pixels


def fit(picture: Pixels, image_shape: ImageShape) -> Pixels:
    """Crop a picture (h, w, c) around its centre, resize and convert it to `image_shape` (c, h, w).

    The crop keeps as much as the new shape's aspect allows; Lanczos weighs the whole area that a new pixel
    covers, so nothing aliases. Returns (h, w, c).
    """
    channels, height, width = image_shape
    if picture.shape == (height, width, channels):
        return picture
    image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
    if image.mode != "L" and channels == 1:
        image = image.convert("L")
    if image.size != (width, height):
        full_width, full_height = image.size
        kept_width = min(full_width, full_height * width / height)
        kept_height = min(full_height, full_width * height / width)
        left, top = (full_width - kept_width) / 2, (full_height - kept_height) / 2
        box = (left, top, left + kept_width, top + kept_height)
        # The gap lets Pillow halve a large picture cheaply before the filter does the last of the way.
        image = image.resize((width, height), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    return pixels if pixels.shape[2] == channels else np.repeat(pixels, channels, axis=2)


def is_picture(path: Path | str) -> bool:
    """Whether a file's name says that it holds a picture."""
    return os.path.splitext(path)[1].lower() in SUFFIXES  # noqa: PTH122 - ten times Path's speed, for many files


def is_array(path: Path) -> bool:
    """Whether a file's name says that it holds an array."""
    return path.suffix.lower() in ARRAY_SUFFIXES


@dataclass(frozen=True)
class FoundFile:
    """A picture file in a folder, with what tells whether it changed."""

    path: Path
    size: int  # bytes
    modified: int  # nanoseconds since 1970


def find_pictures(folder: Path) -> list[FoundFile]:
    """Every picture file below `folder` in natural order (2 before 10), but for what is hidden.

    Raises:
        VaeError: the folder or one in it cannot be read, or there is no picture in it.
    """
    found: list[FoundFile] = []
    waiting = [os.fspath(folder)]
    seen: set[tuple[int, int]] = set()  # links may lead in circles
    while waiting:
        place = waiting.pop()
        try:
            status = os.stat(place)  # noqa: PTH116 - strings all along, for folders of a million files
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        waiting.append(entry.path)
                    elif is_picture(entry.name) and entry.is_file():
                        status = entry.stat()
                        found.append(FoundFile(Path(entry.path), status.st_size, status.st_mtime_ns))
        except OSError as error:
            raise file_error(error.filename or place, error) from error
    if not found:
        raise VaeError(
            f"{folder}: no picture in this folder", f"put {FORMAT_NAMES} files into it, or name another"
        )
    return sorted(found, key=lambda file: natural_key(str(file.path.relative_to(folder))))


def natural_key(text: str) -> tuple[list[tuple[int, str]], str]:
    """Sorts names as people do: 2 before 10, and capitals beside small letters."""
    parts = re.split(r"(\d+)", text.casefold())
    # Numbers compare by length, then by digits: as many digits as there may be, without a conversion.
    return [
        (len(part.lstrip("0")) if part.isdigit() else -1, part.lstrip("0") or part) for part in parts
    ], text


Item = TypeVar("Item")
Result = TypeVar("Result")


def workers() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def on_all_cores(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map`, in order, on threads: Pillow lets go of the interpreter while it decodes and resizes.

    A task is a handful of items, because handing over a single tiny picture costs more than decoding it.
    Only a few tasks wait at a time, so memory stays flat however many items there are.
    """
    remaining = iter(items)
    tasks = iter(lambda: list(islice(remaining, HANDFUL)), [])
    count = workers()
    with ThreadPoolExecutor(count) as pool, quiet_pillow():

        def submit(handful: list[Item]) -> Future[list[Result]]:
            return pool.submit(lambda: [function(item) for item in handful])

        waiting = deque(map(submit, islice(tasks, 2 * count)))
        try:
            while waiting:
                results = waiting.popleft().result()
                waiting.extend(map(submit, islice(tasks, 1)))
                yield from results
        finally:
            for future in waiting:
                future.cancel()


def check_unreadable(unreadable: Sequence[VaeError], total: int, folder: Path) -> str:
    """Say in a sentence which of a folder's pictures were skipped; one in TOLERATED may be.

    Raises:
        VaeError: more than that are unreadable, or all.
    """
    messages = [error.message for error in unreadable]
    listed = "; ".join(messages[:3]) + (f"; and {len(messages) - 3} more" if len(messages) > 3 else "")
    if len(unreadable) == total:
        raise VaeError(f"{folder}: none of its {total} pictures can be read: {listed}", unreadable[0].hint)
    if len(unreadable) * TOLERATED > total:
        raise VaeError(
            f"{folder}: {len(unreadable)} of {total} pictures cannot be read: {listed}",
            f"remove or replace them; up to one in {TOLERATED} would be skipped",
        )
    return f"skipped {len(unreadable)} of {total} pictures that cannot be read: {listed}"


def read_inputs(inputs: Sequence[str], image_shape: ImageShape, *, invert: bool = False) -> Inputs:
    """Read a command's INPUTs, fitted to `image_shape` (c, h, w), in the order given.

    An INPUT is an image file, a folder (searched through, natural order), a .npy or .npz, or `-`: a picture
    or an array on stdin, told apart by its first bytes. `invert` turns every picture into its negative.

    Raises:
        VaeError: an input is missing, empty, unreadable or no picture; in a folder one in TOLERATED may be.
        UsageError: no input, `-` twice, or `-` with nothing piped into it.
    """
    if not inputs:
        raise UsageError("no INPUT", "name image files, folders, .npy or .npz files, or - for stdin")
    if list(inputs).count("-") > 1:
        raise UsageError("- is there more than once", "stdin can be read only once")
    reader = _InputReader(image_shape)
    for text in inputs:
        reader.read(text)
    images = reader.images[0] if len(reader.images) == 1 else np.concatenate(reader.images)
    return Inputs(255 - images if invert else images, reader.names, reader.fitted, reader.notes())


class _InputReader:
    """Gathers the images of one INPUT after the other."""

    def __init__(self, image_shape: ImageShape) -> None:
        self._shape = image_shape
        self._size = image_shape[1:]
        self.images: list[Pixels] = []  # each (n, h, w, c)
        self.names: list[str] = []
        self.fitted = 0
        self._flattened = 0
        self._skipped: list[str] = []

    def read(self, text: str) -> None:
        """Read one INPUT, whatever it is."""
        path = Path(text)
        if text == "-":
            self._add_bytes(_stdin(), text)
        elif path.is_dir():
            self._add_folder(path)
        elif is_array(path):
            self._add_array(read_array(path, text), text)
        elif path.exists() and not path.is_file():  # a pipe, as in <(vae sample -o -)
            try:
                self._add_bytes(path.read_bytes(), text)
            except OSError as error:
                raise file_error(path, error) from error
        else:
            self._add_picture(path, text)

    def _add_bytes(self, content: bytes, name: str) -> None:
        if not content:
            raise VaeError(f"{name}: nothing came", "pipe a picture or a .npy into it")
        if content.startswith((_NPY_MAGIC, _ZIP_MAGIC)):
            self._add_array(read_array(io.BytesIO(content), name), name)
        else:
            self._add_picture(io.BytesIO(content), name)

    def _add_picture(self, source: Path | BinaryIO, name: str) -> None:
        with quiet_pillow():
            self._add([decode(source, name, self._size).fit(self._shape)], [name])

    def _add_folder(self, folder: Path) -> None:
        files = find_pictures(folder)
        results = list(zip(files, on_all_cores(self._try, files), strict=True))
        unreadable = [result for _, result in results if isinstance(result, VaeError)]
        if unreadable:
            self._skipped.append(check_unreadable(unreadable, len(files), folder))
        good = [(result, str(file.path)) for file, result in results if isinstance(result, Picture)]
        self._add([picture for picture, _ in good], [name for _, name in good])

    def _try(self, file: FoundFile) -> Picture | VaeError:
        try:
            return decode(file.path, str(file.path), self._size).fit(self._shape)
        except VaeError as error:
            return error

    def _add_array(self, array: Pixels, name: str) -> None:
        names = [f"{name}[{row}]" for row in range(len(array))]
        channels, height, width = self._shape
        if array.shape[1:] == (height, width, channels):
            self.images.append(array)
            self.names += names
        else:
            self._add([Picture(row).fit(self._shape) for row in array], names)

    def _add(self, pictures: Sequence[Picture], names: Sequence[str]) -> None:
        self.images.append(np.stack([picture.pixels for picture in pictures]))
        self.names += names
        self.fitted += sum(picture.fitted for picture in pictures)
        self._flattened += sum(picture.flattened for picture in pictures)

    def notes(self) -> tuple[str, ...]:
        """What a person should know about how these inputs were read."""
        channels, height, width = self._shape
        notes = list(self._skipped)
        if self._flattened:
            notes.append(f"transparency was laid onto white in {_count(self._flattened)}")
        if self.fitted:
            colour = "grey" if channels == 1 else "colour"
            notes.append(
                f"fitted {_count(self.fitted)} to the model's {height}x{width} {colour}: cropped, resized"
            )
        return tuple(notes)


def _count(pictures: int) -> str:
    return "1 picture" if pictures == 1 else f"{pictures} pictures"


def _stdin() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(
            "- reads stdin, and nothing is piped into it", "as in: vae sample -o - | vae reconstruct -"
        )
    return sys.stdin.buffer.read()
