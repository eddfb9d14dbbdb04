"""Samples compared with pictures: the measures against values that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tiny_model import two_gaussians, write_pair, write_prior
from vaecli import load
from vaecli.errors import UsageError
from vaecli.evaluation import samples
from vaecli.evaluation.samples import Likeness, compare_samples, frechet_distance, precision_and_recall
from vaecli.events import Event, Note


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


def likeness(found: np.ndarray, compared: np.ndarray) -> Likeness:
    return Likeness(*precision_and_recall(found, compared), frechet_distance(found, compared))


def bytes_of(images: np.ndarray) -> np.ndarray:
    pixels: np.ndarray = np.rint(images * 255).astype(np.uint8)
    return pixels


def test_samples_are_compared_in_the_features_of_the_encoder(grey: Path) -> None:
    """With every other picture; the rest, as it is and reconstructed, shows what is good."""
    model = load(grey, "cpu")
    pictures = np.random.default_rng(0).integers(0, 256, (21, 8, 8), np.uint8)
    found = compare_samples(model.pair, pictures[..., np.newaxis], 7, seed=3)
    rows = [0, 1, 3, 4, 6, 7, 9, 10, 12, 13, 15, 16, 18, 19]  # of the 21, evenly spaced
    compared, others = pictures[rows[::2]], pictures[rows[1::2]]
    assert found.n == 7

    for name, images in (
        ("samples", bytes_of(model.sample(7, seed=3))),
        ("reconstructions", bytes_of(model.reconstruct(others))),
        ("pictures", others),
    ):
        expected = likeness(model.encode(images)[0], model.encode(compared)[0])
        assert found.rows[name].precision == expected.precision, name
        assert found.rows[name].recall == expected.recall, name
        assert found.rows[name].frechet_distance == pytest.approx(expected.frechet_distance, rel=1e-3), name


def test_samples_of_another_kind_are_seen(tmp_path: Path) -> None:
    """Of pictures that N(0, I) made: its samples are as good as further pictures, those of a prior far away are not."""
    write_prior(write_pair(tmp_path), two_gaussians())
    model = load(tmp_path, "cpu")
    pictures = bytes_of(model.sample(400, seed=1, prior="normal"))[..., np.newaxis]
    own, normal = (compare_samples(model.pair, pictures, 200, prior=prior, seed=2) for prior in ("model", "normal"))
    assert own.pictures == normal.pictures
    assert normal.samples.precision > 0.8
    assert normal.samples.recall > 0.8
    assert own.samples.precision < normal.samples.precision - 0.2
    assert own.samples.recall < 0.1
    assert own.samples.frechet_distance > 10 * normal.samples.frechet_distance


def test_pixels_are_made_0_or_1_in_all_of_them(grey: Path) -> None:
    model = load(grey, "cpu")
    pictures = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), np.uint8)
    binary = np.where(pictures < 128, 0, 255).astype(np.uint8)
    found = compare_samples(model.pair, pictures, 6, binarize="threshold")
    assert found.pictures == compare_samples(model.pair, binary, 6).pictures
    assert found == compare_samples(model.pair, binary, 6, binarize="threshold")
    drawn = np.where(model.sample(6, seed=0) < 0.5, 0, 255).astype(np.uint8)
    expected = likeness(model.encode(drawn)[0], model.encode(binary[::2, ..., 0])[0])
    assert found.samples.frechet_distance == pytest.approx(expected.frechet_distance, rel=1e-3)


def test_more_samples_than_half_of_the_pictures(grey: Path) -> None:
    events: list[Event] = []
    pictures = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), np.uint8)
    found = compare_samples(load(grey, "cpu").pair, pictures, 100, on_event=events.append)
    assert found.n == 4
    assert Note("4 samples, as many as half of the pictures; 100 were asked for") in events


@pytest.mark.parametrize(("count", "pictures", "said"), [(1, 10, "`samples` 1"), (5, 3, "3 pictures are too few")])
def test_too_few_are_refused(grey: Path, count: int, pictures: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load(grey, "cpu").evaluate(np.zeros((pictures, 8, 8), np.uint8), samples=count)
