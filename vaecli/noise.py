"""Random numbers that depend on a seed and a key alone: not on batches, order, threads or library versions.

NumPy may change how it turns random bits into normal numbers. "Same seed, same latents" is a promise to scripts, so
both steps stand here: SplitMix64 for the bits, Box-Muller for the normal distribution.
"""

from __future__ import annotations

import hashlib
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Words: TypeAlias = NDArray[np.uint64]
Normals: TypeAlias = NDArray[np.float32]
Stream: TypeAlias = Literal["prior", "posterior", "binarize", "choice", "label"]  # what the numbers are for

_STREAMS: dict[Stream, int] = {"prior": 1, "posterior": 2, "binarize": 3, "choice": 4, "label": 5}
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # SplitMix64's increment: 2**64 / golden ratio, odd
_HALF = np.float64(2**-32)


def splitmix64(state: Words) -> Words:
    """The output function of SplitMix64, which turns a counter into random bits.

    Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014; constants by Vigna.
    """
    mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def keys(seed: int, stream: Stream, parts: Words) -> Words:
    """One key for each of `parts` (n,): positions, or the digests of pictures."""
    with np.errstate(over="ignore"):
        base = splitmix64(np.array([seed], np.uint64) + _GOLDEN * np.uint64(_STREAMS[stream]))
        return splitmix64(splitmix64(parts + _GOLDEN) ^ base)


def digests(pictures: NDArray[np.uint8]) -> Words:
    """64 bits for each picture (n, h, w, c) by its content: equal pictures have equal ones. (n,)."""
    hashed = b"".join(hashlib.blake2b(picture.tobytes(), digest_size=8).digest() for picture in pictures)
    return np.frombuffer(hashed, "<u8").astype(np.uint64)


def bits(keys: Words, count: int, start: int = 0) -> Words:
    """Random words number `start` to `start + count` of each key: (n,) -> (n, count)."""
    counters = np.arange(start + 1, start + count + 1, dtype=np.uint64) * _GOLDEN
    return splitmix64(keys[:, np.newaxis] + counters)


def uniform(keys: Words, count: int) -> Normals:
    """Numbers in [0, 1), a multiple of 2**-24 each: (n,) -> (n, count) float32."""
    return (bits(keys, count) >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def normal(keys: Words, dimensions: int, rows: int = 1, start: int = 0) -> Normals:
    """Standard normal vectors number `start` to `start + rows` of each key: (n,) -> (n, rows, dimensions) float32.

    By Box and Muller (A note on the generation of random normal deviates, 1958), two numbers from each 64-bit word.
    It computes in float64: rounded to float32, the last bits of another math library's log or cos do not show.
    """
    pairs = -(-dimensions // 2)
    words = bits(keys, rows * pairs, start * pairs)
    radius = np.sqrt(-2 * np.log(((words >> np.uint64(32)).astype(np.float64) + 0.5) * _HALF))
    angle = (words & np.uint64(0xFFFFFFFF)).astype(np.float64) * (2 * np.pi * _HALF)
    numbers = np.empty((*words.shape, 2), np.float32)
    numbers[..., 0] = radius * np.cos(angle)
    numbers[..., 1] = radius * np.sin(angle)
    return numbers.reshape(len(keys), rows, 2 * pairs)[:, :, :dimensions]


def prior(seed: int, first: int, count: int, dimensions: int) -> Normals:
    """Latents number `first` to `first + count` of N(0, I) for a seed: (count, dimensions) float32."""
    positions = np.arange(first, first + count, dtype=np.uint64)
    return normal(keys(seed, "prior", positions), dimensions)[:, 0]


def choices(seed: int, first: int, count: int) -> Normals:
    """Numbers in [0, 1) beside the latents of `prior`, which pick a component for each: (count,) float32."""
    positions = np.arange(first, first + count, dtype=np.uint64)
    return uniform(keys(seed, "choice", positions), 1)[:, 0]


def labels(seed: int, first: int, count: int, shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """A class for each of the latents of `prior`, with these probabilities (k,): (count,) numbers below k."""
    positions = np.arange(first, first + count, dtype=np.uint64)
    drawn = uniform(keys(seed, "label", positions), 1)[:, 0]
    edges = np.cumsum(shares) / np.sum(shares)
    return np.minimum(np.searchsorted(edges, drawn, side="right"), len(shares) - 1)
