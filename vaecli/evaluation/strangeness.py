"""How strange a picture is to a model, on the scale of held-out pictures.

The likelihood alone does not tell: simple pictures have high ones (Nalisnick et al., Do deep generative models know
what they don't know?, 2019). So a picture's statistics are compared with those of held-out pictures, as in Morningstar
et al. (Density of states estimation for out-of-distribution detection, 2021). The statistics here are

- the excess: the negative ELBO less the smallest loss that is possible for this picture, in nats;
- the looks: brightness, contrast and detail, which do not depend on the model.

Two deviations follow, both in standard deviations: how far the excess is above what held-out pictures of the same looks
have, and how far the looks are from theirs, in any direction. The first is large for a picture with a high
loss, the second for one that is too plain or too busy. The strangeness is the length of the two together, and the tail
probability is the share of held-out pictures that are at least as strange.
"""

from __future__ import annotations

import functools
import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from vaecli.evaluation.bounds import measure
from vaecli.evaluation.disagreement import disagreement, of_areas
from vaecli.inference.geometry import Float64
from vaecli.inference.pair import Pair
from vaecli.model_format import MAX_PIXEL, Reference
from vaecli.parallel import Sliceable, cut

FEWEST = 20  # held-out pictures of a reference
MOST = 1000
FOLDS = 20  # parts of a reference, each compared with the others
FAINT = 8  # 8-bit steps: differences below it hardly count as detail, so that a JPEG is as detailed as its original
MOST_AREAS = 2**24  # whose excess is kept in memory while a reference is measured
AREAS_ABOVE = 100  # one held-out area in this many has a larger excess than `Reference.area`
LEAST_SPREAD = 1e-3  # of a statistic: held-out pictures that are all alike would make any other infinitely strange


def looks(pictures: NDArray[np.uint8]) -> Float64:
    """Brightness, contrast and detail of pictures (n, h, w, c): (n, 3).

    The mean and the standard deviation of the values in [0, 1]; and the square root of the mean of log(1 + |d| / FAINT)
    over the differences d of neighbouring pixels in 8-bit steps.
    """
    values = pictures.reshape(len(pictures), -1) / np.float64(MAX_PIXEL)
    signed = pictures.astype(np.int16)
    detail = np.zeros(len(pictures))
    for axis in (1, 2):
        steps = np.abs(np.diff(signed, axis=axis)).reshape(len(pictures), -1)
        if steps.shape[1]:  # a picture may be one pixel wide
            detail += _DETAIL[steps].mean(axis=1)
    return np.stack([values.mean(axis=1), values.std(axis=1), np.sqrt(detail / 2)], axis=1)


_DETAIL = np.log1p(np.arange(MAX_PIXEL + 1) / FAINT)


def scale_of(reference: Reference) -> Strangeness:
    """The scale that a reference makes, computed once: it takes longer than to score a picture."""
    return _scale_of(msgspec.msgpack.encode(reference))


@functools.lru_cache(maxsize=8)
def _scale_of(packed: bytes) -> Strangeness:
    return Strangeness(msgspec.msgpack.decode(packed, type=Reference))


class Strangeness:
    """The scale that a reference makes."""

    def __init__(self, reference: Reference) -> None:
        excess = np.array(reference.excess, np.float64)
        reference_looks = np.array((reference.brightness, reference.contrast, reference.detail), np.float64).T  # (n, 3)
        self._scale = _Scale(excess, reference_looks)
        # Each picture of the reference is measured on a scale made from the others. On a scale made from all it would
        # seem less strange than a new one: with 20 pictures, 13 % of new ones would be among the strangest 5 %.
        rows = np.arange(len(reference))
        strangeness = np.empty(len(rows))
        for fold in range(min(FOLDS, len(rows))):
            part = rows % FOLDS == fold
            strangeness[part] = _Scale(excess[~part], reference_looks[~part]).of(excess[part], reference_looks[part])
        self._reference, self._local = np.sort(strangeness), np.sort(reference.local)

    def __len__(self) -> int:
        """Pictures of the reference."""
        return len(self._reference)

    def of(self, excess: Float64, looks: Float64) -> Float64:
        """The strangeness of pictures: (n,) in nats and (n, 3) -> (n,), from 0."""
        return self._scale.of(excess, looks)

    def tail(self, strangeness: Float64) -> Float64:
        """The probability that a held-out picture is at least as strange: (n,) -> (n,), from 1 / (len + 1) to 1.

        The picture itself counts as one more of the reference. So at most a share p of new pictures of the same kind
        has a tail probability of p or less.
        """
        return self._tail(self._reference, strangeness)

    def local_tail(self, local: Float64) -> Float64:
        """The same for the largest excess of an area: (n,) -> (n,)."""
        return self._tail(self._local, local)

    def _tail(self, reference: Float64, values: Float64) -> Float64:
        above = len(self) - np.searchsorted(reference, values, side="left")
        probability: Float64 = (1 + above) / (len(self) + 1)
        return probability


