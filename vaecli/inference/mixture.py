"""A learned prior p(z): a mixture of Gaussians with full covariances, in NumPy and float64.

Where a model has none, its prior is N(0, I).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from statistics import NormalDist
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from vaecli import noise
from vaecli.config import TEMPERATURE
from vaecli.errors import VaeError
from vaecli.inference import runtime
from vaecli.inference.geometry import Float64, Latents
from vaecli.inference.graph_file import GraphFile
from vaecli.model_format import FACTORS, LOG_WEIGHTS, MEANS

Real = TypeVar("Real", np.float32, np.float64)
Nearby: TypeAlias = Callable[[NDArray[np.floating]], Float64]  # latents (n, d) -> log p(z) in nats, (n,)

BLOCK = 2**22  # numbers computed with at once
CACHED = 2**17  # the same where each is read several times: they fit into a processor's cache
FEWEST = 32  # rows at once, as each block reads the factors of all components
ROWS = 16  # of a matrix product: BLAS rounds leftover rows, after the last multiple of it, differently
BISECTIONS = 50  # halve the interval until it is as small as float64 can be
FAINTEST = -50  # exp of it is 2e-22: a sum of a thousand such is nothing beside the 1 of the largest
FARTHEST = -25  # log of the share of p(z) above which a component counts as near: 1e-11
ROUNDING = 1e-3  # how far from 1 the sum of all weights may be: float32 rounds by less


class Mixture:
    """p(z) = sum over k of w_k N(z; mean_k, L_k L_kᵀ)."""

    def __init__(
        self,
        log_weights: NDArray[np.floating],
        means: NDArray[np.floating],
        factors: NDArray[np.floating],
        class_sizes: Sequence[int] = (),
    ) -> None:
        """`log_weights` (k,), `means` (k, d), and `factors` (k, d, d): the lower triangular L_k.

        `class_sizes`, where there are any, say how many components each class has, in order.
        """
        self.log_weights = log_weights.astype(np.float64)
        self.means = means.astype(np.float64)
        self.factors = factors.astype(np.float64)
        self.class_sizes = tuple(class_sizes)
        self._of_class: dict[int, Mixture] = {}

    def of_class(self, label: int) -> Mixture:
        """p(z|class): the components of one class, or all of them where components belong to no class."""
        if not self.class_sizes:
            return self
        if label not in self._of_class:
            start = sum(self.class_sizes[:label])
            self._of_class[label] = self._part(np.arange(start, start + self.class_sizes[label]))
        return self._of_class[label]

    def like(self, latents: NDArray[np.floating]) -> Mixture:
        """The same components, with new weights: the mean of p(k|z) over `latents` (n, d)."""
        shares = self.shares(latents).mean(axis=0)
        rows = np.flatnonzero(shares)
        return Mixture(np.log(shares[rows]), self.means[rows], self.factors[rows])

    def _part(self, rows: NDArray[np.int64]) -> Mixture:
        """Some of the components, their weights scaled to a sum of 1."""
        log_weights = self.log_weights[rows]
        return Mixture(log_weights - _log_sum_exp(log_weights), self.means[rows], self.factors[rows])

    @property
    def components(self) -> int:
        """The number k of Gaussians."""
        return len(self.means)

    @cached_property
    def edges(self) -> NDArray[np.float32]:
        """(k,) the cumulative weights: `choice` picks the component whose interval holds it."""
        edges = np.cumsum(np.exp(self.log_weights))
        rounded: NDArray[np.float32] = (edges / edges[-1]).astype(np.float32)
        return rounded

    @cached_property
    def mean(self) -> Float64:
        """(d,) of p(z)."""
        mean: Float64 = np.exp(self.log_weights) @ self.means
        return mean

    @cached_property
    def std(self) -> Float64:
        """(d,) of each dimension of p(z)."""
        second = np.square(self.factors).sum(axis=2) + np.square(self.means)
        std: Float64 = np.sqrt(np.exp(self.log_weights) @ second - np.square(self.mean))
        return std

    def quantiles(self, dimension: int, shares: NDArray[np.floating]) -> Float64:
        """The values below which these shares in (0, 1) of one dimension's marginal lie: (n,) -> (n,).

        The marginal is a mixture of normal distributions. Its quantile lies between theirs, and is found by bisection.
        """
        means, stds = self.means[:, dimension], np.linalg.norm(self.factors[:, dimension], axis=1)
        weights = np.exp(self.log_weights) / np.exp(self.log_weights).sum()
        theirs = means[:, np.newaxis] + stds[:, np.newaxis] * [NormalDist().inv_cdf(float(share)) for share in shares]
        error_function = np.vectorize(math.erf)  # NumPy has none
        low, high = theirs.min(axis=0), theirs.max(axis=0)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            standard = (middle[:, np.newaxis] - means) / stds / math.sqrt(2)
            below = 0.5 * (1 + error_function(standard)) @ weights
            low, high = np.where(below < shares, middle, low), np.where(below < shares, high, middle)
        found: Float64 = (low + high) / 2
        return found

    def likeliest(self, dimensions: tuple[int, ...], values: NDArray[np.floating]) -> Float64:
        """Latents with these values of some dimensions and likely ones of the others: (n, len(dimensions)) -> (n, d).

        At their mean in the component k of the largest p(k | values): mean + Σ_·a Σ_aa⁻¹ (values - mean_a). The mean
        over all components would lie between them, where the prior has little mass. Another component may have a
        slightly higher density.
        """
        chosen = list(dimensions)
        covariances = self.factors @ self.factors.swapaxes(1, 2)
        theirs = covariances[:, chosen][:, :, chosen]
        marginal = Mixture(self.log_weights, self.means[:, chosen], np.linalg.cholesky(theirs))
        slopes = covariances[:, :, chosen] @ np.linalg.inv(theirs)  # (k, d, len(dimensions))
        parts = []
        for block in _blocks(values.astype(np.float64), self._quadratic):
            component = marginal._joint(block).argmax(axis=1)
            apart = block - marginal.means[component]
            parts.append(self.means[component] + (slopes[component] @ apart[:, :, np.newaxis])[:, :, 0])
        latents = np.concatenate(parts)
        latents[:, chosen] = values
        return latents

    @cached_property
    def _precisions(self) -> Float64:
        """Σ_k⁻¹ of each component, (k, d, d)."""
        inverse = np.linalg.inv(self.factors)
        precisions: Float64 = inverse.swapaxes(1, 2) @ inverse
        return precisions

    @cached_property
    def _squares(self) -> Float64:
        """The coefficients of z_i z_j (i <= j, in the order of np.triu_indices) of each component, (k, d (d + 1) / 2).

        They are the same around any centre.
        """
        first, second = np.triu_indices(self.means.shape[1])
        squares: Float64 = -self._precisions[:, first, second] * np.where(first == second, 0.5, 1)
        return squares

    @cached_property
    def _log_heights(self) -> Float64:
        """Log w_k N(mean_k; mean_k, Σ_k) of each component, (k,)."""
        log_volume = np.log(np.einsum("kii->ki", self.factors)).sum(axis=1)
        heights: Float64 = self.log_weights - log_volume - 0.5 * self.means.shape[1] * math.log(2 * math.pi)
        return heights

    @cached_property
    def _quadratic(self) -> Float64:
        """The `polynomials` around the mean, (m, k): for latents anywhere."""
        return self.polynomials(self.mean)

    def polynomials(self, centre: Float64, rows: NDArray[np.int64] | slice = slice(None)) -> Float64:
        """Log w_k N(z; mean_k, Σ_k) of all components, or those in `rows`, as polynomials of z - centre: (m, k).

        The coefficients of z_i z_j (i <= j, in the order of np.triu_indices), of z_i, and the constant. One product
        with the monomials of `_monomials` has half the operations of k products L_k⁻¹ (z - mean_k).
        """
        apart = self.means[rows] - centre
        slope = (self._precisions[rows] @ apart[:, :, np.newaxis])[:, :, 0]
        constant = self._log_heights[rows] - 0.5 * (slope * apart).sum(axis=1)
        return np.concatenate([self._squares[rows], slope, constant[:, np.newaxis]], axis=1).T

    def latents(self, noise: Latents, choice: NDArray[np.float32], temperature: float = TEMPERATURE) -> Latents:
        """Draws of p(z), (n, d) float32, from `noise` (n, d) of N(0, I) and `choice` (n,) uniform in [0, 1).

        `temperature` scales the noise within a component. In float64: rounded to float32, the order in which another
        machine adds does not show.
        """
        chosen = np.minimum(np.searchsorted(self.edges, choice, side="right"), self.components - 1)
        scaled = temperature * noise.astype(np.float64)
        latents = np.empty(noise.shape, np.float32)
        rows = max(1, BLOCK // self.factors[0].size)  # each row takes a factor of its own
        for part in (slice(start, start + rows) for start in range(0, len(noise), rows)):
            within = self.factors[chosen[part]] @ scaled[part, :, np.newaxis]
            latents[part] = self.means[chosen[part]] + within[:, :, 0]
        return latents

    def log_density(self, latents: NDArray[np.floating], labels: NDArray[np.int64] | None = None) -> Float64:
        """The log density in nats: (..., d) -> (...). With `labels` (n,), of latents (n, ..., d): log p(z|class)."""
        if labels is not None and self.class_sizes:
            result = np.empty(latents.shape[:-1])
            for label in np.unique(labels).tolist():
                result[labels == label] = self.of_class(label).log_density(latents[labels == label])
            return result
        flat = latents.reshape(-1, latents.shape[-1]).astype(np.float64)
        blocks = [_log_sum_exp(self._joint(block)) for block in _blocks(flat, self._quadratic)]
        return np.concatenate(blocks).reshape(latents.shape[:-1])

    def near(self, latents: NDArray[np.floating]) -> Nearby:
        """Log p(z) near these latents (n, d), by the components that contribute there.

        At each of these latents the components left out have less than exp(FARTHEST) of p(z) each. At others of the
        same distribution they may have more, so that the density found is a little too low. Where it is lower than at
        all of these latents, all components are evaluated. The polynomials are of z less these latents' mean, which is
        small: float32 then rounds by some 1e-6 nats, and is twice as fast.
        """
        exact = latents.astype(np.float64)
        joint = self._joint(exact)
        known = _log_sum_exp(joint)
        shares, lowest = joint - known[:, np.newaxis], known.min()
        centre = exact.mean(axis=0)
        coefficients = self.polynomials(centre, np.flatnonzero(shares.max(axis=0) > FARTHEST))
        largest = coefficients[-1].max()
        coefficients[-1] -= largest
        rounded = np.ascontiguousarray(coefficients, np.float32)

        def log_density(others: NDArray[np.floating]) -> Float64:
            parts = [_log_sum_exp(_product(block, rounded)) for block in _blocks(others - centre, rounded)]
            found: Float64 = np.concatenate(parts) + largest
            unusual = found < lowest
            if unusual.any():
                found[unusual] = self.log_density(others[unusual])
            return found

        return log_density

    def shares(self, latents: NDArray[np.floating]) -> Float64:
        """p(k|z): (n, d) -> (n, k)."""
        joints = [self._joint(block) for block in _blocks(latents.astype(np.float64), self._quadratic)]
        return np.concatenate([np.exp(joint - _log_sum_exp(joint)[:, np.newaxis]) for joint in joints])

    def mean_shift_step(self, latents: NDArray[np.floating]) -> Float64:
        """Latents that have moved uphill in p(z), to the mean of the components weighed by p(k|z): (n, d) -> (n, d).

        One step of mean shift: Carreira-Perpiñán, Mode-finding for mixtures of Gaussian distributions, 2000, where all
        covariances are taken for equal. Repeated, it ends near a mode.
        """
        return self.shares(latents) @ self.means

    def _joint(self, latents: Float64) -> Float64:
        """The logarithms of w_k N(z; mean_k, Σ_k), (n, k). A row does not depend on the other rows."""
        return _product(latents - self.mean, self._quadratic)


def read_mixture(file: GraphFile) -> Mixture:
    """The mixture in an exported prior that `graph_file.read` has checked.

    Raises:
        VaeError: the graph cannot be opened or fails, its tensors do not fit, or its numbers are no mixture.
    """
    size = file.metadata.latent_dim
    nothing = np.zeros((1, size), np.float32), np.zeros(1, np.float32)
    log_weights, means, factors = runtime.open_prior(file).run((LOG_WEIGHTS, MEANS, FACTORS), *nothing)
    with np.errstate(all="ignore"):
        total = np.exp(log_weights, dtype=np.float64).sum()
    triangular = not np.triu(factors, 1).any() and (np.einsum("kii->ki", factors) > 0).all()
    if not (abs(total - 1) < ROUNDING and np.isfinite(means).all() and np.isfinite(factors).all() and triangular):
        raise VaeError(f"{file.path}: its numbers are not those of a mixture of Gaussians", "export it again")
    summary = file.metadata.prior
    return Mixture(log_weights, means, factors, () if summary is None else summary.class_sizes)


def draw(
    mixture: Mixture | None, seed: int, first: int, count: int, latent_dim: int, temperature: float = TEMPERATURE
) -> Latents:
    """Latents number `first` to `first + count` of a prior for a seed, (count, latent_dim); no mixture: of N(0, I)."""
    normal = noise.prior(seed, first, count, latent_dim)
    if mixture is None:
        return normal * np.float32(temperature)
    return mixture.latents(normal, noise.choices(seed, first, count), temperature)


def moments(mixture: Mixture | None, latent_dim: int) -> tuple[Float64, Float64]:
    """Mean and standard deviation of each dimension of a prior, (d,) each; no mixture: of N(0, I)."""
    if mixture is None:
        return np.zeros(latent_dim), np.ones(latent_dim)
    return mixture.mean, mixture.std


def draw_each(
    priors: Sequence[Mixture | None],
    which: NDArray[np.int64],
    seed: int,
    first: int,
    latent_dim: int,
    temperature: float,
) -> Latents:
    """As `draw`, but each latent from the prior whose number is in `which` (count,): (count, latent_dim)."""
    normal = noise.prior(seed, first, len(which), latent_dim)
    choice = noise.choices(seed, first, len(which))
    latents = normal * np.float32(temperature)
    for number in np.unique(which).tolist():
        mixture, rows = priors[number], which == number
        if mixture is not None:
            latents[rows] = mixture.latents(normal[rows], choice[rows], temperature)
    return latents


def log_normal(latents: NDArray[np.floating]) -> Float64:
    """The log density of N(0, I) in nats: (..., d) -> (...)."""
    size = latents.shape[-1]
    result: Float64 = -0.5 * np.square(latents, dtype=np.float64).sum(axis=-1) - 0.5 * size * math.log(2 * math.pi)
    return result


def _blocks(latents: Float64, coefficients: NDArray[np.floating]) -> list[Float64]:
    """The rows of latents (n, d), as many at once as suit a product of their monomials with coefficients (m, k)."""
    width = sum(coefficients.shape)
    rows = max(CACHED // width, min(FEWEST, BLOCK // width), ROWS) // ROWS * ROWS
    return [latents[start : start + rows] for start in range(0, max(1, len(latents)), rows)]


def _product(values: Float64, coefficients: NDArray[Real]) -> NDArray[Real]:
    """The polynomials of (m, k) coefficients, computed in their type: (n, d) -> (n, k)."""
    count, size = values.shape
    padded = np.zeros((count + -count % ROWS, size), coefficients.dtype)
    padded[:count] = values
    return (_monomials(padded) @ coefficients)[:count]


def _monomials(values: NDArray[Real]) -> NDArray[Real]:
    """All products of two numbers of a row, in the order of np.triu_indices, the numbers, and 1: (n, d) -> (n, m)."""
    columns = np.ascontiguousarray(values.T)
    size = len(columns)
    monomials = np.ones((size * (size + 3) // 2 + 1, len(values)), values.dtype)
    start = 0
    for row in range(size):
        end = start + size - row
        np.multiply(columns[row:], columns[row], out=monomials[start:end])
        start = end
    monomials[start:-1] = columns
    return monomials.T


def exponentials(values: NDArray[Real]) -> NDArray[Real]:
    """Exp of values up to 0, computed in place; of those below FAINTEST it is exp(FAINTEST).

    Beside the 1 of a largest one nothing is seen of that. Real ones could be denormal numbers, with which products are
    twenty times slower.
    """
    return np.exp(np.maximum(values, FAINTEST, out=values), out=values)


def _log_sum_exp(values: NDArray[np.floating]) -> Float64:
    """The logarithm of the sum of exp(v) over the last axis, in float64."""
    largest = values.max(axis=-1)
    apart = values - largest[..., np.newaxis]
    result: Float64 = largest + np.log(exponentials(apart).sum(axis=-1, dtype=np.float64))
    return result
