"""p(x|z): what the decoder's numbers say about the pixels, and what a picture costs under them.

Each likelihood reads the decoder's output, one number a pixel and channel called `raw`, of shape (batch, c, h, w), or
(samples, batch, c, h, w); two of them have a scale besides, one number for all pixels. Losses are in nats per image.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from vaecli.config import ModelConfig

LEVELS = 255  # steps between the darkest and the brightest 8-bit value


class Likelihood(Protocol):
    """What training and export ask of a likelihood."""

    def reconstruction(self, raw: Tensor, image: Tensor, log_scale: Tensor | None) -> Tensor:
        """-log p(x|z) in nats: raw (..., batch, c, h, w), image (batch, c, h, w) -> (..., batch)."""

    def image(self, raw: Tensor) -> Tensor:
        """The mean of p(x|z), in [0, 1]: (batch, c, h, w) -> the same."""

    def raw_of_mean(self, mean: Tensor) -> Tensor:
        """The `raw` whose mean picture is `mean`: where the output bias may start."""


class _CrossEntropy(torch.autograd.Function):
    """Σ softplus(l) - x·l in few passes over the logits: with many samples an image they are most of a step."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor, image: Tensor) -> Tensor:  # noqa: ANN401 - autograd's context
        ctx.save_for_backward(raw, image)
        return F.softplus(raw).addcmul_(raw, image, value=-1).sum(-1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - autograd's context
        raw, image = ctx.saved_tensors
        return torch.sigmoid(raw).sub_(image).mul_(gradient.unsqueeze(-1)), None


class Bernoulli:
    """Each pixel a coin; for a grey x in [0, 1] the cross-entropy, which is what the tutorial trains."""

    def reconstruction(self, raw: Tensor, image: Tensor, log_scale: Tensor | None) -> Tensor:
        """Σ softplus(l) - x·l: equals -Σ [x log y + (1-x) log(1-y)], and stays finite where y = σ(l) rounds to 1."""
        result: Tensor = _CrossEntropy.apply(raw.flatten(-3), image.flatten(-3))
        return result

    def image(self, raw: Tensor) -> Tensor:
        """σ(l)."""
        return torch.sigmoid(raw)

    def raw_of_mean(self, mean: Tensor) -> Tensor:
        """logit, kept off the ends."""
        return torch.logit(mean.clamp(0.001, 0.999))


class ContinuousBernoulli(Bernoulli):
    """The Bernoulli's formula made a density on [0, 1] by its normaliser (Loaiza-Ganem & Cunningham 2019)."""

    def reconstruction(self, raw: Tensor, image: Tensor, log_scale: Tensor | None) -> Tensor:
        """Theirs in logits: C(λ) = 2 atanh(1-2λ) / (1-2λ) is l / tanh(l/2) with l = logit λ."""
        near = raw.abs() < 0.1
        safe = torch.where(near, torch.ones_like(raw), raw)  # no 0/0, in the gradient neither
        exact = torch.log(safe / torch.tanh(safe / 2))
        series = math.log(2) + raw.square() / 12 - raw.pow(4) * 7 / 1440
        log_normaliser = torch.where(near, series, exact).flatten(-3).sum(-1)
        return super().reconstruction(raw, image, log_scale) - log_normaliser

    def image(self, raw: Tensor) -> Tensor:
        """The mean, which is not λ: 1 / (1 - exp(-l)) - 1 / l."""
        near = raw.abs() < 0.1
        safe = torch.where(near, torch.ones_like(raw), raw)
        exact = -1 / torch.expm1(-safe) - 1 / safe
        return torch.where(near, 0.5 + raw / 12 - raw.pow(3) / 720, exact)

    def raw_of_mean(self, mean: Tensor) -> Tensor:
        """By bisection: the mean has no inverse in closed form."""
        low, high = torch.full_like(mean, -100), torch.full_like(mean, 100)
        for _ in range(30):
            middle = (low + high) / 2
            below = self.image(middle) < mean
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2


class Gaussian:
    """Each pixel normal around the location, with one scale: given, or learnt (Rybkin et al. 2021)."""

    def reconstruction(self, raw: Tensor, image: Tensor, log_scale: Tensor | None) -> Tensor:
        """Σ ½ ((x - m) / s)² + log s + ½ log 2π."""
        assert log_scale is not None
        scaled = (image - raw) * torch.exp(-log_scale)
        return (0.5 * scaled.square() + log_scale + 0.5 * math.log(2 * math.pi)).flatten(-3).sum(-1)

    def image(self, raw: Tensor) -> Tensor:
        """The location, kept in [0, 1]."""
        return raw.clamp(0, 1)

    def raw_of_mean(self, mean: Tensor) -> Tensor:
        """The mean itself."""
        return mean


class Logistic(Gaussian):
    """Each 8-bit value a bin of a logistic density, open at both ends (Kingma et al. 2016; Salimans et al. 2017)."""

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


LIKELIHOODS: dict[str, Likelihood] = {
    "bernoulli": Bernoulli(),
    "continuous-bernoulli": ContinuousBernoulli(),
    "gaussian": Gaussian(),
    "logistic": Logistic(),
}


def initial_log_scale(config: ModelConfig) -> float:
    """Where the scale starts, or stays where it is given: log s, in units of the full range [0, 1]."""
    return math.log(config.scale if config.scale is not None else 0.1)
