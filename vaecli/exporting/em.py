"""Expectation maximisation of a mixture of Gaussians with full covariances, in NumPy.

The mixture is fitted not to points but to posteriors q(z|x) = N(mean, std²) of d dimensions: each iteration raises a
lower bound on the mean of E_q log p(z), the prior's term in the ELBO.

All that an iteration needs to know of a posterior is its moments: the expectations of z_i z_j (i <= j), z_i and 1, in
this order. They are the columns of a matrix, and each of the two steps is one product with it, so that a fit takes a
second where EM on draws takes four. Blocks of the rows are spread over threads. For latents of many dimensions that
matrix is too large; there each step goes from component to component, and these are spread over threads. The sums of
the moments over the pictures of each component say what its Gaussian is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaecli import processors
from vaecli.exporting.posteriors import Posteriors
from vaecli.inference.geometry import Float64
from vaecli.inference.mixture import Mixture, exponentials
from vaecli.parallel import products_on_one_thread

MAX_PACKED_DIMENSIONS = 256  # up to which the moments of all posteriors are put into one matrix
# N(0, I) counts in the common covariance as this many pictures for each dimension: few pictures of many dimensions have
# a covariance that does not generalise.
NORMAL_PICTURES_PER_DIMENSION = 0.25
BLOCK = 2048  # rows of moments that a thread computes with at once
MAX_ITERATIONS = 40
MIN_BOUND_GAIN = 5e-5  # nats a dimension: an iteration that gains less is the last one

# A variance is computed as E[z²] - E[z]², whose relative error is that of a rounding times (spread / std)². So float32
# does for posteriors whose means are spread over less than so many of their standard deviations, and float64 for
# MAX_SPREAD. Wider spreads are those of deterministic autoencoders: there the standard deviations are raised.
MAX_SPREAD_FLOAT32 = 100.0
MAX_SPREAD = 1e4

Floats: TypeAlias = NDArray[np.floating[Any]]  # float32 or float64
# The matrix of moments (n, columns). With more dimensions than MAX_PACKED_DIMENSIONS the posteriors themselves.
Moments: TypeAlias = Floats | Posteriors
Map: TypeAlias = Callable[..., Iterable[Any]]  # `map`, or that of a pool of threads


@dataclass(frozen=True)
class ClassMask:
    """Which pictures a component may have where each component belongs to a class: those of its class."""

    class_sizes: tuple[int, ...]  # how many components each class has; the components are in the order of the classes
    excluded: NDArray[np.bool_]  # (n, k) where the picture is of another class than the component

    @classmethod
    def of(cls, pictures: Posteriors, class_sizes: Sequence[int]) -> ClassMask | None:
        """The mask for n pictures; None where there are no `class_sizes`, as components belong to no class."""
        if not class_sizes or pictures.classes is None:
            return None
        class_of_component = np.repeat(np.arange(len(class_sizes)), class_sizes)
        return cls(tuple(class_sizes), class_of_component != pictures.classes.labels[:, np.newaxis])


def column_count(dimensions: int) -> int:
    """How many moments a posterior of d dimensions has: d (d + 1) / 2 products, d means, and 1."""
    return dimensions * (dimensions + 3) // 2 + 1


def moments_of(pictures: Posteriors) -> Moments:
    """The moments of each posterior: (n, columns), or the posteriors where that would be too large.

    In float32 where that is exact enough: its products take half the time.
    """
    mean, std = pictures.mean, pictures.std
    spread = mean.std(axis=0)
    std = np.maximum(std, spread / MAX_SPREAD)
    wide = (spread > MAX_SPREAD_FLOAT32 * np.sqrt(np.square(std).mean(axis=0))).any()
    dtype = np.float64 if wide else np.float32
    if mean.shape[1] > MAX_PACKED_DIMENSIONS:
        return replace(pictures, mean=mean.astype(dtype), std=std.astype(dtype))
    first, second = np.triu_indices(mean.shape[1])
    products = mean[:, first] * mean[:, second]
    products[:, first == second] += np.square(std)
    return np.concatenate([products, mean, np.ones((len(mean), 1))], axis=1, dtype=dtype)


def start(moments: Moments, components: int, dimensions: int, generator: np.random.Generator) -> Float64:
    """Where EM starts: the sums of moments (k, columns) over the pictures nearest to each of k drawn at random."""
    if not len(moments):
        return np.zeros((components, column_count(dimensions)))
    means = moments.mean if isinstance(moments, Posteriors) else moments[:, -dimensions - 1 : -1]
    centres = means[np.sort(generator.permutation(len(means))[:components])]
    nearest = (np.square(centres).sum(axis=1) - 2 * means @ centres.T).argmin(axis=1)
    return weighted_sums(np.eye(components, dtype=means.dtype)[nearest], moments)


def start_in_groups(
    moments: Moments,
    groups: Sequence[NDArray[np.int64]],
    components: Sequence[int],
    dimensions: int,
    generator: np.random.Generator,
) -> Float64:
    """As `start`, with so many `components` in each of the `groups` of rows: (k, columns) for all k of them."""
    return np.concatenate(
        [start(moments[rows], count, dimensions, generator) for rows, count in zip(groups, components, strict=True)]
    )


def converged(moments: Moments, sums: Float64, dimensions: int, shrinkage: float, mask: ClassMask | None) -> Float64:
    """The sums of moments (k, columns) of each component after EM, which starts from `sums` of the same shape.

    `shrinkage` is that of `mixture_of`, in pictures.
    """
    last = -np.inf
    with products_on_one_thread, ThreadPoolExecutor(processors.usable()) as pool:
        for _ in range(MAX_ITERATIONS):
            sums, bound = iteration(moments, mixture_of(sums, dimensions, shrinkage, mask), mask, pool.map)
            if bound - last < MIN_BOUND_GAIN * dimensions:
                break
            last = bound
    return sums


def iteration(
    moments: Moments, mixture: Mixture, mask: ClassMask | None = None, each: Map = map
) -> tuple[Float64, float]:
    """The E-step for a mixture of k components, and the sums of moments (k, columns) that the M-step needs.

    Also the bound on the mean of E_q log p(z) in nats, of this mixture.
    """
    if isinstance(moments, Posteriors):
        logs = _expected_logs(moments, mixture, each)
        shares, bound = _responsibilities(logs, None if mask is None else mask.excluded)
        return weighted_sums(shares, moments, each), bound / len(moments)
    coefficients = mixture.polynomials(np.zeros(mixture.means.shape[1])).astype(moments.dtype)

    def of_block(rows: slice) -> tuple[Floats, float]:
        logs = moments[rows] @ coefficients
        shares, bound = _responsibilities(logs, None if mask is None else mask.excluded[rows])
        return shares.T @ moments[rows], bound

    blocks = (slice(start, start + BLOCK) for start in range(0, len(moments), BLOCK))
    sums, bound = np.zeros((mixture.components, moments.shape[1])), 0.0
    for part, bound_of_part in each(of_block, blocks):
        sums += part
        bound += bound_of_part
    return sums, bound / len(moments)


def _responsibilities(logs: Floats, excluded: NDArray[np.bool_] | None) -> tuple[Floats, float]:
    """Each component's share of each picture, and the sum over the pictures of E_q log p(z), in nats.

    `logs` (n, k) of `_expected_logs` become the shares. A component has none of a picture where it is `excluded`.
    """
    if excluded is not None:
        logs[excluded] = -np.inf
    largest = logs.max(axis=1, keepdims=True)
    logs -= largest
    shares = exponentials(logs)
    if excluded is not None:
        shares[excluded] = 0
    total = shares.sum(axis=1, keepdims=True)
    shares /= total
    return shares, float((largest + np.log(total)).sum(dtype=np.float64))


def weighted_sums(shares: Floats, moments: Moments, each: Map = map) -> Float64:
    """The sums of the n pictures' moments, weighted with each component's shares (n, k): (k, columns)."""
    if not isinstance(moments, Posteriors):
        return (shares.T @ moments).astype(np.float64)
    mean, variance = moments.mean, np.square(moments.std)
    first, second = np.triu_indices(mean.shape[1])

    def of_component(share: Floats) -> Floats:
        products = (mean * share[:, np.newaxis]).T @ mean
        products[np.diag_indices_from(products)] += share @ variance
        return np.concatenate([products[first, second], share @ mean, [share.sum()]])

    return np.stack(list(each(of_component, shares.T))).astype(np.float64)


def mixture_of(sums: Float64, dimensions: int, shrinkage: float, mask: ClassMask | None = None) -> Mixture:
    """The M-step: the mixture of the highest likelihood given the sums of moments (k, columns), its covariances shrunk.

    Each covariance is shrunk towards the common one, which counts as `shrinkage` pictures. The components belong to the
    classes of `mask`, where there is one.
    """
    count = sums[:, -1]
    divisor = np.maximum(count, np.finfo(float).tiny)  # a component may have lost all pictures
    means = sums[:, -dimensions - 1 : -1] / divisor[:, np.newaxis]
    first, second = np.triu_indices(dimensions)
    scatter = np.empty((len(sums), dimensions, dimensions))
    scatter[:, first, second] = scatter[:, second, first] = sums[:, : len(first)]
    scatter -= count[:, np.newaxis, np.newaxis] * means[:, :, np.newaxis] * means[:, np.newaxis, :]
    normal = NORMAL_PICTURES_PER_DIMENSION * dimensions
    common = (scatter.sum(axis=0) + normal * np.eye(dimensions)) / (count.sum() + normal)
    covariances = (scatter + shrinkage * common) / (count + shrinkage)[:, np.newaxis, np.newaxis]
    log_weights = np.log((count + 1) / (count + 1).sum())
    return Mixture(log_weights, means, np.linalg.cholesky(covariances), mask.class_sizes if mask else ())


def _expected_logs(pictures: Posteriors, mixture: Mixture, each: Map) -> Floats:
    """E_q of log (weight · density) of each component in nats, (n, k)."""
    parts = zip(mixture.log_weights, mixture.means, mixture.factors, strict=True)
    return np.stack(list(each(lambda part: _expected_log(pictures, *part), parts)), axis=1)


def _expected_log(pictures: Posteriors, log_weight: Float64, mean: Float64, factor: Float64) -> Floats:
    """E_q of log (weight · density) of one component in nats, (n,): its mean is (d,), its Cholesky factor (d, d)."""
    dtype = pictures.mean.dtype
    inverse = np.linalg.inv(factor).astype(dtype)
    apart = np.square((pictures.mean - mean).astype(dtype) @ inverse.T).sum(axis=1)
    apart += np.square(pictures.std) @ np.square(inverse).sum(axis=0)
    constant = log_weight - np.log(factor.diagonal()).sum() - 0.5 * len(mean) * np.log(2 * np.pi)
    log: Floats = (constant - 0.5 * apart).astype(dtype)
    return log
