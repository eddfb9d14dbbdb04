"""The order of latent dimensions, with pictures and without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from tests.tiny_model import edit, two_gaussians, write_pair
from vaecli.evaluation import dimensions
from vaecli.evaluation.data import held_out
from vaecli.events import ignore
from vaecli.inference.pair import Pair
from vaecli.model import Model, load

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
    found = dimensions.kl(model.pair, model.pair.encode_batches([images[:2], images[2:]]))
    assert np.allclose(found, expected, rtol=0.02)


def test_kl_does_not_depend_on_the_batches(model: Model) -> None:
    images = pictures(7)
    parts = [images[:1], images[1:5], images[5:]]
    whole = dimensions.kl(model.pair, model.pair.encode_batches([images]))
    assert np.allclose(whole, dimensions.kl(model.pair, model.pair.encode_batches(parts)), rtol=1e-6)


def test_change_is_seen_in_the_pictures(model: Model) -> None:
    found = dimensions.change(model.pair, 3)
    ends = np.zeros((2, D), np.float32)
    ends[:, 1] = -3, 3
    low, high = model.decode(ends)
    assert found[1] == pytest.approx(((high - low) ** 2).mean(), rel=1e-5)
    assert found[IGNORED] == 0
    assert (np.delete(found, IGNORED) > 0).all()


def test_change_of_more_dimensions_than_a_batch_has_room_for(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = dimensions.change(model.pair, 3)
    monkeypatch.setattr(Pair, "batch_size", 2)
    assert np.allclose(dimensions.change(model.pair, 3), at_once)


def test_without_pictures_the_order_is_that_of_the_change(model: Model) -> None:
    order = dimensions.order_by_change(model.pair)
    assert order.by == "change"
    assert sorted(order.dimensions) == [0, 1, 2, 3]
    assert order.dimensions[-1] == IGNORED
    values = [order.values[dimension] for dimension in order.dimensions]
    assert values == sorted(values, reverse=True)


def test_with_pictures_the_order_is_that_of_the_kl(digits: Path) -> None:
    model = load(digits, device="cpu")
    found_pictures = held_out(model.pair, None, None, dimensions.EXAMINED, ignore)
    assert found_pictures is not None
    order = dimensions.order_dimensions(model.pair)
    assert order.by == "kl"
    expected = dimensions.kl(model.pair, model.pair.encode_batches(found_pictures.batches(3)))
    assert np.allclose(order.values, expected, rtol=1e-6)
    assert order.values[order.dimensions[0]] == max(order.values)
    assert "500 held-out pictures of mnist-5k" in order.explained


def test_change_is_about_the_mean_of_the_prior(model: Model) -> None:
    mixture = two_gaussians(D)
    ends = np.tile(mixture.mean.astype(np.float32), (2, 1))
    ends[:, 1] += np.array([-3, 3]) * mixture.std[1]
    low, high = model.decode(ends)
    found = dimensions.change(model.pair, 3, mixture)
    assert found[1] == pytest.approx(((high - low) ** 2).mean(), rel=1e-4)
