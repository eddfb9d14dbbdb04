"""Expectation maximisation: its two steps, on packed moments and from component to component."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.command_line import PROJECT
from tests.exporting.clusters import clusters, of_classes
from vaecli.exporting import em
from vaecli.exporting.posteriors import Posteriors
from vaecli.exporting.prior_fit import fit


def test_it_is_imported_without_pytorch_and_onnx() -> None:
    program = "import sys; sys.modules.update(torch=None, onnx=None, onnxruntime=None); import vaecli.exporting.em"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PROJECT)


def test_it_finds_the_components_of_clusters() -> None:
    pictures = clusters(2000)
    moments = em.moments_of(pictures)
    halves = [np.flatnonzero(pictures.mean[:, 0] < 0), np.flatnonzero(pictures.mean[:, 0] > 0)]
    start = em.start_in_groups(moments, halves, (2, 2), 2, np.random.default_rng(2))
    assert start.shape == (4, em.column_count(2))
    np.testing.assert_allclose(start[:, -1].sum(), 2000)
    mixture = em.mixture_of(em.converged(moments, start, 2, 1.0, None), 2, 1.0)
    order = np.arctan2(mixture.means[:, 1], mixture.means[:, 0]).argsort()
    np.testing.assert_allclose(mixture.means[order], [[-1, -1], [1, -1], [1, 1], [-1, 1]], atol=0.05)
    np.testing.assert_allclose(np.exp(mixture.log_weights), 0.25, atol=0.03)
    covariances = mixture.factors @ mixture.factors.swapaxes(1, 2)
    np.testing.assert_allclose(covariances, np.broadcast_to((0.2**2 + 0.1**2) * np.eye(2), (4, 2, 2)), atol=0.02)


def test_each_iteration_raises_the_bound() -> None:
    moments = em.moments_of(clusters(500))
    sums, bounds = em.start(moments, 4, 2, np.random.default_rng(0)), list[float]()
    for _ in range(5):
        sums, bound = em.iteration(moments, em.mixture_of(sums, 2, shrinkage=0.0))
        np.testing.assert_allclose(sums[:, -1].sum(), 500, rtol=1e-5)
        bounds.append(bound)
    assert bounds[-1] > bounds[0]
    assert min(np.diff(bounds)) > -1e-3, "the common covariance and the weights are not those of the bound alone"


def test_the_common_covariance_of_few_pictures_is_near_that_of_the_standard_normal() -> None:
    (factor,) = em.mixture_of(np.zeros((1, em.column_count(5))), 5, 10.0).factors
    np.testing.assert_allclose(factor, np.eye(5), err_msg="without any picture it is that")
    few = em.moments_of(Posteriors(np.random.default_rng(0).normal(size=(3, 20)), np.full((3, 20), 1e-6)))
    (factor,) = em.mixture_of(em.weighted_sums(np.ones((3, 1), np.float32), few), 20, 10.0).factors
    assert np.linalg.eigvalsh(factor @ factor.T).min() > 0.3, "three pictures say nothing of 18 dimensions"


def test_a_mean_far_from_0_is_fitted_as_well() -> None:
    near = clusters(500)
    far = replace(near, mean=near.mean + 1000)
    one, other = fit(near, seed=1), fit(far, seed=1)
    assert one is not None
    assert other is not None
    assert other.mean == pytest.approx(one.mean + 1000, abs=0.01)
    assert other.std == pytest.approx(one.std, rel=0.05)


def test_a_group_without_pictures_starts_from_nothing() -> None:
    groups = [np.arange(20), np.arange(0)]
    sums = em.start_in_groups(em.moments_of(clusters(20)), groups, (2, 1), 2, np.random.default_rng(0))
    assert sums.shape == (3, em.column_count(2))
    assert not sums[2].any()
    assert np.isfinite(em.mixture_of(sums, 2, 10.0).means).all()


@pytest.mark.parametrize("shrinkage", [0.5, 30.0])
def test_with_and_without_packed_moments_a_step_is_the_same(shrinkage: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """EM on latents of many dimensions goes from component to component: the same numbers."""
    pictures, generator = clusters(500), np.random.default_rng(3)
    pictures = Posteriors(pictures.mean, generator.uniform(0.05, 0.4, pictures.std.shape))
    found = []
    for packed in (em.MAX_PACKED_DIMENSIONS, 1):
        monkeypatch.setattr(em, "MAX_PACKED_DIMENSIONS", packed)
        moments = em.moments_of(pictures)
        assert isinstance(moments, Posteriors) == (packed == 1)
        sums = em.start(moments, 5, 2, np.random.default_rng(1))
        after, bound = em.iteration(moments, em.mixture_of(sums, 2, shrinkage))
        found.append((sums, after, np.array(bound)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-5)


def test_with_and_without_packed_moments_a_class_excludes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures of a class count in its own components, all of them and no others."""
    pictures = of_classes(clusters(300), np.arange(300) // 150 + np.arange(300) % 2)  # 75, 150 and 75 of the classes
    found = []
    for packed in (em.MAX_PACKED_DIMENSIONS, 1):
        monkeypatch.setattr(em, "MAX_PACKED_DIMENSIONS", packed)
        moments, mask = em.moments_of(pictures), em.ClassMask.of(pictures, (1, 2, 1))
        sums = em.start(moments, 4, 2, np.random.default_rng(1))
        after, _ = em.iteration(moments, em.mixture_of(sums, 2, 10.0), mask)
        counts = np.add.reduceat(after[:, -1], [0, 1, 3])
        np.testing.assert_allclose(counts, [75, 150, 75], rtol=1e-5)
        found.append(after)
    np.testing.assert_allclose(found[0], found[1], rtol=2e-4, atol=1e-4)


def test_shares_are_of_one_picture_and_none_is_of_an_excluded_component() -> None:
    generator = np.random.default_rng(0)
    excluded = generator.random((300, 4)) < 0.5
    excluded[:, 2] = False
    shares, _ = em._responsibilities(generator.normal(0, 60, (300, 4)).astype(np.float32), excluded)
    assert not shares[excluded].any()
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = em.moments_of(clusters(1200))
    start = em.start(moments, 5, 2, np.random.default_rng(0))
    found = []
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found.append(em.converged(moments, start, 2, 1.0, None))
    np.testing.assert_array_equal(found[0], found[1])
