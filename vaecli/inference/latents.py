"""Points in latent space: drawn from a seed, and the ways from one to another."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
from numpy.random import default_rng  # now, not at the first draw: while it is imported Ctrl-C may go unheard
from numpy.typing import NDArray

Latents: TypeAlias = NDArray[np.float32]  # (n, d)
Vector: TypeAlias = NDArray[np.floating]  # (d,)
Method: TypeAlias = Literal["slerp", "lerp"]

PARALLEL = 1e-6  # radians from 0 or pi within which two directions span no plane worth walking in


def draws(n: int, latent_dim: int, seed: int, batch_size: int) -> Iterator[Latents]:
    """`n` latents of the standard normal prior, `batch_size` at a time: (batch, d) float32.

    The generator is read in order, so the batch size changes nothing, and the first 9 of 100 are those of 9.
    """
    generator = default_rng(seed)
    for start in range(0, n, batch_size):
        size = (min(batch_size, n - start), latent_dim)
        yield generator.standard_normal(size, dtype=np.float32)


def between(start: Vector, end: Vector, steps: int, method: Method = "slerp") -> Latents:
    """`steps` latents from `start` to `end`, both of them (d,) and both among the steps: (steps, d) float32.

    `lerp` is the straight line. `slerp` turns along the great arc from one direction to the other, as
    Shoemake does it for quaternions (Animating rotation with quaternion curves, SIGGRAPH 1985) and White for
    latents (Sampling generative networks, 2016, arXiv:1609.04468): with Omega the angle between the two,
    sin((1-t) Omega) / sin(Omega) * start + sin(t Omega) / sin(Omega) * end. Normal latents of many dimensions
    lie near a sphere, so the arc stays among likely ones where the line's middle falls short.

    Where there is no angle (one of the two is the origin) or no single arc (same or opposite directions, so
    always in one dimension), slerp is lerp.
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


def path(stops: Latents, steps: int, method: Method = "slerp") -> Latents:
    """Through all `stops` (k, d), `steps` from each to the next: ((k-1)*(steps-1)+1, d), each stop once."""
    legs = [between(a, b, steps, method) for a, b in pairwise(stops)]
    return np.concatenate([legs[0], *(leg[1:] for leg in legs[1:])])


def rows(walk: Latents, steps: int) -> Latents:
    """A `path` laid out in rows of `steps`: the stops between its legs end one row and begin the next."""
    starts = np.arange(0, len(walk) - 1, steps - 1)
    laid_out: Latents = walk[(starts[:, np.newaxis] + np.arange(steps)).ravel()]
    return laid_out
