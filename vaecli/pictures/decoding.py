"""One picture file, or one picture, brought to uint8 and to a shape.

No file is trusted: only the formats named below are opened, and a picture's size is looked at before it is
decoded.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vaecli.errors import VaeError, file_error
from vaecli.pictures.arrays import Pixels, byte_chunks

ImageShape: TypeAlias = tuple[int, int, int]  # (channels, height, width)

# Formats that are always loaded stand first: Pillow imports all of its plugins to try the last two.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
FORMAT_NAMES = "PNG, JPEG, WebP, BMP, GIF or TIFF"
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

LARGEST_PICTURE = 2**27  # pixels: 400 MB decoded, more than any camera makes


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
    return VaeError(f"{name}: {size} is too large a picture, the limit is {megapixels} megapixels", "make it smaller")


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
        pixels = next(byte_chunks(samples[np.newaxis], name))[0]
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
