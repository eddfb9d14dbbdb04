"""The loss: a negative evidence lower bound (ELBO) in nats per image, as Kingma & Welling (2013) have it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def bernoulli_reconstruction(logits: Tensor, image: Tensor) -> Tensor:
    """-log p(x|z) of a Bernoulli decoder, as a cross-entropy where x is grey: (batch, …) twice -> (batch,) nats.

    Σ_pixels softplus(l) - x·l equals -Σ [x log y + (1-x) log(1-y)] with y = sigmoid(l), and stays finite where
    y rounds to 0 or 1.
    """
    return (F.softplus(logits) - image * logits).flatten(1).sum(1)


def kl_divergence(mean: Tensor, std: Tensor) -> Tensor:
    """KL(q(z|x) || N(0, I)) in nats: (batch, d) twice -> (batch,).

    ½ Σ_d (μ² + σ² - log(1e-8 + σ²) - 1): appendix B of Kingma & Welling (2013), with the tutorial's 1e-8.
    """
    variance = std.square()
    return 0.5 * (mean.square() + variance - torch.log(1e-8 + variance) - 1).sum(1)
