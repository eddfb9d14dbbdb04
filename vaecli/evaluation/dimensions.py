"""Which latent dimensions matter most. Dimensions are numbered from 0."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vaecli.config import PRIOR, REACH, PriorChoice
from vaecli.errors import UsageError
from vaecli.evaluation.bounds import kl_divergence
from vaecli.evaluation.data import EvaluationData, held_out
from vaecli.events import OnEvent, ignore
from vaecli.inference import walks
from vaecli.inference.geometry import along
from vaecli.inference.mixture import Mixture, moments
from vaecli.inference.pair import Encoded, Pair
from vaecli.model_format import ACTIVE_VARIANCE
from vaecli.parallel import cut
from vaecli.pictures.arrays import binarized

EXAMINED = 1000  # held-out pictures that tell how much each latent dimension carries

PerDimension = NDArray[np.float64]  # (d,)


@dataclass(frozen=True)
class Order:
    """The dimensions, those that matter most first."""

    dimensions: list[int]
    values: list[float]  # of each dimension, by its number: what they are ordered by
    by: Literal["kl", "change"]
    explained: str  # what the values are, for a person

    def listed(self, most: int) -> str:
        """The first `most` dimensions with their values, in a line."""
        return ", ".join(f"{dimension} ({self.values[dimension]:.3g})" for dimension in self.dimensions[:most])


def choose_plane(
    pair: Pair,
    dims: tuple[int, int] | None,
    data: str | Path | None,
    data_dir: str | None,
    prior: PriorChoice,
    on_event: OnEvent = ignore,
) -> tuple[tuple[int, int], Order | None]:
    """The two dimensions of a plane: `dims`, else those that matter most, with the order that says so.

    Raises:
        UsageError: `dims` are not two dimensions of the model, or it has only one.
        VaeError: as `order_dimensions`.
    """
    walks.check_plane(pair, dims)
    if dims is not None or pair.latent_dim == 2:
        return dims or (0, 1), None
    order = order_dimensions(pair, data, data_dir, prior=prior, on_event=on_event)
    return (order.dimensions[0], order.dimensions[1]), order


def order_dimensions(
    pair: Pair,
    data: str | Path | None = None,
    data_dir: str | None = None,
    reach: float = REACH,
    prior: PriorChoice = PRIOR,
    on_event: OnEvent = ignore,
) -> Order:
    """Order the dimensions by their KL on held-out pictures; where there are none, by how much they change an image.

    The pictures are those of `data.held_out`. How far a dimension changes is told in standard deviations of the prior.

    Raises:
        UsageError: `reach` is not a positive number, or there is no such `prior`.
        VaeError: `data` cannot be read, or a graph that is needed is not there, or fails.
    """
    if not (isinstance(reach, Real) and 0 < reach < math.inf):
        raise UsageError(f"`reach` {reach}: not a positive number", "3 covers nearly all of the prior")
    pictures, mixture = held_out(pair, data, data_dir, EXAMINED, on_event), pair.choose_prior(prior)
    if pictures is not None:
        return order_by_kl(pair, pictures, encode(pair, pictures))
    return order_by_change(pair, reach, mixture)


def encode(pair: Pair, pictures: EvaluationData) -> Iterator[Encoded]:
    """q(z|x) of the pictures, in batches, binarised as in training; of a conditional model, for the class of each.

    Raises:
        VaeError: the encoder is not there, or fails.
    """
    labels = pair.labels_of(pictures.pictures.classes)
    binary = (binarized(batch, pair.metadata.binarize, seed=0) for batch in pictures.batches(pair.batch_size))
    return pair.encode_batches(binary, labels=labels)


def order_by_kl(pair: Pair, pictures: EvaluationData, encoded: Iterable[Encoded]) -> Order:
    """Order the dimensions by their KL on `pictures`, which are `encoded` already."""
    return _ordered(kl(pair, encoded), "kl", f"KL in nats on {pictures}")


def order_by_change(pair: Pair, reach: float = REACH, mixture: Mixture | None = None) -> Order:
    """Order the dimensions by how much they change an image: see `change`."""
    unit = "" if mixture is None else " standard deviations of the prior"
    explained = f"squared change of a pixel from -{reach:g} to {reach:g}{unit}"
    return _ordered(change(pair, reach, mixture), "change", explained)


def kl(pair: Pair, encoded: Iterable[Encoded]) -> PerDimension:
    """KL of q(z|x) from the prior of each latent dimension, the mean over all images: (d,) in nats per image.

    From N(0, 1); of a model with a VampPrior, from the Gaussian with the prior's mean and standard deviation.
    """
    total, images, prior = np.zeros(pair.latent_dim), 0, pair.trained_moments
    for batch in encoded:
        total += kl_divergence(batch.mean.astype(np.float64), batch.std.astype(np.float64), prior).sum(axis=0)
        images += len(batch.mean)
    return total / images


def active(pair: Pair, mean_variance: PerDimension) -> NDArray[np.bool_]:
    """Which dimensions carry something, (d,): the mean of q(z|x) has a variance above 0.01 over the pictures.

    By Burda, Grosse and Salakhutdinov (Importance weighted autoencoders, 2016, section 5.2). The variance of a model
    with a VampPrior is relative to that of its prior.
    """
    found: NDArray[np.bool_] = mean_variance > ACTIVE_VARIANCE * np.square(pair.trained_moments[1])
    return found


def change(pair: Pair, reach: float, mixture: Mixture | None = None) -> PerDimension:
    """How much each dimension changes the image: the mean squared difference of a pixel in [0, 1], (d,).

    Between the images at -`reach` and `reach` standard deviations of the prior from its mean, with all other dimensions
    there. It needs no pictures, and is 0 for a dimension that the decoder ignores.

    Raises:
        VaeError: the decoder is not there, or fails.
    """
    mean, std = moments(mixture, pair.latent_dim)
    bounds = np.stack([mean - reach * std, mean + reach * std], axis=1).tolist()
    parts = cut(range(pair.latent_dim), max(1, pair.batch_size // 2))
    blocks = (along(mean, part, bounds[part.start : part.stop]) for part in parts)
    ends = (images.reshape(-1, 2, images[0].size) for images in pair.decode_batches(blocks))
    return np.concatenate([np.square(two[:, 0] - two[:, 1], dtype=np.float64).mean(axis=1) for two in ends])


def _ordered(values: PerDimension, by: Literal["kl", "change"], explained: str) -> Order:
    dimensions = np.argsort(-values, kind="stable")  # the first of equals first
    return Order([int(dimension) for dimension in dimensions], values.tolist(), by, explained)
