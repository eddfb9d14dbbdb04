"""The two graphs that are exported, as PyTorch modules: what `vae export` writes and checks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vaecli.training.network import VAE


class EncoderGraph(nn.Module):
    """`image` (batch, c, h, w) in [0, 1] -> `mean`, `std` (batch, d)."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Deterministic: no dropout, no random numbers."""
        return self.model.encode(image)


class DecoderGraph(nn.Module):
    """`latent` (batch, d) -> `image` (batch, c, h, w) in [0, 1], and its `logits`."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Deterministic: the mean of p(x|z), not a draw from it."""
        logits = self.model.decode(latent)
        return torch.sigmoid(logits), logits
