"""The fit of a prior: what it finds, when it finds nothing, and that it is the same every time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.exporting.clusters import clusters, of_classes
from vaecli.events import Event, Progress
from vaecli.exporting import em, prior_fit
from vaecli.exporting.posteriors import Posteriors
from vaecli.exporting.prior_fit import fit
from vaecli.inference.mixture import Mixture, log_normal
from vaecli.model_format import LARGEST_FITTED


def test_clusters_are_found() -> None:
    told: list[Event] = []
    mixture = fit(clusters(2000), seed=1, on_event=told.append)
    assert mixture is not None
    assert mixture.components >= 4
    assert told == [Progress("fitting the prior", at, None, "mixtures") for at in range(1, len(told) + 1)]
    assert len(told) > 3
    fresh = clusters(500, seed=1).draws(np.random.default_rng(1))
    # Each latent is known up to its cluster: the entropy of the true mixture, with variance 0.2² + 0.1².
    entropy = np.log(4) + 1 + np.log(2 * np.pi * 0.05)
    assert mixture.log_density(fresh).mean() == pytest.approx(-entropy, abs=0.05)
    assert log_normal(fresh).mean() < -entropy - 1
    np.testing.assert_allclose(mixture.mean, 0, atol=0.1)
    np.testing.assert_allclose(mixture.std, np.sqrt(1.05), atol=0.05)


def test_the_posteriors_width_counts() -> None:
    """Means in a point, and wide posteriors: the prior is as wide as they are."""
    mixture = fit(Posteriors(np.zeros((400, 3)), np.full((400, 3), 0.5)), seed=1)
    assert mixture is not None
    np.testing.assert_allclose(mixture.std, 0.5, rtol=0.02)


@pytest.mark.parametrize("dimensions", [2, em.MAX_PACKED_DIMENSIONS + 1])
@pytest.mark.parametrize("width", [1e-2, 1e-4, 1e-9])
def test_clusters_much_narrower_than_their_distance_are_fitted(dimensions: int, width: float) -> None:
    """Where float32 would lose the variances: autoencoders that are trained without the KL have such latents."""
    generator = np.random.default_rng(0)
    places = generator.choice([-10.0, 10.0], (400, 1)) * np.ones(dimensions)
    latents = Posteriors(places + width * generator.standard_normal(places.shape), np.full(places.shape, width))
    mixture = fit(latents, seed=1)
    assert mixture is not None
    assert np.isfinite(mixture.factors).all()
    np.testing.assert_allclose(mixture.std, 10, rtol=0.1)
    if dimensions == 2:
        assert mixture.log_density(latents.mean).mean() > log_normal(latents.mean / 10).mean() + 5


def test_a_prior_that_is_needed_is_fitted_even_if_n01_is_better() -> None:
    two = Posteriors(np.array([[4.0, 4.0], [-4.0, -4.0]]), np.full((2, 2), 0.1))  # one is held out of the fit
    assert fit(two, seed=1) is None, "else this test says nothing"
    assert fit(two, seed=1, even_if_worse=True) is not None


def test_where_the_latents_are_standard_normal_there_is_no_mixture_or_a_harmless_one() -> None:
    generator = np.random.default_rng(0)
    latents = Posteriors(0.8 * generator.standard_normal((3000, 4)), np.full((3000, 4), 0.6))
    mixture = fit(latents, seed=1)
    fresh = generator.standard_normal((5000, 4))
    assert mixture is None or mixture.log_density(fresh).mean() > log_normal(fresh).mean() - 0.02


def test_one_picture_has_no_mixture() -> None:
    assert fit(Posteriors(np.zeros((1, 2)), np.full((1, 2), 0.1)), seed=1) is None


@pytest.mark.parametrize("n", [2, 3, 25])
def test_a_handful_of_pictures_has_one_gaussian_or_none(n: int) -> None:
    narrow = Posteriors(clusters(n).mean / 10, np.full((n, 2), 0.1))
    mixture = fit(narrow, seed=1)
    assert mixture is not None
    assert mixture.components == 1
    assert mixture.log_density(np.zeros((1, 2))) > log_normal(np.zeros((1, 2)))
    wide = fit(clusters(n), seed=1)  # too few to see four clusters
    assert wide is None or wide.components == 1


def test_more_dimensions_than_pictures_are_better_than_the_standard_normal() -> None:
    """Latents in a plane of 300 dimensions: a covariance from 60 pictures alone would not suit others."""
    generator = np.random.default_rng(0)
    plane = generator.standard_normal((4, 300))

    def pictures(n: int) -> Posteriors:
        return Posteriors(0.4 * generator.standard_normal((n, 4)) @ plane, np.full((n, 300), 0.7))

    mixture = fit(pictures(60), seed=1)
    assert mixture is not None
    fresh = pictures(200).draws(generator)
    assert mixture.log_density(fresh).mean() > log_normal(fresh).mean() + 10


def test_the_same_pictures_and_seed_give_the_same_mixture() -> None:
    first, again, other = (fit(clusters(300), seed) for seed in (1, 1, 2))
    assert first is not None
    assert again is not None
    assert other is not None
    np.testing.assert_array_equal(first.means, again.means)
    np.testing.assert_array_equal(first.factors, again.factors)
    assert first.means.shape != other.means.shape or not np.array_equal(first.means, other.means)


def test_very_many_dimensions_have_no_mixture() -> None:
    size = LARGEST_FITTED + 1
    assert fit(Posteriors(np.zeros((10, size)), np.full((10, size), 0.5)), seed=1) is None


def test_the_covariances_stay_within_their_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior_fit, "MAX_FACTOR_ELEMENTS", 4 * 2**2)
    mixture = fit(clusters(2000), seed=1)
    assert mixture is not None
    assert mixture.components <= 4


def test_each_component_is_of_a_class() -> None:
    pictures = clusters(2000)
    right, up = pictures.mean.T > 0
    mixture = fit(of_classes(pictures, right + 2 * (up & right)), seed=1)  # left; lower right; upper right
    assert mixture is not None
    assert len(mixture.class_sizes) == 3
    assert sum(mixture.class_sizes) == mixture.components
    generator = np.random.default_rng(1)
    for label, share in enumerate((0.5, 0.25, 0.25)):
        alone = mixture.of_class(label)
        noise = generator.standard_normal((500, 2)).astype(np.float32)
        latents = alone.latents(noise, generator.random(500).astype(np.float32))
        found = (latents[:, 0] > 0) + 2 * ((latents > 0).all(axis=1))
        assert (found == [0, 1, 3][label]).mean() > 0.99
        start = sum(mixture.class_sizes[:label])
        weights = np.exp(mixture.log_weights[start : start + mixture.class_sizes[label]])
        assert weights.sum() == pytest.approx(share, abs=0.03)
    fresh = clusters(500, seed=1).draws(generator)
    assert mixture.log_density(fresh).mean() == pytest.approx(-(np.log(4) + 1 + np.log(2 * np.pi * 0.05)), abs=0.05)


def test_classes_that_tell_nothing_are_left_out() -> None:
    """Two hundred classes at random: a component for each would know less of the others' pictures."""
    mixture = fit(of_classes(clusters(1000), np.random.default_rng(2).integers(0, 200, 1000)), seed=1)
    assert mixture is not None
    assert mixture.class_sizes == ()
    assert mixture.components < 200


