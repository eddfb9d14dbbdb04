"""How well a model explains pictures: the ELBO, the importance-weighted bound, and what the latents carry.

Everything is computed from the exported pair, in nats per image. The random numbers belong to each picture's
place in the order, so neither the batch size nor the number of threads has a part in them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vaecli import model_format
from vaecli.config import Binarize
from vaecli.errors import UsageError, VaeError
from vaecli.inference import likelihoods
from vaecli.inference.batches import side_by_side
from vaecli.inference.likelihoods import Float64
from vaecli.inference.model import Model
from vaecli.metrics import ACTIVE, LOG_FLOOR

BERNOULLI = "bernoulli"
BITS = "logistic"  # the likelihood over 8-bit values: of densities there are no bits per dimension

Purpose = Literal["latents", "pixels"]
_STREAMS: dict[Purpose, int] = {"latents": 0, "pixels": 1}


class Pictures(Protocol):
    """Pictures that can be had stretch by stretch: uint8 (n, h, w, c)."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> NDArray[np.uint8]: ...


class PictureNoise:
    """Random numbers of each picture by its place: the same whatever is drawn for other pictures.

    Philox (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011) turns a counter into random
    numbers. The counter's upper word is the picture's place, which gives each picture a stream of its own.
    """

    def __init__(self, seed: int, purpose: Purpose) -> None:
        self._bits = np.random.Philox(key=np.array([seed, _STREAMS[purpose]], np.uint64))
        self._start = self._bits.state
        self._generator = np.random.Generator(self._bits)

    def of(self, place: int) -> np.random.Generator:
        """The generator at the beginning of a picture's stream; it is the same object for all of them."""
        self._start["state"]["counter"][3] = place  # far cheaper than a new generator
        self._bits.state = self._start
        return self._generator


@dataclass(frozen=True)
class Terms:
    """A stretch of pictures under a model, in their order. Float64, in nats."""

    mean: Float64  # (b, d) of q(z|x)
    kl: Float64  # (b, d) of q(z|x) from the prior
    reconstruction: Float64  # (b,) the mean of -log p(x|z) over the draws of z
    bound: Float64  # (b,) -log of the mean over the draws of p(x, z) / q(z|x)
    grey: bool  # whether a pixel was neither black nor white

    def __len__(self) -> int:
        return len(self.bound)

    @property
    def negative_elbo(self) -> Float64:
        """(b,) reconstruction + KL."""
        nats: Float64 = self.reconstruction + self.kl.sum(axis=1)
        return nats


def kl_divergence(mean: Float64, std: Float64) -> Float64:
    """KL(q(z|x) || N(0, I)) of each dimension in nats: (b, d) twice -> (b, d).

    ½ (μ² + σ² - log(1e-8 + σ²) - 1): Kingma and Welling, Auto-encoding variational Bayes, 2013, appendix B,
    with the floor that training has.
    """
    variance = std**2
    return 0.5 * (mean**2 + variance - np.log(LOG_FLOOR + variance) - 1)


def check_binarize(model: Model, binarize: Binarize) -> None:
    """Raise UsageError where pixels of 0 and 1 are not what the model is about."""
    if binarize != "none" and model.metadata.likelihood != BERNOULLI:
        raise UsageError(
            f"--binarize {binarize}: makes pixels 0 or 1, and this model's likelihood is {model.metadata.likelihood}",
            "leave it out",
        )


