"""The model that is trained and exported: posterior, decoder, the scale of its likelihood, its first weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.training.tiny_learner import CPU
from vaecli.config import ModelConfig
from vaecli.model_format import LIKELIHOODS, Likelihood
from vaecli.training.model import SMALLEST_POSTERIOR_STD, VAE
from vaecli.training.noise import Noise

SHAPE = (3, 16, 18)


def model(**settings: Any) -> VAE:
    made = VAE(ModelConfig(**{"latent_dim": 4, "hidden": 12, "width": 4, "depth": 1, **settings}), SHAPE)
    made.initialise(torch.Generator().manual_seed(1))
    return made


def pictures(n: int) -> torch.Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("architecture", ["mlp", "conv"])
@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
@torch.no_grad()
def test_a_picture_becomes_a_posterior_and_a_latent_a_picture(architecture: str, likelihood: Likelihood) -> None:
    vae, x = model(architecture=architecture, likelihood=likelihood), pictures(5)
    mean, std = vae.encode(x)
    assert mean.shape == std.shape == (5, 4)
    raw = vae.decode(mean)
    assert raw.shape == (5, vae.likelihood.numbers(3), 16, 18)
    image = vae.image(raw)
    assert image.shape == x.shape
    assert 0 <= float(image.min()) <= float(image.max()) <= 1
    assert vae.reconstruction(raw, x).shape == (5,)
    samples = torch.stack((raw, raw + 0.1))
    torch.testing.assert_close(vae.reconstruction(samples, x)[0], vae.reconstruction(raw, x))


def test_the_std_stays_above_its_floor() -> None:
    vae = model()
    with torch.no_grad():
        vae.encoder.stack.layers[-1].bias.fill_(-200)  # type: ignore[union-attr,index]  # an MLPEncoder's Linear
    _, std = vae.encode(pictures(2))
    assert torch.equal(std, torch.full_like(std, SMALLEST_POSTERIOR_STD))


def test_only_noise_brings_dropout() -> None:
    vae, x = model(dropout=0.5), pictures(2)
    assert torch.equal(vae.encode(x)[0], vae.encode(x)[0])
    noise = Noise(0, CPU)
    assert not torch.equal(vae.encode(x, noise)[0], vae.encode(x, noise)[0])


@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
def test_a_likelihood_with_a_scale_learns_it(likelihood: Likelihood) -> None:
    vae = model(likelihood=likelihood)
    assert (vae.log_scale is not None) == LIKELIHOODS[likelihood].has_scale
    if vae.log_scale is not None:
        vae.set_scale(0.3)
        assert float(vae.log_scale.detach().exp()) == pytest.approx(vae.likelihood.scale_of_std(0.3))
        vae.reconstruction(vae.decode(torch.zeros(2, 4)), pictures(2)).sum().backward()
        assert vae.log_scale.grad is not None


def test_a_given_scale_is_saved_and_not_learned() -> None:
    vae = model(likelihood="gaussian", scale=0.25)
    assert vae.log_scale is not None
    assert not vae.log_scale.requires_grad
    vae.set_scale(0.5)
    assert float(vae.state_dict()["log_scale"].exp()) == pytest.approx(0.25)


def test_the_generator_fixes_the_first_weights() -> None:
    first, same = model(), model()
    assert all(torch.equal(same.state_dict()[name], tensor) for name, tensor in first.state_dict().items())
    same.initialise(torch.Generator().manual_seed(9))
    assert not torch.equal(
        nn.utils.parameters_to_vector(first.parameters()), nn.utils.parameters_to_vector(same.parameters())
    )


@pytest.mark.parametrize("patch", [1, 4])
@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
@torch.no_grad()
def test_the_output_bias_draws_the_mean_picture_or_with_convolutions_its_colour(
    likelihood: Likelihood, patch: int
) -> None:
    mean = torch.linspace(0.3, 0.7, 3 * 16 * 18).view(SHAPE)
    dense, conv = (model(architecture=name, likelihood=likelihood, patch=patch) for name in ("mlp", "conv"))
    for vae in (dense, conv):
        vae.set_scale(0.001)
        vae.set_output_bias(mean)
        nn.init.zeros_(vae.decoder.last_layer.weight)  # type: ignore[arg-type]  # a layer's tensor
    # A distribution that is clamped to [0, 1] has its mean nearer to the middle.
    atol = 0.02 if likelihood == "logistic-mixture" else 1e-5
    torch.testing.assert_close(dense.image(dense.decode(torch.zeros(1, 4)))[0], mean, atol=atol, rtol=1e-5)
    drawn = conv.image(conv.decode(torch.zeros(1, 4)))[0]
    assert float((drawn - drawn[:, :1, :1]).abs().max()) < 1e-6, "one colour"
    torch.testing.assert_close(drawn.mean((1, 2)), mean.mean((1, 2)), atol=max(atol, 0.005), rtol=0)


def test_a_scale_for_each_channel_starts_at_the_same_std() -> None:
    vae = model(likelihood="gaussian", scale_per="channel")
    vae.set_scale(0.25)
    assert vae.log_scale is not None
    assert vae.log_scale.shape == (3, 1, 1)
    torch.testing.assert_close(vae.log_scale.detach().exp(), torch.full((3, 1, 1), 0.25))
