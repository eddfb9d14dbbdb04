"""The graphs as PyTorch modules: their outputs are the model's, in the order that the format names."""

from __future__ import annotations

import pytest
import torch

from vaecli.config import ModelConfig
from vaecli.exporting.graphs import DecoderGraph, EncoderGraph
from vaecli.model_format import IMAGE, LIKELIHOODS, MIXTURE, Likelihood
from vaecli.training.model import VAE

SHAPE = (3, 5, 6)


def model(likelihood: Likelihood = "bernoulli") -> VAE:
    made = VAE(ModelConfig(likelihood=likelihood, latent_dim=2, hidden=8, dropout=0.5), SHAPE)
    made.initialise(torch.Generator().manual_seed(1))
    return made


def test_the_encoder_gives_mean_and_std_without_dropout() -> None:
    vae, image = model(), torch.rand(4, *SHAPE)
    for found, expected in zip(EncoderGraph(vae)(image), vae.encode(image), strict=True):
        assert found.shape == (4, 2)
        assert torch.equal(found, expected)


@torch.no_grad()
@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
def test_the_decoder_gives_the_image_and_the_parameters_of_the_likelihood_in_order(likelihood: Likelihood) -> None:
    vae, latent = model(likelihood), 5 * torch.randn(4, 2, generator=torch.Generator().manual_seed(2))
    raw = vae.decode(latent)
    names = (IMAGE, *LIKELIHOODS[likelihood].parameters)
    expected = (vae.image(raw), *vae.parameters_of(raw))
    found = DecoderGraph(vae)(latent)
    for name, ours, theirs in zip(names, found, expected, strict=True):
        assert torch.equal(ours, theirs), name
        assert name == MIXTURE or ours.shape == (4, *SHAPE), name
