"""The NumPy formulas compared with those of training, and with what is known of each likelihood."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch

from vaecli import model_format
from vaecli.config import ModelConfig
from vaecli.evaluation import likelihoods
from vaecli.model_format import Likelihood
from vaecli.training.likelihoods import LIKELIHOODS

EXTREME = np.array([-300.0, -60.0, -5.0, -0.3, -0.05, -0.01, -1e-4, 0.0, 1e-4, 0.01, 0.05, 0.3, 5.0, 60.0, 300.0])


def nats(likelihood: Likelihood, image: np.ndarray, *parameters: np.ndarray) -> np.ndarray:
    """Of single pixels: (n,) each -> (n,)."""
    pixel = (-1, 1, 1, 1)
    return likelihoods.reconstruction(likelihood, [value.reshape(pixel) for value in parameters], image.reshape(pixel))


@pytest.mark.parametrize("likelihood", sorted(set(model_format.LIKELIHOODS) - {"logistic-mixture"}))
def test_each_is_the_one_that_was_trained(likelihood: Likelihood) -> None:
    generator = np.random.default_rng(0)
    shape = (5, 3, 6, 7)
    image = generator.integers(0, 256, shape) / 255
    image[0], image[1] = 0, 1
    raw = 20 * generator.standard_normal(shape) if "bernoulli" in likelihood else generator.uniform(-0.5, 1.5, shape)
    raw.flat[: len(EXTREME)] = EXTREME
    log_scale = np.full(shape, -1.7)
    theirs = LIKELIHOODS[likelihood](ModelConfig(likelihood=likelihood)).reconstruction(
        torch.from_numpy(raw), torch.from_numpy(image), torch.tensor(-1.7, dtype=torch.float64)
    )
    ours = likelihoods.reconstruction(
        likelihood, [raw, log_scale][: len(model_format.LIKELIHOODS[likelihood].parameters)], image
    )
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-9)


def test_a_mixture_of_one_is_a_logistic_where_no_channel_depends_on_another() -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (4, 3, 5, 6)) / 255
    location, log_scale = generator.uniform(-0.5, 1.5, image.shape), generator.uniform(-6, 0, image.shape)
    weight, coefficients = np.zeros((4, 1, 5, 6)), np.zeros((4, 3, 5, 6))
    mixture = np.concatenate([weight, location, log_scale, coefficients], axis=1)[:, np.newaxis]
    np.testing.assert_allclose(
        likelihoods.reconstruction("logistic-mixture", [mixture], image),
        likelihoods.reconstruction("logistic", [location, log_scale], image),
        rtol=1e-12,
    )
    red = image[:, :1] - 0.5
    shifted = location - np.concatenate([np.zeros_like(red), 0.7 * red, np.zeros_like(red)], axis=1)
    mixture[:, 0, 1:4], mixture[:, 0, 7] = shifted, 0.7
    np.testing.assert_allclose(
        likelihoods.reconstruction("logistic-mixture", [mixture], image),
        likelihoods.reconstruction("logistic", [location, log_scale], image),
        rtol=1e-9,
    )


def test_every_likelihood_has_its_formula() -> None:
    missing = set(model_format.LIKELIHOODS) ^ set(likelihoods.FORMULAS)
    assert not missing, f"vaecli/evaluation/likelihoods.py and vaecli/model_format.py differ in {missing}"


@pytest.mark.parametrize("likelihood", model_format.LIKELIHOODS)
def test_no_decoded_mean_is_below_the_floor(likelihood: Likelihood) -> None:
    image = np.repeat(np.array([0, 1, 17, 128, 250, 255]) / 255, 4000)
    raw = np.tile(np.linspace(-300, 300, 4000) if "bernoulli" in likelihood else np.linspace(-1, 2, 4000), 6)
    pixel = (-1, 1, 1, 1)
    values = [raw.reshape(pixel), np.full(len(raw), -2.5).reshape(pixel)]
    parameters = values[: len(model_format.LIKELIHOODS[likelihood].parameters)]
    if likelihood == "logistic-mixture":  # of two alike
        one = np.concatenate([np.full_like(values[0], -math.log(2)), *values], axis=1)  # (n, rows, 1, 1)
        parameters = [np.stack([one, one], axis=1)]
    above = likelihoods.excess(likelihood, parameters, image.reshape(pixel))
    assert above.shape == (len(image), 1, 1)
    assert (above >= -1e-9).all()
    nats = likelihoods.reconstruction(likelihood, parameters, image.reshape(pixel))
    floor = likelihoods.floor(likelihood, parameters, image.reshape(pixel))
    np.testing.assert_allclose(nats - floor, above[:, 0, 0], rtol=1e-7, atol=1e-13)
    inside = above.reshape(6, 4000)[1:-1]  # black and white may have their least at infinity
    np.testing.assert_allclose(inside.min(axis=1), 0, atol=5e-3)


def test_the_floor_of_a_bernoulli_is_the_entropy_of_the_grey_value() -> None:
    image = np.array([0, 0.25, 1]).reshape(1, 1, 3)
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert float(likelihoods.floor("bernoulli", [np.zeros((1, 1, 3))], image)) == pytest.approx(entropy)


def test_every_likelihood_has_its_floor() -> None:
    missing = set(model_format.LIKELIHOODS) ^ set(likelihoods.FLOORS)
    assert not missing, f"FLOORS in vaecli/evaluation/likelihoods.py lacks {missing}"


def test_leading_dimensions_are_broadcast() -> None:
    generator = np.random.default_rng(0)
    logits, image = generator.standard_normal((4, 6, 1, 3, 3)), generator.random((4, 1, 1, 3, 3))
    found = likelihoods.reconstruction("bernoulli", [logits.astype(np.float32)], image)
    assert found.shape == (4, 6)
    assert found.dtype == np.float64
    one = likelihoods.reconstruction("bernoulli", [logits[2, 5].astype(np.float32)], image[2, 0])
    assert found[2, 5] == pytest.approx(float(one))


@pytest.mark.parametrize("good", [False, True], ids=["any logits", "logits of the right sign"])
def test_bernoulli_of_float32_logits_is_exact_to_their_rounding(good: bool) -> None:
    """Also where the picture is well reconstructed, so that the two halves of the linear part nearly cancel."""
    generator = np.random.default_rng(0)
    logits, image = generator.normal(0, 6, (50, 1, 28, 28)).astype(np.float32), generator.random((50, 1, 28, 28))
    if good:
        image = image.round()
        logits = np.copysign(logits, image - 0.5)
    exact = likelihoods.bernoulli(image, logits.astype(np.float64)).sum(axis=(1, 2, 3))
    found = likelihoods.reconstruction("bernoulli", [logits.astype(np.float32)], image)
    np.testing.assert_allclose(found, exact, rtol=2e-7, atol=784e-7)


def test_bernoulli_is_the_cross_entropy_and_never_overflows() -> None:
    y, x = np.array([0.1, 0.5, 0.9]), np.array([1.0, 0.25, 0.0])
    expected = -(x * np.log(y) + (1 - x) * np.log(1 - y))
    np.testing.assert_allclose(nats("bernoulli", x, np.log(y / (1 - y))), expected)
    np.testing.assert_allclose(nats("bernoulli", np.array([0.0, 1.0]), np.array([800.0, -800.0])), 800)


@pytest.mark.parametrize("logit", EXTREME[2:-2].tolist())
def test_continuous_bernoulli_is_a_density(logit: float) -> None:
    nodes, weights = np.polynomial.legendre.leggauss(100)
    density = np.exp(-nats("continuous-bernoulli", (nodes + 1) / 2, np.full(100, logit)))
    assert float(density @ weights / 2) == pytest.approx(1, abs=1e-9)


def test_gaussian_is_the_normal_density() -> None:
    expected = -math.log(NormalDist(0.3, 0.2).pdf(0.75))
    found = nats("gaussian", np.array([0.75]), np.array([0.3]), np.array([math.log(0.2)]))
    assert float(found[0]) == pytest.approx(expected)


@pytest.mark.parametrize(("location", "log_scale"), [(0.5, -1.0), (0.2, -7.0), (-0.3, 0.5), (1.4, -3.0)])
def test_logistic_is_a_distribution_over_256_values(location: float, log_scale: float) -> None:
    found = nats("logistic", np.arange(256) / 255, np.full(256, location), np.full(256, log_scale))
    assert float(np.exp(-found).sum()) == pytest.approx(1, abs=1e-9)


def test_a_bernoulli_of_pictures_is_the_sum_of_its_pixels() -> None:
    """Also with more pixels than one product has, and where exp overflows or vanishes."""
    generator = np.random.default_rng(3)
    logits = generator.choice([-800, -40, -3, -1e-9, 0, 0.2, 5, 60, 800], (2, 3, 1, 50, 50))
    image = generator.uniform(size=(2, 1, 1, 50, 50))
    expected = likelihoods.bernoulli(image, logits).sum(axis=(-3, -2, -1))
    assert likelihoods.bernoulli_of_pictures(image, logits) == pytest.approx(expected, rel=1e-13)
