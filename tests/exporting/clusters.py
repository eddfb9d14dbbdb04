"""Posteriors in clusters, which a mixture of Gaussians describes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vaecli.datasets import classes
from vaecli.exporting.posteriors import Posteriors


def clusters(n: int, spread: float = 0.2, std: float = 0.1, seed: int = 0) -> Posteriors:
    """Posteriors about four centres on the corners of a square, in two dimensions."""
    generator = np.random.default_rng(seed)
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])[generator.integers(0, 4, n)]
    return Posteriors(corners + spread * generator.standard_normal((n, 2)), np.full((n, 2), std))


def of_classes(pictures: Posteriors, labels: NDArray[np.integer]) -> Posteriors:
    """The same posteriors, of pictures with these class numbers (n,)."""
    return Posteriors(pictures.mean, pictures.std, classes.of_numbers(labels))