def test_a_class_of_one_picture_has_a_component() -> None:
    pictures = clusters(1000)
    labels = (pictures.mean[:, 0] > 0).astype(np.int64)
    labels[0] = 2
    mixture = fit(of_classes(pictures, labels), seed=1)
    assert mixture is not None
    assert mixture.class_sizes[2] == prior_fit.AVERAGED_FITS
    np.testing.assert_array_less(np.abs(mixture.of_class(2).means[0]), 2)


def surface(n: int, seed: int) -> Posteriors:
    """Posteriors on a curved surface of three dimensions in eight, which no number of Gaussians fits exactly."""
    along = np.random.default_rng(seed).uniform(-2, 2, (n, 3))
    directions = np.random.default_rng(0).standard_normal((3, 8))
    return Posteriors(np.sin(along @ directions), np.full((n, 8), 0.1))


def test_the_mean_of_two_fits_is_better_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = surface(1000, seed=9).draws(np.random.default_rng(9))
    densities = {}
    for count in (1, 2):
        monkeypatch.setattr(prior_fit, "AVERAGED_FITS", count)
        found = [fit(surface(600, seed), seed) for seed in range(5)]
        densities[count] = [mixture.log_density(fresh).mean() for mixture in found if mixture is not None]
        assert all(np.exp(mixture.log_weights).sum() == pytest.approx(1) for mixture in found if mixture is not None)
    assert np.mean(densities[2]) > np.mean(densities[1]) + 0.05


@pytest.mark.parametrize("by_class", [True, False])
def test_more_pictures_than_were_searched_have_more_components(by_class: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, chosen = surface(4500, seed=1), []
    if by_class:
        labels = np.arange(4500) % 2
        pictures = of_classes(Posteriors(pictures.mean + 4 * labels[:, np.newaxis], pictures.std), labels)
    averaged = prior_fit.averaged_mixture

    def kept(pictures: Posteriors, candidate: prior_fit.Candidate, *rest: Any) -> Mixture:
        chosen.append(candidate)
        return averaged(pictures, candidate, *rest)

    monkeypatch.setattr(prior_fit, "averaged_mixture", kept)
    monkeypatch.setattr(prior_fit, "MAX_SEARCH_PICTURES", 500)
    mixture = fit(pictures, seed=1)
    assert mixture is not None
    (candidate,) = chosen
    assert candidate.by_class == by_class
    assert mixture.components == prior_fit.AVERAGED_FITS * 3 * sum(candidate.component_counts), (
        "the root of nine times the pictures"
    )
    assert mixture.class_sizes == (
        tuple(prior_fit.AVERAGED_FITS * 3 * count for count in candidate.component_counts) if by_class else ()
    )
