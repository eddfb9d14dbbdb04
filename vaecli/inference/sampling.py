"""Samples: latents drawn from a model's flow, from its mixture or from N(0, I), and decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaecli import noise
from vaecli.config import PRIOR, TEMPERATURE, PriorChoice, SamplePrior
from vaecli.errors import UsageError, check_choice, check_count, shown
from vaecli.inference import flow
from vaecli.inference.geometry import Latents
from vaecli.inference.mixture import draw, draw_each
from vaecli.inference.pair import Batch, Pair, checked_seed
from vaecli.parallel import ordered_map

HOTTEST = 1e6  # temperature: far more than of use, and far less than float32 holds

# Draws number `first` to `first + count`: latents (count, d), and the classes (count,) that the decoder needs.
Draws: TypeAlias = Callable[[int, int], tuple[Latents, NDArray[np.int64] | None]]


def samples(
    pair: Pair,
    n: int,
    seed: int,
    *,
    temperature: float = TEMPERATURE,
    prior: SamplePrior = PRIOR,
    label: str | int | None = None,
    like: Latents | None = None,
    batch_size: int | None = None,
    as_uint8: bool = False,
) -> Iterator[Batch]:
    """`n` images decoded from draws of the prior. Image i is the same for any n and batch size.

    `temperature`, `prior`, `label` and `like` are those of `draws`.

    Raises:
        UsageError: `n` is less than 1, or as `draws`.
    """
    check_count("n", n, 1, "it is the number of images")
    drawn, size = draws(pair, seed, temperature, prior, label, like), batch_size or pair.batch_size
    model = pair.for_label(label)

    def decoded(first: int) -> Batch:
        latents, labels = drawn(first, min(size, n - first))
        return model.decode_batch(latents, labels, as_uint8=as_uint8)

    return ordered_map(decoded, range(0, n, size), pair.decoder.workers)


def draws(
    pair: Pair,
    seed: int,
    temperature: float = TEMPERATURE,
    prior: SamplePrior = PRIOR,
    label: str | int | None = None,
    like: Latents | None = None,
) -> Draws:
    """What draws latents of the prior. Latent i is the same for any count.

    They come from what `drawn_from` says, of the class `label` where there is one; `like` is that of
    `Pair.choose_prior`. `temperature` scales the latents of N(0, I), those of a mixture about the mean of their
    component, and the noise that a flow starts from.

    Raises:
        UsageError: `temperature` is negative or not finite, `seed` does not fit in 64 bits, or as `drawn_from` and
            `Pair.choose_prior`.
    """
    if not (isinstance(temperature, int | float | np.number) and 0 <= temperature <= HOTTEST):
        problem = f"`temperature` {shown(temperature)}: not a number from 0 to {HOTTEST:g}"
        raise UsageError(problem, "1 is the prior itself")
    seed, source = checked_seed(seed), drawn_from(pair, prior, like=like is not None)
    mixed = pair.conditional and label is None and pair.label is None  # the class of each image is drawn, too
    if source == "flow":
        number, graph = pair.place_of(label), pair.flow

        def flown(first: int, count: int) -> tuple[Latents, NDArray[np.int64] | None]:
            start = noise.prior(seed, first, count, pair.latent_dim) * np.float32(temperature)
            labels = None if number is None else np.full(count, number)
            if labels is None and (mixed or graph.classes):
                labels = sampled_classes(pair, seed, first, count)
            return flow.latents(graph, start, labels), labels if mixed else None

        return flown
    density: PriorChoice = "normal" if prior == "normal" else "model"
    priors = [pair.choose_prior(density, name, like) for name in (pair.classes if mixed else (label,))]

    def drawn(first: int, count: int) -> tuple[Latents, NDArray[np.int64] | None]:
        if not mixed:
            return draw(priors[0], seed, first, count, pair.latent_dim, temperature), None
        labels = sampled_classes(pair, seed, first, count)
        return draw_each(priors, labels, seed, first, pair.latent_dim, temperature), labels

    return drawn


def drawn_from(pair: Pair, prior: SamplePrior, *, like: bool = False) -> Literal["flow", "mixture", "normal"]:
    """What samples are drawn from where this `prior` is asked for, `like` some pictures or not.

    `model` is the flow where there is one. It has no components to choose from, so for `like` it is the mixture.

    Raises:
        UsageError: the model does not have this `prior`, or a flow is asked for samples `like` pictures.
    """
    check_choice("prior", prior, SamplePrior)
    if prior == "flow" and not pair.has_flow:
        raise UsageError(f"`prior` flow: {pair.folder} has no flow", "vae export with `prior` flow makes one")
    if prior == "flow" and like:
        raise UsageError("`like` chooses components of a mixture, which a flow does not have", "leave out `prior`")
    if prior == "flow" or (prior == "model" and pair.has_flow and not like):
        return "flow"
    pair.check_prior(prior)
    return pair.kind_of(prior)


def sampled_classes(pair: Pair, seed: int, first: int, count: int) -> NDArray[np.int64]:
    """The classes of `samples` number `first` to `first + count` where none is given: (count,)."""
    return noise.labels(seed, first, count, pair.class_shares)
