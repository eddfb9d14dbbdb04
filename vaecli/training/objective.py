"""What is minimised: bounds on -log p(x), in nats per image, for any network and likelihood.

The ELBO is Kingma & Welling's (2013) with its analytic KL; the importance-weighted bound is Burda et al.'s (2016);
its doubly reparameterised gradient is Tucker et al.'s (2019); free bits are Kingma et al.'s (2016).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaecli.config import Objective
from vaecli.metrics import LOG_FLOOR
from vaecli.training.model import VAE
from vaecli.training.noise import Noise


@dataclass(frozen=True)
class Terms:
    """A batch under the model: what to minimise, and each image's two terms for the report."""

    loss: Tensor  # (), the mean over the batch of what is trained
    reconstruction: Tensor  # (batch,), the mean over the samples
    kl: Tensor  # (batch,), analytic


def kl_divergence(mean: Tensor, std: Tensor) -> Tensor:
    """KL(q(z|x) || N(0, I)) of each dimension, in nats: (batch, d) twice -> (batch, d).

    ½ (μ² + σ² - log(1e-8 + σ²) - 1): appendix B of Kingma & Welling (2013), with the tutorial's 1e-8.
    """
    variance = std.square()
    return 0.5 * (mean.square() + variance - torch.log(LOG_FLOOR + variance) - 1)


def elbo(
    model: VAE,
    image: Tensor,
    noise: Noise,
    *,
    samples: int = 1,
    beta: float | Tensor,
    free_bits: float,
    dropout: bool,
) -> Terms:
    """The negative ELBO, `beta` times its KL, the mean over `samples` z an image: image (batch, c, h, w) in [0, 1].

    The samples are antithetic pairs (Hammersley & Morton 1956): the bound is the same, its gradient less noisy.
    A dimension's KL, averaged over the batch, is not pushed below `free_bits` nats.
    """
    masks = noise if dropout else None
    mean, std = model.encode(image, masks)
    latent = mean + std * noise.opposites(samples, std.shape, std.dtype)  # (samples, batch, d)
    raw = model.decode(latent.flatten(0, 1), masks).unflatten(0, (samples, -1))
    reconstruction = model.reconstruction(raw, image).mean(0)
    kl = kl_divergence(mean, std)
    priced = kl.mean(0).clamp(min=free_bits).sum() if free_bits else kl.sum(1).mean()
    return Terms(reconstruction.mean() + beta * priced, reconstruction, kl.sum(1))


def importance_weighted(
    model: VAE, image: Tensor, noise: Noise, *, samples: int, kind: Objective, dropout: bool
) -> Terms:
    """-log (1/K Σ_k p(x, z_k) / q(z_k|x)), K = `samples`: image (batch, c, h, w) in [0, 1].

    For `dreg` the value is the same and the gradient another: the score term of q is left out, and what reaches q
    through z is weighted twice (Tucker et al. 2019, equation 8).
    """
    masks = noise if dropout else None
    mean, std = model.encode(image, masks)
    epsilon = noise.normal(torch.Size((samples, *mean.shape)), mean.dtype)  # (K, batch, d)
    latent = mean + std * epsilon
    doubly = kind == "dreg" and latent.requires_grad
    q_mean, q_std = (mean.detach(), std.detach()) if doubly else (mean, std)
    raw = model.decode(latent.flatten(0, 1), masks).unflatten(0, (samples, -1))  # (K, batch, c, h, w)
    reconstruction = model.reconstruction(raw, image)  # (K, batch)
    log_prior = -0.5 * latent.square().sum(2)  # both lack the same ½ d log 2π
    log_posterior = -(0.5 * ((latent - q_mean) / q_std).square() + torch.log(q_std)).sum(2)
    log_weight = log_prior - reconstruction - log_posterior  # (K, batch)
    share = torch.softmax(log_weight.detach(), 0)
    if doubly:
        latent.register_hook(lambda gradient: gradient * share.unsqueeze(2))
        loss = -(share * log_weight).sum(0).mean()
    else:
        loss = -(torch.logsumexp(log_weight, 0) - math.log(samples)).mean()
    bound = -(torch.logsumexp(log_weight.detach(), 0) - math.log(samples)).mean()
    # The gradient is that of `loss`, the value that of the bound.
    return Terms(loss - loss.detach() + bound, reconstruction.mean(0), kl_divergence(mean, std).sum(1))
