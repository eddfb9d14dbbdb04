"""The networks: q(z|x) and p(x|z) as layers with weights, knowing nothing of losses or loops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaecli.config import ModelConfig
from vaecli.training.noise import Noise

Activation = Callable[[Tensor], Tensor]

SMALLEST_STD = 1e-6


class MLP(nn.Module):
    """Linear layers; after each but the last its activation, and dropout while training."""

    def __init__(self, sizes: Sequence[int], activations: Sequence[Activation], dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.utils.skip_init(nn.Linear, inner, outer)
            for inner, outer in zip(sizes[:-1], sizes[1:], strict=True)
        )
        self.activations = tuple(activations)
        self.dropout = dropout

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """(batch, sizes[0]) -> (batch, sizes[-1]); `noise` for dropout, None to use the network as it is."""
        for layer, activation in zip(self.layers, self.activations, strict=False):
            x = activation(layer(x))
            if noise is not None:
                x = noise.dropout(x, self.dropout)
        last: Tensor = self.layers[-1](x)
        return last


class VAE(nn.Module):
    """A variational autoencoder with a diagonal Gaussian posterior and Bernoulli pixels."""

    def __init__(self, config: ModelConfig, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        pixels, hidden, d = math.prod(image_shape), config.hidden, config.latent_dim
        self.image_shape = image_shape
        self.latent_dim = d
        self.encoder = MLP((pixels, hidden, hidden, 2 * d), (F.elu, torch.tanh), config.dropout)
        self.decoder = MLP((d, hidden, hidden, pixels), (torch.tanh, F.elu), config.dropout)

    def encode(self, image: Tensor, noise: Noise | None = None) -> tuple[Tensor, Tensor]:
        """Mean and std of q(z|x): (batch, c, h, w) in [0, 1] -> (batch, d) twice."""
        hidden = self.encoder(image.flatten(1), noise)
        mean, raw = hidden[:, : self.latent_dim], hidden[:, self.latent_dim :]
        return mean, SMALLEST_STD + F.softplus(raw)

    def decode(self, latent: Tensor, noise: Noise | None = None) -> Tensor:
        """Logits of p(x|z): (batch, d) -> (batch, c, h, w)."""
        logits: Tensor = self.decoder(latent, noise).unflatten(1, self.image_shape)
        return logits

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Xavier-uniform weights (Glorot & Bengio 2010) and zero biases."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)
