"""Bounds on -log p(x) of single pictures: the ELBO and the importance-weighted bound, in nats per image.

A picture's random numbers depend on the seed and its pixels alone, so its bounds are the same in any batch, on any
number of threads and in any order of pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vaecli import model_format, noise
from vaecli.config import Binarize, PriorChoice
from vaecli.errors import UsageError, VaeError, check_choice
from vaecli.evaluation import likelihoods
from vaecli.inference.geometry import Float64
from vaecli.inference.mixture import Mixture, log_normal, moments
from vaecli.inference.pair import Pair
from vaecli.model_format import LIKELIHOODS, MAX_PIXEL
from vaecli.parallel import Sliceable, ordered_map, products_on_one_thread
from vaecli.pictures.arrays import binarized

PRUNE_FROM_SAMPLES = 128  # from this many latents a picture, only the nearby components of a mixture are evaluated
MANY_SAMPLES, MOST_LATENTS, DECODED_NUMBERS = 64, 1024, 2**20  # see `latents_at_once`
PILOT_SAMPLES = 32  # latents that decide which components are nearby


@dataclass(frozen=True)
class PictureBounds:
    """A batch of pictures under a model, in their order. Float64, in nats."""

    mean: Float64  # (b, d) of q(z|x)
    kl_per_dimension: Float64  # (b, d) of q(z|x) from N(0, I), or from the Gaussian with the moments of a VampPrior
    kl: Float64  # (b,) of q(z|x) from the prior: their sum, or where the prior is a mixture an estimate
    reconstruction: Float64  # (b,) the mean of -log p(x|z) over the latents drawn
    bound: Float64  # (b,) -log of the mean of the weights p(x, z) / q(z|x) over the latents drawn
    effective_samples: Float64  # (b,) how many of these latents the bound rests on, from 1 to all of them
    floor: Float64  # (b,) the least reconstruction that any decoded picture could reach, see `likelihoods.floor`
    grey: bool  # whether a pixel is neither 0 nor 1

    def __len__(self) -> int:
        return len(self.bound)

    @property
    def negative_elbo(self) -> Float64:
        """(b,) reconstruction + KL."""
        nats: Float64 = self.reconstruction + self.kl
        return nats

    @property
    def excess(self) -> Float64:
        """(b,) the negative ELBO above the floor."""
        nats: Float64 = self.negative_elbo - self.floor
        return nats


def kl_divergence(mean: Float64, std: Float64, prior: tuple[Float64, Float64]) -> Float64:
    """KL of q(z|x) from a Gaussian `prior`, its mean and std (d,), of each dimension in nats: (b, d) twice -> (b, d).

    For N(0, 1) it is ½ (μ² + σ² - log σ² - 1): Kingma and Welling, Auto-encoding variational Bayes, 2013, appendix B.
    Training has 1e-8 inside the logarithm, as the tutorial; a bound on log p(x) may not.
    """
    mean, std = (mean - prior[0]) / prior[1], std / prior[1]
    return 0.5 * (mean**2 + std**2 - 1) - np.log(std)


def check_binarize(pair: Pair, binarize: Binarize) -> None:
    """Raise UsageError for another value, or where the likelihood is of grey values and pixels would be 0 or 1."""
    check_choice("binarize", binarize, Binarize)
    likelihood = pair.metadata.likelihood
    if binarize != "none" and LIKELIHOODS[likelihood].for_grey_values:
        raise UsageError(
            f"`binarize` {binarize}: makes pixels 0 or 1, and this model's likelihood is {likelihood}",
            "leave it out",
        )


def latents_at_once(pair: Pair, samples: int, batch_size: int | None = None) -> int:
    """How many latents `measure` decodes at once: `batch_size`, else what suits so many `samples` of a picture.

    With few samples a batch holds many pictures, and there must be several batches to keep all processors busy. With
    many samples larger batches are faster, as long as what is decoded of them is small: Python takes less of the time.
    """
    if batch_size is not None:
        return batch_size
    if samples < MANY_SAMPLES:
        return pair.batch_size
    facts = pair.metadata
    shapes = model_format.parameter_shapes(facts.likelihood, facts.image_shape, facts.components)
    decoded = sum(math.prod(shape) for shape in shapes.values())
    return max(pair.batch_size, min(MOST_LATENTS, DECODED_NUMBERS // decoded))


def pictures_at_once(pair: Pair, samples: int, batch_size: int | None = None) -> int:
    """How many pictures `measure` has in a batch."""
    return max(1, latents_at_once(pair, samples, batch_size) // samples)


def measure(
    pair: Pair,
    pictures: Sliceable[NDArray[np.uint8]],
    *,
    samples: int,
    seed: int,
    binarize: Binarize = "none",
    prior: PriorChoice = "normal",
    labels: NDArray[np.int64] | None = None,
    batch_size: int | None = None,
) -> Iterator[PictureBounds]:
    """The bounds of uint8 pictures (n, h, w, c), batch by batch, in order, with `samples` latents for each picture.

    The importance-weighted bound is that of Burda, Grosse and Salakhutdinov (Importance weighted autoencoders, 2016,
    equation 8). With more `samples`, the first latents stay the same. `binarize` makes pixels 0 or 1 as in training:
    by a threshold of 0.5, or at random with the grey value as probability. At most `batch_size` latents are decoded at
    once.

    `prior` is N(0, I), as in the losses of training, or the model's own. The KL from a mixture has no closed form. It
    is computed as the KL from a Gaussian N, minus the mean of log p(z) - log N(z) over the latents drawn. N is N(0,
    I), or has the moments of a VampPrior. `labels` (n,) are the pictures' classes, of a conditional model: then the
    bounds are on -log p(x|y).

    Raises:
        VaeError: a graph fails, or a likelihood is not finite.
        UsageError: `binarize` does not suit the model.
    """
    check_binarize(pair, binarize)
    size = pictures_at_once(pair, samples, batch_size)
    mixture = None if prior == "normal" else pair.choose_prior(prior)
    measurement = _Measurement(pair, samples, seed, binarize, mixture, latents_at_once(pair, samples, batch_size))
    parts = (slice(start, start + size) for start in range(0, len(pictures), size))
    batches = ((pictures[part], None if labels is None else labels[part]) for part in parts)
    return _on_single_threads(ordered_map(lambda batch: measurement(*batch), batches, pair.decoder.workers))


def _on_single_threads(results: Iterator[PictureBounds]) -> Iterator[PictureBounds]:
    """NumPy's products on one thread each: those that several threads compute at once wait for each other."""
    with products_on_one_thread:
        yield from results


