"""The two graphs that are exported, as PyTorch modules: what `vae export` writes and checks."""

from __future__ import annotations

from torch import Tensor, nn

from vaecli.training.model import VAE


class EncoderGraph(nn.Module):
    """`image` (batch, c, h, w) in [0, 1] -> `mean`, `std` (batch, d); of a conditional model with `label` (batch,)."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Deterministic: no dropout, no random numbers."""
        return self.model.encode(image, label=label)


class DecoderGraph(nn.Module):
    """`latent` (batch, d) -> `image` (batch, c, h, w) in [0, 1], and the parameters of the likelihood.

    Of a conditional model with `label` (batch,).
    """

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent: Tensor, label: Tensor | None = None) -> tuple[Tensor, ...]:
        """Deterministic: the mean of p(x|z), not a draw from it. The order is that of model_format.LIKELIHOODS."""
        parameters = self.model.parameters_of(self.model.decode(latent, label=label))
        return self.model.likelihood.image(*parameters), *parameters