def measure(
    model: Model,
    pictures: Pictures,
    *,
    samples: int,
    seed: int,
    binarize: Binarize = "none",
    batch_size: int | None = None,
) -> Iterator[Terms]:
    """Each picture's terms, with `samples` draws of z for each: stretch by stretch, in order, memory flat.

    The bound is Burda, Grosse and Salakhutdinov's (Importance weighted autoencoders, 2016, equation 8). The
    first draws of many are those of few. `binarize` makes pixels 0 or 1 as in training: at one half, or once by
    a coin with the pixel's grey for its probability. At most `batch_size` latents are decoded at once.

    Raises:
        VaeError: a graph fails, or what it computes has no logarithm.
        UsageError: `binarize` does not suit the model.
    """
    check_binarize(model, binarize)
    measurer = _Measurer(model, samples, seed, binarize, batch_size or model.batch_size)
    size = max(1, measurer.rows // samples)
    stretches = ((start, pictures[start : start + size]) for start in range(0, len(pictures), size))
    return side_by_side(measurer, stretches, model.decoder.workers)


class _Measurer:
    """Measures one stretch of pictures; several threads may do so at once."""

    def __init__(self, model: Model, samples: int, seed: int, binarize: Binarize, rows: int) -> None:
        self._encoder, self._decoder = model.encoder, model.decoder
        self._likelihood = model.metadata.likelihood
        self._samples, self._seed, self._binarize = samples, seed, binarize
        self.rows = rows  # latents decoded at once

    def __call__(self, stretch: tuple[int, NDArray[np.uint8]]) -> Terms:
        first, pixels = stretch
        image = self._image(first, pixels)  # (b, c, h, w)
        mean, std = self._encode(image)  # (b, d)
        noise = self._noise(first, *mean.shape)
        total = np.zeros(len(image))
        weights = _LogMeanExp(len(image))
        target = image[:, np.newaxis]  # (b, 1, c, h, w)
        for epsilon in noise:  # (b, k, d)
            latent = mean[:, np.newaxis] + std[:, np.newaxis] * epsilon
            reconstruction = self._reconstruction(latent, target)  # (b, k)
            total += reconstruction.sum(axis=1)
            # log p(z) - log q(z|x): both have the same ½ d log 2π.
            prior = 0.5 * (epsilon**2 - latent**2).sum(axis=2) + np.log(std).sum(axis=1, keepdims=True)
            weights.add(prior - reconstruction)
        grey = self._binarize == "none" and bool(((pixels > 0) & (pixels < likelihoods.LEVELS)).any())
        return Terms(mean, kl_divergence(mean, std), total / self._samples, -weights.result(), grey)

    def _image(self, first: int, pixels: NDArray[np.uint8]) -> Float64:
        """Pixels (b, h, w, c) as x in [0, 1]: (b, c, h, w)."""
        image = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) / np.float64(likelihoods.LEVELS)
        if self._binarize == "threshold":
            return (image >= 0.5).astype(np.float64)
        if self._binarize == "dynamic":
            noise = PictureNoise(self._seed, "pixels")
            coins = [noise.of(first + row).random(one.shape, np.float32) for row, one in enumerate(image)]
            return (np.stack(coins) < image).astype(np.float64)
        return image

    def _encode(self, image: Float64) -> tuple[Float64, Float64]:
        outputs = self._encoder.run((model_format.MEAN, model_format.STD), image.astype(np.float32))
        mean, std = (output.astype(np.float64) for output in outputs)
        if not (std > 0).all():
            raise VaeError(
                f"{self._encoder.file.path}: computes a standard deviation that is not above 0", "export it again"
            )
        return mean, std

    def _noise(self, first: int, count: int, latent_dim: int) -> Iterator[Float64]:
        """Standard normal numbers (b, k, d) until every picture has had all its draws.

        Either all draws come at once, or a single picture's come bit by bit.
        """
        noise = PictureNoise(self._seed, "latents")
        if count > 1 or self._samples <= self.rows:
            shape = (self._samples, latent_dim)
            draws = [noise.of(first + row).standard_normal(shape, np.float32) for row in range(count)]
            yield np.stack(draws).astype(np.float64)
            return
        generator = noise.of(first)
        for start in range(0, self._samples, self.rows):
            size = (1, min(self.rows, self._samples - start), latent_dim)
            yield generator.standard_normal(size, np.float32).astype(np.float64)

    def _reconstruction(self, latent: Float64, target: Float64) -> Float64:
        """-log p(x|z): (b, k, d) and (b, 1, c, h, w) -> (b, k)."""
        count, samples, latent_dim = latent.shape
        rows = latent.reshape(count * samples, latent_dim).astype(np.float32)
        outputs = self._decoder.run(model_format.PARAMETERS[self._likelihood], rows)
        shaped = [output.reshape(count, samples, *output.shape[1:]) for output in outputs]
        with np.errstate(all="ignore"):
            nats = likelihoods.reconstruction(self._likelihood, shaped, target)
        if not np.isfinite(nats).all():
            raise VaeError(f"{self._decoder.file.path}: a picture's likelihood is not finite", "export it again")
        return nats


