"""The fit of a prior: what it finds, when it finds nothing, and that it is the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from vaecli.exporting import prior
from vaecli.exporting.prior import Posteriors, fit
from vaecli.inference.prior import log_normal


def clusters(n: int, spread: float = 0.2, std: float = 0.1, seed: int = 0) -> Posteriors:
    """Posteriors about four centres on the corners of a square, in two dimensions."""
    generator = np.random.default_rng(seed)
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])[generator.integers(0, 4, n)]
    return Posteriors(corners + spread * generator.standard_normal((n, 2)), np.full((n, 2), std))


def test_clusters_are_found() -> None:
    mixture = fit(clusters(2000), seed=1)
    assert mixture is not None
    assert mixture.components >= 4
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


def test_where_the_latents_are_standard_normal_there_is_no_mixture_or_a_harmless_one() -> None:
    generator = np.random.default_rng(0)
    latents = Posteriors(0.8 * generator.standard_normal((3000, 4)), np.full((3000, 4), 0.6))
    mixture = fit(latents, seed=1)
    fresh = generator.standard_normal((5000, 4))
    assert mixture is None or mixture.log_density(fresh).mean() > log_normal(fresh).mean() - 0.02


@pytest.mark.parametrize("n", [2, 3, 25])
def test_a_handful_of_pictures_has_one_gaussian_or_none(n: int) -> None:
    narrow = Posteriors(clusters(n).mean / 10, np.full((n, 2), 0.1))
    mixture = fit(narrow, seed=1)
    assert mixture is not None
    assert mixture.components == 1
    assert mixture.log_density(np.zeros((1, 2))) > log_normal(np.zeros((1, 2)))
    wide = fit(clusters(n), seed=1)  # too few to see four clusters
    assert wide is None or wide.components == 1


@pytest.mark.parametrize("shrinkage", [0.5, 30.0])
def test_with_and_without_packed_expectations_a_step_is_the_same(
    shrinkage: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EM on latents of many dimensions goes from component to component: the same numbers."""
    pictures, generator = clusters(500), np.random.default_rng(3)
    pictures = Posteriors(pictures.mean, generator.uniform(0.05, 0.4, pictures.std.shape))
    found = []
    for packed in (prior.PACKED, 1):
        monkeypatch.setattr(prior, "PACKED", packed)
        moments = prior._moments(pictures)
        assert isinstance(moments, Posteriors) == (packed == 1)
        sums = prior._start(moments, 5, 2, np.random.default_rng(1))
        shares, bound = prior._shares(moments, prior._mixture(sums, 2, shrinkage))
        found.append((sums, shares, np.array(bound), prior._sums(shares, moments)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-5)


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
    size = prior.LARGEST_LATENT + 1
    assert fit(Posteriors(np.zeros((10, size)), np.full((10, size), 0.5)), seed=1) is None


def test_the_covariances_stay_within_their_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior, "FACTOR_NUMBERS", 4 * 2**2)
    mixture = fit(clusters(2000), seed=1)
    assert mixture is not None
    assert mixture.components <= 4
