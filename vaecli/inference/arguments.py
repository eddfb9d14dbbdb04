"""Arrays that Python users pass to a model: images and latents, checked and brought into one shape."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vaecli.errors import UsageError
from vaecli.inference.geometry import Latents, Vector
from vaecli.inference.pair import Batch, Pair
from vaecli.pictures.arrays import to_uint8


def as_images(pair: Pair, images: ArrayLike) -> Batch:
    """Images (n, h, w, c), uint8 or floats in [0, 1]; where there is one channel, its axis may be missing.

    Raises:
        UsageError: there are none, or they are not of the model's shape, or not uint8 or floats in [0, 1].
    """
    array = np.asarray(images)
    channels, height, width = pair.image_shape
    shaped = array[..., np.newaxis] if array.ndim == 3 and channels == 1 else array
    if not array.size:
        raise UsageError(f"images of shape {array.shape}: there are none", "pass one or more")
    if shaped.shape[1:] != (height, width, channels):
        wanted = f"(n, {height}, {width})" if channels == 1 else f"(n, {height}, {width}, {channels})"
        hint = "crop and resize them first; one image needs a leading axis: image[None]"
        if array.shape[1:] == pair.image_shape:
            hint = "channels come last: images.transpose(0, 2, 3, 1)"
        raise UsageError(f"images of shape {array.shape}: this model takes {wanted}", hint)
    if array.dtype == np.uint8:
        return shaped
    if not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"images of type {array.dtype}: not uint8 or floats", "convert them: images.astype(np.uint8)")
    if not (array.min() >= 0 and array.max() <= 1):  # NaN fails, too
        raise UsageError(
            "images with values outside [0, 1], or that are not numbers",
            "divide by the largest value, or pass uint8",
        )
    return shaped


def as_pixels(pair: Pair, images: ArrayLike) -> NDArray[np.uint8]:
    """Images as uint8 (n, h, w, c). Raises UsageError as `as_images` does."""
    shaped = as_images(pair, images)
    return shaped if shaped.dtype == np.uint8 else to_uint8(shaped)


def as_latents(pair: Pair, latents: ArrayLike) -> Latents:
    """Latents (n, d) as float32. Raises UsageError where they are not that many finite numbers, n at least 1."""
    array = np.asarray(latents)
    if not array.size:
        raise UsageError(f"latents of shape {array.shape}: there are none", "pass one or more")
    if array.ndim != 2 or array.shape[1] != pair.latent_dim:
        raise UsageError(
            f"latents of shape {array.shape}: this model takes (n, {pair.latent_dim})",
            "one latent needs a leading axis: latent[None]",
        )
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float32) if array.dtype.kind in "fiu" else None
    if rounded is None or not np.isfinite(rounded).all():
        raise UsageError(f"latents of type {array.dtype} that are not all finite numbers", "look for NaN and infinity")
    return rounded


def as_latent(pair: Pair, value: ArrayLike) -> Vector:
    """One latent (d,), or the mean of q(z|x) of one image. Raises UsageError where it is neither."""
    array = np.asarray(value)
    one = array[np.newaxis]
    latents = as_latents(pair, one) if array.ndim == 1 else pair.encode(as_images(pair, one))[0]
    latent: Vector = latents[0]
    return latent


def latents_or_means(pair: Pair, values: ArrayLike) -> Latents:
    """Latents (n, d), or the means of q(z|x) of images, as latents (n, d). Raises UsageError where they are neither."""
    array = np.asarray(values)
    if array.ndim != 2:
        return pair.encode(as_images(pair, array))[0]
    if array.shape == pair.image_shape[1:]:
        problem = f"an array of shape {array.shape}: one image, or {len(array)} latents?"
        raise UsageError(problem, "one image needs a leading axis: image[None]")
    return as_latents(pair, array)
