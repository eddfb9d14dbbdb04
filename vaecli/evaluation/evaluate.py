"""How well a model explains a set of pictures: ELBO, bound on -log p(x), active latent dimensions."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vaecli.config import IMPORTANCE_SAMPLES, PRIOR, Binarize, PriorChoice, Split, check_prior
from vaecli.errors import check_count
from vaecli.evaluation.bounds import PictureBounds, check_binarize, measure
from vaecli.evaluation.data import EvaluationData
from vaecli.evaluation.dimensions import active
from vaecli.evaluation.probes import Probes, probe
from vaecli.evaluation.samples import SampleComparison, check_samples, compare_samples
from vaecli.events import Note, OnEvent, counted, ignore
from vaecli.inference.geometry import Float64
from vaecli.inference.pair import Pair, checked_seed
from vaecli.model_format import LIKELIHOODS, MAX_PIXEL, Likelihood, bits_per_dimension
from vaecli.parallel import cut
from vaecli.pictures.arrays import binarized
from vaecli.wording import pictures_of_split

MEASURED_ON = (
    "data", "split", "trained_on", "chose_epoch", "n", "likelihood", "binarize", "prior", "importance_samples", "seed",
)  # fmt: skip
ESTIMATES = ("negative_elbo", "reconstruction", "kl", "bound", "negative_elbo_normal")


@dataclass(frozen=True)
class Estimate:
    """A mean over pictures in nats per image, and its standard error."""

    nats: float
    standard_error: float | None  # over the pictures; None where there is only one
    bits_per_dimension: float | None  # for likelihoods over 8-bit values

    def __float__(self) -> float:
        """The nats."""
        return self.nats

    def __format__(self, specification: str) -> str:
        """The nats in this format, such as `.2f`; without one, as `str` shows all of it."""
        return format(self.nats, specification) if specification else str(self)


@dataclass(frozen=True)
class EffectiveSamples:
    """How many of its importance samples a picture's bound rests on: the effective sample size of its weights.

    From 1 to the number of samples; see `bounds.PictureBounds`. Where it is small, more samples tighten the bound.
    """

    median: float  # over the pictures
    low: float  # the 5 % quantile: one picture in twenty has no more


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A model on a set of pictures. All losses are in nats per image."""

    data: str  # the data set's name
    split: Split
    trained_on: bool | None  # whether the model was trained on this data set; None: not known
    chose_epoch: bool  # whether these pictures chose the model's epoch: then their loss is a little too low
    n: int
    binarize: Binarize
    likelihood: Likelihood
    prior: Literal["mixture", "normal"]  # of the estimates; with a mixture the KL is an estimate from draws, too
    importance_samples: int
    seed: int
    negative_elbo: Estimate
    reconstruction: Estimate
    kl: Estimate
    bound: Estimate  # on -log p(x)
    # The negative ELBO with N(0, I), the prior of the training, beside a mixture that was fitted afterwards; else None.
    negative_elbo_normal: Estimate | None
    effective_samples: EffectiveSamples
    normalised: bool  # whether the losses bound -log of a probability: see model_format.LikelihoodFacts
    mean_squared_error: float  # of reconstructions through the mean of q(z|x), over all values of pixels, in [0, 1]
    active_units: int
    probes: Probes | None  # how much of the class the latents carry; None where classes are not known
    # (d,) from N(0, 1), whatever the fitted prior is; of a VampPrior, from the Gaussian with its moments.
    kl_per_dimension: Float64 = field(repr=False)
    mean_variance: Float64 = field(repr=False)  # (d,) of the posterior's mean over the pictures
    samples: SampleComparison | None = None  # with the pictures; where it was asked for

    @property
    def estimates(self) -> dict[str, Estimate]:
        """Those that there are, by name."""
        return {name: estimate for name in ESTIMATES if (estimate := getattr(self, name)) is not None}

    @property
    def psnr(self) -> float | None:
        """The peak signal-to-noise ratio of the mean squared error in decibels; None where the error is 0."""
        return -10 * math.log10(self.mean_squared_error) if self.mean_squared_error else None

    @property
    def facts(self) -> dict[str, Any]:
        """All of it as JSON's values: each estimate in nats under its name, its errors and bits in one object each."""
        estimates = self.estimates
        bits = {name: estimate.bits_per_dimension for name, estimate in estimates.items()}
        return {
            **{name: getattr(self, name) for name in MEASURED_ON},
            **{name: estimates[name].nats if name in estimates else None for name in ESTIMATES},
            "standard_error": {name: estimate.standard_error for name, estimate in estimates.items()},
            "bits_per_dimension": bits if None not in bits.values() else None,
            "effective_samples": asdict(self.effective_samples),
            "normalised": self.normalised,
            "mean_squared_error": self.mean_squared_error,
            "psnr": self.psnr,
            "latent_dim": len(self.kl_per_dimension),
            "active_units": self.active_units,
            "probes": None if self.probes is None else asdict(self.probes),
            "kl_per_dimension": self.kl_per_dimension.tolist(),
            "mean_variance": self.mean_variance.tolist(),
            "samples": None if self.samples is None else asdict(self.samples),
        }


