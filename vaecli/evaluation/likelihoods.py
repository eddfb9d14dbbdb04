"""-log p(x|z) in NumPy, from the parameters that an exported decoder computes.

The decoder computes in float32; the formulas here and their sums are float64, except for the Bernoulli's (see
`bernoulli_of_pictures`). training/likelihoods.py has the same formulas for PyTorch, and a test compares the two.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaecli.inference.geometry import Float64
from vaecli.model_format import MAX_PIXEL, Likelihood

FACTORS, FLOAT32_FACTORS = 512, 16  # of a product of numbers up to 2: float64 holds 1023; float32 holds 127
BLOCK = 2**16  # numbers of a decoder's output that a formula works on at once

Formula: TypeAlias = Callable[..., Float64]  # (image, *parameters) -> nats of each pixel and channel, or each pixel


def reconstruction(likelihood: Likelihood, parameters: Sequence[NDArray[Any]], image: Float64) -> Float64:
    """-log p(x|z) in nats per image: (..., c, h, w) each -> (...).

    `parameters` are the decoder's outputs in the order of `model_format.LIKELIHOODS`, `image` is x in [0, 1];
    their leading dimensions are broadcast.
    """
    if likelihood == "bernoulli":  # what most models have
        return _in_blocks(bernoulli_of_pictures, image, parameters, exact=False)
    return _summed(FORMULAS[likelihood], image, parameters)


def floor(likelihood: Likelihood, parameters: Sequence[NDArray[Any]], image: Float64) -> Float64:
    """The least `reconstruction` that any decoded mean could reach with the same scale, in nats per image.

    Under a Bernoulli it is the entropy of a grey value, and 0 for black and white. The loss above the floor is due to
    the model, the floor itself to the picture. Shapes as in `reconstruction`.
    """
    return _summed(FLOORS[likelihood], image, parameters)


def excess(likelihood: Likelihood, parameters: Sequence[NDArray[Any]], image: Float64) -> Float64:
    """-log p(x|z) above the floor in nats of each pixel, summed over channels: (..., c, h, w) each -> (..., h, w)."""
    exact = [parameter.astype(np.float64) for parameter in parameters]
    pixels: Float64 = (FORMULAS[likelihood](image, *exact) - FLOORS[likelihood](image, *exact)).sum(axis=-3)
    return pixels


def bernoulli(image: Float64, logits: Float64) -> Float64:
    """softplus(l) - x·l, which is -[x log y + (1-x) log(1-y)] with y = sigmoid(l), finite for every l.

    Kingma and Welling, Auto-encoding variational Bayes, 2013, appendix C.1. For a grey x it is a cross-entropy,
    not the logarithm of a probability.
    """
    return _softplus(logits) - image * logits


def bernoulli_of_pictures(image: Float64, logits: NDArray[np.floating]) -> Float64:
    """`bernoulli`, summed: (..., c, h, w) -> (...), in the precision of the logits and their rounding.

    The sum of log(1 + exp(-|l|)) is the logarithm of products. The rest, max(l, 0) - x·l, is ½ (|l| + (1 - 2x) l). No
    term of either sum is below 0, so that nothing cancels: float32 logits give an error below 1e-6 of the sum, or
    1e-7 nats a pixel where the sum is small.
    """
    flat = logits.reshape(*logits.shape[:-3], -1)
    size = np.abs(flat)
    linear = (1 - 2 * image).astype(flat.dtype).reshape(*image.shape[:-3], -1) * flat
    linear += size
    nats: Float64 = np.vecdot(linear, np.full(flat.shape[-1], 0.5, flat.dtype)).astype(np.float64)
    factors = np.exp(np.negative(size, out=size), out=size)
    factors += 1  # from 1 to 2
    together = 1
    while factors.shape[-1] % 2 == 0 and together < FACTORS:
        if together == FLOAT32_FACTORS:
            factors = factors.astype(np.float64)
        half = factors.shape[-1] // 2
        factors, together = factors[..., :half] * factors[..., half:], 2 * together
    nats += np.log(factors).sum(axis=-1, dtype=np.float64)
    return nats


def continuous_bernoulli(image: Float64, logits: Float64) -> Float64:
    """-log [exp(x·l) l / (exp(l) - 1)], a density over x in [0, 1].

    That is the Bernoulli's formula less the logarithm of its normaliser C = 2 atanh(1-2y) / (1-2y) (Loaiza-Ganem and
    Cunningham, The continuous Bernoulli, 2019, equation 8), which in logits is l / tanh(l/2). Computed as
    max(l, 0) - x·l + log((1 - exp(-|l|)) / |l|); at l = 0 the last term is 0.
    """
    size = np.abs(logits)
    share = np.divide(-np.expm1(-size), size, out=np.ones_like(size), where=size > 0)
    return np.maximum(logits, 0) - image * logits + np.log(share)


def gaussian(image: Float64, location: Float64, log_scale: Float64) -> Float64:
    """½ ((x - m) / s)² + log s + ½ log 2π: a density, so nats may be negative."""
    return 0.5 * ((image - location) * np.exp(-log_scale)) ** 2 + log_scale + 0.5 * math.log(2 * math.pi)


def logistic(image: Float64, location: Float64, log_scale: Float64) -> Float64:
    """-log [F(x + ½ bin) - F(x - ½ bin)] with F the logistic distribution: a probability of each 8-bit value.

    The lowest bin reaches down to -∞ and the highest up to ∞ (Kingma et al., Improving variational inference
    with inverse autoregressive flow, 2016; Salimans et al., PixelCNN++, 2017).
    """
    exponent, factor = _bins(image, location, log_scale)
    return -(exponent + np.log(factor))


def logistic_mixture(image: Float64, mixture: Float64) -> Float64:
    """-log Σ_k w_k Π_channels P_k: for each pixel the probability of its colour. (..., 1, h, w).

    P_k is the logistic's probability of an 8-bit value. In it the location of a channel is the component's own plus
    coefficient · (value - ½) of each channel before (Salimans et al., PixelCNN++, 2017). `mixture`
    (..., K, rows, h, w) is described at model_format.MIXTURE.
    """
    channels = image.shape[-3]
    x = image[..., np.newaxis, :, :, :]  # (..., 1, c, h, w)
    rows = np.split(mixture, np.cumsum([1, channels, channels]), axis=-3)
    log_weight, location, log_scale, coefficients = rows[0][..., 0, :, :], *rows[1:]
    exponents, factors, first = log_weight, np.ones_like(log_weight), 0
    for channel in range(channels):
        depends = coefficients[..., first : first + channel, :, :] * (x[..., :channel, :, :] - 0.5)
        at = location[..., channel, :, :] + depends.sum(axis=-3)
        exponent, factor = _bins(x[..., channel, :, :], at, log_scale[..., channel, :, :])
        exponents, factors = exponents + exponent, factors * factor
        first += channel
    return _negative_log_sum(exponents, factors)


def entropy(image: Float64, logits: Float64) -> Float64:
    """The least of `bernoulli` over all logits: -[x log x + (1-x) log(1-x)]."""
    del logits
    inside = np.clip(image, np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).eps)
    return -(inside * np.log(inside) + (1 - inside) * np.log1p(-inside))


def continuous_bernoulli_floor(image: Float64, logits: Float64) -> Float64:
    """The least of `continuous_bernoulli` over |l| up to 2 · MAX_PIXEL, or its value where a larger |l| has less.

    At black and white the density has no least. At 2 · MAX_PIXEL the mean is half an 8-bit step from them: what is
    beyond is no excess. The least is found for each 8-bit value on a grid of logits.
    """
    least = _least_of_each_level()[np.rint(image * MAX_PIXEL).astype(np.int64)]
    found: Float64 = np.minimum(least, continuous_bernoulli(image, logits))
    return found


@functools.cache
def _least_of_each_level() -> Float64:
    """The least of `continuous_bernoulli` for each 8-bit value: (256,)."""
    levels, grid = np.arange(MAX_PIXEL + 1)[:, np.newaxis] / MAX_PIXEL, np.sinh(np.linspace(-7, 7, 2001))
    least: Float64 = continuous_bernoulli(levels, 2 * MAX_PIXEL * grid / grid.max()).min(axis=1)
    return least


def gaussian_floor(image: Float64, location: Float64, log_scale: Float64) -> Float64:
    """The least of `gaussian` over all locations: where the location is the picture."""
    del location
    return gaussian(image, image, log_scale)


def logistic_floor(image: Float64, location: Float64, log_scale: Float64) -> Float64:
    """The least of `logistic` over all locations: where the location is the picture, or beyond black and white."""
    del location
    inside = logistic(np.full_like(image, 0.5), np.full_like(image, 0.5), log_scale)
    return np.where(np.abs(image - 0.5) > 0.5 - 0.5 / MAX_PIXEL, 0.0, inside)


def logistic_mixture_floor(image: Float64, mixture: Float64) -> Float64:
    """The least of `logistic_mixture` over all locations: where those of every component are the picture."""
    channels = image.shape[-3]
    log_weight, log_scale = mixture[..., 0, :, :], mixture[..., 1 + channels : 1 + 2 * channels, :, :]
    x = np.broadcast_to(image[..., np.newaxis, :, :, :], log_scale.shape)  # (..., K, c, h, w)
    return _negative_log_sum(log_weight - logistic_floor(x, x, log_scale).sum(axis=-3))


FORMULAS: dict[Likelihood, Formula] = {
    "bernoulli": bernoulli,
    "continuous-bernoulli": continuous_bernoulli,
    "gaussian": gaussian,
    "logistic": logistic,
    "logistic-mixture": logistic_mixture,
}
FLOORS: dict[Likelihood, Formula] = {
    "bernoulli": entropy,
    "continuous-bernoulli": continuous_bernoulli_floor,
    "gaussian": gaussian_floor,
    "logistic": logistic_floor,
    "logistic-mixture": logistic_mixture_floor,
}


def _summed(formula: Formula, image: Float64, parameters: Sequence[NDArray[Any]]) -> Float64:
    """`formula` summed over the pixels of each image."""
    return _in_blocks(lambda *values: formula(*values).sum(axis=(-3, -2, -1)), image, parameters)


def _in_blocks(formula: Formula, image: Float64, parameters: Sequence[NDArray[Any]], *, exact: bool = True) -> Float64:
    """`formula` of whole images, for as many of them at once as fit into the processor's cache.

    `exact` gives it the parameters in float64.
    """
    rank = image.ndim - 3
    arrays = (image, *parameters)
    leading = np.broadcast_shapes(*(array.shape[:rank] for array in arrays))
    images = BLOCK // max(math.prod(array.shape[rank:]) for array in arrays)
    nats: Float64 = np.empty(leading)
    for block in _blocks(leading, images):
        nats[block] = formula(*(np.asarray(_part(array, block), np.float64 if exact else None) for array in arrays))
    return nats


def _part(array: NDArray[Any], block: tuple[slice, ...]) -> NDArray[Any]:
    """`array[block]`, where a dimension of size 1 stands for any size."""
    sizes = array.shape[: len(block)]
    return array[tuple(slice(None) if size == 1 else part for part, size in zip(block, sizes, strict=True))]


def _blocks(shape: Sequence[int], count: int) -> Iterator[tuple[slice, ...]]:
    """Slices that cut an array of this shape into blocks of at most `count` elements, and at least one."""
    ranges: list[list[slice]] = []
    for length in reversed(shape):
        size = min(max(count, 1), max(length, 1))
        ranges.insert(0, [slice(start, start + size) for start in range(0, length, size)])
        count //= size
    return itertools.product(*ranges)


def _bins(image: Float64, location: Float64, log_scale: Float64) -> tuple[Float64, Float64]:
    """The probability exp(exponent) · factor of each 8-bit value, the exponent at most 0 and the factor in (0, 1].

    With u and v the distances of the location from the bin's upper and lower end in scales, it is
    σ(u) σ(v) (1 - exp(-u - v)), which does not cancel; σ(u) = exp(min(u, 0)) σ(|u|), which does not underflow. Several
    factors can be multiplied and need one logarithm.
    """
    inverse = np.exp(-log_scale)
    half = inverse * (0.5 / MAX_PIXEL)
    distance = (image - location) * inverse
    upper = np.where(image > 1 - 0.5 / MAX_PIXEL, np.inf, half + distance)
    lower = np.where(image < 0.5 / MAX_PIXEL, np.inf, half - distance)
    width = upper + lower
    exponent = np.minimum(np.minimum(upper, lower), 0)  # at most one of them is negative
    factor = (1 - np.exp(-width)) / ((1 + np.exp(-np.abs(upper))) * (1 + np.exp(-np.abs(lower))))
    return exponent, factor


def _negative_log_sum(logarithms: Float64, factors: Float64 | float = 1.0) -> Float64:
    """-log of the sum of factor · exp(logarithm) over components: (..., K, h, w) -> (..., 1, h, w)."""
    largest = logarithms.max(axis=-3, keepdims=True)
    nats: Float64 = -largest - np.log((factors * np.exp(logarithms - largest)).sum(axis=-3, keepdims=True))
    return nats


def _softplus(value: Float64) -> Float64:
    """log(1 + exp(v)) without overflow."""
    result: Float64 = np.maximum(value, 0) + np.log1p(np.exp(-np.abs(value)))
    return result
