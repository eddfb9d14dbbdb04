"""The model that is trained and exported: q(z|x), p(x|z) and the likelihood of the pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaecli import model_format
from vaecli.config import ModelConfig
from vaecli.model_format import ImageShape
from vaecli.training.likelihoods import LIKELIHOODS
from vaecli.training.network import ARCHITECTURES, initialise, latent_dim
from vaecli.training.noise import Noise
from vaecli.training.vamp_prior import PseudoInputs

SMALLEST_POSTERIOR_STD = 1e-6
SMALLEST_START = 1 / 255  # of a learned scale: one step of an 8-bit value


class VAE(nn.Module):
    """A variational autoencoder with a diagonal Gaussian posterior, and N(0, I) or a VampPrior as prior."""

    log_scale: Tensor | None  # () or (c, 1, 1), where the likelihood has a scale

    def __init__(self, config: ModelConfig, image_shape: ImageShape, classes: int = 0) -> None:
        """`classes` is how many there are, where the model is conditional."""
        super().__init__()
        self.config = config
        self.classes = classes
        self.image_shape = image_shape
        self.latent_dim = latent_dim(config, image_shape)
        self.likelihood = LIKELIHOODS[config.likelihood](config)
        architecture = ARCHITECTURES[config.architecture]
        self.encoder = architecture.encoder(config, image_shape, 2 * self.latent_dim, classes)
        channels, height, width = image_shape
        self.decoder = architecture.decoder(config, (self.likelihood.numbers(channels), height, width), classes)
        vamp = config.prior == "vamp"
        self.pseudo_inputs = PseudoInputs(config.pseudo_inputs, image_shape, classes) if vamp else None
        has_scale = model_format.LIKELIHOODS[config.likelihood].has_scale
        if has_scale and config.scale is None:
            shape = (channels, 1, 1) if config.scale_per == "channel" else ()
            self.log_scale = nn.Parameter(torch.zeros(shape))  # to be set by `set_scale`
        else:
            self.register_buffer("log_scale", torch.tensor(math.log(config.scale)) if config.scale else None)

    def encode(self, image: Tensor, noise: Noise | None = None, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and std of q(z|x): (batch, c, h, w) in [0, 1] -> (batch, d) twice.

        `noise` gives the dropout of a training step; None is without dropout. A conditional model needs the `label`
        (batch,) int64 of each image's class; any other one takes no notice of it.
        """
        mean, raw = self.encoder(image, noise, label).to(image.dtype).split(self.latent_dim, 1)
        return mean, SMALLEST_POSTERIOR_STD + F.softplus(raw)

    def decode(self, latent: Tensor, noise: Noise | None = None, label: Tensor | None = None) -> Tensor:
        """What the likelihood reads, R numbers for each pixel in the decoder's order: (batch, d) -> (batch, R, pixels).

        `noise` and `label` are as in `encode`.
        """
        raw: Tensor = self.decoder(latent, noise, label).to(latent.dtype)
        return raw

    def log_prior(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Log p(z) in nats, of a conditional model log p(z|y): (..., batch, d) and (batch,) -> (..., batch)."""
        if self.pseudo_inputs is None:
            return -0.5 * latent.square().sum(-1) - 0.5 * self.latent_dim * math.log(2 * math.pi)
        mean, std = self.encode(self.pseudo_inputs.pictures, label=self.pseudo_inputs.labels)
        return self.pseudo_inputs.log_density(latent, mean, std, label)

    def prior_variance(self) -> Tensor:
        """Of p(z), in each dimension: (d,), or () where it is the same in all."""
        if self.pseudo_inputs is None:
            return torch.ones(())
        mean, std = self.encode(self.pseudo_inputs.pictures, label=self.pseudo_inputs.labels)
        return (std.square() + mean.square()).mean(0) - mean.mean(0).square()

    def reconstruction(self, raw: Tensor, image: Tensor) -> Tensor:
        """-log p(x|z) in nats: raw (..., batch, R, pixels) of `decode`, image (batch, c, h, w) -> (..., batch)."""
        return self.likelihood.reconstruction(raw, self.decoder.to_output_order(image), self.log_scale)

    def parameters_of(self, raw: Tensor) -> tuple[Tensor, ...]:
        """The parameters of p(x|z), as in model_format.LIKELIHOODS: from raw (batch, R, pixels) of `decode`."""
        return self.likelihood.parameters(self.decoder.to_picture_order(raw), self.log_scale)

    def image(self, raw: Tensor) -> Tensor:
        """The mean of p(x|z): raw (batch, R, pixels) of `decode` -> (batch, c, h, w) in [0, 1]."""
        return self.likelihood.image(*self.parameters_of(raw))

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the initial weights."""
        initialise(self, generator)

    @torch.no_grad()
    def set_scale(self, std: float) -> None:
        """Start a learned scale where a pixel has the standard deviation `std`, in units of [0, 1]."""
        if isinstance(self.log_scale, nn.Parameter):
            self.log_scale.fill_(math.log(self.likelihood.scale_of_std(max(std, SMALLEST_START))))

    @torch.no_grad()
    def set_output_bias(self, mean: Tensor) -> None:
        """Let the untrained decoder draw the mean picture (c, h, w) in [0, 1]; a convolutional one, its mean colour."""
        raw = self.likelihood.raw_of_mean(mean)
        last = self.decoder.last_layer
        assert isinstance(last, nn.Linear | nn.Conv2d)
        assert last.bias is not None
        if isinstance(last, nn.Linear):
            last.bias.copy_(raw.flatten())
        else:
            last.bias.copy_(raw.mean((1, 2)).repeat_interleave(len(last.bias) // len(raw)))  # for each pixel of a patch
