"""Samples compared with pictures: precision, recall and Fréchet distance of their features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vaecli.config import PRIOR, Binarize, PriorChoice
from vaecli.datasets.dataset import Pictures, spread
from vaecli.errors import UsageError, check_count
from vaecli.events import Note, OnEvent, counted, ignore
from vaecli.inference.geometry import Float64, Latents
from vaecli.inference.pair import Batch, Pair
from vaecli.inference.sampling import drawn_from
from vaecli.inference.sampling import samples as draw_samples
from vaecli.parallel import cut
from vaecli.pictures.arrays import binarized
from vaecli.wording import how_many

FEWEST = 2  # pictures of a set: one has no covariance
NEIGHBOURS = 3
BLOCK = 2**24  # distances computed at once


@dataclass(frozen=True)
class Likeness:
    """How much a set of pictures is like another one; see `precision_and_recall` and `frechet_distance`."""

    precision: float
    recall: float
    frechet_distance: float


@dataclass(frozen=True)
class SampleComparison:
    """Three sets of `n` pictures, each compared with the same `n` pictures of the data in the features of one encoder.

    Another encoder has other features: the numbers are comparable within one exported model only. The other two sets
    show how good they can be there.
    """

    n: int
    drawn_from: Literal["flow", "mixture", "normal"]  # the samples
    samples: Likeness  # of the prior
    reconstructions: Likeness  # of further pictures of the data: what samples of a perfect prior would have
    pictures: Likeness  # these further pictures: what perfect samples would have

    @property
    def rows(self) -> dict[str, Likeness]:
        """The three sets by name."""
        return {name: getattr(self, name) for name in ("samples", "reconstructions", "pictures")}


def check_samples(pair: Pair, count: int, pictures: int) -> None:
    """Raise UsageError where samples cannot be compared with pictures: too few, or of a conditional model."""
    if pair.conditional:
        raise UsageError("`samples`: the features of a conditional model depend on the class", "leave it out")
    check_count("samples", count, FEWEST, "better some hundred")
    if pictures < 2 * FEWEST:
        are = "is" if pictures == 1 else "are"
        problem = f"`samples`: {how_many(pictures, 'picture')} {are} too few to compare with"
        raise UsageError(problem, f"take {2 * FEWEST} or more")


def compare_samples(
    pair: Pair,
    pictures: Pictures | NDArray[np.uint8],
    count: int,
    *,
    binarize: Binarize = "none",
    prior: PriorChoice = PRIOR,
    seed: int = 0,
    on_event: OnEvent = ignore,
) -> SampleComparison:
    """Compare `count` samples with as many of the pictures (n, h, w, c), but at most half of these.

    The features are the means of q(z|x). The other half is compared in the same way, unchanged and
    reconstructed: it shows which numbers are good. `binarize` makes the pixels of all 0 or 1, as in `bounds.measure`.

    Raises:
        UsageError: the samples or pictures are too few, or there is no such `prior`.
        VaeError: a graph fails.
    """
    check_samples(pair, count, len(pictures))
    n, size = min(count, len(pictures) // 2), pair.batch_size
    if n < count:
        on_event(Note(f"{n:,} samples, as many as half of the pictures; {count:,} were asked for"))

    def binary(batches: Iterable[Batch]) -> Iterator[Batch]:
        return (binarized(batch, binarize, seed) for batch in batches)

    def features(batches: Iterable[Batch], doing: str, total: int) -> Latents:
        seen = counted(binary(batches), on_event, doing, total, "pictures")
        return np.concatenate([encoded.mean for encoded in pair.encode_batches(seen)])

    rows = spread(2 * n, len(pictures))
    theirs = features((pictures[chosen] for chosen in cut(rows, size)), "encoding", len(rows))
    others = (pictures[chosen] for chosen in cut(rows[1::2], size))
    decoded = pair.reconstructions(binary(others), as_uint8=True)
    reconstructed = features(decoded, "reconstructing", n)
    sampled = features(draw_samples(pair, n, seed, prior=prior, as_uint8=True), "sampling", n)
    compared, unchanged = theirs[::2], theirs[1::2]

    def like(found: Latents) -> Likeness:
        return Likeness(*precision_and_recall(found, compared), frechet_distance(found, compared))

    return SampleComparison(n, drawn_from(pair, prior), like(sampled), like(reconstructed), like(unchanged))


def frechet_distance(samples: NDArray[np.floating], pictures: NDArray[np.floating]) -> float:
    """The squared Fréchet distance between Gaussians with the moments of two sets of features, (n, f) and (m, f).

    |mean difference|² + trace(A + B - 2 (A B)^½) for the covariances A and B: Heusel et al., GANs trained by a two
    time-scale update rule converge to a local Nash equilibrium, 2017, equation 6.
    """
    first, second = samples.astype(np.float64), pictures.astype(np.float64)
    apart = first.mean(axis=0) - second.mean(axis=0)
    a, b = (np.cov(features, rowvar=False).reshape(apart.size, -1) for features in (first, second))
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    # A B has the eigenvalues of the symmetric A^½ B A^½.
    shared = np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(0)).sum()
    return float(apart @ apart + np.trace(a) + np.trace(b) - 2 * shared)


def precision_and_recall(samples: NDArray[np.floating], pictures: NDArray[np.floating]) -> tuple[float, float]:
    """How many samples lie where pictures are, and how many pictures lie where samples are: features (n, f), (m, f).

    A set covers the balls about its points that reach to the third-nearest other point of the set: Kynkäänniemi et
    al., Improved precision and recall metric for assessing generative models, 2019, equations 1 and 2, k = 3. Both
    sets should have the same size.
    """
    return _covered(samples, pictures), _covered(pictures, samples)


def _covered(points: NDArray[np.floating], others: NDArray[np.floating]) -> float:
    """The share of `points` (n, f) that lie in a ball of `others` (m, f)."""
    nearest = min(NEIGHBOURS, len(others) - 1)  # the point itself is number 0
    radii = np.concatenate([np.partition(part, nearest, axis=1)[:, nearest] for part in _distances(others, others)])
    return float(np.concatenate([(part <= radii).any(axis=1) for part in _distances(points, others)]).mean())


def _distances(points: NDArray[np.floating], others: NDArray[np.floating]) -> Iterator[Float64]:
    """The squared distance from each of `points` to each of `others`, some rows at a time."""
    points, others = points.astype(np.float64), others.astype(np.float64)
    squares = np.square(others).sum(axis=1)
    for part in cut(points, max(1, BLOCK // len(others))):
        yield np.square(part).sum(axis=1)[:, np.newaxis] - 2 * part @ others.T + squares
