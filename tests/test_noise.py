"""Random numbers: the published bits, a standard normal distribution, and independence of batches and order."""

from __future__ import annotations

import numpy as np
import pytest

from vaecli import noise


def test_the_bits_are_those_of_splitmix64() -> None:
    """The first outputs for seed 1234567, as other implementations print them."""
    expected = [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821,
    ]  # fmt: skip
    assert noise.bits(np.array([1234567], np.uint64), 5).tolist() == [expected]
    assert noise.bits(np.array([1234567], np.uint64), 2, start=3).tolist() == [expected[3:]]


def test_the_first_latents_of_a_seed_never_change() -> None:
    """A promise to scripts: the same seed, the same latents, with any version of NumPy."""
    expected = [[0.92156023, 2.2786734, 0.27516547], [-0.49457878, 0.059566282, -0.8771413]]
    np.testing.assert_allclose(noise.prior(1, 0, 2, 3), expected, rtol=1e-6)


@pytest.mark.parametrize("dimensions", [1, 4, 5])
def test_a_latent_depends_on_its_place_alone(dimensions: int) -> None:
    whole = noise.prior(7, 0, 100, dimensions)
    assert whole.shape == (100, dimensions)
    assert whole.dtype == np.float32
    assert np.array_equal(noise.prior(7, 90, 10, dimensions), whole[90:])


def test_seeds_of_64_bits_differ() -> None:
    seeds = [0, 1, 2**32, 2**64 - 1]
    assert len({noise.prior(seed, 0, 1, 4).tobytes() for seed in seeds}) == len(seeds)


def test_streams_and_pictures_differ() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1), np.uint8)
    digests = noise.digests(pictures)
    assert len(set(digests.tolist())) == 3
    assert noise.digests(pictures[::-1]).tolist() == digests[::-1].tolist()
    keys = {key for stream in ("prior", "posterior", "binarize") for key in noise.keys(1, stream, digests).tolist()}
    assert len(keys) == 9


def test_many_rows_are_the_same_in_parts() -> None:
    keys = noise.keys(3, "posterior", np.arange(4, dtype=np.uint64))
    whole = noise.normal(keys, 5, rows=12)
    assert whole.shape == (4, 12, 5)
    assert np.array_equal(noise.normal(keys, 5, rows=4, start=8), whole[:, 8:])


def test_normal_numbers_have_the_moments_of_the_normal_distribution() -> None:
    numbers = noise.prior(0, 0, 100_000, 4).astype(np.float64)
    assert np.abs(numbers.mean(axis=0)).max() < 0.015
    assert np.abs(numbers.var(axis=0) - 1).max() < 0.02
    assert np.abs((numbers**3).mean(axis=0)).max() < 0.05
    assert np.abs((numbers**4).mean(axis=0) - 3).max() < 0.15
    assert np.abs(np.corrcoef(numbers.T) - np.eye(4)).max() < 0.015
    assert np.abs((numbers[1:] * numbers[:-1]).mean(axis=0)).max() < 0.015
    assert 4 < np.abs(numbers).max() < 7


def test_uniform_numbers_fill_their_range_evenly() -> None:
    numbers = noise.uniform(noise.keys(0, "binarize", np.arange(100, dtype=np.uint64)), 1000)
    assert numbers.shape == (100, 1000)
    assert 0 <= numbers.min() < 0.001
    assert 0.999 < numbers.max() < 1
    counts, _ = np.histogram(numbers, 10, (0, 1))
    assert np.abs(counts / 10_000 - 1).max() < 0.05