class _Scale:
    """A scale made from the excess (n,) and looks (n, 3) of some pictures."""

    def __init__(self, excess: Float64, reference_looks: Float64) -> None:
        self._centre, self._spread = reference_looks.mean(axis=0), np.maximum(reference_looks.std(axis=0), LEAST_SPREAD)
        standard = (reference_looks - self._centre) / self._spread
        # The diagonal keeps the inverse finite where one of the looks follows from the others.
        covariance = standard.T @ standard / len(standard) + LEAST_SPREAD * np.eye(reference_looks.shape[1])
        self._precision = np.linalg.inv(covariance)
        logarithms = _logarithm(excess)
        self._expected = np.linalg.lstsq(_with_constant(standard), logarithms, rcond=None)[0]
        residuals = logarithms - _with_constant(standard) @ self._expected
        self._residual_spread = max(float(residuals.std()), LEAST_SPREAD)

    def of(self, excess: Float64, looks: Float64) -> Float64:
        """The strangeness of other pictures: (n,) and (n, 3) -> (n,)."""
        standard = (looks - self._centre) / self._spread
        # No products by BLAS: how it rounds a picture's numbers depends on the other pictures.
        expected = (_with_constant(standard) * self._expected).sum(axis=1)
        unexplained = (_logarithm(excess) - expected) / self._residual_spread
        squares = (standard[:, :, np.newaxis] * self._precision * standard[:, np.newaxis]).sum(axis=(1, 2))
        # The cube root of a chi-squared number is nearly normal (Wilson and Hilferty, 1931).
        degrees = standard.shape[1]
        variance = 2 / (9 * degrees)
        looks_deviation = (np.cbrt(squares / degrees) - (1 - variance)) / np.sqrt(variance)
        # The added constants let values slightly below the mean count: a picture that is a little above the mean in
        # both deviations is stranger than one that is so in a single one.
        found: Float64 = np.hypot(np.maximum(unexplained + 1, 0), np.maximum(looks_deviation + 0.5, 0))
        return found


def measure_reference(
    pair: Pair, pictures: Sliceable[NDArray[np.uint8]], labels: NDArray[np.int64] | None = None
) -> Reference:
    """The statistics of held-out pictures (n, h, w, c), which an export keeps. As in `score`, the prior is training's.

    Raises:
        VaeError: a graph fails, or a likelihood is not finite.
    """
    binarize, prior = pair.metadata.binarize, pair.trained_prior
    measured = measure(pair, pictures, samples=1, seed=0, binarize=binarize, prior=prior, labels=labels)
    excess = [part.excess for part in measured]
    appearance, local, areas = [], [], []
    stride = math.ceil(len(pictures) * math.prod(pair.image_shape[1:]) / MOST_AREAS)
    for start, batch in enumerate(cut(pictures, pair.batch_size)):
        of_batch = None if labels is None else labels[start * pair.batch_size :][: len(batch)]
        appearance.append(looks(batch))
        nats = of_areas(disagreement(pair, batch, of_batch))
        local.append(nats.max(axis=(1, 2)))
        areas.append(nats.astype(np.float32).ravel()[::stride])
    brightness, contrast, detail = np.concatenate(appearance).round(5).T.tolist()
    return Reference(
        excess=np.concatenate(excess).round(3).tolist(),
        brightness=brightness,
        contrast=contrast,
        detail=detail,
        local=np.concatenate(local).round(5).tolist(),
        area=round(float(np.quantile(np.concatenate(areas), 1 - 1 / AREAS_ABOVE)), 5),
    )


def _logarithm(excess: Float64) -> Float64:
    """log(1 + excess): held-out pictures differ by factors. A density's excess may be slightly below 0."""
    logarithm: Float64 = np.log1p(np.maximum(excess, 0))
    return logarithm


def _with_constant(values: Float64) -> Float64:
    """(n, k) -> (n, k + 1), the last column 1."""
    return np.concatenate([values, np.ones((len(values), 1))], axis=1)
