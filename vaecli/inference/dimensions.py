"""The dimensions of a latent space: how much each one carries, and the walks and planes along them.

Dimensions are numbered from 0, as NumPy numbers them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vaecli.inference.evaluation import kl_divergence
from vaecli.inference.held_out import HeldOut
from vaecli.inference.latents import Latents, Vector
from vaecli.inference.model import AnyImages, Model

PerDimension = NDArray[np.float64]  # (d,)


@dataclass(frozen=True)
class Order:
    """The dimensions, those that matter most first."""

    dimensions: list[int]
    values: list[float]  # of each dimension, by its number: what they are ordered by
    by: Literal["kl", "change"]
    how: str  # for a person: what the values are

    def said(self, most: int) -> str:
        """The first `most` dimensions with their values, in a line."""
        return ", ".join(f"{dimension} ({self.values[dimension]:.3g})" for dimension in self.dimensions[:most])


def kl(model: Model, batches: Iterable[AnyImages]) -> PerDimension:
    """KL(q(z|x) || p(z)) of each latent dimension, (d,) in nats per image: the mean over all images.

    Raises:
        VaeError: the encoder is not there, or fails.
    """
    total, images = np.zeros(model.latent_dim), 0
    for mean, std in model.encode_batches(batches):
        total += kl_divergence(mean.astype(np.float64), std.astype(np.float64)).sum(axis=0)
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


def order(model: Model, pictures: HeldOut | None, reach: float = 3) -> Order:
    """Which dimensions matter most: by their KL on `pictures`; without any, by how much they `change` a picture.

    Raises:
        VaeError: a graph that is needed is not there, or fails.
    """
    if pictures is not None:
        return _ordered(kl(model, pictures.batches(model.batch_size)), "kl", f"KL in nats on {pictures}")
    return _ordered(change(model, reach), "change", f"squared change of a pixel from -{reach:g} to {reach:g}")


def _ordered(values: PerDimension, by: Literal["kl", "change"], how: str) -> Order:
    dimensions = np.argsort(-values, kind="stable")  # the first of equals first
    return Order([int(dimension) for dimension in dimensions], values.tolist(), by, how)


def along(start: Vector, dimensions: Sequence[int], steps: int, reach: float) -> Latents:
    """`steps` latents along each of `dimensions`, from -`reach` to `reach`: (len(dimensions)*steps, d) float32.

    All other dimensions stay where `start` (d,) has them.
    """
    walks = np.tile(np.asarray(start, np.float32), (len(dimensions), steps, 1))  # (dimensions, steps, d)
    for walk, dimension in zip(walks, dimensions, strict=True):
        walk[:, dimension] = np.linspace(-reach, reach, steps)
    return walks.reshape(len(dimensions) * steps, -1)


def plane(latent_dim: int, across: int, up: int, side: int) -> Latents:
    """`side` x `side` latents at the prior's quantiles in two dimensions: (side*side, d) float32, row by row.

    As in figure 4 of Kingma and Welling 2013: coordinates equally spaced in (0, 1) go through the inverse of
    the normal's cumulative distribution, so that each latent stands for the same share of the prior.
    Dimension `across` grows to the right, dimension `up` upwards; all others stay at the prior's mean.
    """
    quantiles = np.array([NormalDist().inv_cdf((index + 0.5) / side) for index in range(side)])
    latents = np.zeros((side, side, latent_dim), np.float32)  # (rows, columns, d)
    latents[:, :, across] = quantiles
    latents[:, :, up] = quantiles[::-1, np.newaxis]
    return latents.reshape(side * side, latent_dim)
