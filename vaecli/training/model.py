"""The model that is trained and exported: q(z|x), p(x|z) and the likelihood that ties them to pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaecli.config import ModelConfig
from vaecli.training.likelihoods import LIKELIHOODS, initial_log_scale
from vaecli.training.network import DECODERS, ENCODERS, ImageShape, initialise
from vaecli.training.noise import Noise

SMALLEST_STD = 1e-6


class VAE(nn.Module):
    """A variational autoencoder with a diagonal Gaussian posterior and a standard normal prior."""

    log_scale: Tensor | None  # (), where the likelihood has a scale

    def __init__(self, config: ModelConfig, image_shape: ImageShape) -> None:
        super().__init__()
        self.config = config
        self.image_shape = image_shape
        self.latent_dim = config.latent_dim
        self.likelihood = LIKELIHOODS[config.likelihood]
        self.encoder = ENCODERS[config.architecture](config, image_shape, 2 * config.latent_dim)
        self.decoder = DECODERS[config.architecture](config, image_shape)
        scaled = config.likelihood in ("gaussian", "logistic")
        start = torch.tensor(initial_log_scale(config)) if scaled else None
        if start is not None and config.scale is None:
            self.log_scale = nn.Parameter(start)
        else:  # given, or not needed
            self.register_buffer("log_scale", start)

    def encode(self, image: Tensor, noise: Noise | None = None) -> tuple[Tensor, Tensor]:
        """Mean and std of q(z|x): (batch, c, h, w) in [0, 1] -> (batch, d) twice.

        `noise` gives the dropout of a training step; None uses the networks as they are.
        """
        mean, raw = self.encoder(image, noise).to(image.dtype).split(self.latent_dim, 1)
        return mean, SMALLEST_STD + F.softplus(raw)

    def decode(self, latent: Tensor, noise: Noise | None = None) -> Tensor:
        """What the likelihood reads, one number a pixel and channel: (batch, d) -> (batch, c, h, w)."""
        raw: Tensor = self.decoder(latent, noise).to(latent.dtype)
        return raw

    def reconstruction(self, raw: Tensor, image: Tensor) -> Tensor:
        """-log p(x|z) in nats: raw (..., batch, c, h, w), image (batch, c, h, w) -> (..., batch)."""
        return self.likelihood.reconstruction(raw, image, self.log_scale)

    def image(self, raw: Tensor) -> Tensor:
        """The mean of p(x|z): (batch, c, h, w) -> the same, in [0, 1]."""
        return self.likelihood.image(raw)

    def initialise(self, generator: torch.Generator) -> None:
        """Set every weight as the networks want it at the start."""
        initialise(self, generator)

    @torch.no_grad()
    def set_output_bias(self, mean: Tensor) -> None:
        """Let an untrained decoder draw the mean picture (c, h, w) in [0, 1]; if it convolves, its mean colour."""
        raw = self.likelihood.raw_of_mean(mean)
        last = self.decoder.last_layer
        assert isinstance(last, nn.Linear | nn.Conv2d)
        assert last.bias is not None
        last.bias.copy_(raw.flatten() if isinstance(last, nn.Linear) else raw.mean((1, 2)))
