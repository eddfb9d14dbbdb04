"""What each latent dimension carries, and the walks and planes along them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from tests.tiny_model import edit, write_pair
from vaecli.inference import dimensions
from vaecli.inference.held_out import held_out
from vaecli.inference.model import Model, load

D = 4
IGNORED = 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """8x8 grey, four latent dimensions of which the decoder ignores one."""
    folder = write_pair(tmp_path_factory.mktemp("models") / "four", latent_dim=D)

    def ignore(model: onnx.ModelProto) -> None:
        (weights,) = (tensor for tensor in model.graph.initializer if tensor.name == "w1")
        array = numpy_helper.to_array(weights).copy()
        array[IGNORED] = 0
        weights.CopyFrom(numpy_helper.from_array(array, "w1"))

    edit(folder / "decoder.onnx", ignore)
    return load(folder, device="cpu")


def pictures(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (n, 8, 8, 1), np.uint8)


def test_kl_is_that_of_two_normal_distributions(model: Model) -> None:
    """Against Monte Carlo: the mean of log q(z|x) - log p(z) over draws of q(z|x)."""
    images = pictures(3)
    mean, std = (array.astype(np.float64) for array in model.encode(images))
    z = mean + std * np.random.default_rng(1).standard_normal((200_000, *mean.shape))
    log_ratio = -np.log(std) - ((z - mean) / std) ** 2 / 2 + z**2 / 2
    expected = log_ratio.mean(axis=(0, 1))
    found = dimensions.kl(model, [images[:2], images[2:]])
    assert np.allclose(found, expected, rtol=0.02)


def test_kl_does_not_depend_on_the_batches(model: Model) -> None:
    images = pictures(7)
    assert np.allclose(
        dimensions.kl(model, [images]), dimensions.kl(model, [images[:1], images[1:5], images[5:]]), rtol=1e-6
    )


def test_change_is_seen_in_the_pictures(model: Model) -> None:
    found = dimensions.change(model, 3)
    ends = np.zeros((2, D), np.float32)
    ends[:, 1] = -3, 3
    low, high = model.decode(ends)
    assert found[1] == pytest.approx(((high - low) ** 2).mean(), rel=1e-5)
    assert found[IGNORED] == 0
    assert (np.delete(found, IGNORED) > 0).all()


def test_change_of_more_dimensions_than_a_batch_has_room_for(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = dimensions.change(model, 3)
    monkeypatch.setattr(Model, "batch_size", 2)
    assert np.allclose(dimensions.change(model, 3), at_once)


def test_without_pictures_the_order_is_that_of_the_change(model: Model) -> None:
    order = dimensions.order(model, None)
    assert order.by == "change"
    assert sorted(order.dimensions) == [0, 1, 2, 3]
    assert order.dimensions[-1] == IGNORED
    values = [order.values[dimension] for dimension in order.dimensions]
    assert values == sorted(values, reverse=True)


def test_with_pictures_the_order_is_that_of_the_kl(digits: Path) -> None:
    model = load(digits, device="cpu")
    looked_at = held_out(model, None, None, 20, progress)
    order = dimensions.order(model, looked_at)
    assert looked_at is not None
    assert order.by == "kl"
    assert np.allclose(order.values, dimensions.kl(model, looked_at.batches(3)), rtol=1e-6)
    assert order.values[order.dimensions[0]] == max(order.values)
    assert "20 held-out pictures of mnist-5k" in order.how


def test_walks_move_one_dimension_each() -> None:
    start = np.array([5, 6, 7], np.float32)
    walks = dimensions.along(start, [2, 0], steps=5, reach=2).reshape(2, 5, 3)
    assert np.array_equal(walks[0, :, 2], [-2, -1, 0, 1, 2])
    assert np.array_equal(walks[1, :, 0], [-2, -1, 0, 1, 2])
    assert (walks[0, :, :2] == start[:2]).all()
    assert (walks[1, :, 1:] == start[1:]).all()


def test_the_plane_is_one_of_quantiles() -> None:
    """Every picture stands for as much of the prior as any other, right is more, up is more."""
    side = 5
    plane = dimensions.plane(3, across=2, up=0, side=side).reshape(side, side, 3)
    shares = [NormalDist().cdf(float(value)) for value in plane[0, :, 2]]
    assert np.allclose(shares, [0.1, 0.3, 0.5, 0.7, 0.9])
    assert np.array_equal(plane[:, 0, 0], plane[0, ::-1, 2])
    assert (plane[:, :, 2] == plane[0, :, 2]).all()
    assert (plane[:, :, 1] == 0).all()


def progress(what: str, total: int | None, unit: str) -> Any:
    return contextlib.nullcontext(lambda _: None)
