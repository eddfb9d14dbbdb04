"""p(x|z) in PyTorch: the distribution of the pixels given the decoder's output.

The decoder's output `raw` has R numbers per pixel, (batch, R, h, w) or (samples, batch, R, h, w). A likelihood makes
its parameters of them: the decoder's outputs in an exported model, in the order of model_format.LIKELIHOODS. Losses are
in nats per image. evaluation/likelihoods.py has the same formulas for NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from vaecli.config import ModelConfig
from vaecli.model_format import MAX_PIXEL, mixture_rows
from vaecli.model_format import Likelihood as Name
from vaecli.training.functions import cross_entropy

# The smallest scales that a decoder can predict. Of a Gaussian: the standard deviation of rounding to 8 bits. Of a
# logistic distribution: a twentieth of an 8-bit step; at it the step around the location has all but 5e-5 of the mass.
SMALLEST_PIXEL_STD = 1 / (MAX_PIXEL * math.sqrt(12))
SMALLEST_SCALE = 0.05 / MAX_PIXEL
# And the largest: a logistic distribution then has 99.7 % of its mass beyond black and white. For pixels that are one
# of both, a decoder would learn ever larger ones, and float32 could no longer tell the bins between them from 0.
LARGEST_SCALE = 100

# |logit| below which the continuous Bernoulli's normaliser is computed by its series: there the gradient of the exact
# formula loses digits. At 0.1 the first neglected term, 31 l⁶ / 90720, is 4e-10.
SERIES_BELOW = 0.1

PIECE = 2**18  # numbers that a formula of many passes works on at once, so that they stay in the processor's cache


# Where a formula writes its derivatives by raw (n, R, h, w) and by the log scale (n, 1 or c, 1, 1); None: nowhere.
Gradients = tuple[Tensor, Tensor] | None
# Raw (n, R, h, w), image (n, c, h, w), log scale (n, 1 or c, 1, 1) -> nats (n,).
_Nats = Callable[[Tensor, Tensor, Tensor, Gradients], Tensor]


class Likelihood(Protocol):
    """What training and export need of a likelihood."""

    def numbers(self, channels: int) -> int:
        """R: how many numbers the decoder computes for each pixel of a picture with this many channels."""

    def parameters(self, raw: Tensor, log_scale: Tensor | None) -> tuple[Tensor, ...]:
        """The distribution's parameters: raw (..., R, h, w), log_scale () or (c, 1, 1)."""

    def reconstruction(self, raw: Tensor, image: Tensor, log_scale: Tensor | None) -> Tensor:
        """-log p(x|z) in nats: raw (..., batch, R, h, w), image (batch, c, h, w) -> (..., batch)."""

    def image(self, *parameters: Tensor) -> Tensor:
        """The mean of p(x|z), in [0, 1]: -> (..., c, h, w)."""

    def raw_of_mean(self, mean: Tensor) -> Tensor:
        """The `raw` whose mean picture is `mean`, or nearly: (c, h, w) -> (R, h, w), a start for the output bias."""

    def scale_of_std(self, std: float) -> float:
        """The scale at which a pixel has this standard deviation: a start for a learned scale."""


