"""One picture file decoded to uint8, and one picture fitted to a shape.

No file is trusted: only FORMATS are opened, and a picture's size is checked before it is decoded.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vaecli import limits
from vaecli.errors import VaeError, file_error
from vaecli.global_state import SharedChange
from vaecli.model_format import ImageShape
from vaecli.pictures.arrays import Pixels, byte_chunks
from vaecli.streams import diverted

# Pillow tries them in this order, and imports all of its plug-ins before the last two.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
FORMAT_NAMES = "PNG, JPEG, WebP, BMP, GIF or TIFF"
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".webp", ".bmp", ".gif", ".tif", ".tiff")

ORIENTATION, SIDEWAYS = 0x0112, range(5, 9)  # EXIF: the tag, and the values that swap height and width
FLIPPED, UPSIDE_DOWN = (2, 3, 7, 8), (3, 4, 6, 7)  # those that turn the right side to the left, and the lower one up
COPIES = {"WEBP": 2}  # libwebp holds two pictures beside Pillow's two; others hold one beside one
DEEP = ";16"  # in the name of the pixels' format that Pillow unpacks: 16 bits a value (in a BMP, a pixel)
Area: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom in pixels
LARGE = 2**22  # pixels of a picture of which one is decoded at a time, and of a part that is converted at once

_LARGE_ONE = threading.Lock()


@dataclass(frozen=True)
class Picture:
    """A decoded picture, and what was done to it."""

    pixels: Pixels  # (h, w, c)
    flattened: bool = False  # transparent parts were made white
    deep: bool = False  # the file has more than 8 bits a sample
    first: bool = False  # the file has several frames or pages
    fitted: bool = False  # cropped, resized or converted
    size: tuple[int, int] | None = None  # (h, w) before it was fitted
    area: Area | None = None  # of `pixels`, where a JPEG that was decoded at reduced size does not fill them


def read_picture(source: Path | BinaryIO, name: str) -> Pixels:
    """Read one image file, upright, as (h, w, c) with 1 or 3 channels. Transparency becomes white.

    Raises:
        VaeError: the file is missing, is no picture, is truncated, or is larger than limits.PIXELS.
    """
    with quiet_pillow():
        return decode(source, name).pixels


def shape_of(file: Path | BinaryIO) -> tuple[int, int, int] | None:
    """The (h, w, c) that `read_picture` would give, mostly from the file's first bytes; None where that fails."""
    try:
        if isinstance(file, Path):
            limits.check_file(file)
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            if image.getexif().get(ORIENTATION, 1) in SIDEWAYS:
                width, height = height, width
            if image.mode in ("P", "PA"):  # its colours may all be grey
                return decode(file, "").pixels.shape
            return height, width, 1 if _is_grey(image.mode) else 3
    except Exception:  # a damaged file can make Pillow raise anything; reading it says what
        return None


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
    theirs = Image.MAX_IMAGE_PIXELS
    try:
        Image.MAX_IMAGE_PIXELS = None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = theirs


