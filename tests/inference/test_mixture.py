"""A mixture as prior: its draws, its density and gradient, and the files that are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.tiny_model import edit, two_gaussians, write_pair, write_prior
from vaecli import load, noise
from vaecli.errors import VaeError
from vaecli.inference.mixture import Mixture, draw, log_normal


@pytest.fixture
def mixture() -> Mixture:
    return two_gaussians(3)


def density(mixture: Mixture, latent: np.ndarray) -> float:
    """p(z) by its definition, for one latent."""
    total = 0.0
    for log_weight, mean, factor in zip(mixture.log_weights, mixture.means, mixture.factors, strict=True):
        covariance, apart = factor @ factor.T, latent - mean
        volume = np.sqrt(np.linalg.det(2 * np.pi * covariance))
        total += np.exp(log_weight - 0.5 * apart @ np.linalg.inv(covariance) @ apart) / volume
    return total


def test_the_log_density_is_that_of_its_definition(mixture: Mixture) -> None:
    latents = draw(mixture, 1, 0, 50, 3)
    expected = [np.log(density(mixture, latent.astype(np.float64))) for latent in latents]
    np.testing.assert_allclose(mixture.log_density(latents), expected, rtol=1e-9)
    shaped = mixture.log_density(latents.reshape(5, 10, 3))
    assert shaped.shape == (5, 10)
    np.testing.assert_array_equal(shaped.ravel(), mixture.log_density(latents))
    assert np.isfinite(mixture.log_density(np.full((1, 3), 1e3))).all(), "far away nothing underflows"


def test_the_log_density_of_narrow_components_far_from_the_mean() -> None:
    """Their polynomials have large coefficients, which cancel."""
    generator = np.random.default_rng(0)
    means = generator.normal(0, 3, (40, 10)).astype(np.float32)
    factors = np.tril(generator.normal(0, 1e-3, (40, 10, 10)), -1) + 0.01 * np.eye(10)
    mixture = Mixture(np.full(40, -np.log(40)), means, factors)
    latents = draw(mixture, 1, 0, 50, 10)
    expected = [np.log(density(mixture, latent.astype(np.float64))) for latent in latents]
    np.testing.assert_allclose(mixture.log_density(latents), expected, atol=1e-8)


def test_one_standard_component_is_the_standard_normal() -> None:
    standard = Mixture(np.zeros(1), np.zeros((1, 4)), np.eye(4)[np.newaxis])
    latents = draw(standard, 1, 0, 20, 4)
    np.testing.assert_array_equal(latents, draw(None, 1, 0, 20, 4))
    np.testing.assert_allclose(standard.log_density(latents), log_normal(latents), rtol=1e-12)


def test_each_component_has_its_share_of_a_latent(mixture: Mixture) -> None:
    """p(k|z), by Bayes' rule from the densities of the components alone."""
    latents = np.concatenate([draw(mixture, 1, 0, 5, 3), np.zeros((1, 3))])
    weighed = [
        weight * np.exp(Mixture(np.zeros(1), mean[np.newaxis], factor[np.newaxis]).log_density(latents))
        for weight, mean, factor in zip(np.exp(mixture.log_weights), mixture.means, mixture.factors, strict=True)
    ]
    np.testing.assert_allclose(mixture.shares(latents), (np.stack(weighed) / sum(weighed)).T, rtol=1e-9)


def test_mean_shift_goes_uphill_to_a_mode(mixture: Mixture) -> None:
    latents = np.array([[-3.0, -5, -4], [3, 6, 4], [-1, -1, -1], [1, 0.5, 1]])
    moved = mixture.mean_shift_step(latents)
    assert (mixture.log_density(moved) > mixture.log_density(latents)).all()
    for _ in range(20):
        moved = mixture.mean_shift_step(moved)
    nearest = np.linalg.norm(moved[:, np.newaxis] - mixture.means, axis=2).min(axis=1)
    np.testing.assert_allclose(nearest, 0, atol=1e-6)


def test_draws_have_the_moments_of_the_mixture(mixture: Mixture) -> None:
    latents = draw(mixture, 1, 0, 20_000, 3)
    np.testing.assert_allclose(latents.mean(axis=0), mixture.mean, atol=0.1)
    np.testing.assert_allclose(latents.std(axis=0), mixture.std, rtol=0.03)
    assert (latents[:, 0] < 0).mean() == pytest.approx(0.25, abs=0.01)
    first = mixture.factors[0] @ mixture.factors[0].T
    np.testing.assert_allclose(np.cov(latents[latents[:, 0] < 0].T), first, rtol=0.1)


