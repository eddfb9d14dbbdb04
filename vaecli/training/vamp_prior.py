"""A prior that is learned with the model: the VampPrior of Tomczak and Welling (VAE with a VampPrior, 2018).

p(z) = 1/K Σ_k q(z|u_k), the mixture of the encoder's posteriors of K pseudo-inputs u_k, pictures that are learned, too
(equation 9). The posteriors then need not fit N(0, I), and the mixture that the export fits to them is closer to them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vaecli.model_format import ImageShape
from vaecli.training.functions import log_sum_exp

DARKEST = 0.02  # of a pseudo-input at the start: at 0 the sigmoid would hardly move


class PseudoInputs(nn.Module):
    """K learned pictures, and with classes the class of each: all classes have as many, give or take one."""

    labels: Tensor | None

    def __init__(self, count: int, image_shape: ImageShape, classes: int) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.logits = nn.Parameter(torch.zeros(count, math.prod(image_shape)))
        self.register_buffer("labels", torch.arange(count) % classes if classes else None, persistent=False)

    def starts(self, available: int, labels: Tensor | None) -> Tensor:
        """Which of this many pictures to start from, (K,). Their classes are `labels` if the model is conditional."""
        rows = torch.arange(len(self.logits)) % available
        if self.labels is not None and labels is not None:
            for label in self.labels.unique():
                of_class = torch.nonzero(labels == label).flatten()
                if len(of_class):
                    mine = self.labels == label
                    rows[mine] = of_class[torch.arange(int(mine.sum())) % len(of_class)]
        return rows

    @torch.no_grad()
    def initialise_from(self, pictures: Tensor) -> None:
        """Start from pictures (K, c, h, w) in [0, 1]."""
        self.logits.copy_(pictures.clamp(DARKEST, 1 - DARKEST).logit().flatten(1))

    @property
    def pictures(self) -> Tensor:
        """(K, c, h, w) in [0, 1]."""
        return torch.sigmoid(self.logits).view(-1, *self.image_shape)

    def log_density(self, latent: Tensor, mean: Tensor, std: Tensor, label: Tensor | None) -> Tensor:
        """Log p(z) in nats: latents (..., batch, d), q's mean and std of the pseudo-inputs (K, d) -> (..., batch).

        With classes it is log p(z|y), the mixture of those of the class `label` (batch,).
        """
        with torch.autocast(latent.device.type, enabled=False):  # differences of large numbers
            precision = std.square().reciprocal()
            # ((z - m) / s)² by matrix products, since (batch, K, d) numbers would be many.
            squares = (
                latent.square() @ precision.T - 2 * latent @ (mean * precision).T + (mean.square() * precision).sum(1)
            )
            logs = -0.5 * squares - torch.log(std).sum(1) - 0.5 * latent.shape[-1] * math.log(2 * math.pi)
            if self.labels is None or label is None:
                return log_sum_exp(logs) - math.log(len(mean))
            mine = self.labels == label[:, None]  # (batch, K)
            return log_sum_exp(logs.masked_fill(~mine, -math.inf)) - torch.log(mine.sum(-1))