def evaluate(
    pair: Pair,
    data: EvaluationData,
    *,
    importance_samples: int = IMPORTANCE_SAMPLES,
    binarize: Binarize | None = None,
    prior: PriorChoice = PRIOR,
    samples: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    on_event: OnEvent = ignore,
) -> Evaluation:
    """Measure a model on pictures that `data.choose` found. `binarize` is as in training where it is None.

    `prior` of the losses is the model's own, or N(0, I). `samples` of it, if any, are compared with the pictures.

    Raises:
        VaeError: a graph fails, or a likelihood is not finite.
        UsageError: `binarize` does not suit the model, or a number is out of range.
    """
    check_count("importance_samples", importance_samples, 1, "more tighten the bound")
    binarize = pair.metadata.binarize if binarize is None else binarize
    check_binarize(pair, binarize)
    check_prior(prior, pair.metadata.trained_prior)
    if samples is not None:
        check_samples(pair, samples, len(data.pictures))
    _describe(pair, data, binarize, on_event)
    seed, labels = checked_seed(seed), pair.labels_of(data.pictures.classes)
    bounds = measure(
        pair,
        data.pictures,
        samples=importance_samples,
        seed=seed,
        binarize=binarize,
        prior=prior,
        labels=labels,
        batch_size=batch_size,
    )
    scalars, means, kl = _Moments(5), _Moments(pair.latent_dim), _Moments(pair.latent_dim)
    grey, effective, latents = False, [], []
    for part in counted(bounds, on_event, "evaluating", len(data.pictures), "pictures"):
        scalars.add(_scalars(part))
        means.add(part.mean)
        latents.append(part.mean)
        kl.add(part.kl_per_dimension)
        grey |= part.grey
        effective.append(part.effective_samples)
    median, low = np.quantile(np.concatenate(effective), (0.5, 0.05)).tolist()
    comparison = None
    if samples is not None:
        comparison = compare_samples(
            pair, data.pictures, samples, binarize=binarize, prior=prior, seed=seed, on_event=on_event
        )
    likelihood, kind = pair.metadata.likelihood, pair.kind_of(prior)
    negative_elbo, reconstruction, divergence, bound, with_normal = (
        Estimate(nats, error, bits_per_dimension(nats, likelihood, pair.image_shape))
        for nats, error in zip(scalars.mean.tolist(), scalars.standard_errors(), strict=True)
    )
    return Evaluation(
        data=data.name,
        split=data.split,
        trained_on=data.trained_on,
        chose_epoch=data.chose_epoch,
        n=scalars.count,
        binarize=binarize,
        likelihood=likelihood,
        prior=kind,
        importance_samples=importance_samples,
        seed=seed,
        negative_elbo=negative_elbo,
        reconstruction=reconstruction,
        kl=divergence,
        bound=bound,
        negative_elbo_normal=with_normal if kind == "mixture" and pair.trained_prior == "normal" else None,
        effective_samples=EffectiveSamples(median, low),
        normalised=LIKELIHOODS[likelihood].normalised(grey=grey),
        mean_squared_error=_squared_error(pair, data, labels, binarize, seed, batch_size, on_event),
        probes=_probes(pair, data, np.concatenate(latents), binarize, seed, on_event),
        active_units=int(active(pair, means.variance).sum()),
        kl_per_dimension=kl.mean,
        mean_variance=means.variance,
        samples=comparison,
    )


