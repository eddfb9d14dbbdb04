"""Arrays that Python users pass to a model: images and latents, checked and brought into one shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vaecli.errors import UsageError, first_line
from vaecli.inference.geometry import Latents, Vector
from vaecli.inference.pair import Batch, Pair
from vaecli.model_format import MAX_PIXEL
from vaecli.pictures.arrays import to_uint8


def as_images(pair: Pair, images: ArrayLike) -> Batch:
    """Images (n, h, w, c), uint8 or floats in [0, 1]; where there is one channel, its axis may be missing.

    Raises:
        UsageError: there are none, or they are not of the model's shape, or not uint8 or floats in [0, 1].
    """
    array = _array("images", images)
    channels, height, width = pair.image_shape
    shaped = array[..., np.newaxis] if array.ndim == 3 and channels == 1 else array
    if not array.size:
        raise UsageError(f"images of shape {array.shape}: there are none", "pass one or more")
    if shaped.shape[1:] != (height, width, channels):
        wanted = f"(n, {height}, {width})" if channels == 1 else f"(n, {height}, {width}, {channels})"
        hint = "crop and resize them first; one image needs a leading axis: image[None]"
        if array.shape == (channels, height, width) or array.shape[1:] == pair.image_shape:
            hint = "channels come last: images.transpose(0, 2, 3, 1)"
        raise UsageError(f"images of shape {array.shape}: this model takes {wanted}", hint)
    if array.dtype == np.uint8:
        return shaped
    if not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"images of type {array.dtype}: not uint8, or floats in [0, 1]", _conversion(array))
    least, largest = float(array.min()), float(array.max())
    if not (least >= 0 and largest <= 1):  # NaN fails, too
        if nan := int(np.isnan(array).sum()):
            first = int(np.isnan(shaped).any(axis=(1, 2, 3)).argmax())
            problem = f"images with {nan:,} values that are not numbers, the first of them in image {first}"
            raise UsageError(problem, "look for NaN, such as a division by 0")
        clips = least > -0.1 and largest < 1.1  # what rounding and resizing do to values in [0, 1]
        hint = "clip them: images.clip(0, 1)" if clips else "divide by the largest possible value, such as images / 255"
        raise UsageError(f"images with values outside [0, 1]: {least:.9g} to {largest:.9g}", hint)
    return shaped


def _conversion(array: NDArray[Any]) -> str:
    """The hint for images that are neither uint8 nor floats."""
    if array.dtype == bool:
        return "convert them: images.astype(np.float32)"
    if array.dtype.kind not in "iu":
        return "make an array of numbers of them"
    if array.dtype == np.uint16:
        return "divide by the largest possible value: images / 65535"
    if array.min() >= 0 and 1 < array.max() <= MAX_PIXEL:
        return "convert them: images.astype(np.uint8)"
    return "divide by the largest possible value"


def as_pixels(pair: Pair, images: ArrayLike) -> NDArray[np.uint8]:
    """Images as uint8 (n, h, w, c). Raises UsageError as `as_images` does."""
    shaped = as_images(pair, images)
    return shaped if shaped.dtype == np.uint8 else to_uint8(shaped)


def as_latents(pair: Pair, latents: ArrayLike) -> Latents:
    """Latents (n, d) as float32. Raises UsageError where they are not that many finite numbers, n at least 1."""
    array = _array("latents", latents)
    if not array.size:
        raise UsageError(f"latents of shape {array.shape}: there are none", "pass one or more")
    if array.ndim != 2 or array.shape[1] != pair.latent_dim:
        raise UsageError(
            f"latents of shape {array.shape}: this model takes (n, {pair.latent_dim})",
            "one latent needs a leading axis: latent[None]",
        )
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float32) if array.dtype.kind in "fiu" else None
    if rounded is None:
        raise UsageError(f"latents of type {array.dtype}: not numbers", "convert them: latents.astype(np.float32)")
    if not np.isfinite(rounded).all():
        raise UsageError("latents that are not all finite numbers", "look for NaN and infinity")
    return rounded


def as_latent(pair: Pair, value: ArrayLike) -> Vector:
    """One latent (d,), or the mean of q(z|x) of one image. Raises UsageError where it is neither."""
    array = _array("image or latent", value)
    if array.ndim == 4 or (array.ndim == 3 and array.shape[1:] == pair.image_shape[1:] and pair.image_shape[0] == 1):
        raise UsageError(f"an array of shape {array.shape}: not one image or latent", "take one of them: images[0]")
    one = array[np.newaxis]
    latents = as_latents(pair, one) if array.ndim == 1 else pair.encode(as_images(pair, one))[0]
    latent: Vector = latents[0]
    return latent


def latents_or_means(pair: Pair, values: ArrayLike) -> Latents:
    """Latents (n, d), or the means of q(z|x) of images, as latents (n, d). Raises UsageError where they are neither."""
    array = _array("images or latents", values)
    if array.ndim != 2:
        return pair.encode(as_images(pair, array))[0]
    if array.shape == pair.image_shape[1:]:
        problem = f"an array of shape {array.shape}: one image, or {len(array)} latents?"
        raise UsageError(problem, "one image needs a leading axis: image[None]")
    return as_latents(pair, array)


def _array(what: str, values: ArrayLike) -> NDArray[Any]:
    """The values as an array. Raises UsageError where they make none, such as rows of different lengths."""
    if isinstance(values, str | Path):
        raise UsageError(f"{what}: {values} is a path, not an array", "model.read(path).images reads pictures")
    try:
        return np.asarray(values)
    except ValueError as error:
        raise UsageError(f"{what}: no array, {first_line(error)}", "all must have the same shape") from error
