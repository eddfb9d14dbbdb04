"""Samples compared with pictures: the measures against values that are known."""

from __future__ import annotations

import numpy as np
import pytest

from vaecli.evaluation import samples
from vaecli.evaluation.samples import frechet_distance, precision_and_recall


def gaussian(n: int, mean: list[float], scale: list[float], seed: int) -> np.ndarray:
    """Draws whose sample moments are exactly these: (n, f), uncorrelated."""
    drawn = np.random.default_rng(seed).standard_normal((n, len(mean)))
    centred = drawn - drawn.mean(axis=0)
    white = centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred, rowvar=False)).T)
    result: np.ndarray = white * scale + mean
    return result


def test_the_distance_between_gaussians_is_that_of_the_formula() -> None:
    first, second = gaussian(50, [0, 0, 0], [1, 2, 3], 0), gaussian(80, [1, 0, -2], [2, 2, 1], 1)
    # Diagonal covariances: the squared distance of the means, and of the standard deviations.
    assert frechet_distance(first, second) == pytest.approx(5 + (1 + 0 + 4))
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    turned, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((3, 3)))
    assert frechet_distance(first @ turned, second @ turned) == pytest.approx(10)
    assert frechet_distance(first[:, :1], second[:, :1]) == pytest.approx(2)


def test_precision_falls_with_strange_samples_and_recall_with_missing_kinds() -> None:
    generator = np.random.default_rng(0)
    left, right, strange = (generator.normal([at, 0], 1, (200, 2)) for at in (-20, 20, 60))
    both = np.concatenate([left, right])
    again = np.concatenate([generator.normal([at, 0], 1, (200, 2)) for at in (-20, 20)])
    precision, recall = precision_and_recall(again, both)
    assert precision > 0.9
    assert recall > 0.9
    precision, recall = precision_and_recall(again[:200], both)
    assert precision > 0.9
    assert recall == pytest.approx(0.5, abs=0.05)
    precision, recall = precision_and_recall(np.concatenate([again[:200], strange]), both)
    assert precision == pytest.approx(0.5, abs=0.05)


def test_a_ball_reaches_to_the_third_neighbour() -> None:
    pictures = np.array([[0.0], [1], [2], [3], [100]])  # the radii are 3, 2, 2, 3 and 99
    assert precision_and_recall(np.array([[-2.9], [5.9], [1.5]]), pictures)[0] == 1
    precision, _ = precision_and_recall(np.array([[-2.9], [-3.1], [5.9], [200]]), pictures[:4])
    assert precision == 0.5


def test_the_distances_may_be_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = gaussian(30, [0, 0], [1, 1], 0), gaussian(30, [1, 0], [1, 1], 1)
    whole = precision_and_recall(first, second)
    monkeypatch.setattr(samples, "BLOCK", 70)
    assert precision_and_recall(first, second) == whole
