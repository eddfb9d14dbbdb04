"""Samples compared with pictures: precision, recall and Fréchet distance of their features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vaecli.evaluation.likelihoods import Float64
from vaecli.processors import cut

NEIGHBOURS = 3
BLOCK = 2**24  # distances computed at once


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