class _CrossEntropy(torch.autograd.Function):
    """In few passes over the logits: with many samples per image they are most of a step."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor, image: Tensor) -> Tensor:  # noqa: ANN401 - autograd's context
        nats, sigmoid = cross_entropy(raw, image)
        ctx.save_for_backward(sigmoid, image)
        return nats

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - autograd's context
        sigmoid, image = ctx.saved_tensors
        return (sigmoid - image).mul_(gradient.unsqueeze(-1)), None


class Bernoulli:
    """Each pixel 0 or 1; for a grey x in [0, 1] the cross-entropy, which is what the tutorial trains."""

    def __init__(self, config: ModelConfig) -> None:
        del config  # it has no settings

    def numbers(self, channels: int) -> int:
        """One logit l for each channel."""
        return channels

    def parameters(self, raw: Tensor, log_scale: Tensor | None) -> tuple[Tensor, ...]:
        """The logits."""
        return (raw,)

    def reconstruction(self, raw: Tensor, image: Tensor, log_scale: Tensor | None) -> Tensor:
        """Σ softplus(l) - x·l: equal to -Σ [x log y + (1-x) log(1-y)], and finite where y = σ(l) rounds to 1."""
        result: Tensor = _CrossEntropy.apply(raw.flatten(-3), image.flatten(-3))
        return result

    def image(self, *parameters: Tensor) -> Tensor:
        """σ(l)."""
        (logits,) = parameters
        return torch.sigmoid(logits)

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

    def image(self, *parameters: Tensor) -> Tensor:
        """The mean, which is not λ: 1 / (1 - exp(-l)) - 1 / l."""
        (raw,) = parameters
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
    """Each pixel normal around its location. The scale is given, learned (Rybkin et al. 2021), or predicted."""

    smallest = SMALLEST_PIXEL_STD

    def __init__(self, config: ModelConfig) -> None:
        self.predicted = config.scale_per == "pixel"  # by the decoder, for each pixel

    def numbers(self, channels: int) -> int:
        """A location for each channel, and the logarithm of its scale relative to the learned one."""
        return 2 * channels if self.predicted else channels

    def parameters(self, raw: Tensor, log_scale: Tensor | None) -> tuple[Tensor, ...]:
        """Location and log scale, both (..., c, h, w)."""
        assert log_scale is not None
        if not self.predicted:
            return raw, log_scale.expand_as(raw)
        location, relative = raw.chunk(2, -3)
        return location, self._in_range(log_scale + relative)

    def reconstruction(self, raw: Tensor, image: Tensor, log_scale: Tensor | None) -> Tensor:
        """The sum over pixels and channels of `_pixel`."""
        return _in_pieces(self._nats, raw, image, log_scale)

    def _nats(self, raw: Tensor, image: Tensor, log_scale: Tensor, gradients: Gradients) -> Tensor:
        location, scale = self.parameters(raw, log_scale)
        nats, location_gradient, scale_gradient = self._pixel(image, location, scale)
        if gradients is not None:
            raw_gradient, log_scale_gradient = gradients
            raw_gradient[:, : len(image[0])] = location_gradient
            if self.predicted:
                scale_gradient = scale_gradient * self._inside(scale)
                raw_gradient[:, len(image[0]) :] = scale_gradient
            log_scale_gradient.copy_(scale_gradient.sum_to_size(log_scale.shape))
        return nats.flatten(1).sum(1)

    def _in_range(self, log_scale: Tensor) -> Tensor:
        return log_scale.clamp(math.log(self.smallest), math.log(LARGEST_SCALE))

    def _inside(self, log_scale: Tensor) -> Tensor:
        """Where a scale is not at an end of its range: there it has no gradient."""
        return (log_scale > math.log(self.smallest)) & (log_scale < math.log(LARGEST_SCALE))

    def _pixel(self, x: Tensor, location: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """½ ((x - m) / s)² + log s + ½ log 2π, and its derivatives by m and by log s."""
        inverse = torch.exp(-log_scale)
        scaled = (x - location) * inverse
        squared = scaled.square()
        nats = 0.5 * squared + log_scale + 0.5 * math.log(2 * math.pi)
        return nats, -scaled * inverse, 1 - squared

    def image(self, *parameters: Tensor) -> Tensor:
        """The location, clamped to [0, 1]."""
        location, _ = parameters
        return location.clamp(0, 1)

    def raw_of_mean(self, mean: Tensor) -> Tensor:
        """The mean itself; a predicted scale starts at the learned one."""
        return torch.cat((mean, torch.zeros_like(mean))) if self.predicted else mean

    def scale_of_std(self, std: float) -> float:
        """The standard deviation itself."""
        return std


class Logistic(Gaussian):
    """Each 8-bit value a bin of a logistic density, the outer ones open (Kingma et al. 2016; Salimans et al. 2017)."""

    smallest = SMALLEST_SCALE

    def _pixel(self, x: Tensor, location: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-log [F(x + ½ bin) - F(x - ½ bin)], with F(-∞) at the darkest value and F(∞) at the brightest."""
        bins = _bins(x, location, log_scale)
        return -(bins.exponent + torch.log(bins.factor)), -bins.location_gradient, -bins.scale_gradient

    def image(self, *parameters: Tensor) -> Tensor:
        """The mean of the distribution, clamped to [0, 1]: ∫₀¹ P(X > t) dt."""
        return _clamped_mean(*parameters)

    def scale_of_std(self, std: float) -> float:
        """A logistic distribution of scale s has the standard deviation π s / √3."""
        return std * math.sqrt(3) / math.pi


