"""Lines, arcs and planes in latent space, and the distances along them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from vaecli.inference.mixture import Mixture

Latents: TypeAlias = NDArray[np.float32]  # (n, d)
Vector: TypeAlias = NDArray[np.floating]  # (d,)
Float64: TypeAlias = NDArray[np.float64]
Arc: TypeAlias = Literal["slerp", "lerp"]
Method: TypeAlias = Literal["string", "slerp", "lerp"]

NODES = 5  # of a string, both ends included: the more, the longer its detours
ROUNDS = 20  # of moving its nodes, after which they hardly move
ZERO_LENGTH = 1e-12  # shorter lengths count as zero
PARALLEL = 1e-6  # radians from 0 or pi, within which two directions span no plane


def string(start: Vector, end: Vector, mixture: Mixture) -> Float64:
    """A broken line from `start` to `end`, both (d,), through where a prior has its mass: (NODES, d).

    The string method (E, Ren and Vanden-Eijnden, Simplified and improved string method for computing the minimum energy
    paths in barrier-crossing events, 2007): its inner nodes move uphill in the density, and are spaced evenly after
    each move, until the line leads over the passes between modes. No node goes farther from the straight line than
    the ends are apart, so that like pictures have a short line between them.
    """
    straight = np.linspace(np.asarray(start, np.float64), np.asarray(end, np.float64), NODES)
    nodes, reach = straight, np.linalg.norm(straight[-1] - straight[0])
    for _ in range(ROUNDS):
        moved = nodes.copy()
        moved[1:-1] = (nodes[1:-1] + mixture.mean_shift_step(nodes[1:-1])) / 2
        nodes = spaced(moved, NODES)
        aside = nodes - straight
        far = np.linalg.norm(aside, axis=1, keepdims=True)
        nodes = straight + aside * (np.minimum(far, reach) / np.maximum(far, ZERO_LENGTH))
    return nodes


def spaced(line: NDArray[np.floating], count: int, lengths: NDArray[np.floating] | None = None) -> Float64:
    """`count` points at equal distances along a broken line (n, d), both ends included: (count, d).

    `lengths` (n - 1,) of its pieces are those in space, where they are not given.
    """
    if lengths is None:
        lengths = np.linalg.norm(np.diff(line, axis=0), axis=1)
    at = np.concatenate([[0], np.cumsum(lengths)])
    wanted = np.linspace(0, at[-1], count)
    return np.stack([np.interp(wanted, at, values) for values in line.T], axis=1)


def between(start: Vector, end: Vector, steps: int, method: Arc = "slerp") -> Latents:
    """`steps` latents from `start` to `end`, both (d,) and both included: (steps, d) float32.

    `lerp` is the straight line. `slerp` follows the great arc from one direction to the other (Shoemake, Animating
    rotation with quaternion curves, 1985; for latents White, Sampling generative networks, 2016, arXiv:1609.04468):
    with Omega the angle between the two, sin((1-t) Omega) / sin(Omega) · start + sin(t Omega) / sin(Omega) · end.
    Normal latents of many dimensions lie near a sphere, and the arc stays near it.

    Where the angle or the arc is not defined (the origin; the same or opposite directions, so always in one
    dimension), slerp is lerp.
    """
    first, last = np.asarray(start, np.float64), np.asarray(end, np.float64)
    time = np.linspace(0, 1, steps)[:, np.newaxis]  # (steps, 1)
    from_first, from_last = 1 - time, time
    lengths = np.linalg.norm(first) * np.linalg.norm(last)
    if method == "slerp" and lengths > 0:
        angle = np.arccos(np.clip(first @ last / lengths, -1, 1))
        if PARALLEL < angle < np.pi - PARALLEL:
            from_first = np.sin((1 - time) * angle) / np.sin(angle)
            from_last = np.sin(time * angle) / np.sin(angle)
    return (from_first * first + from_last * last).astype(np.float32)


def path(stops: Latents, leg: Callable[[Vector, Vector], Latents]) -> Latents:
    """Through all `stops` (k, d), by a `leg` of (steps, d) from each to the next: ((k-1)·(steps-1) + 1, d)."""
    legs = [leg(a, b) for a, b in pairwise(stops)]
    return np.concatenate([legs[0], *(leg[1:] for leg in legs[1:])])  # each stop once


def rows(walk: Latents, steps: int) -> Latents:
    """A `path` laid out in rows of `steps`: an inner stop ends one row and begins the next."""
    starts = np.arange(0, len(walk) - 1, steps - 1)
    laid_out: Latents = walk[(starts[:, np.newaxis] + np.arange(steps)).ravel()]
    return laid_out


def along(start: Vector, dimensions: Sequence[int], coordinates: Sequence[Sequence[float]]) -> Latents:
    """A latent for each of the `coordinates` of each of `dimensions`: (len(dimensions)·steps, d) float32.

    All other dimensions keep the values of `start` (d,).
    """
    steps = len(coordinates[0])
    walks = np.tile(np.asarray(start, np.float32), (len(dimensions), steps, 1))  # (dimensions, steps, d)
    for walk, dimension, values in zip(walks, dimensions, coordinates, strict=True):
        walk[:, dimension] = values
    return walks.reshape(len(dimensions) * steps, -1)


class Plane(NamedTuple):
    """Latents over two dimensions, the first of which grows to the right, the second upwards."""

    latents: Latents  # (side·side, d), row by row from the top
    columns: list[float]  # (side,) values of the first dimension, from the left
    rows: list[float]  # (side,) values of the second, from below


def plane(latent_dim: int, dimensions: tuple[int, int], side: int, mixture: Mixture | None = None) -> Plane:
    """`side` x `side` latents at the prior's quantiles in two dimensions.

    As in figure 4 of Kingma and Welling (2013): equally spaced numbers in (0, 1) go through the inverse of the
    distribution function of each dimension. The prior is N(0, I), whose other dimensions are 0, or a mixture, whose
    others take likely values given these two: see `Mixture.likeliest`.
    """
    shares = [(index + 0.5) / side for index in range(side)]
    if mixture is None:
        columns = rows = [NormalDist().inv_cdf(share) for share in shares]
    else:
        columns, rows = (mixture.quantiles(dimension, np.array(shares)).tolist() for dimension in dimensions)
    pairs = np.array([(right, top) for top in reversed(rows) for right in columns])
    if mixture is not None:
        return Plane(mixture.likeliest(dimensions, pairs).astype(np.float32), columns, rows)
    latents = np.zeros((len(pairs), latent_dim), np.float32)
    latents[:, dimensions] = pairs
    return Plane(latents, columns, rows)


def principal_components(latents: NDArray[np.floating]) -> tuple[Float64, Float64, list[float]]:
    """Mean (d,), directions (2, d) of the first two principal components of latents (n, d), and their variance shares.

    By the singular values of the centred latents (Jolliffe, Principal component analysis, 2002, section 3.5). The sign
    of a component is arbitrary: the largest coefficient of each direction is made positive. A second one that is not
    there, of one dimension or one latent, is 0.
    """
    values = latents.astype(np.float64)
    centre = values.mean(axis=0)
    _, lengths, found = np.linalg.svd(values - centre, full_matrices=False)
    directions, shares = np.zeros((2, values.shape[1])), np.zeros(2)
    directions[: len(found)] = found[:2]
    largest = np.abs(directions).argmax(axis=1)
    directions *= np.where(directions[[0, 1], largest] < 0, -1, 1)[:, np.newaxis]
    variances = np.square(lengths)
    shares[: len(variances)] = variances[:2] / max(variances.sum(), np.finfo(np.float64).tiny)
    return centre, directions, shares.tolist()
