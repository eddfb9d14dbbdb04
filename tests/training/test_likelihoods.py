"""Each formula beside an independent one: torch.distributions, numerical integration, finite sums, and NumPy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import distributions

from vaecli import model_format
from vaecli.evaluation.likelihoods import FORMULAS
from vaecli.model_format import Likelihood
from vaecli.training.likelihoods import LIKELIHOODS

LOGITS = torch.tensor([-60.0, -5.0, -0.3, -0.09, -1e-3, 0.0, 1e-3, 0.09, 0.3, 5.0, 60.0], dtype=torch.float64)


def cost(name: Likelihood, raw: torch.Tensor, x: torch.Tensor, log_scale: torch.Tensor | None = None) -> torch.Tensor:
    """-log p(x) of single pixels: (n,) twice -> (n,)."""
    pixel = (-1, 1, 1, 1)
    return LIKELIHOODS[name].reconstruction(raw.reshape(pixel), x.reshape(pixel), log_scale)


@pytest.mark.parametrize("name", sorted(model_format.LIKELIHOODS))
def test_every_likelihood_of_the_format_has_a_class_and_a_formula(name: Likelihood) -> None:
    assert name in LIKELIHOODS, f"{name} has no class in vaecli/training/likelihoods.py"
    assert name in FORMULAS, f"{name} has no formula in vaecli/evaluation/likelihoods.py"


def test_every_class_is_a_likelihood_of_the_format() -> None:
    unknown = LIKELIHOODS.keys() - model_format.LIKELIHOODS.keys()
    assert not unknown, f"no row in LIKELIHOODS of vaecli/model_format.py: {unknown}"


PIXELS = np.array([0, 1e-9, 0.499 / 255, 0.501 / 255, 0.5, 1 - 0.501 / 255, 1 - 0.499 / 255, 1 - 1e-9, 1])
RAW = np.unique(  # a logit or a location
    np.concatenate([np.linspace(-8, 8, 161), *(at + np.linspace(-2e-3, 2e-3, 41) for at in (-0.1, -0.02, 0.02, 0.1))])
)


@pytest.mark.parametrize("log_scale", [-5.0, -2.3, 1.0])
@pytest.mark.parametrize("name", sorted(model_format.LIKELIHOODS))
def test_torch_and_numpy_have_the_same_formula(name: Likelihood, log_scale: float) -> None:
    """In nats, over all pixels and all numbers of the decoder where a formula may switch."""
    x, raw = (grid.ravel() for grid in np.meshgrid(PIXELS, RAW))
    scale = [log_scale] if model_format.LIKELIHOODS[name].has_scale else []
    ours = FORMULAS[name](x, raw, *(np.full_like(raw, value) for value in scale))
    tensors = (torch.from_numpy(values) for values in (raw, x))
    theirs = cost(name, *tensors, *(torch.tensor(value, dtype=torch.float64) for value in scale))
    np.testing.assert_allclose(theirs.numpy(), ours, rtol=1e-9, atol=1e-9)


def test_bernoulli_is_the_cross_entropy_of_torch() -> None:
    x = torch.linspace(0, 1, len(LOGITS), dtype=torch.float64)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(LOGITS, x, reduction="none")
    torch.testing.assert_close(cost("bernoulli", LOGITS, x), expected)


def test_the_gradient_of_bernoulli_is_the_difference_of_means() -> None:
    raw = torch.randn(5, 3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    x = torch.rand(5, 3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert torch.autograd.gradcheck(lambda logits: LIKELIHOODS["bernoulli"].reconstruction(logits, x, None), raw)


def test_bernoulli_stays_finite_where_the_sigmoid_rounds_to_one() -> None:
    logits = torch.tensor([500.0, -500.0])
    assert torch.sigmoid(logits[0]) == 1
    assert cost("bernoulli", logits, torch.tensor([0.0, 1.0])).tolist() == [500, 500]


def test_continuous_bernoulli_agrees_with_torch_distributions() -> None:
    moderate = LOGITS[1:-1]
    x = torch.linspace(0, 1, len(moderate), dtype=torch.float64)
    theirs = distributions.ContinuousBernoulli(logits=moderate)
    # Near λ = ½ theirs is a Taylor series in λ, good to about 1e-7.
    torch.testing.assert_close(cost("continuous-bernoulli", moderate, x), -theirs.log_prob(x), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(LIKELIHOODS["continuous-bernoulli"].image(moderate), theirs.mean, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("logit", LOGITS.tolist())
def test_continuous_bernoulli_is_a_density_with_that_mean(logit: float) -> None:
    nodes, weights = np.polynomial.legendre.leggauss(200)
    x = torch.from_numpy((nodes + 1) / 2)
    w = torch.from_numpy(weights / 2)
    raw = torch.full_like(x, logit)
    density = torch.exp(-cost("continuous-bernoulli", raw, x))
    assert float((density * w).sum()) == pytest.approx(1, abs=1e-9)
    mean = LIKELIHOODS["continuous-bernoulli"].image(raw[:1])
    assert float((x * density * w).sum()) == pytest.approx(float(mean), abs=1e-9)


def test_continuous_bernoulli_has_a_gradient_everywhere() -> None:
    raw = LOGITS.clone().requires_grad_()
    x = torch.full_like(raw, 0.25)
    cost("continuous-bernoulli", raw, x).sum().backward()
    assert raw.grad is not None
    torch.testing.assert_close(raw.grad, LIKELIHOODS["continuous-bernoulli"].image(LOGITS) - x, atol=1e-8, rtol=1e-6)


def test_gaussian_agrees_with_torch_distributions() -> None:
    x, mean, log_scale = torch.rand(9), torch.randn(9), torch.tensor(-1.2)
    expected = -distributions.Normal(mean, math.exp(-1.2)).log_prob(x)
    torch.testing.assert_close(cost("gaussian", mean, x, log_scale), expected)


@pytest.mark.parametrize(("location", "log_scale"), [(0.5, -1.0), (0.2, -6.0), (-0.3, 0.5), (1.4, -3.0)])
def test_logistic_is_a_distribution_over_the_256_values(location: float, log_scale: float) -> None:
    x = torch.arange(256, dtype=torch.float64) / 255
    nats = cost("logistic", torch.full_like(x, location), x, torch.tensor(log_scale, dtype=torch.float64))
    assert float(torch.exp(-nats).sum()) == pytest.approx(1, abs=1e-9)


def test_logistic_agrees_with_the_difference_of_its_distribution_function() -> None:
    x = torch.arange(1, 255, dtype=torch.float64) / 255
    scale = math.exp(-2.5)
    upper = torch.sigmoid((x + 0.5 / 255 - 0.4) / scale)
    lower = torch.sigmoid((x - 0.5 / 255 - 0.4) / scale)
    nats = cost("logistic", torch.full_like(x, 0.4), x, torch.tensor(-2.5, dtype=torch.float64))
    torch.testing.assert_close(nats, -torch.log(upper - lower), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", sorted(LIKELIHOODS))
def test_the_image_lies_between_black_and_white(name: Likelihood) -> None:
    image = LIKELIHOODS[name].image(LOGITS.float())
    assert float(image.min()) >= 0
    assert float(image.max()) <= 1
    assert bool((image.diff() >= 0).all()), "a larger number is a brighter pixel"


@pytest.mark.parametrize("name", sorted(LIKELIHOODS))
def test_an_output_bias_draws_the_mean_picture(name: Likelihood) -> None:
    mean = torch.tensor([0.1, 0.5, 0.8])
    drawn = LIKELIHOODS[name].image(LIKELIHOODS[name].raw_of_mean(mean))
    assert float((drawn - mean).abs().max()) < 0.2
    assert bool((drawn.diff() > 0).all())


@pytest.mark.parametrize(("likelihood", "std"), [("gaussian", 1.0), ("logistic", math.pi / math.sqrt(3))])
def test_a_scale_has_the_standard_deviation_it_is_set_for(likelihood: Likelihood, std: float) -> None:
    assert LIKELIHOODS[likelihood].scale_of_std(0.3) * std == pytest.approx(0.3)