class LogisticMixture(Logistic):
    """A mixture of K discretised logistic distributions over the colour of a pixel (Salimans et al. 2017).

    Within a component the location of green depends on the red value, and that of blue on red and green.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.components = config.components

    def numbers(self, channels: int) -> int:
        """For each component a log weight, locations, log scales and coefficients."""
        return self.components * mixture_rows(channels)

    def parameters(self, raw: Tensor, log_scale: Tensor | None) -> tuple[Tensor, ...]:
        """The mixture (batch, K, rows, h, w): see model_format.MIXTURE."""
        assert log_scale is not None
        return (torch.cat(self._parts(raw, log_scale), -3),)

    def _parts(self, raw: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log weights, locations, log scales and coefficients, (n, K, their rows, h, w) each.

        Raw is (n, K · rows, h, w), log_scale () or (c, 1, 1) or (n, c, 1, 1). The components start at locations that
        are spread over [0, 1], so that they become different.
        """
        weight, location, scale, coefficients = _split(raw.unflatten(-3, (self.components, -1)))
        steps = torch.arange(self.components, dtype=raw.dtype, device=raw.device)
        middles = ((steps + 0.5) / self.components).view(-1, 1, 1, 1)  # of K equal parts of [0, 1]
        if log_scale.ndim:
            log_scale = log_scale.unsqueeze(-4)
        return torch.log_softmax(weight, -4), location + middles, self._in_range(log_scale + scale), coefficients

    def _nats(self, raw: Tensor, image: Tensor, log_scale: Tensor, gradients: Gradients) -> Tensor:
        """-Σ log Σ_k w_k Π_channels [F_k(x + ½ bin) - F_k(x - ½ bin)].

        One logarithm for each pixel, since logarithms take most of the time: a product of bins is kept as a factor in
        [0, 1] times the exponential of a number.
        """
        weight, location, scale, coefficients = self._parts(raw, log_scale)
        colour = image.unsqueeze(-4)  # (n, 1, c, h, w)
        pairs = _pairs(image.shape[-3])
        for at, (channel, before) in enumerate(pairs):
            location[..., channel, :, :].addcmul_(coefficients[..., at, :, :], colour[..., before, :, :] - 0.5)
        bins = _bins(colour, location, scale)
        exponent = weight.squeeze(-3) + bins.exponent.sum(-3)  # (n, K, h, w)
        largest = exponent.amax(-3, keepdim=True)
        each = torch.exp(exponent - largest)
        for factor in bins.factor.unbind(-3):
            each = each * factor
        total = each.sum(-3, keepdim=True)
        nats = -(torch.log(total) + largest).flatten(-3).sum(-1)
        if gradients is not None:
            raw_gradient, log_scale_gradient = gradients
            share = (each / total).unsqueeze(-3)  # of each component in the probability of a pixel
            weight_gradient, location_gradient, scale_gradient, coefficients_gradient = _split(
                raw_gradient.unflatten(-3, (self.components, -1))
            )
            torch.sub(torch.exp(weight), share, out=weight_gradient)
            torch.mul(bins.location_gradient, -share, out=location_gradient)
            torch.mul(bins.scale_gradient.mul_(self._inside(scale)), -share, out=scale_gradient)
            for at, (channel, before) in enumerate(pairs):
                middle = colour[..., before, :, :] - 0.5
                torch.mul(location_gradient[..., channel, :, :], middle, out=coefficients_gradient[..., at, :, :])
            log_scale_gradient.copy_(scale_gradient.sum(-4).sum_to_size(log_scale.shape))
        return nats

    def image(self, *parameters: Tensor) -> Tensor:
        """The mean of the mixture. A channel that depends on others takes those at their mean in the component."""
        (mixture,) = parameters
        log_weight, locations, scales, coefficients = _split(mixture)
        channels = locations.shape[-3]
        means: list[Tensor] = []
        for channel in range(channels):
            location = locations[..., channel, :, :]
            for at, (of, before) in enumerate(_pairs(channels)):
                if of == channel:
                    location = location + coefficients[..., at, :, :] * (means[before] - 0.5)
            means.append(_clamped_mean(location, scales[..., channel, :, :]))
        weight = torch.exp(log_weight.squeeze(-3))
        return torch.stack([(weight * mean).sum(-3) for mean in means], -3)

    def raw_of_mean(self, mean: Tensor) -> Tensor:
        """All components moved by the same: their middle is at ½."""
        raw = torch.zeros(self.components, mixture_rows(len(mean)), *mean.shape[1:])
        raw[:, 1 : 1 + len(mean)] = mean - 0.5
        return raw.flatten(0, 1)


