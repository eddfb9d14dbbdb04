"""Where a model disagrees: the excess of each pixel, and the colours that show it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests import linear_gaussian
from vaecli import load
from vaecli.evaluation.disagreement import HOTTEST, disagreement, heatmap, largest_area, of_areas
from vaecli.model import Model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(linear_gaussian.exact().write(tmp_path_factory.mktemp("linear")), "cpu")


def test_a_gaussian_disagrees_by_the_squared_difference(model: Model) -> None:
    known = linear_gaussian.exact()
    pictures = known.pictures(5, seed=0)
    x = pictures.reshape(5, -1) / 255
    reconstructed = (x @ known.a.T + known.c) @ known.w.T + known.b
    expected = 0.5 * ((x - reconstructed) / known.s) ** 2
    np.testing.assert_allclose(disagreement(model.pair, pictures).reshape(5, -1), expected, atol=1e-4)


def test_a_bernoulli_disagrees_by_its_divergence_from_the_grey_values(colour: Path) -> None:
    model = load(colour, "cpu")
    pictures = np.random.default_rng(0).integers(1, 255, (3, 10, 12, 3), np.uint8)
    x, y = pictures / 255, model.reconstruct(pictures).astype(np.float64)
    expected = (x * np.log(x / y) + (1 - x) * np.log((1 - x) / (1 - y))).sum(axis=-1)
    np.testing.assert_allclose(disagreement(model.pair, pictures), expected, rtol=1e-3, atol=1e-4)


def test_pixels_are_made_0_or_1_as_in_training(digits: Path) -> None:
    model = load(digits, "cpu")
    model.pair.metadata = msgspec.structs.replace(model.metadata, binarize="threshold")
    grey = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8)
    black_or_white = np.where(grey > 127, 255, 0).astype(np.uint8)
    np.testing.assert_array_equal(disagreement(model.pair, grey), disagreement(model.pair, black_or_white))


@pytest.mark.parametrize(("side", "reach"), [(4, 1), (28, 1), (32, 1), (48, 2), (64, 3), (128, 6)])
def test_an_area_is_a_square_of_a_tenth_of_the_side(side: int, reach: int) -> None:
    nats = np.zeros((2, side, side + 10))
    nats[1, side // 2, 7] = 1.0
    areas = of_areas(nats)
    assert not areas[0].any()
    rows, columns = np.nonzero(areas[1])
    assert rows.max() - rows.min() == columns.max() - columns.min() == 2 * reach
    np.testing.assert_allclose(largest_area(nats), [0, 1 / (2 * reach + 1) ** 2])


def test_at_the_edge_the_edge_is_repeated() -> None:
    rng = np.random.default_rng(0)
    nats = rng.random((3, 9, 11))
    padded = np.pad(nats, ((0, 0), (1, 1), (1, 1)), mode="edge")
    expected = sum(padded[:, i : i + 9, j : j + 11] for i in range(3) for j in range(3)) / 9
    np.testing.assert_allclose(of_areas(nats), expected)


def test_heat_lies_on_a_dimmed_picture() -> None:
    pictures = np.full((1, 1, 4, 3), 200, np.uint8)
    nats = np.array([[[0.0, 1.0, 2.5, 99.0]]])
    (cold, beginning, hot, hottest) = heatmap(pictures, nats, begin=1.0)[0, 0].tolist()
    assert cold == beginning == [70, 70, 70]
    assert hot[0] > 2 * hot[2]
    assert hottest == [255, 220, 0]
    np.testing.assert_array_equal(heatmap(pictures, np.full((1, 1, 4), HOTTEST + 0.0), 1.0)[0, 0, 0], hottest)


def test_local_is_of_the_pixels_that_were_asked_for(digits: Path) -> None:
    model, grey = load(digits, "cpu"), np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    black_or_white = np.where(grey > 127, 255, 0).astype(np.uint8)
    asked = model.score(grey, binarize="threshold").columns["local"]
    np.testing.assert_allclose(asked, model.score(black_or_white).columns["local"])
    assert not np.allclose(asked, model.score(grey).columns["local"])
