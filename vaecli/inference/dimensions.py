"""The dimensions of a latent space: how much each one carries, and the walks and planes along them.

Dimensions are numbered from 0, as NumPy numbers them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from vaecli.inference.latents import Latents, Vector
from vaecli.inference.model import AnyImages, Model

PerDimension = NDArray[np.float64]  # (d,)


def kl(model: Model, batches: Iterable[AnyImages]) -> PerDimension:
    """KL(q(z|x) || p(z)) of each latent dimension, (d,) in nats per image: the mean over all images.

    For a normal posterior and a standard normal prior it is (mean^2 + std^2 - log(std^2) - 1) / 2, summed
    here in float64 (Kingma and Welling, Auto-encoding variational Bayes, 2013, appendix B).

    Raises:
        VaeError: the encoder is not there, or fails.
    """
    total, images = np.zeros(model.latent_dim), 0
    for mean, std in model.encode_batches(batches):
        squares = np.square(std, dtype=np.float64)
        total += (np.square(mean, dtype=np.float64) + squares - np.log(1e-8 + squares) - 1).sum(axis=0) / 2
        images += len(mean)
    return total / images


def change(model: Model, reach: float) -> PerDimension:
    """How much each dimension changes the picture, (d,): the squared difference of a pixel in [0, 1].

    It is measured between the pictures at -`reach` and `reach` with all other dimensions at the prior's mean,
    so it needs no pictures, and a dimension that the decoder ignores has 0.

    Raises:
        VaeError: the decoder is not there, or fails.
    """
    origin = np.zeros(model.latent_dim, np.float32)
    size = max(1, model.batch_size // 2)
    blocks = (
        along(origin, range(start, min(start + size, model.latent_dim)), steps=2, reach=reach)
        for start in range(0, model.latent_dim, size)
    )
    ends = (images.reshape(-1, 2, images[0].size) for images in model.decode_batches(blocks))
    return np.concatenate([np.square(pair[:, 0] - pair[:, 1], dtype=np.float64).mean(axis=1) for pair in ends])


def largest_first(values: PerDimension) -> list[int]:
    """The dimensions in order of their `values`, the first of equals first."""
    return [int(dimension) for dimension in np.argsort(-values, kind="stable")]


def along(start: Vector, dimensions: Sequence[int], steps: int, reach: float) -> Latents:
    """`steps` latents along each of `dimensions`, from -`reach` to `reach`: (len(dimensions)*steps, d) float32.

    All other dimensions stay where `start` (d,) has them.
    """
    walks = np.tile(np.asarray(start, np.float32), (len(dimensions), steps, 1))  # (dimensions, steps, d)
    for walk, dimension in zip(walks, dimensions, strict=True):
        walk[:, dimension] = np.linspace(-reach, reach, steps)
    return walks.reshape(len(dimensions) * steps, -1)


def plane(start: Vector, across: int, up: int, side: int) -> Latents:
    """`side` x `side` latents at the prior's quantiles in two dimensions: (side*side, d) float32, row by row.

    As in figure 4 of Kingma and Welling 2013: coordinates equally spaced in (0, 1) go through the inverse of
    the normal's cumulative distribution, so that each latent stands for the same share of the prior.
    Dimension `across` grows to the right, dimension `up` upwards; all others stay where `start` (d,) has them.
    """
    quantiles = np.array([NormalDist().inv_cdf((index + 0.5) / side) for index in range(side)])
    latents = np.tile(np.asarray(start, np.float32), (side, side, 1))  # (rows, columns, d)
    latents[:, :, across] = quantiles
    latents[:, :, up] = quantiles[::-1, np.newaxis]
    return latents.reshape(side * side, -1)
