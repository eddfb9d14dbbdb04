"""The training losses: bounds on -log p(x) in nats per image, for any network and likelihood.

The ELBO is Kingma & Welling's (2013) with its analytic KL; the importance-weighted bound is Burda et al.'s (2016);
its doubly reparameterised gradient is Tucker et al.'s (2019); free bits are Kingma et al.'s (2016).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vaecli.config import Objective
from vaecli.model_format import KL_FLOOR
from vaecli.training.model import VAE
from vaecli.training.noise import Noise


@dataclass(frozen=True)
class BatchLoss:
    """The loss of a batch to minimise, and the two terms of each image to report."""

    loss: Tensor  # (), the mean over the batch
    reconstruction: Tensor  # (batch,), the mean over the samples
    kl: Tensor  # (batch,): analytic from N(0, I), else estimated with the latents of the batch


def kl_divergence(mean: Tensor, std: Tensor) -> Tensor:
    """KL(q(z|x) || N(0, I)) of each dimension, in nats: (batch, d) twice -> (batch, d).

    ½ (μ² + σ² - log(1e-8 + σ²) - 1): appendix B of Kingma & Welling (2013), with the tutorial's 1e-8.
    """
    variance = std.square()
    return 0.5 * (mean.square() + variance - torch.log(KL_FLOOR + variance) - 1)


def divergence(model: VAE, mean: Tensor, std: Tensor, latent: Tensor, label: Tensor | None) -> Tensor:
    """KL(q(z|x) || p(z)) in nats: q's mean and std (batch, d), and latents drawn from it (samples, batch, d).

    (batch, d), of each dimension, where the prior is N(0, I). Else (batch, 1), estimated with the latents.
    """
    if model.pseudo_inputs is None:
        return kl_divergence(mean, std)
    return estimated_divergence(std, model.log_prior(latent, label))


def estimated_divergence(std: Tensor, log_prior: Tensor) -> Tensor:
    """E_q log q(z|x), which is known, less the mean of log p(z) over latents.

    q's std (batch, d), and log p(z) of latents drawn from q (samples, batch) -> (batch, 1).
    """
    entropy = torch.log(std).sum(1) + 0.5 * std.shape[1] * (1 + math.log(2 * math.pi))
    return (-entropy - log_prior.mean(0))[:, None]


def elbo(
    model: VAE,
    image: Tensor,
    noise: Noise,
    *,
    samples: int = 1,
    beta: float | Tensor,
    free_bits: float,
    label: Tensor | None = None,
    batch_mean: Callable[[Tensor], Tensor] | None = None,
) -> BatchLoss:
    """Reconstruction + `beta` · KL, the mean over `samples` latents per image: image (batch, c, h, w) in [0, 1].

    With `beta` 1 it is the negative ELBO. The samples are antithetic pairs: the expected value is the same, the
    gradient has less variance. The KL of a dimension, averaged over the batch, is not penalised below `free_bits` nats.
    A conditional model needs the `label` (batch,) of each image. Where these images are a part of a batch, `batch_mean`
    is the mean over all of it: (batch, d) -> (d,).
    """
    mean, std = model.encode(image, noise, label)
    latent = mean + std * noise.antithetic(samples, std.shape, std.dtype)  # (samples, batch, d)
    raw = model.decode(latent.flatten(0, 1), noise, repeated(label, samples)).unflatten(0, (samples, -1))
    reconstruction = model.reconstruction(raw, image).mean(0)
    kl = divergence(model, mean, std, latent, label)
    if free_bits:
        penalty = (batch_mean(kl) if batch_mean else kl.mean(0)).clamp(min=free_bits).sum()
    else:
        penalty = kl.sum(1).mean()
    return BatchLoss(reconstruction.mean() + beta * penalty, reconstruction, kl.sum(1))


def repeated(label: Tensor | None, samples: int) -> Tensor | None:
    """The labels of `samples` latents for each image: (batch,) -> (samples·batch,)."""
    return None if label is None else label.repeat(samples)


def log_weights(log_prior: Tensor, reconstruction: Tensor, latent: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log p(x, z) - log q(z|x): log p(z) and -log p(x|z) (K, batch), z (K, batch, d), q's mean and std (batch, d).

    (K, batch).
    """
    constant = 0.5 * latent.shape[2] * math.log(2 * math.pi)
    log_posterior = -(0.5 * ((latent - mean) / std).square() + torch.log(std)).sum(2) - constant
    return log_prior - reconstruction - log_posterior


def negative_bound(log_weight: Tensor) -> Tensor:
    """-log of the mean of the K weights: (K, batch) -> (batch,)."""
    return -(torch.logsumexp(log_weight, 0) - math.log(len(log_weight)))


def importance_weighted(
    model: VAE, image: Tensor, noise: Noise, *, samples: int, kind: Objective, label: Tensor | None = None
) -> BatchLoss:
    """-log (1/K Σ_k p(x, z_k) / q(z_k|x)), K = `samples`: image (batch, c, h, w) in [0, 1].

    For `dreg` the value is the same and the gradient another: without the score term of q, and with the path through z
    weighted by the squared importance weights (Tucker et al. 2019, equation 8).
    """
    mean, std = model.encode(image, noise, label)
    epsilon = noise.normal(torch.Size((samples, *mean.shape)), mean.dtype)  # (K, batch, d)
    latent = mean + std * epsilon
    doubly = kind == "dreg" and latent.requires_grad
    q_mean, q_std = (mean.detach(), std.detach()) if doubly else (mean, std)
    labels = repeated(label, samples)
    raw = model.decode(latent.flatten(0, 1), noise, labels).unflatten(0, (samples, -1))  # (K, batch, c, h, w)
    reconstruction = model.reconstruction(raw, image)  # (K, batch)
    log_prior = model.log_prior(latent, label)
    log_weight = log_weights(log_prior, reconstruction, latent, q_mean, q_std)
    share = torch.softmax(log_weight.detach(), 0)
    if doubly:
        latent.register_hook(lambda gradient: gradient * share.unsqueeze(2))
        loss = -(share * log_weight).sum(0).mean()
    else:
        loss = negative_bound(log_weight).mean()
    bound = negative_bound(log_weight.detach()).mean()
    # The gradient of `loss`, with the value of the bound.
    analytic = model.pseudo_inputs is None
    kl = (kl_divergence(mean, std) if analytic else estimated_divergence(std, log_prior)).detach().sum(1)
    return BatchLoss(loss - loss.detach() + bound, reconstruction.mean(0), kl)
