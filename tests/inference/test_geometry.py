"""Interpolations, traversals and planes in latent space."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from tests.tiny_model import two_gaussians
from vaecli import noise
from vaecli.inference.geometry import along, between, path, plane, principal_components, rows, spaced, string
from vaecli.inference.mixture import Mixture


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
    a, b = noise.prior(3, 0, 2, 20)
    walk = between(a, b, 9, method)  # type: ignore[arg-type]  # parametrised
    assert np.allclose(walk[[0, -1]], [a, b], atol=1e-6)


def test_a_path_passes_each_stop_once() -> None:
    stops = noise.prior(0, 0, 4, 6)
    walk = path(stops, lambda a, b: between(a, b, 5))
    assert walk.shape == (3 * 4 + 1, 6)
    assert np.allclose(walk[::4], stops, atol=1e-6)


def test_rows_begin_and_end_at_stops() -> None:
    stops = noise.prior(0, 0, 3, 6)
    laid_out = rows(path(stops, lambda a, b: between(a, b, 4)), steps=4).reshape(2, 4, 6)
    assert np.allclose(laid_out[:, 0], stops[:-1], atol=1e-6)
    assert np.allclose(laid_out[:, -1], stops[1:], atol=1e-6)


def three_gaussians() -> Mixture:
    """Two on a line, the third far beside the middle between them."""
    means = np.array([[-4.0, 0], [4.0, 0], [0, 3.0]])
    return Mixture(np.log(np.full(3, 1 / 3)), means, np.stack([np.eye(2)] * 3))


def test_a_string_leads_through_the_mass_of_the_prior() -> None:
    mixture = three_gaussians()
    start, end = np.array([-5.0, -0.5], np.float32), np.array([5.0, -0.5], np.float32)
    found = string(start, end, mixture)
    assert np.array_equal(found[[0, -1]], [start, end])
    assert np.linalg.norm(found[2] - mixture.means[2]) < 0.5, "the detour over the third"
    straight = np.linspace(start, end, len(found))
    assert mixture.log_density(found)[1:-1].min() > mixture.log_density(straight)[1:-1].min() + 1
    steps = np.linalg.norm(np.diff(found, axis=0), axis=1)
    assert steps.max() < 1.2 * steps.min()


@pytest.mark.parametrize("apart", [0.0, 0.1])
def test_like_latents_have_a_short_string(apart: float) -> None:
    start = np.array([-5.0, 1.5], np.float32)
    found = string(start, start + np.float32(apart), three_gaussians())
    assert np.isfinite(found).all()
    assert np.linalg.norm(found - start, axis=1).max() <= 3 * apart


def test_points_are_spaced_evenly_along_a_line_or_by_given_lengths() -> None:
    line = np.array([[0.0, 0], [3, 0], [3, 1]])
    assert np.allclose(spaced(line, 5), [[0, 0], [1, 0], [2, 0], [3, 0], [3, 1]])
    assert np.allclose(spaced(line, 3, np.array([1.0, 1.0])), line)
    assert np.allclose(spaced(np.ones((3, 2)), 4), 1), "a line of no length"


def test_walks_move_one_dimension_each() -> None:
    start = np.array([5, 6, 7], np.float32)
    walks = along(start, [2, 0], [[-2, -1, 0, 1, 2], [0, 1, 2, 3, 4]]).reshape(2, 5, 3)
    assert np.array_equal(walks[0, :, 2], [-2, -1, 0, 1, 2])
    assert np.array_equal(walks[1, :, 0], [0, 1, 2, 3, 4])
    assert (walks[0, :, :2] == start[:2]).all()
    assert (walks[1, :, 1:] == start[1:]).all()


def test_the_plane_is_one_of_quantiles() -> None:
    """Every picture stands for the same share of the prior; values grow to the right and upwards."""
    side = 5
    found = plane(3, (2, 0), side)
    latents = found.latents.reshape(side, side, 3)
    shares = [NormalDist().cdf(float(value)) for value in latents[0, :, 2]]
    assert np.allclose(shares, [0.1, 0.3, 0.5, 0.7, 0.9])
    assert np.allclose(latents[0, :, 2], found.columns)
    assert np.allclose(latents[::-1, 0, 0], found.rows)
    assert np.array_equal(latents[:, 0, 0], latents[0, ::-1, 2])
    assert (latents[:, :, 2] == latents[0, :, 2]).all()
    assert (latents[:, :, 1] == 0).all()


def test_the_plane_of_a_mixture_is_at_its_own_quantiles() -> None:
    """The mass of the prior, not the mass of N(0, I); the other dimension is where the prior has it there."""
    mixture = two_gaussians(3)
    found = plane(3, (0, 1), 4, mixture)
    assert np.allclose(found.columns, mixture.quantiles(0, np.array([0.125, 0.375, 0.625, 0.875])))
    latents = found.latents.reshape(4, 4, 3)
    assert np.allclose(latents[:, :, 0], found.columns, atol=1e-6)
    assert np.allclose(latents[::-1, :, 1].T, found.rows, atol=1e-6)
    assert latents[-1, 0, 2] == pytest.approx(-4, abs=1)
    assert latents[0, -1, 2] == pytest.approx(4, abs=1)


def test_principal_components_are_those_of_the_covariance() -> None:
    generator = np.random.default_rng(0)
    latents = generator.standard_normal((300, 5)) @ generator.standard_normal((5, 5)) + 7
    values, vectors = np.linalg.eigh(np.cov(latents.T))
    centre, directions, shares = principal_components(latents)
    np.testing.assert_allclose(centre, latents.mean(axis=0))
    np.testing.assert_allclose(shares, values[:-3:-1] / values.sum())
    np.testing.assert_allclose(np.abs(directions), np.abs(vectors[:, :-3:-1].T), atol=1e-9)


def test_the_sign_of_a_component_is_fixed() -> None:
    latents = np.random.default_rng(0).standard_normal((50, 4)) * [1, 2, 3, 4]
    _, directions, _ = principal_components(latents)
    assert directions[0, 3] > 0.8
    assert directions[1, 2] > 0.8
    _, mirrored, _ = principal_components(-latents)
    np.testing.assert_allclose(mirrored, directions, atol=1e-12)


def test_components_that_are_not_there_are_0() -> None:
    _, directions, shares = principal_components(np.array([[1.0], [3.0]], np.float32))
    assert directions.tolist() == [[1.0], [0.0]]
    assert shares == [1, 0]
    assert principal_components(np.ones((5, 3)))[2] == [0, 0]
