"""Each formula beside an independent one: torch.distributions, numerical integration, finite sums, and NumPy's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributions

from vaecli import model_format
from vaecli.config import ModelConfig
from vaecli.evaluation.likelihoods import FORMULAS
from vaecli.evaluation.likelihoods import reconstruction as evaluation
from vaecli.model_format import Likelihood
from vaecli.training import likelihoods
from vaecli.training.likelihoods import LIKELIHOODS
from vaecli.training.model import VAE

LOGITS = torch.tensor([-60.0, -5.0, -0.3, -0.09, -1e-3, 0.0, 1e-3, 0.09, 0.3, 5.0, 60.0], dtype=torch.float64)


def likely(name: Likelihood, **settings: Any) -> likelihoods.Likelihood:
    return LIKELIHOODS[name](ModelConfig(likelihood=name, **settings))


def cost(name: Likelihood, raw: torch.Tensor, x: torch.Tensor, log_scale: torch.Tensor | None = None) -> torch.Tensor:
    """-log p(x) of single pixels: (n,) twice -> (n,)."""
    pixel = (-1, 1, 1, 1)
    return likely(name).reconstruction(raw.reshape(pixel), x.reshape(pixel), log_scale)


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


ONE_NUMBER = sorted(name for name in LIKELIHOODS if name != "logistic-mixture")


@pytest.mark.parametrize("log_scale", [-5.0, -2.3, 1.0])
@pytest.mark.parametrize("name", ONE_NUMBER)
def test_torch_and_numpy_have_the_same_formula(name: Likelihood, log_scale: float) -> None:
    """In nats, over all pixels and all numbers of the decoder where a formula may switch."""
    x, raw = (grid.ravel() for grid in np.meshgrid(PIXELS, RAW))
    scale = [log_scale] if model_format.LIKELIHOODS[name].has_scale else []
    ours = FORMULAS[name](x, raw, *(np.full_like(raw, value) for value in scale))
    tensors = (torch.from_numpy(values) for values in (raw, x))
    theirs = cost(name, *tensors, *(torch.tensor(value, dtype=torch.float64) for value in scale))
    np.testing.assert_allclose(theirs.numpy(), ours, rtol=1e-9, atol=1e-9)


SETTINGS: list[tuple[Likelihood, dict[str, Any]]] = [
    *((name, {}) for name in sorted(LIKELIHOODS)),
    *((name, {"scale_per": per}) for name in ("gaussian", "logistic") for per in ("channel", "pixel")),
    ("logistic-mixture", {"components": 1}),
]


def example(name: Likelihood, settings: dict[str, Any], channels: int) -> tuple[VAE, torch.Tensor, torch.Tensor]:
    """A model in float64, raw numbers of its decoder that are far apart, and pictures with black and white ones."""
    shape = (channels, 5, 6)
    vae = VAE(ModelConfig(likelihood=name, latent_dim=3, hidden=8, **settings), shape).double()
    generator = torch.Generator().manual_seed(1)
    vae.initialise(generator)
    vae.set_scale(0.2)
    raw = 3 * torch.randn(7, vae.likelihood.numbers(channels), 5, 6, generator=generator, dtype=torch.float64)
    image = torch.randint(0, 256, (7, *shape), generator=generator) / torch.tensor(255, dtype=torch.float64)
    image[0], image[1] = 0, 1
    return vae, raw, image


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_the_parameters_in_numpy_give_the_loss_of_torch(
    name: Likelihood, settings: dict[str, Any], channels: int
) -> None:
    vae, raw, image = example(name, settings, channels)
    parameters = vae.parameters_of(raw)
    assert len(parameters) == len(model_format.LIKELIHOODS[name].parameters)
    found = evaluation(name, [parameter.detach().numpy() for parameter in parameters], image.numpy())
    np.testing.assert_allclose(found, vae.reconstruction(raw, image).detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_in_pieces_the_loss_and_its_gradient_are_the_same(
    name: Likelihood, settings: dict[str, Any], channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae, raw, image = example(name, settings, channels)
    raw = torch.stack((raw, raw + 0.1)).requires_grad_()  # (samples, batch, R, h, w)
    weights = torch.arange(14.0).view(2, 7)  # an importance-weighted bound weighs images differently
    found = []
    for piece in (2**30, 1):
        monkeypatch.setattr(likelihoods, "PIECE", piece)
        loss = vae.reconstruction(raw, image)
        inputs = [raw] if vae.log_scale is None else [raw, vae.log_scale]
        found.append((loss, *torch.autograd.grad((loss * weights).sum(), inputs)))
    for whole, pieces in zip(*found, strict=True):
        torch.testing.assert_close(pieces, whole, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_the_gradient_is_that_of_finite_differences(name: Likelihood, settings: dict[str, Any], channels: int) -> None:
    vae, raw, image = example(name, settings, channels)
    log_scale = None if vae.log_scale is None else vae.log_scale.detach().clone().requires_grad_()

    def nats(raw: torch.Tensor, *scale: torch.Tensor) -> torch.Tensor:
        return vae.likelihood.reconstruction(raw, image[:4, :, :2, :2], *(scale or (None,)))

    inputs = [raw[:4, :, :2, :2].clone().requires_grad_(), *([] if log_scale is None else [log_scale])]
    assert torch.autograd.gradcheck(nats, inputs, eps=1e-6, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("number", [-100, 100])
@pytest.mark.parametrize(("name", "row"), [("logistic-mixture", 2), ("logistic", 1), ("gaussian", 1)])
def test_a_scale_at_an_end_of_its_range_has_a_finite_loss_and_no_gradient(
    name: Likelihood, row: int, number: float
) -> None:
    """In float32, in which models are trained. At other pixels the decoder goes on learning scales."""
    settings: dict[str, Any] = {"components": 1} if name == "logistic-mixture" else {"scale_per": "pixel"}
    vae, raw, image = example(name, settings, 1)
    raw[:, row, :, :2], raw[:, row, :, 2:] = number, 0
    vae.float()
    raw = raw.float().requires_grad_()
    nats = vae.reconstruction(raw, image.float())
    (gradient,) = torch.autograd.grad(nats.sum(), raw)
    assert nats.isfinite().all()
    assert gradient.isfinite().all()
    assert not gradient[:, row, :, :2].any()
    assert gradient[:, row, :, 2:].any()


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 3])
def test_a_mixture_is_a_distribution_over_the_colours_of_a_pixel(channels: int) -> None:
    """Its probabilities sum to 1: over all 256 greys, and over a channel's values for each of the others'."""
    vae, raw, _ = example("logistic-mixture", {"components": 3}, channels)
    pixel = raw[2:3, :, :1, :1]
    grid = torch.arange(256, dtype=torch.float64) / 255
    if channels == 1:
        image = grid.view(-1, 1, 1, 1)
        total = torch.exp(-vae.reconstruction(pixel.expand(256, -1, 1, 1), image)).sum()
    else:
        colours = torch.cartesian_prod(grid[::85], grid[::51], grid)  # some reds and greens, every blue
        image = colours.view(-1, 3, 1, 1)
        many = torch.exp(-vae.reconstruction(pixel.expand(len(image), -1, 1, 1), image)).view(4, 6, 256).sum(2)
        # Without blue: the same numbers for red and green alone, each component's blue summed out by hand.
        total = (many / without_blue(vae, pixel, grid)).mean()
        assert float((many / without_blue(vae, pixel, grid) - 1).abs().max()) < 1e-6
    assert float(total) == pytest.approx(1, abs=1e-6)


def without_blue(vae: VAE, pixel: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """The probability of each red and green, (4, 6), by torch.distributions."""
    (mixture,) = vae.parameters_of(pixel)  # (1, K, 10, 1, 1)
    weight, red, green, _, s_red, s_green, _, on_red, *_ = mixture[0, :, :, 0, 0].unbind(1)
    r, g = (values.view(-1, 1, 1) for values in (grid[::85], grid[::51]))

    def bins(x: torch.Tensor, at: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
        upper = torch.sigmoid((x + 0.5 / 255 - at) / log_scale.exp()).where(x < 1, torch.ones(()))
        lower = torch.sigmoid((x - 0.5 / 255 - at) / log_scale.exp()).where(x > 0, torch.zeros(()))
        return upper - lower

    of_red = bins(r, red, s_red)  # (4, 1, K)
    of_green = bins(g.transpose(0, 1), green + on_red * (r - 0.5), s_green)  # (4, 6, K)
    return (weight.exp() * of_red * of_green).sum(2)


@torch.no_grad()
@pytest.mark.parametrize(("name", "settings"), [("logistic", {}), ("logistic-mixture", {"components": 4})])
def test_the_image_is_the_mean_of_the_distribution(name: Likelihood, settings: dict[str, Any]) -> None:
    vae, raw, _ = example(name, settings, 1)
    x = torch.arange(256, dtype=torch.float64) / 255
    for pixel in raw[:, :, 0, 0]:
        many = pixel.view(1, -1, 1, 1).expand(256, -1, 1, 1)
        probability = torch.exp(-vae.reconstruction(many, x.view(-1, 1, 1, 1)))
        assert float((probability * x).sum()) == pytest.approx(float(vae.image(many[:1]).detach()), abs=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["gaussian", "logistic"])
def test_a_predicted_scale_is_the_learned_one_times_the_decoders(name: Likelihood) -> None:
    vae, raw, _ = example(name, {"scale_per": "pixel"}, 3)
    location, log_scale = vae.parameters_of(raw)
    assert vae.log_scale is not None
    assert torch.equal(location, raw[:, :3])
    smallest = math.log({"gaussian": likelihoods.SMALLEST_PIXEL_STD, "logistic": likelihoods.SMALLEST_SCALE}[name])
    largest = math.log(likelihoods.LARGEST_SCALE)
    torch.testing.assert_close(log_scale, (vae.log_scale + raw[:, 3:]).clamp(smallest, largest))
    assert bool((vae.parameters_of(raw - 100)[1] == smallest).all()), "a scale of 0 would make a density infinite"
    assert bool((vae.parameters_of(raw + 100)[1] == largest).all()), "bins of probability 0 would make a loss infinite"


def test_bernoulli_is_the_cross_entropy_of_torch() -> None:
    x = torch.linspace(0, 1, len(LOGITS), dtype=torch.float64)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(LOGITS, x, reduction="none")
    torch.testing.assert_close(cost("bernoulli", LOGITS, x), expected)


def test_the_gradient_of_bernoulli_is_the_difference_of_means() -> None:
    raw = torch.randn(5, 3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    x = torch.rand(5, 3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert torch.autograd.gradcheck(lambda logits: likely("bernoulli").reconstruction(logits, x, None), raw)


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
    torch.testing.assert_close(likely("continuous-bernoulli").image(moderate), theirs.mean, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("logit", LOGITS.tolist())
def test_continuous_bernoulli_is_a_density_with_that_mean(logit: float) -> None:
    nodes, weights = np.polynomial.legendre.leggauss(200)
    x = torch.from_numpy((nodes + 1) / 2)
    w = torch.from_numpy(weights / 2)
    raw = torch.full_like(x, logit)
    density = torch.exp(-cost("continuous-bernoulli", raw, x))
    assert float((density * w).sum()) == pytest.approx(1, abs=1e-9)
    mean = likely("continuous-bernoulli").image(raw[:1])
    assert float((x * density * w).sum()) == pytest.approx(float(mean), abs=1e-9)


def test_continuous_bernoulli_has_a_gradient_everywhere() -> None:
    raw = LOGITS.clone().requires_grad_()
    x = torch.full_like(raw, 0.25)
    cost("continuous-bernoulli", raw, x).sum().backward()
    assert raw.grad is not None
    torch.testing.assert_close(raw.grad, likely("continuous-bernoulli").image(LOGITS) - x, atol=1e-8, rtol=1e-6)


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
    likelihood = likely(name)
    raw = LOGITS.float().view(-1, 1, 1, 1).expand(-1, likelihood.numbers(1), 1, 1)
    image = likelihood.image(*likelihood.parameters(raw, torch.tensor(-1.0)))
    assert image.shape == (len(LOGITS), 1, 1, 1)
    assert float(image.min()) >= 0
    assert float(image.max()) <= 1


@pytest.mark.parametrize("name", ONE_NUMBER)
def test_a_larger_number_is_a_brighter_pixel(name: Likelihood) -> None:
    likelihood = likely(name)
    raw = LOGITS.float().view(-1, 1, 1)
    assert bool((likelihood.image(*likelihood.parameters(raw, torch.tensor(-1.0))).flatten().diff() >= 0).all())


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_an_output_bias_draws_the_mean_picture(name: Likelihood, settings: dict[str, Any]) -> None:
    likelihood = likely(name, **settings)
    mean = torch.tensor([0.1, 0.5, 0.8]).view(1, 3, 1)
    parameters = likelihood.parameters(likelihood.raw_of_mean(mean).unsqueeze(0), torch.tensor(-4.0))
    drawn = likelihood.image(*parameters).flatten()
    assert float((drawn - mean.flatten()).abs().max()) < 0.2
    assert bool((drawn.diff() > 0).all())


@pytest.mark.parametrize(("likelihood", "std"), [("gaussian", 1.0), ("logistic", math.pi / math.sqrt(3))])
def test_a_scale_has_the_standard_deviation_it_is_set_for(likelihood: Likelihood, std: float) -> None:
    assert likely(likelihood).scale_of_std(0.3) * std == pytest.approx(0.3)