def test_quantiles_part_the_draws(mixture: Mixture) -> None:
    latents = draw(mixture, 1, 0, 20_000, 3)
    shares = np.array([0.001, 0.1, 0.25, 0.5, 0.9, 0.999])
    for dimension in range(3):
        found = mixture.quantiles(dimension, shares)
        below = (latents[:, dimension, np.newaxis] < found).mean(axis=0)
        np.testing.assert_allclose(below, shares, atol=0.01)


def test_quantiles_of_one_component_are_those_of_a_normal_distribution() -> None:
    one = Mixture(np.zeros(1), np.array([[1.0, -2.0]]), np.array([[[2.0, 0.0], [3.0, 4.0]]]))
    shares = np.array([0.01, 0.5, 0.8])
    for dimension, normal in enumerate((NormalDist(1, 2), NormalDist(-2, 5))):
        expected = [normal.inv_cdf(float(share)) for share in shares]
        np.testing.assert_allclose(one.quantiles(dimension, shares), expected, rtol=1e-12)


def test_the_likeliest_latents_are_modes_of_the_density(mixture: Mixture) -> None:
    """Of all latents with these values, in two components that are far apart; between them in one of the two."""
    given = np.array([[-4.0, -4.1], [4.3, 3.9], [-0.8, -0.9], [0.9, 1.0]])
    line = np.linspace(-12, 12, 24_001)
    for found, (first, last) in zip(mixture.likeliest((0, 2), given), given, strict=True):
        latents = np.stack([np.full_like(line, first), line, np.full_like(line, last)], axis=1)
        best = line[mixture.log_density(latents).argmax()]
        np.testing.assert_allclose(found, [first, best, last], atol=2e-3)


def test_a_draw_depends_on_the_seed_and_its_number_alone(mixture: Mixture) -> None:
    whole = draw(mixture, 5, 0, 40, 3)
    parts = [draw(mixture, 5, first, 1 + first % 7, 3) for first in range(40)]
    for first, part in enumerate(parts):
        np.testing.assert_array_equal(part[: 40 - first], whole[first : first + len(part)])
    assert not np.allclose(draw(mixture, 6, 0, 40, 3), whole)


def test_the_temperature_scales_within_a_component(mixture: Mixture) -> None:
    normal, choice = noise.prior(1, 0, 30, 3), noise.choices(1, 0, 30)
    cold, warm = mixture.latents(normal, choice, 0), mixture.latents(normal, choice)
    assert {tuple(latent) for latent in cold} == {tuple(mean) for mean in mixture.means}
    half = mixture.latents(normal, choice, 0.5)
    np.testing.assert_allclose(half - cold, (warm - cold) / 2, atol=1e-6)


def test_the_choice_picks_by_cumulative_weight(mixture: Mixture) -> None:
    choice = np.array([0, 0.2499, 0.25, 0.9999999], np.float32)
    chosen = mixture.latents(np.zeros((4, 3), np.float32), choice)
    np.testing.assert_array_equal(chosen[:, 0], [-4, -4, 4, 4])


def test_a_prior_beside_a_pair_is_read(tmp_path: Path) -> None:
    write_prior(write_pair(tmp_path), two_gaussians())
    model = load(tmp_path)
    assert model.pair.prior is not None
    np.testing.assert_array_equal(model.pair.prior.means, two_gaussians().means)
    np.testing.assert_array_equal(model.pair.prior.factors, two_gaussians().factors)