def _split(rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The rows of a mixture (n, K, rows, h, w): log weight, locations and log scales of each channel, coefficients."""
    channels = next(channels for channels in (1, 3) if mixture_rows(channels) == rows.shape[-3])
    weight, location, scale, coefficients = rows.split((1, channels, channels, len(_pairs(channels))), -3)
    return weight, location, scale, coefficients


def _pairs(channels: int) -> list[tuple[int, int]]:
    """The coefficients' channels: that whose location depends, and the one before it that it depends on."""
    return [(channel, before) for channel in range(channels) for before in range(channel)]


@dataclass(frozen=True)
class _Bins:
    """The probability exp(exponent) · factor of each bin, exponent <= 0 and factor in (0, 1], and its derivatives."""

    exponent: Tensor
    factor: Tensor
    location_gradient: Tensor  # of the log probability, by the location and by the log scale
    scale_gradient: Tensor


def _bins(x: Tensor, location: Tensor, log_scale: Tensor) -> _Bins:
    """F(x + ½ bin) - F(x - ½ bin), F the logistic distribution function; open bins at the ends.

    With u and v the distances of the location from the bin's upper and lower end in scales, F(x + ½ bin) = σ(u),
    1 - F(x - ½ bin) = σ(v), and the bin is σ(u) σ(v) (1 - exp(-u - v)), which does not cancel;
    σ(u) = exp(min(u, 0)) σ(|u|), which does not underflow. Sigmoids and exponentials are fast in PyTorch; softplus and
    the logarithm take ten times as long.
    """
    far = 1e6  # stands for infinity, and is finite in products
    inverse = torch.exp(-log_scale)
    v = inverse * (0.5 / MAX_PIXEL)
    distance = (x - location).mul_(inverse)
    u = distance + v
    v -= distance
    u.masked_fill_(x > 1 - 0.5 / MAX_PIXEL, far)
    v.masked_fill_(x < 0.5 / MAX_PIXEL, far)
    upper, lower = torch.sigmoid(u), torch.sigmoid(v)
    not_upper, not_lower = 1 - upper, 1 - lower
    width = u + v
    rest = torch.exp(-width)
    inside = 1 - rest
    factor = torch.maximum(upper, not_upper).mul_(torch.maximum(lower, not_lower)).mul_(inside)
    exponent = torch.minimum(u, v).clamp_(max=0)  # at most one of them is negative
    location_gradient = upper.sub_(lower).mul_(inverse)
    scale_gradient = not_upper.mul_(u).addcmul_(not_lower, v).addcdiv_(width.mul_(rest), inside).neg_()
    return _Bins(exponent, factor, location_gradient, scale_gradient)


def _clamped_mean(location: Tensor, log_scale: Tensor) -> Tensor:
    """∫₀¹ P(X > t) dt = s (softplus(m / s) - softplus((m - 1) / s)) for a logistic X, which is E[min(max(X, 0), 1)]."""
    scale = torch.exp(log_scale)
    mean = scale * (F.softplus(location / scale) - F.softplus((location - 1) / scale))
    return mean.clamp(0, 1)  # rounding may leave it


class _InPieces(torch.autograd.Function):
    """A formula with its gradient, for a few images at a time."""

    @staticmethod
    def forward(ctx: Any, nats: _Nats, raw: Tensor, image: Tensor, log_scale: Tensor, count: int) -> Tensor:  # noqa: ANN401 - autograd's context
        result = raw.new_empty(len(raw))
        wanted = any(ctx.needs_input_grad)
        gradients = (torch.empty_like(raw), log_scale.new_empty(log_scale.shape)) if wanted else None
        for start in range(0, len(raw), count):
            piece = slice(start, start + count)
            parts = None if gradients is None else (gradients[0][piece], gradients[1][piece])
            result[piece] = nats(raw[piece], image[piece], log_scale[piece], parts)
        ctx.save_for_backward(*(gradients or ()))
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - autograd's context
        raw_gradient, scale_gradient = (
            saved * gradient.view(-1, *[1] * (saved.ndim - 1)) for saved in ctx.saved_tensors
        )
        return None, raw_gradient, None, scale_gradient, None


def _in_pieces(nats: _Nats, raw: Tensor, image: Tensor, log_scale: Tensor | None) -> Tensor:
    """`nats` of raw (..., batch, R, h, w) and image (batch, c, h, w), on a CPU for a few images at a time."""
    assert log_scale is not None
    many = raw.flatten(0, -4)  # (n, R, h, w)
    images = image.expand(*raw.shape[:-3], *image.shape[-3:]).flatten(0, -4)
    scales = log_scale.view(-1, 1, 1).expand(len(many), -1, 1, 1)  # (n, 1 or c, 1, 1)
    count = max(1, PIECE // many[0].numel()) if raw.device.type == "cpu" else len(many)
    result: Tensor = _InPieces.apply(nats, many, images, scales, count)
    return result.view(raw.shape[:-3])


LIKELIHOODS: dict[Name, Callable[[ModelConfig], Likelihood]] = {
    "bernoulli": Bernoulli,
    "continuous-bernoulli": ContinuousBernoulli,
    "gaussian": Gaussian,
    "logistic": Logistic,
    "logistic-mixture": LogisticMixture,
}
