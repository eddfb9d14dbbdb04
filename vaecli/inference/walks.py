"""Walks through the latent space of a model: from picture to picture, and along its dimensions."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

from vaecli.config import PRIOR, PriorChoice
from vaecli.errors import UsageError, check_choice, check_count
from vaecli.inference import geometry
from vaecli.inference.geometry import Arc, Latents, Method, Vector
from vaecli.inference.mixture import moments
from vaecli.inference.pair import Pair
from vaecli.inference.sampling import draws
from vaecli.parallel import cut

FINE = 65  # pictures of an interpolation whose distances tell where its steps are


def choose_method(pair: Pair, method: Method | None) -> Method:
    """The method of an interpolation: the given one, or where it is None the one that suits the model.

    That is `string` if the prior was fitted and has at least as many components as dimensions, else `slerp`: the
    mean of a component that holds all kinds of pictures looks like none of them.

    Raises:
        UsageError: there is no such method, or `string` has no fitted prior to follow.
    """
    if method is None:
        return "string" if pair.prior is not None and pair.prior.components >= pair.latent_dim else "slerp"
    check_choice("method", method, Method)
    if method == "string" and pair.prior is None:
        raise UsageError("`method` string: the prior is N(0, I)", "vae export fits one; or take slerp")
    return method


def through(pair: Pair, stops: Latents, steps: int, method: Method) -> Latents:
    """`steps` latents from each of `stops` (k, d) to the next: ((k-1)·(steps-1) + 1, d), each stop once.

    Those of `string` are equally far apart in the pixels of their pictures.
    """
    prior = pair.prior
    if method != "string" or prior is None:
        arc: Arc = "lerp" if method == "lerp" else "slerp"
        return geometry.path(stops, lambda a, b: geometry.between(a, b, steps, arc))
    return geometry.path(stops, lambda a, b: _evenly(pair, geometry.string(a, b, prior), steps))


def _evenly(pair: Pair, line: NDArray[np.float64], steps: int) -> Latents:
    """`steps` latents along a broken line (n, d) whose pictures are equally far apart in pixels: (steps, d)."""
    fine = geometry.spaced(line, FINE)
    images = np.concatenate(list(pair.decode_batches(cut(fine.astype(np.float32), pair.batch_size))))
    lengths = np.linalg.norm(np.diff(images.reshape(FINE, -1), axis=0), axis=1)
    return geometry.spaced(fine, steps, lengths).astype(np.float32)


def starting_point(pair: Pair, seed: int | None, prior: PriorChoice = PRIOR) -> Vector:
    """Where a traversal starts, (d,): at a draw of the prior where there is a seed, else at its mean.

    Raises:
        UsageError: `seed` does not fit in 64 bits.
    """
    if seed is not None:
        first: Vector = draws(pair, seed, prior=prior)(0, 1)[0][0]
        return first
    return moments(pair.choose_prior(prior), pair.latent_dim)[0].astype(np.float32)


def traversal(
    pair: Pair, start: Vector, dims: Sequence[int], steps: int, reach: float, prior: PriorChoice
) -> tuple[list[list[float]], Latents]:
    """Walk from `start` (d,) along each of `dims`, `reach` standard deviations of the prior to both sides of its mean.

    Returns the values of these dimensions, (len(dims), steps), and all latents, (len(dims)·steps, d).
    """
    mean, std = moments(pair.choose_prior(prior), pair.latent_dim)
    values: list[list[float]] = np.linspace(mean - reach * std, mean + reach * std, steps, axis=1)[dims].tolist()
    return values, geometry.along(start, dims, values)


def check_steps(steps: int) -> None:
    """Raise UsageError where there are not two: both ends are steps."""
    check_count("steps", steps, 2, "both ends are included")


def check_dims(pair: Pair, dims: int | None) -> None:
    """Raise UsageError where the model has not so many dimensions."""
    if dims is None:
        return
    check_count("dims", dims, 1, "it is the number of dimensions")
    if dims > pair.latent_dim:
        raise UsageError(f"`dims` {dims}: the model has {pair.latent_dim} dimensions", "take some or all of them")


def check_plane(pair: Pair, dims: tuple[int, int] | None) -> None:
    """Raise UsageError where `dims` are not two dimensions of the model, or it has only one."""
    if pair.latent_dim < 2:
        raise UsageError(f"{pair.folder}: the model has one latent dimension, no plane", "vae traverse walks along it")
    if dims is None:
        return
    chosen = [*dims] if isinstance(dims, Iterable) else [dims]
    whole = all(isinstance(value, SupportsIndex) and 0 <= operator.index(value) < pair.latent_dim for value in chosen)
    if not (whole and len(chosen) == len(set(chosen)) == 2):
        raise UsageError(
            f"`dims` {' '.join(map(str, chosen))}: not two of the model's dimensions",
            f"name two different ones from 0 to {pair.latent_dim - 1}",
        )