class _Measurement:
    """Measures batches of pictures; several threads may call it at once."""

    def __init__(
        self, pair: Pair, samples: int, seed: int, binarize: Binarize, mixture: Mixture | None, rows: int
    ) -> None:
        self._encoder, self._decoder = pair.encoder, pair.decoder
        self._likelihood = pair.metadata.likelihood
        self._samples, self._seed, self._binarize = samples, seed, binarize
        self._mixture = mixture  # None: N(0, I)
        self._gaussian = moments(None, pair.latent_dim) if mixture is None else pair.trained_moments
        self.rows = rows  # latents decoded at once

    def __call__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64] | None) -> PictureBounds:
        grey = self._binarize == "none" and bool(((pixels > 0) & (pixels < MAX_PIXEL)).any())
        pixels = binarized(pixels, self._binarize, self._seed)
        image = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) / np.float64(MAX_PIXEL)  # (b, c, h, w)
        mean, std = self._encode(image, labels)  # (b, d)
        total, gain = np.zeros(len(image)), np.zeros(len(image))
        floor: Float64 | None = None
        weights = _Weights(len(image))
        centre, width = self._gaussian
        target = image[:, np.newaxis]  # (b, 1, c, h, w)
        keys = noise.keys(self._seed, "posterior", noise.digests(pixels))
        density = self._density(keys, mean, std, labels)
        for epsilon in self._noise(keys, mean.shape[1]):  # (b, k, d)
            latent = mean[:, np.newaxis] + std[:, np.newaxis] * epsilon
            reconstruction, least = self._reconstruction(latent, target, labels)  # (b, k) and (b,)
            floor = least if floor is None else floor
            total += reconstruction.sum(axis=1)
            # log p(z) - log q(z|x), first for a Gaussian p(z); the ½ d log 2π of both cancel.
            white = (latent - centre) / width
            prior = 0.5 * (epsilon**2 - white**2).sum(axis=2) + np.log(std / width).sum(axis=1, keepdims=True)
            if density is not None:
                ratio = density(latent) - (log_normal(white) - np.log(width).sum())
                gain += ratio.sum(axis=1)
                prior += ratio
            weights.add(prior - reconstruction)
        each, reconstruction = kl_divergence(mean, std, self._gaussian), total / self._samples
        kl, bound = each.sum(axis=1) - gain / self._samples, -weights.log_mean()
        assert floor is not None, "there is one latent or more"
        return PictureBounds(mean, each, kl, reconstruction, bound, weights.effective(), floor, grey)

    def _encode(self, image: Float64, labels: NDArray[np.int64] | None) -> tuple[Float64, Float64]:
        outputs = self._encoder.run((model_format.MEAN, model_format.STD), image.astype(np.float32), labels)
        mean, std = (output.astype(np.float64) for output in outputs)
        if not (std > 0).all():
            raise VaeError(
                f"{self._encoder.file.path}: computes a standard deviation that is not above 0", "export it again"
            )
        return mean, std

    def _density(
        self, keys: noise.Words, mean: Float64, std: Float64, labels: NDArray[np.int64] | None
    ) -> Callable[[Float64], Float64] | None:
        """Log p(z) of latents (b, k, d) of these q(z|x), (b, k); None: N(0, I).

        Most components of a mixture are far from all latents of one picture. Where there are many latents, the first
        ones decide which components are left out.
        """
        mixture = self._mixture
        if mixture is None:
            return None
        if self._samples < PRUNE_FROM_SAMPLES:
            return lambda latent: mixture.log_density(latent, labels)
        epsilon = noise.normal(keys, mean.shape[1], rows=PILOT_SAMPLES, start=0)
        latents = mean[:, np.newaxis] + std[:, np.newaxis] * epsilon
        own = [mixture] * len(mean) if labels is None else [mixture.of_class(label) for label in labels.tolist()]
        near = [prior.near(first) for prior, first in zip(own, latents, strict=True)]
        return lambda latent: np.stack([prior(rows) for prior, rows in zip(near, latent, strict=True)])

    def _noise(self, keys: noise.Words, latent_dim: int) -> Iterator[Float64]:
        """Standard normal numbers (b, k, d), until each picture has had `samples` of them."""
        for start in range(0, self._samples, self.rows):
            count = min(self.rows, self._samples - start)
            yield noise.normal(keys, latent_dim, rows=count, start=start).astype(np.float64)

    def _reconstruction(
        self, latent: Float64, target: Float64, labels: NDArray[np.int64] | None
    ) -> tuple[Float64, Float64]:
        """-log p(x|z) and its floor: (b, k, d) and (b, 1, c, h, w) -> (b, k) and (b,)."""
        count, samples, latent_dim = latent.shape
        rows = latent.reshape(count * samples, latent_dim).astype(np.float32)
        of_rows = None if labels is None else np.repeat(labels, samples)
        outputs = self._decoder.run(LIKELIHOODS[self._likelihood].parameters, rows, of_rows)
        shaped = [output.reshape(count, samples, *output.shape[1:]) for output in outputs]
        with np.errstate(all="ignore"):
            nats = likelihoods.reconstruction(self._likelihood, shaped, target)
            # A scale varies little with the latent: the floor is computed at the first one only.
            floor = likelihoods.floor(self._likelihood, [output[:, :1] for output in shaped], target)[:, 0]
        if not np.isfinite(nats).all():
            raise VaeError(f"{self._decoder.file.path}: a picture's likelihood is not finite", "export it again")
        return nats, floor


