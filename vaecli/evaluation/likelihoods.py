"""-log p(x|z) in NumPy, from the parameters that an exported decoder computes.

The decoder computes in float32; the formulas here and their sums are float64, except for one exponential (see
`bernoulli_of_pictures`). training/likelihoods.py has the same formulas for PyTorch, and a test compares the two.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaecli.model_format import LEVELS, SERIES_BELOW, Likelihood

Float64: TypeAlias = NDArray[np.float64]
FACTORS = 1000  # of a product of numbers up to 2, in float64
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
    """`bernoulli`, summed: (..., c, h, w) -> (...). The sum of log(1 + exp(-|l|)) is the logarithm of products.

    exp(-|l|) has the precision of the logits. In float32 each pixel's rounding is below 1e-7 nats, as small as that of
    the logits themselves, and NumPy computes it four times as fast. The sums are float64: ½|l| + (½ - x) l is
    max(l, 0) - x·l.
    """
    flat = logits.reshape(*logits.shape[:-3], -1)
    size = np.abs(flat)
    factors = np.add(np.exp(-size), 1, dtype=np.float64)  # from 1 to 2
    products = np.multiply.reduceat(factors, range(0, flat.shape[-1], FACTORS), axis=-1)
    towards = 0.5 - image.reshape(*image.shape[:-3], -1)
    linear = 0.5 * size.sum(axis=-1, dtype=np.float64) + np.einsum("...i,...i->...", towards, flat.astype(np.float64))
    nats: Float64 = np.log(products).sum(axis=-1) + linear
    return nats


def continuous_bernoulli(image: Float64, logits: Float64) -> Float64:
    """The Bernoulli's formula made a density over x in [0, 1] by its normaliser.

    Loaiza-Ganem and Cunningham, The continuous Bernoulli, 2019, equation 8: C = 2 atanh(1-2y) / (1-2y), which in
    logits is l / tanh(l/2). Near 0 its logarithm is log 2 + l²/12 - 7 l⁴/1440.
    """
    near = np.abs(logits) < SERIES_BELOW
    safe = np.where(near, 1.0, logits)
    series = math.log(2) + logits**2 / 12 - 7 * logits**4 / 1440
    log_normaliser = np.where(near, series, np.log(safe / np.tanh(safe / 2)))
    return bernoulli(image, logits) - log_normaliser


def gaussian(image: Float64, location: Float64, log_scale: Float64) -> Float64:
    """½ ((x - m) / s)² + log s + ½ log 2π: a density, so nats may be negative."""
    return 0.5 * ((image - location) * np.exp(-log_scale)) ** 2 + log_scale + 0.5 * math.log(2 * math.pi)


def logistic(image: Float64, location: Float64, log_scale: Float64) -> Float64:
    """-log [F(x + ½ bin) - F(x - ½ bin)] with F the logistic distribution: a probability of each 8-bit value.

    The lowest bin reaches down to -∞ and the highest up to ∞ (Kingma et al., Improving variational inference
    with inverse autoregressive flow, 2016; Salimans et al., PixelCNN++, 2017). The logarithm of the difference
    is -softplus(-u) - softplus(l) + log(1 - exp(l - u)) at the bin's edges u and l, which does not cancel.
    """
    inverse = np.exp(-log_scale)
    centre, half = (image - location) * inverse, 0.5 / LEVELS * inverse
    below_upper, above_lower = _softplus(-centre - half), _softplus(centre - half)
    inside = below_upper + above_lower - np.log(-np.expm1(-2 * half))
    darkest, brightest = image < 0.5 / LEVELS, image > 1 - 0.5 / LEVELS
    return np.where(darkest, below_upper, np.where(brightest, above_lower, inside))


def logistic_mixture(image: Float64, mixture: Float64) -> Float64:
    """-log Σ_k w_k Π_channels P_k: for each pixel the probability of its colour. (..., 1, h, w).

    P_k is the logistic's probability of an 8-bit value. In it the location of a channel is the component's own plus
    coefficient · (value - ½) of each channel before (Salimans et al., PixelCNN++, 2017). `mixture`
    (..., K, rows, h, w) is described at model_format.MIXTURE.
    """
    channels = image.shape[-3]
    x = image[..., np.newaxis, :, :, :]  # (..., 1, c, h, w)
    rows = np.split(mixture, np.cumsum([1, channels, channels]), axis=-3)
    log_probability, location, log_scale, coefficients = rows[0][..., 0, :, :], *rows[1:]
    first = 0
    for channel in range(channels):
        depends = coefficients[..., first : first + channel, :, :] * (x[..., :channel, :, :] - 0.5)
        at = location[..., channel, :, :] + depends.sum(axis=-3)
        log_probability = log_probability - logistic(x[..., channel, :, :], at, log_scale[..., channel, :, :])
        first += channel
    return _negative_log_sum(log_probability)


def entropy(image: Float64, logits: Float64) -> Float64:
    """The least of `bernoulli` over all logits: -[x log x + (1-x) log(1-x)]."""
    del logits
    inside = np.clip(image, np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).eps)
    return -(inside * np.log(inside) + (1 - inside) * np.log1p(-inside))


def continuous_bernoulli_floor(image: Float64, logits: Float64) -> Float64:
    """The least of `continuous_bernoulli` over |l| up to 2 · LEVELS, or its value where a larger |l| has less.

    At black and white the density has no least. At 2 · LEVELS the mean is half an 8-bit step from them: what is beyond
    is no excess. The least is found for each 8-bit value on a grid of logits.
    """
    levels, grid = np.arange(LEVELS + 1)[:, np.newaxis] / LEVELS, np.sinh(np.linspace(-7, 7, 2001))
    grid = 2 * LEVELS * grid / grid.max()
    least = continuous_bernoulli(levels, grid).min(axis=1)  # (256,)
    found: Float64 = np.minimum(least[np.rint(image * LEVELS).astype(np.int64)], continuous_bernoulli(image, logits))
    return found


def gaussian_floor(image: Float64, location: Float64, log_scale: Float64) -> Float64:
    """The least of `gaussian` over all locations: where the location is the picture."""
    del location
    return gaussian(image, image, log_scale)


def logistic_floor(image: Float64, location: Float64, log_scale: Float64) -> Float64:
    """The least of `logistic` over all locations: where the location is the picture, or beyond black and white."""
    del location
    inside = logistic(np.full_like(image, 0.5), np.full_like(image, 0.5), log_scale)
    return np.where(np.abs(image - 0.5) > 0.5 - 0.5 / LEVELS, 0.0, inside)


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
    leading = np.broadcast_shapes(*(array.shape[:rank] for array in (image, *parameters)))
    arrays = [np.broadcast_to(array, leading + array.shape[rank:]) for array in (image, *parameters)]
    images = BLOCK // max(math.prod(array.shape[rank:]) for array in arrays)
    nats: Float64 = np.empty(leading)
    for block in _blocks(leading, images):
        nats[block] = formula(*(np.asarray(array[block], np.float64 if exact else None) for array in arrays))
    return nats


def _blocks(shape: Sequence[int], count: int) -> Iterator[tuple[slice, ...]]:
    """Slices that cut an array of this shape into blocks of at most `count` elements, and at least one."""
    ranges: list[list[slice]] = []
    for length in reversed(shape):
        size = min(max(count, 1), max(length, 1))
        ranges.insert(0, [slice(start, start + size) for start in range(0, length, size)])
        count //= size
    return itertools.product(*ranges)


def _negative_log_sum(logarithms: Float64) -> Float64:
    """-log of the sum of exp(v) over components: (..., K, h, w) -> (..., 1, h, w)."""
    largest = logarithms.max(axis=-3, keepdims=True)
    nats: Float64 = -largest - np.log(np.exp(logarithms - largest).sum(axis=-3, keepdims=True))
    return nats


def _softplus(value: Float64) -> Float64:
    """log(1 + exp(v)) without overflow."""
    result: Float64 = np.maximum(value, 0) + np.log1p(np.exp(-np.abs(value)))
    return result