_QUIET = SharedChange(_quiet_pillow)


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Suppress Pillow's warnings about unusual files, and its own limit of pixels; what matters is an error here.

    Both are global, so the thread that starts a pool holds this around all of the pool's work. Raises UsageError where
    our own limit is no number, which is no fault of any picture.
    """
    limits.most_pixels()
    with _QUIET:
        yield


def decode(source: Path | BinaryIO, name: str, at_least: tuple[int, int] | None = None) -> Picture:
    """Read one image file as `read_picture` does, for callers that hold `quiet_pillow` themselves. Raises the same.

    With `at_least` (h, w) a large JPEG is decoded at 1/2, 1/4 or 1/8 of its size, never smaller than that. Where its
    sides are no multiples of that factor, the last pixels lie partly beyond the picture: its `area` says how much.
    """
    try:
        if isinstance(source, Path):
            limits.check_file(source)
        with Image.open(source, formats=FORMATS) as image:
            area = None
            if at_least is not None:
                # The larger side: EXIF may swap the two. Twice: Lanczos reduces better than the JPEG decoder.
                side = 2 * max(at_least)
                drafted = image.draft(None, (side, side))
                if drafted is not None and drafted[1][2:] != image.size:
                    area = _upright_area(image, *drafted[1][2:])
            limits.check_pixels(*image.size, name, COPIES.get(image.format or "", 1))
            deep = image.format != "BMP" and any(DEEP in str(tile[3]) for tile in image.tile)
            first = _has_more_frames(image)
            with _LARGE_ONE if image.width * image.height > LARGE else contextlib.nullcontext():
                with _silent_tiff() if image.format == "TIFF" else contextlib.nullcontext():
                    image.load()
                picture = _upright_pixels(image, name)
            return replace(picture, deep=picture.deep or deep, first=first, area=area)
    except VaeError:
        raise
    except UnidentifiedImageError as error:
        if (source.stat().st_size if isinstance(source, Path) else source.seek(0, os.SEEK_END)) == 0:
            raise VaeError(f"{name}: is empty", "remove it, or copy it again") from error
        raise VaeError(f"{name}: not a picture", f"pictures are {FORMAT_NAMES} files; save HEIC as JPEG") from error
    except MemoryError as error:
        raise VaeError(f"{name}: not enough memory to decode it", "make the picture smaller") from error
    except Exception as error:  # a damaged file can make Pillow raise anything
        if isinstance(error, OSError) and error.errno is not None:
            raise file_error(name, error) from error
        reason = str(error).strip() or type(error).__name__
        raise VaeError(f"{name}: damaged picture ({reason})", "copy or download it again, or leave it out") from error


def _has_more_frames(image: Image.Image) -> bool:
    """Whether a picture that was just opened is the first of several frames or pages."""
    if image.format == "TIFF":
        return bool(getattr(getattr(image, "tag_v2", None), "next", 0))
    with contextlib.suppress(Exception):  # what follows the first frame may be damaged
        return bool(getattr(image, "is_animated", False))
    image.seek(0)
    return False


@contextlib.contextmanager
def _silent_tiff() -> Iterator[None]:
    """Keep what libtiff says of damage off the terminal: it writes to stderr itself. One thread at a time."""
    with Path(os.devnull).open("wb") as nowhere, diverted(nowhere.fileno()):
        yield


def _upright_area(image: Image.Image, width: float, height: float) -> Area:
    """Where the upper left part of this size is once the image is turned as its EXIF orientation says."""
    orientation = 1
    with contextlib.suppress(Exception):  # EXIF that cannot be parsed is ignored
        orientation = image.getexif().get(ORIENTATION, 1)
    left = image.width - width if orientation in FLIPPED else 0
    top = image.height - height if orientation in UPSIDE_DOWN else 0
    if orientation in SIDEWAYS:
        return top, left, top + height, left + width
    return left, top, left + width, top + height


def _upright_pixels(image: Image.Image, name: str) -> Picture:
    """The pixels (h, w, 1 or 3) of a loaded image of any mode. Large ones are converted part by part: less memory."""
    if image.info or image.format != "PNG":  # looking for EXIF takes as long as a tenth of a small PNG
        with contextlib.suppress(Exception):  # EXIF that cannot be parsed is ignored
            ImageOps.exif_transpose(image, in_place=True)
    width, height = image.size
    rows = max(1, LARGE // width)
    if height <= rows:
        return _converted(image, name)
    pixels, flattened, grey = np.empty((height, width, 1 if _is_grey(image.mode) else 3), np.uint8), False, True
    deep = False
    for top in range(0, height, rows):
        part = _converted(image.crop((0, top, width, min(top + rows, height))), name)
        pixels[top : top + rows] = part.pixels
        flattened, grey = flattened or part.flattened, grey and part.pixels.shape[2] == 1
        deep |= part.deep
    return Picture(np.ascontiguousarray(pixels[:, :, :1]) if grey else pixels, flattened, deep)


def _is_grey(mode: str) -> bool:
    """Whether pictures of a mode are grey. Those of a palette may be, too."""
    return mode in ("1", "L", "LA", "La") or mode.startswith(("I", "F"))


def _converted(image: Image.Image, name: str) -> Picture:
    """The pixels of an upright image, or of some of its rows."""
    if image.mode in ("L", "RGB") and "transparency" not in image.info:  # most pictures
        return Picture(np.asarray(image).reshape(image.height, image.width, -1))
    if image.mode.startswith(("I", "F")):
        return _deep_pixels(image, name)
    if image.mode == "1":
        image = image.convert("L")
    palette = image.mode in ("P", "PA")
    mode = "L" if _is_grey(image.mode) else "RGB"
    flattened = False
    if image.has_transparency_data:
        image = image.convert("RGBA")
        flattened = image.getchannel("A").getextrema() != (255, 255)
        if flattened:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode != mode:
        image = image.convert(mode)
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    if palette and (pixels == pixels[:, :, :1]).all():  # a palette of greys
        pixels = np.ascontiguousarray(pixels[:, :, :1])
    return Picture(pixels, flattened)


def _deep_pixels(image: Image.Image, name: str) -> Picture:
    """Grey of more than 8 bits a sample: integers from 0 to 65535, or floats in [0, 1]."""
    samples = np.asarray(image)
    if samples.dtype.kind == "f":
        pixels = next(byte_chunks(samples[np.newaxis], name))[0]
    else:
        lowest, highest = int(samples.min()), int(samples.max())
        if lowest < 0 or highest > 0xFFFF:
            problem = f"samples from {lowest} to {highest}, more than 16 bits"
            raise VaeError(f"{name}: {problem}", "save it with 8 or 16 bits a sample")
        pixels = ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 is white
    value = image.info.get("transparency")
    transparent = samples == value if isinstance(value, int) else np.False_
    pixels = np.where(transparent, np.uint8(255), pixels)
    return Picture(pixels[:, :, np.newaxis], bool(np.any(transparent)), deep=True)


def fit(picture: Pixels, image_shape: ImageShape, area: Area | None = None) -> Pixels:
    """Crop a picture (h, w, c) around its centre, resize and convert it to `image_shape` (c, h, w).

    The crop is the largest of the new aspect ratio, of the picture or of an `area` in it. Lanczos with antialiasing.
    Returns (h, w, c).
    """
    channels, height, width = image_shape
    if picture.shape == (height, width, channels):
        return picture
    image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
    if image.mode != "L" and channels == 1:
        image = image.convert("L")
    if image.size != (width, height):
        left, top, right, bottom = area or (0, 0, *image.size)
        kept_width = min(right - left, (bottom - top) * width / height)
        kept_height = min(bottom - top, (right - left) * height / width)
        left, top = (left + right - kept_width) / 2, (top + bottom - kept_height) / 2
        box = (left, top, left + kept_width, top + kept_height)
        # reducing_gap: a much larger picture is first reduced by a whole factor, which is faster.
        image = image.resize((width, height), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    pixels = np.asarray(image).reshape(height, width, -1)
    return pixels if pixels.shape[2] == channels else np.repeat(pixels, channels, axis=2)
