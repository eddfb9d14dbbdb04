"""p(x|z) in PyTorch: the distribution of the pixels given the decoder's output.

The decoder's output `raw` has one number per pixel and channel, (batch, c, h, w) or (samples, batch, c, h, w); two
likelihoods also have a scale, one number for all pixels. Losses are in nats per image. evaluation/likelihoods.py has
the same formulas for NumPy.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from vaecli.model_format import LEVELS, SERIES_BELOW
from vaecli.model_format import Likelihood as Name


class Likelihood(Protocol):
    """What training and export need of a likelihood."""

    def reconstruction(self, raw: Tensor, image: Tensor, log_scale: Tensor | None) -> Tensor:
        """-log p(x|z) in nats: raw (..., batch, c, h, w), image (batch, c, h, w) -> (..., batch)."""

    def image(self, raw: Tensor) -> Tensor:
        """The mean of p(x|z), in [0, 1]: (batch, c, h, w) -> the same."""

    def raw_of_mean(self, mean: Tensor) -> Tensor:
        """The `raw` whose mean picture is `mean`: a start for the output bias."""

    def scale_of_std(self, std: float) -> float:
        """The scale at which a pixel has this standard deviation: a start for a learned scale."""


class _CrossEntropy(torch.autograd.Function):
    """Σ softplus(l) - x·l in few passes over the logits: with many samples per image they are most of a step."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor, image: Tensor) -> Tensor:  # noqa: ANN401 - autograd's context
        ctx.save_for_backward(raw, image)
        return F.softplus(raw).addcmul_(raw, image, value=-1).sum(-1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - autograd's context
        raw, image = ctx.saved_tensors
        return torch.sigmoid(raw).sub_(image).mul_(gradient.unsqueeze(-1)), None


class Bernoulli:
    """Each pixel 0 or 1; for a grey x in [0, 1] the cross-entropy, which is what the tutorial trains."""

    def reconstruction(self, raw: Tensor, image: Tensor, log_scale: Tensor | None) -> Tensor:
        """Σ softplus(l) - x·l: equal to -Σ [x log y + (1-x) log(1-y)], and finite where y = σ(l) rounds to 1."""
        result: Tensor = _CrossEntropy.apply(raw.flatten(-3), image.flatten(-3))
        return result

    def image(self, raw: Tensor) -> Tensor:
        """σ(l)."""
        return torch.sigmoid(raw)

    def raw_of_mean(self, mean: Tensor) -> Tensor:
        """logit, away from 0 and 1."""
        return torch.logit(mean.clamp(0.001, 0.999))

    def scale_of_std(self, std: float) -> float:
        """It has no scale."""
        raise NotImplementedError


class ContinuousBernoulli(Bernoulli):
    """The Bernoulli's formula, normalised to a density on [0, 1] (Loaiza-Ganem & Cunningham 2019)."""

    def reconstruction(self, raw: Tensor, image: Tensor, log_scale: Tensor | None) -> Tensor:
        """Their equation 8 in logits: C(λ) = 2 atanh(1-2λ) / (1-2λ) is l / tanh(l/2) with l = logit λ."""
        near = raw.abs() < SERIES_BELOW
        safe = torch.where(near, torch.ones_like(raw), raw)  # no 0/0, also in the gradient
        exact = torch.log(safe / torch.tanh(safe / 2))
        series = math.log(2) + raw.square() / 12 - raw.pow(4) * 7 / 1440
        log_normaliser = torch.where(near, series, exact).flatten(-3).sum(-1)
        return super().reconstruction(raw, image, log_scale) - log_normaliser

    def image(self, raw: Tensor) -> Tensor:
        """The mean, which is not λ: 1 / (1 - exp(-l)) - 1 / l."""
        near = raw.abs() < SERIES_BELOW
        safe = torch.where(near, torch.ones_like(raw), raw)
        exact = -1 / torch.expm1(-safe) - 1 / safe
        return torch.where(near, 0.5 + raw / 12 - raw.pow(3) / 720, exact)

    def raw_of_mean(self, mean: Tensor) -> Tensor:
        """By bisection: the mean has no closed-form inverse."""
        low, high = torch.full_like(mean, -100), torch.full_like(mean, 100)
        for _ in range(30):
            middle = (low + high) / 2
            below = self.image(middle) < mean
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2


class Gaussian:
    """Each pixel normal around the location, with one scale: given, or learned (Rybkin et al. 2021)."""

    def reconstruction(self, raw: Tensor, image: Tensor, log_scale: Tensor | None) -> Tensor:
        """Σ ½ ((x - m) / s)² + log s + ½ log 2π."""
        assert log_scale is not None
        scaled = (image - raw) * torch.exp(-log_scale)
        return (0.5 * scaled.square() + log_scale + 0.5 * math.log(2 * math.pi)).flatten(-3).sum(-1)

    def image(self, raw: Tensor) -> Tensor:
        """The location, clamped to [0, 1]."""
        return raw.clamp(0, 1)

    def raw_of_mean(self, mean: Tensor) -> Tensor:
        """The mean itself."""
        return mean

    def scale_of_std(self, std: float) -> float:
        """The standard deviation itself."""
        return std


class Logistic(Gaussian):
    """Each 8-bit value a bin of a logistic density, the outer ones open (Kingma et al. 2016; Salimans et al. 2017)."""

    def reconstruction(self, raw: Tensor, image: Tensor, log_scale: Tensor | None) -> Tensor:
        """-Σ log [F(x + ½ bin) - F(x - ½ bin)], with F(-∞) at the darkest value and F(∞) at the brightest."""
        assert log_scale is not None
        inverse = torch.exp(-log_scale)
        centre = (image - raw) * inverse
        half = 0.5 / LEVELS * inverse
        upper, lower = centre + half, centre - half
        # log(σ(u) - σ(l)) without cancellation: -softplus(-u) - softplus(l) + log(1 - exp(-(u - l))).
        middle = -F.softplus(-upper) - F.softplus(lower) + torch.log(-torch.expm1(-2 * half))
        darkest, brightest = -F.softplus(-upper), -F.softplus(lower)
        log_probability = torch.where(
            image < 0.5 / LEVELS, darkest, torch.where(image > 1 - 0.5 / LEVELS, brightest, middle)
        )
        return -log_probability.flatten(-3).sum(-1)

    def scale_of_std(self, std: float) -> float:
        """A logistic distribution of scale s has the standard deviation π s / √3."""
        return std * math.sqrt(3) / math.pi


LIKELIHOODS: dict[Name, Likelihood] = {
    "bernoulli": Bernoulli(),
    "continuous-bernoulli": ContinuousBernoulli(),
    "gaussian": Gaussian(),
    "logistic": Logistic(),
}
