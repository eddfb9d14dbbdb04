"""Latents: the same for any batch size, and the ways between them."""

from __future__ import annotations

import numpy as np
import pytest

from vaecli.inference.latents import between, draws, path, rows


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100, 1000])
def test_the_batch_size_changes_no_latent(batch_size: int) -> None:
    whole = np.concatenate(list(draws(100, 5, seed=1, batch_size=64)))
    assert np.array_equal(np.concatenate(list(draws(100, 5, seed=1, batch_size=batch_size))), whole)
    assert whole.shape == (100, 5)
    assert whole.dtype == np.float32


def test_fewer_latents_are_the_first_of_many() -> None:
    many, few = (np.concatenate(list(draws(n, 5, seed=1, batch_size=32))) for n in (100, 9))
    assert np.array_equal(many[:9], few)


def test_seeds_of_64_bits_differ() -> None:
    seeds = [0, 1, 2**32, 2**64 - 1]
    assert len({next(draws(1, 4, seed, 1)).tobytes() for seed in seeds}) == len(seeds)


def test_latents_are_standard_normal() -> None:
    latents = next(draws(20_000, 4, seed=0, batch_size=20_000))
    assert np.abs(latents.mean(axis=0)).max() < 0.03
    assert np.abs(latents.std(axis=0) - 1).max() < 0.03


def test_slerp_turns_evenly_and_keeps_the_length() -> None:
    arc = between(np.array([2.0, 0, 0]), np.array([0, 2.0, 0]), steps=7)
    angles = np.arctan2(arc[:, 1], arc[:, 0])
    assert np.allclose(np.linalg.norm(arc, axis=1), 2, atol=1e-6)
    assert np.allclose(np.degrees(angles), np.linspace(0, 90, 7), atol=1e-4)


def test_slerp_of_unequal_lengths_follows_its_formula() -> None:
    a, b = np.array([1.0, 2.0, 0.5]), np.array([-0.5, 1.0, 3.0])
    angle = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    third = (np.sin(2 / 3 * angle) * a + np.sin(1 / 3 * angle) * b) / np.sin(angle)
    assert np.allclose(between(a, b, steps=4)[1], third, atol=1e-6)


def test_lerp_is_a_straight_line() -> None:
    a, b = np.array([1.0, -1.0]), np.array([3.0, 0.0])
    assert np.allclose(between(a, b, 5, "lerp"), np.linspace(a, b, 5))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([0.0, 0.0], [1.0, 2.0]),
        ([1.0, 2.0], [0.0, 0.0]),
        ([0.0, 0.0], [0.0, 0.0]),
        ([1.0, 2.0], [1.0, 2.0]),
        ([1.0, 2.0], [3.0, 6.0]),
        ([1.0, 2.0], [-1.0, -2.0]),
        ([1.5], [-0.5]),
    ],
    ids=["from origin", "to origin", "both origin", "same", "parallel", "opposite", "one dimension"],
)
def test_slerp_without_an_angle_is_lerp(a: list[float], b: list[float]) -> None:
    walk = between(np.array(a), np.array(b), steps=5)
    assert np.allclose(walk, np.linspace(a, b, 5), atol=1e-6)


@pytest.mark.parametrize("method", ["slerp", "lerp"])
def test_both_ends_are_exact(method: str) -> None:
    a, b = next(draws(2, 20, seed=3, batch_size=2))
    walk = between(a, b, 9, method)  # type: ignore[arg-type]  # parametrised
    assert np.allclose(walk[[0, -1]], [a, b], atol=1e-6)


def test_a_path_passes_each_stop_once() -> None:
    stops = next(draws(4, 6, seed=0, batch_size=4))
    walk = path(stops, steps=5)
    assert walk.shape == (3 * 4 + 1, 6)
    assert np.allclose(walk[::4], stops, atol=1e-6)


def test_rows_begin_and_end_at_stops() -> None:
    stops = next(draws(3, 6, seed=0, batch_size=3))
    laid_out = rows(path(stops, steps=4), steps=4).reshape(2, 4, 6)
    assert np.allclose(laid_out[:, 0], stops[:-1], atol=1e-6)
    assert np.allclose(laid_out[:, -1], stops[1:], atol=1e-6)