def _squared_error(
    pair: Pair,
    data: EvaluationData,
    labels: NDArray[np.int64] | None,
    binarize: Binarize,
    seed: int,
    batch_size: int | None,
    on_event: OnEvent,
) -> float:
    """See `Evaluation.mean_squared_error`."""
    batches = cut(data.pictures, batch_size or pair.batch_size)
    originals, given = itertools.tee(binarized(batch, binarize, seed) for batch in batches)
    shown = counted(originals, on_event, "reconstructing", len(data.pictures), "pictures")
    total = 0.0
    for batch, decoded in zip(shown, pair.reconstructions(given, labels=labels), strict=True):
        total += float(np.square(decoded - batch / np.float64(MAX_PIXEL)).sum())
    return total / (len(data.pictures) * math.prod(pair.image_shape))


def _probes(
    pair: Pair, data: EvaluationData, latents: Float64, binarize: Binarize, seed: int, on_event: OnEvent
) -> Probes | None:
    """Probes fitted to training pictures and tried on the `latents` (n, d) of the pictures, both binarised alike."""
    if data.probed is None or data.probed.classes is None or data.pictures.classes is None:
        return None
    batches = cut(data.probed, pair.batch_size)
    images = counted(batches, on_event, "encoding for the probes", len(data.probed), "pictures")
    binary = (binarized(batch, binarize, seed) for batch in images)
    encoded = pair.encode_batches(binary, labels=pair.labels_of(data.probed.classes))
    known = np.concatenate([part.mean for part in encoded])
    return probe(known, data.probed.classes.labels, latents, data.pictures.classes.labels)


def _describe(pair: Pair, data: EvaluationData, binarize: Binarize, on_event: OnEvent) -> None:
    """Say what is measured, before it is."""
    for note in data.notes:
        on_event(note)
    if data.overlaps:
        text = f"the model was trained on pictures of {data.name}, whose losses are too low"
        text += "; without `data`, those that were held out are measured"
        on_event(Note(text, warning=True))
    elif data.trained_on is False:
        others = "" if data.split == "all" else "; `split` all takes every picture of it"
        trained = pair.metadata.data_name
        on_event(Note(f"{data.name} is not the data set that this model was trained on, {trained}{others}"))
    count, measured = len(data.pictures), str(data)
    if count < data.available:
        measured = f"{count:,} of {pictures_of_split(data.available, data.split)} of {data.name}"
    made = {"none": "", "threshold": ", pixels made 0 or 1 at 0.5", "dynamic": ", pixels made 0 or 1 at random"}
    on_event(Note(f"data: {measured}{made[binarize]}"))
    if data.chose_epoch:
        on_event(Note("the epoch of these weights was chosen by these pictures: new ones have a slightly higher loss"))


def _scalars(part: PictureBounds) -> Float64:
    """(b, 5): negative ELBO, reconstruction, KL, bound, and the negative ELBO with a Gaussian prior."""
    with_gaussian = part.reconstruction + part.kl_per_dimension.sum(axis=1)
    return np.stack([part.negative_elbo, part.reconstruction, part.kl, part.bound, with_gaussian], axis=1)


class _Moments:
    """Mean and variance of columns, updated batch by batch (Chan, Golub and LeVeque 1979)."""

    def __init__(self, columns: int) -> None:
        self.count = 0
        self.mean: Float64 = np.zeros(columns)
        self._squares: Float64 = np.zeros(columns)  # sum of squared deviations from the mean

    def add(self, values: Float64) -> None:
        """Add (b, columns) values."""
        count, mean = len(values), values.mean(axis=0)
        apart, total = mean - self.mean, self.count + len(values)
        self._squares += ((values - mean) ** 2).sum(axis=0) + apart**2 * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count = total

    @property
    def variance(self) -> Float64:
        """(columns,), over the values."""
        variance: Float64 = self._squares / self.count
        return variance

    def standard_errors(self) -> list[float] | list[None]:
        """Of the means; None where there is one value only."""
        if self.count < 2:
            return [None] * len(self.mean)
        errors: list[float] = np.sqrt(self._squares / (self.count - 1) / self.count).tolist()
        return errors