def change(name: str, value: Callable[[np.ndarray], object]) -> Callable[[onnx.ModelProto], None]:
    """Change one of the constants in a prior's file."""

    def apply(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.name == name:
                array = np.array(numpy_helper.to_array(tensor))
                changed = np.asarray(value(array), array.dtype)
                tensor.CopyFrom(numpy_helper.from_array(changed, name))

    return apply


@pytest.mark.parametrize(
    "damage",
    [
        change("weights", lambda array: array + 1),
        change("weights", lambda array: array * np.nan),
        change("centres", lambda array: array * np.inf),
        change("triangles", lambda array: array.swapaxes(1, 2)),
        change("triangles", lambda array: -array),
        change("triangles", lambda array: array * np.nan),
    ],
)
def test_numbers_that_are_no_mixture_are_refused(damage: Callable[[onnx.ModelProto], None], tmp_path: Path) -> None:
    edit(write_prior(write_pair(tmp_path), two_gaussians()), damage)
    with pytest.raises(VaeError, match=r"prior.onnx: its numbers are not those of a mixture"):
        load(tmp_path).sample(1, seed=1)


def test_a_graph_of_another_kind_is_refused(tmp_path: Path) -> None:
    folder = write_pair(tmp_path)
    (folder / "prior.onnx").write_bytes((folder / "decoder.onnx").read_bytes())
    with pytest.raises(VaeError, match=r"prior.onnx: is not a prior"):
        load(folder).sample(1, seed=1)
    write_prior(folder, two_gaussians(3))
    (folder / "decoder.onnx").write_bytes((folder / "prior.onnx").read_bytes())
    with pytest.raises(VaeError, match=r"decoder.onnx: its tensors are"):
        load(folder).decode(np.zeros((1, 2)))


def test_tensors_that_do_not_fit_the_metadata_are_refused(tmp_path: Path) -> None:
    path = write_prior(write_pair(tmp_path), two_gaussians())

    def fewer(model: onnx.ModelProto) -> None:
        (entry,) = model.metadata_props
        entry.value = entry.value.replace('"components":2', '"components":1')

    edit(path, fewer)
    with pytest.raises(
        VaeError, match=r"prior.onnx: its log_weights is tensor\(float\) \[2\], not tensor\(float\) \[1\]"
    ):
        load(tmp_path).sample(1, seed=1)


@pytest.mark.parametrize("components", [0, -1, 2**40])
def test_a_number_of_components_that_cannot_be_is_refused(tmp_path: Path, components: int) -> None:
    path = write_prior(write_pair(tmp_path), two_gaussians())

    def wrong(model: onnx.ModelProto) -> None:
        (entry,) = model.metadata_props
        entry.value = entry.value.replace('"components":2', f'"components":{components}')

    edit(path, wrong)
    with pytest.raises(VaeError, match=r"prior.onnx: its metadata is damaged \(-?\d+ components of the prior\)"):
        load(tmp_path)


def test_a_prior_of_another_pair_is_refused(tmp_path: Path) -> None:
    write_prior(write_pair(tmp_path), two_gaussians(), seed=1)
    with pytest.raises(VaeError, match=r"encoder.onnx and decoder.onnx and prior.onnx are of different models"):
        load(tmp_path)


def test_a_class_has_its_own_components() -> None:
    known = two_gaussians(3, (1, 1))
    low, high = known.of_class(0), known.of_class(1)
    for alone, sign in ((low, -1), (high, 1)):
        assert alone.components == 1
        assert np.exp(alone.log_weights).sum() == pytest.approx(1)
        np.testing.assert_array_equal(alone.means, [[4 * sign] * 3])
    latents = known.means
    both = np.logaddexp(np.log(0.25) + low.log_density(latents), np.log(0.75) + high.log_density(latents))
    np.testing.assert_allclose(known.log_density(latents), both, rtol=1e-6)


def test_what_is_like_latents_has_their_components(mixture: Mixture) -> None:
    low, high = mixture.means[:1], mixture.means[1:]
    assert mixture.like(high).mean == pytest.approx([4, 4, 4])
    mixed = mixture.like(np.concatenate([low, low, low, high]))
    np.testing.assert_allclose(np.exp(mixed.log_weights), [0.75, 0.25], rtol=1e-6)


@pytest.mark.parametrize("sizes", [(1,), (2, 0), (1, 2)])
def test_classes_that_do_not_fit_the_components_are_refused(sizes: tuple[int, ...], tmp_path: Path) -> None:
    write_prior(write_pair(tmp_path), two_gaussians(2, sizes), classes=("cat", "dog"))
    with pytest.raises(VaeError, match=r"prior.onnx: its metadata is damaged \(2 components of the prior for classes"):
        load(tmp_path)


def spread_out(components: int, size: int) -> Mixture:
    """Narrow components at random places."""
    generator = np.random.default_rng(0)
    factors = np.tril(generator.normal(0, 0.05, (components, size, size)), -1) + 0.3 * np.eye(size)
    return Mixture(np.full(components, -np.log(components)), generator.normal(0, 2, (components, size)), factors)


def test_near_some_latents_few_components_are_the_density(monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = spread_out(100, 6)
    posterior = mixture.means[3] + 0.2 * np.random.default_rng(1).standard_normal((2000, 6))
    near, exact = mixture.near(posterior[:64]), mixture.log_density(posterior)
    found = near(posterior)
    np.testing.assert_allclose(found, exact, atol=1e-4)
    assert (found <= exact + 2e-6).all(), "what is left out lowers it, but for float32's rounding"
    assert found.mean() == pytest.approx(exact.mean(), abs=1e-6)
    elsewhere = mixture.means[4:40]
    np.testing.assert_allclose(near(elsewhere), mixture.log_density(elsewhere), rtol=1e-9)
    monkeypatch.setattr(mixture, "log_density", lambda latents: np.zeros(len(latents)))
    assert (near(elsewhere) == 0).mean() > 0.9, "far from the first latents the whole mixture is asked"