class _Weights:
    """Importance weights of `count` pictures, given by their logarithms in parts."""

    def __init__(self, count: int) -> None:
        self._largest = np.full(count, -np.inf)  # logarithm of the largest weight
        self._sum = np.zeros(count)  # of the weights over the largest one
        self._squares = np.zeros(count)  # of the same, squared
        self._samples = 0

    def add(self, logarithms: Float64) -> None:
        """Add (count, k) weights."""
        largest = np.maximum(self._largest, logarithms.max(axis=1))
        before, ratios = np.exp(self._largest - largest), np.exp(logarithms - largest[:, np.newaxis])
        self._sum = self._sum * before + ratios.sum(axis=1)
        self._squares = self._squares * before**2 + np.square(ratios).sum(axis=1)
        self._largest = largest
        self._samples += logarithms.shape[1]

    def log_mean(self) -> Float64:
        """The logarithm of the mean weight: (count,)."""
        result: Float64 = self._largest + np.log(self._sum / self._samples)
        return result

    def effective(self) -> Float64:
        """The effective sample size, (Σ w)² / Σ w²: (count,).

        As many equal weights would estimate the mean as well (Kong, A note on importance sampling using standardized
        weights, 1992). One weight that outweighs all others gives 1: then the bound would change with more samples.
        """
        result: Float64 = self._sum**2 / self._squares
        return result
