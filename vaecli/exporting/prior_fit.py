"""A prior fitted to the latents of the training pictures: how many components it has, and how they are shrunk.

It is a mixture of Gaussians with full covariances, fitted after the training, as Ghosh et al. recommend (From
variational to deterministic autoencoders, 2020, section 4), by expectation maximisation (`em`).

Several fits from different starts are averaged: their mean is a mixture, too, whose log density is at least the mean of
theirs (Jensen's inequality), and mostly some tenths of a nat more, as each has errors of its own.

Where the classes of the pictures are known, each component belongs to one of them and is fitted to its pictures alone:
then p(z|class) is a mixture, too, and p(z) is mostly the better for it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaecli.datasets.division import hold_out
from vaecli.errors import VaeError
from vaecli.events import Note, OnEvent, Progress, ignore
from vaecli.exporting import em
from vaecli.exporting.em import ClassMask
from vaecli.exporting.posteriors import Encoding, Posteriors
from vaecli.inference.geometry import Float64
from vaecli.inference.mixture import Mixture, log_normal
from vaecli.model_format import LARGEST_FITTED, PriorSummary
from vaecli.wording import how_many

MAX_FACTOR_ELEMENTS = 2**22  # in the Cholesky factors of all components together: 16 MB
MAX_FITTED_PICTURES = 60_000
# The same where the moments are not put into one matrix: there an iteration takes n · k · d² operations.
MAX_UNPACKED_PICTURES = 8_000
MAX_MOMENT_ELEMENTS = 2**25  # in the matrix of moments: 256 MB while it is computed, in float64
MAX_HELD_OUT_PICTURES = 10_000  # that tell what the prior gains
MAX_SEARCH_PICTURES = 10_000  # on which the number of components is chosen
COMPONENT_COUNTS = (1, 4, 16, 32, 64, 128, 256)  # that are tried
COMPONENT_COUNTS_PER_CLASS = (1, 2, 4, 8, 12, 16, 24, 32)
MIN_PICTURES_PER_COMPONENT = 12
# Accepted in nats for more components: samples look better, and averaging gains more.
MAX_DENSITY_LOSS = 0.1
AVERAGED_FITS = 2
SHRINKAGES = (3.0, 10.0, 30.0, 100.0, 300.0)  # towards the common covariance, in pictures
SEARCH_SHRINKAGE = 10.0  # while the best one is not known
# Of the gain over N(0, I): components belong to classes unless those that do not would gain this share more.
MAX_GAIN_LOST_TO_CLASSES = 0.05


@dataclass(frozen=True)
class FittedPrior:
    """A mixture as its file holds it, and how it was fitted."""

    mixture: Mixture
    summary: PriorSummary


class Candidate(NamedTuple):
    """A number of components, how they were shrunk, and their mean density on latents that they were not fitted to."""

    component_counts: tuple[int, ...]  # of each class, or one number for all pictures
    by_class: bool  # whether each component belongs to a class
    shrinkage: float  # in pictures
    density: float  # in nats

    def gain(self, normal: float) -> float:
        """Over N(0, I), whose mean density in nats is `normal`."""
        return self.density - normal


def fit_prior(encoding: Encoding, on_event: OnEvent = ignore) -> FittedPrior | None:
    """The prior that suits a model trained on the pictures of `encoding`; None where no mixture beats N(0, I).

    A model with a VampPrior has one in any case: N(0, I) is not its prior.

    Raises:
        VaeError: the encoder fails, a picture cannot be read, or a model with a VampPrior has a single one.
    """
    pair, seed = encoding.pair, encoding.seed
    on_event(Note(f"fitting the prior to the latents of {how_many(len(encoding.dataset.train), 'training picture')}"))
    train = encoding.of("train", _max_pictures(pair.latent_dim))
    needed = pair.trained_prior == "model"
    mixture = fit(train, seed, on_event, even_if_worse=needed)
    if mixture is None:
        if needed:
            raise VaeError(
                "the VampPrior of this model cannot be exported: it has one training picture", "train on more"
            )
        return None
    mixture = _rounded(mixture)
    held_out = encoding.of("held_out", MAX_HELD_OUT_PICTURES)
    latents = held_out.draws(np.random.default_rng(seed))
    summary = PriorSummary(
        kind="mixture",
        components=mixture.components,
        classes=train.classes.names if train.classes and mixture.class_sizes else (),
        class_sizes=mixture.class_sizes,
        log_density=_density(mixture, latents, held_out),
        normal_log_density=float(log_normal(latents).mean()),
        pictures=len(train),
    )
    return FittedPrior(mixture, summary)


def fit(pictures: Posteriors, seed: int, on_event: OnEvent = ignore, *, even_if_worse: bool = False) -> Mixture | None:
    """The mixture that suits the posteriors of training pictures; None where none is better than N(0, I).

    With `even_if_worse`, None only where there is a single picture or there are too many dimensions.

    A tenth of the pictures is held out of the fit. The shrinkage and the number of components are those with the
    highest density on it; the next larger number is taken if it is about as good. With them AVERAGED_FITS mixtures are
    then fitted to all pictures, and their mean is taken.
    """
    dimensions = pictures.mean.shape[1]
    if dimensions > LARGEST_FITTED or len(pictures) < 2:  # one to fit to, and one to judge by
        return None
    generator = np.random.default_rng(seed)
    centre = pictures.mean.mean(axis=0)  # EM sums products in float32, which needs a mean near 0
    pictures = replace(pictures, mean=pictures.mean - centre)
    searched = pictures.some(MAX_SEARCH_PICTURES, generator)
    rows, held_out = hold_out(len(searched))
    latents = searched[held_out].draws(generator)
    normal = float(log_normal(latents + centre).mean())
    parts, fits = (searched[rows], searched[held_out], latents), itertools.count(1)

    def on_fit() -> None:
        on_event(Progress("fitting the prior", next(fits), None, "mixtures"))

    chosen = _search(*parts, by_class=False, generator=generator, on_fit=on_fit)
    if pictures.classes is not None:
        with_classes = _search(*parts, by_class=True, generator=generator, on_fit=on_fit)
        if with_classes is not None and (
            chosen is None or with_classes.gain(normal) >= (1 - MAX_GAIN_LOST_TO_CLASSES) * chosen.gain(normal)
        ):
            chosen = with_classes
    if chosen is None or not (even_if_worse or chosen.gain(normal) > 0):
        return None
    # More pictures are good for more components.
    growth = math.sqrt(len(pictures) / len(searched))
    found = averaged_mixture(pictures, chosen, growth, generator, on_fit)
    return Mixture(found.log_weights, found.means + centre, found.factors, found.class_sizes)


def averaged_mixture(
    pictures: Posteriors,
    chosen: Candidate,
    growth: float,
    generator: np.random.Generator,
    on_fit: Callable[[], None],
) -> Mixture:
    """The mean of AVERAGED_FITS mixtures, each with `growth` times the chosen number of components where allowed.

    `on_fit` is called after each fit.
    """
    dimensions = pictures.mean.shape[1]
    moments, groups = em.moments_of(pictures), _groups(pictures, by_class=chosen.by_class)
    largest, total = _max_components(dimensions), sum(chosen.component_counts)
    count = AVERAGED_FITS if max(chosen.component_counts) > 1 and AVERAGED_FITS * total <= largest else 1
    growth = min(growth, largest / (count * total))
    component_counts = _allowed([int(growth * number) for number in chosen.component_counts], groups)
    mask = ClassMask.of(pictures, component_counts if chosen.by_class else ())

    fits = []
    for _ in range(count):
        start = em.start_in_groups(moments, groups, component_counts, dimensions, generator)
        sums = em.converged(moments, start, dimensions, chosen.shrinkage, mask)
        fits.append(em.mixture_of(sums, dimensions, chosen.shrinkage, mask))
        on_fit()
    # The components of a class stay together.
    class_of_component = np.repeat(np.arange(len(component_counts)), component_counts)
    order = np.argsort(np.tile(class_of_component, count), kind="stable")
    log_weights, means, factors = (
        np.concatenate(parts)[order]
        for parts in zip(*((fit.log_weights, fit.means, fit.factors) for fit in fits), strict=True)
    )
    class_sizes = tuple(count * number for number in component_counts) if mask else ()
    return Mixture(log_weights - math.log(count), means, factors, class_sizes)


def _search(
    pictures: Posteriors,
    held_out: Posteriors,
    latents: Float64,
    *,
    by_class: bool,
    generator: np.random.Generator,
    on_fit: Callable[[], None],
) -> Candidate | None:
    """The number of components that is best on `latents`, or the next one if it is about as good.

    `latents` (n, DRAWS_PER_PICTURE, d) are drawn from the posteriors of the n `held_out` pictures. The components
    belong to classes where the search is `by_class`. None where there would be too many of them. `on_fit` is called
    after each fit.
    """
    dimensions, found, highest = pictures.mean.shape[1], None, -np.inf
    moments, groups = em.moments_of(pictures), _groups(pictures, by_class=by_class)
    tried = 0
    for wanted in COMPONENT_COUNTS_PER_CLASS if by_class else COMPONENT_COUNTS:
        counts = _allowed([wanted] * len(groups), groups)
        total = sum(counts)
        if total == tried or total > _max_components(dimensions) or (not by_class and total < wanted):
            break
        tried = total
        mask = ClassMask.of(pictures, counts if by_class else ())
        start = em.start_in_groups(moments, groups, counts, dimensions, generator)
        sums = em.converged(moments, start, dimensions, SEARCH_SHRINKAGE, mask)
        on_fit()
        mixtures = (em.mixture_of(sums, dimensions, shrinkage, mask) for shrinkage in SHRINKAGES)
        densities = [_density(mixture, latents, held_out) for mixture in mixtures]
        best = int(np.argmax(densities))
        if densities[best] > highest - MAX_DENSITY_LOSS:
            found = Candidate(counts, by_class, SHRINKAGES[best], densities[best])
        if densities[best] <= highest:
            break
        highest = densities[best]
    return found


def _groups(pictures: Posteriors, *, by_class: bool) -> list[NDArray[np.int64]]:
    """The rows of the pictures of each class, or all rows as one group."""
    if not by_class or pictures.classes is None:
        return [np.arange(len(pictures))]
    return [np.flatnonzero(pictures.classes.labels == label) for label in range(len(pictures.classes.names))]


def _allowed(component_counts: Sequence[int], groups: Sequence[NDArray[np.int64]]) -> tuple[int, ...]:
    """These numbers of components, or as many as the pictures of a group allow, and at least one."""
    return tuple(
        max(1, min(count, len(rows) // MIN_PICTURES_PER_COMPONENT))
        for count, rows in zip(component_counts, groups, strict=True)
    )


def _max_pictures(dimensions: int) -> int:
    """The most pictures whose posteriors of this many dimensions a prior is fitted to."""
    if dimensions > em.MAX_PACKED_DIMENSIONS:
        return MAX_UNPACKED_PICTURES
    return min(MAX_FITTED_PICTURES, MAX_MOMENT_ELEMENTS // em.column_count(dimensions))


def _max_components(dimensions: int) -> int:
    """The most components of this many dimensions."""
    return MAX_FACTOR_ELEMENTS // dimensions**2


def _density(mixture: Mixture, latents: Float64, pictures: Posteriors) -> float:
    """The mean of log p(z) in nats over latents (n, DRAWS_PER_PICTURE, d) of n pictures.

    Of a conditional model, the mean of log p(z|y).
    """
    labels = pictures.classes.labels if pictures.conditional and pictures.classes is not None else None
    return float(mixture.log_density(latents, labels).mean())


def _rounded(mixture: Mixture) -> Mixture:
    """The mixture with the float32 values that its file holds."""
    log_weights, means, factors = (
        part.astype(np.float32) for part in (mixture.log_weights, mixture.means, mixture.factors)
    )
    return Mixture(log_weights, means, factors, mixture.class_sizes)