class _LogMeanExp:
    """log of the mean of exp(v) over values that come bit by bit, for each of `count` pictures."""

    def __init__(self, count: int) -> None:
        self._largest = np.full(count, -np.inf)
        self._sum = np.zeros(count)  # of exp(v - largest)
        self._values = 0

    def add(self, values: Float64) -> None:
        """Take in (count, k) more."""
        largest = np.maximum(self._largest, values.max(axis=1))
        self._sum *= np.exp(self._largest - largest)
        self._sum += np.exp(values - largest[:, np.newaxis]).sum(axis=1)
        self._largest = largest
        self._values += values.shape[1]

    def result(self) -> Float64:
        """(count,)."""
        result: Float64 = self._largest + np.log(self._sum / self._values)
        return result


@dataclass(frozen=True)
class Estimate:
    """A mean over pictures in nats per image, and how far another set of pictures would have it differ."""

    nats: float
    standard_error: float | None  # over the pictures; None: there is only one
    bits_per_dimension: float | None  # where the likelihood is over 8-bit values


@dataclass(frozen=True)
class Evaluation:
    """A model on a set of pictures, in nats per image."""

    n: int
    negative_elbo: Estimate
    reconstruction: Estimate
    kl: Estimate
    bound: Estimate  # on -log p(x)
    active_units: int
    kl_per_dimension: Float64  # (d,)
    mean_variance: Float64  # (d,) of the posterior's mean over the pictures
    normalised: bool  # False: grey pixels under a Bernoulli, whose ELBO is a cross-entropy and bounds no likelihood


class Tally:
    """Adds up the terms of pictures as they come."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._scalars = _Moments(4)  # negative ELBO, reconstruction, KL, bound
        self._means, self._kl = _Moments(model.latent_dim), _Moments(model.latent_dim)
        self._grey = False

    def add(self, terms: Terms) -> None:
        """Take in a stretch."""
        kl = terms.kl.sum(axis=1)
        self._scalars.add(np.stack([terms.negative_elbo, terms.reconstruction, kl, terms.bound], axis=1))
        self._means.add(terms.mean)
        self._kl.add(terms.kl)
        self._grey |= terms.grey

    def result(self) -> Evaluation:
        """What they come to. At least one picture must have come."""
        n, means = self._scalars.count, self._scalars.mean.tolist()
        errors = np.sqrt(self._scalars.squares / (n - 1) / n).tolist() if n > 1 else [None] * len(means)
        elbo, reconstruction, kl, bound = (
            Estimate(nats, error, self._bits(nats)) for nats, error in zip(means, errors, strict=True)
        )
        variance = self._means.squares / n
        return Evaluation(
            n=n,
            negative_elbo=elbo,
            reconstruction=reconstruction,
            kl=kl,
            bound=bound,
            active_units=int((variance > ACTIVE).sum()),
            kl_per_dimension=self._kl.mean,
            mean_variance=variance,
            normalised=not (self._grey and self._model.metadata.likelihood == BERNOULLI),
        )

    def _bits(self, nats: float) -> float | None:
        if self._model.metadata.likelihood != BITS:
            return None
        return nats / (math.log(2) * math.prod(self._model.image_shape))


class _Moments:
    """Mean and squared deviations of columns, stretch by stretch (Chan, Golub and LeVeque 1979)."""

    def __init__(self, columns: int) -> None:
        self.count = 0
        self.mean: Float64 = np.zeros(columns)
        self.squares: Float64 = np.zeros(columns)  # sum of squared deviations from the mean

    def add(self, values: Float64) -> None:
        """Take in (b, columns)."""
        count, mean = len(values), values.mean(axis=0)
        apart, total = mean - self.mean, self.count + len(values)
        self.squares += ((values - mean) ** 2).sum(axis=0) + apart**2 * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count = total
