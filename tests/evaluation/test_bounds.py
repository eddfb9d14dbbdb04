"""Bounds compared with closed forms, with PyTorch in float64, and with each other."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from tests import linear_gaussian
from tests.linear_gaussian import LinearGaussian
from tests.tiny_model import edit, two_gaussians, write_prior
from vaecli import datasets, noise
from vaecli.config import DataConfig
from vaecli.errors import UsageError, VaeError
from vaecli.evaluation import likelihoods
from vaecli.evaluation.bounds import PictureBounds, kl_divergence, measure
from vaecli.evaluation.data import of_array
from vaecli.evaluation.evaluate import Evaluation, evaluate
from vaecli.exporting.convert import restore_model
from vaecli.inference.mixture import Mixture
from vaecli.model import Model, load
from vaecli.model_format import DECODER_FILE, ENCODER_FILE
from vaecli.run_folder import RunFolder
from vaecli.training import checkpoint

Pictures = NDArray[np.uint8]


def bounds(model: Model, pictures: Pictures, samples: int = 1, seed: int = 1, **more: Any) -> PictureBounds:
    """The bounds of all pictures, joined."""
    parts = list(measure(model.pair, pictures, samples=samples, seed=seed, **more))
    names = ("mean", "kl_per_dimension", "kl", "reconstruction", "bound", "effective_samples", "floor")
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return PictureBounds(**joined, grey=any(part.grey for part in parts))


def evaluated(model: Model, pictures: Pictures, samples: int = 1, seed: int = 1, **more: Any) -> Evaluation:
    return evaluate(model.pair, of_array(pictures), importance_samples=samples, seed=seed, **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("linear")


@pytest.fixture(scope="module")
def exact(folder: Path) -> tuple[LinearGaussian, Model]:
    known = linear_gaussian.exact()
    return known, load(known.write(folder / "exact"), "cpu")


@pytest.fixture(scope="module")
def inexact(folder: Path) -> tuple[LinearGaussian, Model]:
    known = linear_gaussian.inexact()
    return known, load(known.write(folder / "inexact"), "cpu")


@pytest.mark.parametrize("samples", [1, 7])
def test_under_the_true_posterior_every_weight_is_the_likelihood(
    exact: tuple[LinearGaussian, Model], samples: int
) -> None:
    known, model = exact
    pictures = known.pictures(40, seed=0)
    np.testing.assert_allclose(bounds(model, pictures, samples).bound, known.negative_log_p(pictures), atol=1e-4)


def test_elbo_and_kl_have_their_closed_forms(inexact: tuple[LinearGaussian, Model]) -> None:
    known, model = inexact
    pictures = known.pictures(30, seed=0)
    found = bounds(model, pictures, samples=20_000)
    np.testing.assert_allclose(found.kl_per_dimension, known.kl(pictures), atol=1e-5)
    np.testing.assert_allclose(found.reconstruction, known.reconstruction(pictures), atol=0.06)
    result = evaluated(model, pictures, samples=20_000)
    assert result.kl.nats == pytest.approx(known.kl(pictures).sum(1).mean(), abs=1e-5)
    expected = (known.reconstruction(pictures) + known.kl(pictures).sum(1)).mean()
    assert result.negative_elbo.nats == pytest.approx(expected, abs=0.01)


def test_the_kl_of_a_narrow_posterior_is_exact() -> None:
    """Training has 1e-8 beside the variance: at a standard deviation of 1e-6 that would be 4.6 nats too few."""
    mean, std = np.array([[0.0, 3.0]]), np.array([[1e-6, 1e-6]])
    narrow = math.log(1e6) - 0.5
    standard = np.zeros(2), np.ones(2)
    np.testing.assert_allclose(kl_divergence(mean, std, standard), [[narrow, narrow + 4.5]], rtol=1e-9)
    other = np.array([1.5, -2]), np.array([0.5, 4])
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(torch.tensor(mean), torch.tensor(std)),
        torch.distributions.Normal(torch.tensor(other[0]), torch.tensor(other[1])),
    )
    np.testing.assert_allclose(kl_divergence(mean, std, other), theirs.numpy(), rtol=1e-9)


def test_the_bound_converges_to_the_likelihood_and_only_tightens(inexact: tuple[LinearGaussian, Model]) -> None:
    known, model = inexact
    pictures = known.pictures(200, seed=0)
    truth = known.negative_log_p(pictures).mean()
    nats = [bounds(model, pictures, samples).bound for samples in (1, 4, 16, 64, 1024)]
    for looser, tighter in pairwise(nats):
        difference = tighter - looser
        assert difference.mean() < 2 * difference.std() / math.sqrt(len(pictures))
    assert nats[0].mean() > truth + 0.2
    assert nats[-1].mean() == pytest.approx(truth, abs=0.01)
    assert np.abs(nats[-1] - known.negative_log_p(pictures)).max() < 0.15


def test_equal_weights_are_all_effective(exact: tuple[LinearGaussian, Model]) -> None:
    known, model = exact
    pictures = known.pictures(20, seed=0)
    np.testing.assert_allclose(bounds(model, pictures, 64).effective_samples, 64, rtol=1e-4)
    assert bounds(model, pictures).effective_samples.tolist() == [1] * 20


def test_a_proposal_that_is_off_has_the_effective_samples_of_its_formula(
    inexact: tuple[LinearGaussian, Model],
) -> None:
    known, model = inexact
    wide, aside, samples = 1.3, 0.5, 20_000
    # Σ w² / K over (Σ w / K)² tends to ∫ p²/q in each dimension, with p = N(0, 1) and q = N(aside, wide²).
    a = 1 - 1 / (2 * wide**2)
    one = wide / math.sqrt(2 * a) * math.exp(aside**2 / (2 * wide**2) + aside**2 / (4 * a * wide**4))
    expected = samples / one**known.latent_dim
    found = bounds(model, known.pictures(10, seed=0), samples, batch_size=700).effective_samples
    np.testing.assert_allclose(found, expected, rtol=0.05)


def test_an_evaluation_has_the_quantiles_of_the_effective_samples(inexact: tuple[LinearGaussian, Model]) -> None:
    known, model = inexact
    pictures = known.pictures(50, seed=0)
    each = bounds(model, pictures, 9).effective_samples
    found = evaluated(model, pictures, 9, batch_size=20).effective_samples
    assert found.median == pytest.approx(np.median(each), rel=1e-4)
    assert np.mean(each < found.low) == pytest.approx(0.05, abs=0.011)


def test_the_standard_error_is_that_of_the_mean_over_pictures(inexact: tuple[LinearGaussian, Model]) -> None:
    known, model = inexact
    pictures = known.pictures(100, seed=0)
    found, result = bounds(model, pictures, 5), evaluated(model, pictures, 5, batch_size=7)
    for estimate, values in ((result.bound, found.bound), (result.negative_elbo, found.negative_elbo)):
        assert estimate.nats == pytest.approx(values.mean())
        assert estimate.standard_error == pytest.approx(values.std(ddof=1) / 10)
    np.testing.assert_allclose(result.mean_variance, found.mean.var(0))
    assert evaluated(model, pictures[:1]).bound.standard_error is None


def with_prior(known: LinearGaussian, folder: Path, mixture: Mixture) -> Model:
    write_prior(known.write(folder), mixture, image_shape=linear_gaussian.SHAPE)
    return load(folder, "cpu")


def test_under_a_mixture_the_bound_converges_to_its_likelihood(
    inexact: tuple[LinearGaussian, Model], tmp_path: Path
) -> None:
    """x ~ the mixture of N(W m + b, W S Wᵀ + s²)."""
    known, _ = inexact
    far = two_gaussians(known.latent_dim)
    mixture = Mixture(far.log_weights, far.means / 4, far.factors)
    pictures = known.pictures(30, seed=2)
    x = pictures.reshape(len(pictures), -1) / 255
    terms = []
    for log_weight, mean, factor in zip(mixture.log_weights, mixture.means, mixture.factors, strict=True):
        spread = known.w @ factor
        covariance = spread @ spread.T + known.s**2 * np.eye(x.shape[1])
        apart = x - known.w @ mean - known.b
        squares = (apart @ np.linalg.inv(covariance) * apart).sum(axis=1)
        terms.append(log_weight - 0.5 * (squares + np.linalg.slogdet(2 * np.pi * covariance)[1]))
    likelihood = np.logaddexp(*terms)
    found = bounds(with_prior(known, tmp_path, mixture), pictures, samples=4000, prior="model")
    np.testing.assert_allclose(found.bound, -likelihood, atol=0.1)
    assert (found.negative_elbo > -likelihood).all()


def test_the_kl_from_one_gaussian_has_its_closed_form(inexact: tuple[LinearGaussian, Model], tmp_path: Path) -> None:
    known, plain = inexact
    pictures = known.pictures(20, seed=2)
    mean, factor = np.array([0.5, -0.3]), np.array([[0.7, 0], [0.2, 0.9]])
    single = Mixture(np.zeros(1), mean[np.newaxis], factor[np.newaxis])
    found = bounds(with_prior(known, tmp_path, single), pictures, samples=4000, prior="model")
    precision = np.linalg.inv(factor @ factor.T)
    apart = found.mean - mean
    expected = 0.5 * (
        (apart @ precision * apart).sum(axis=1)
        + (np.diag(precision) * known.t**2).sum()
        - 2
        + 2 * np.log(np.diag(factor)).sum()
        - 2 * np.log(known.t).sum()
    )
    np.testing.assert_allclose(found.kl, expected, atol=0.03)
    from_normal = bounds(plain, pictures).kl_per_dimension
    np.testing.assert_allclose(found.kl_per_dimension, from_normal, err_msg="of each dimension: from N(0, I)")


def test_a_standard_normal_mixture_is_the_standard_normal(
    inexact: tuple[LinearGaussian, Model], tmp_path: Path
) -> None:
    known, plain = inexact
    pictures = known.pictures(10, seed=2)
    model = with_prior(known, tmp_path, Mixture(np.zeros(1), np.zeros((1, 2)), np.eye(2)[np.newaxis]))
    ours, theirs = (bounds(one, pictures, samples=50, prior="model") for one in (model, plain))
    np.testing.assert_allclose(ours.bound, theirs.bound, rtol=1e-12)
    again = bounds(model, pictures, samples=50, prior="normal")
    np.testing.assert_array_equal(again.negative_elbo, theirs.negative_elbo)


def test_dead_latents_change_nothing(inexact: tuple[LinearGaussian, Model], folder: Path) -> None:
    known, model = inexact
    pictures = known.pictures(100, seed=0)
    more = load(linear_gaussian.inexact(dead=3).write(folder / "dead"), "cpu")
    without, with_dead = evaluated(model, pictures, 500), evaluated(more, pictures, 500)
    assert with_dead.active_units == without.active_units == 2
    np.testing.assert_allclose(with_dead.kl_per_dimension, [*without.kl_per_dimension, 0, 0, 0], atol=1e-6)
    assert with_dead.negative_elbo.nats == pytest.approx(without.negative_elbo.nats, abs=0.03)
    assert with_dead.bound.nats == pytest.approx(without.bound.nats, abs=0.01)


@pytest.mark.parametrize("samples", [1, 50])
def test_the_batch_size_changes_nothing(inexact: tuple[LinearGaussian, Model], samples: int) -> None:
    known, model = inexact
    pictures = known.pictures(60, seed=0)
    whole = bounds(model, pictures, samples)
    for size in (1, 7, 49, 4096):  # of 50 draws: some at a time, or all of several pictures
        cut = bounds(model, pictures, samples, batch_size=size)
        np.testing.assert_allclose(cut.bound, whole.bound, atol=1e-4)
        np.testing.assert_allclose(cut.reconstruction, whole.reconstruction, atol=1e-4)
    assert not np.allclose(bounds(model, pictures, samples, seed=2).bound, whole.bound, atol=1e-3)


def test_a_picture_has_the_same_bounds_in_any_order(inexact: tuple[LinearGaussian, Model]) -> None:
    known, model = inexact
    pictures = known.pictures(60, seed=0)
    order = np.random.default_rng(0).permutation(60)
    found, again = bounds(model, pictures, 3), bounds(model, pictures[order], 3, batch_size=5)
    np.testing.assert_allclose(again.bound, found.bound[order], atol=1e-4)
    alone = bounds(model, pictures[7:8], 3)
    np.testing.assert_allclose(alone.bound, found.bound[7], atol=1e-4)


def held_out(trained: Path) -> Pictures:
    source = RunFolder(trained).read_record().config.data.source
    return datasets.load(DataConfig(source=source)).held_out.whole()


def test_the_bound_is_that_of_pytorch_in_float64(trained: Path) -> None:
    pictures, samples, seed = held_out(trained), 30, 5
    vae = restore_model(checkpoint.load_weights(trained / "best.pt")).double()
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).double() / 255
    epsilon = noise.normal(noise.keys(seed, "posterior", noise.digests(pictures)), 3, samples)  # (n, K, d)
    with torch.no_grad():
        mean, std = vae.encode(x)
        q = torch.distributions.Normal(mean[:, None], std[:, None])
        z = mean[:, None] + std[:, None] * torch.from_numpy(epsilon).double()  # (n, K, d)
        logits = vae.decode(z.flatten(0, 1)).unflatten(0, (len(x), samples))
        targets = x[:, None].expand_as(logits)
        cost = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum((2, 3, 4))
        prior = torch.distributions.Normal(0, 1).log_prob(z).sum(2)
        weights = prior - cost - q.log_prob(z).sum(2)
        expected = math.log(samples) - torch.logsumexp(weights, 1)
        kl = torch.distributions.kl_divergence(torch.distributions.Normal(mean, std), torch.distributions.Normal(0, 1))
    found = bounds(load(trained, "cpu"), pictures, samples, seed)
    np.testing.assert_allclose(found.bound, expected.numpy(), atol=1e-3)
    np.testing.assert_allclose(found.reconstruction, cost.mean(1).numpy(), atol=1e-3)
    np.testing.assert_allclose(found.kl_per_dimension, kl.numpy(), atol=1e-4)


def test_it_agrees_with_the_held_out_loss_of_training(trained: Path) -> None:
    best = min(RunFolder(trained).read_metrics(), key=lambda epoch: epoch.held_out.loss)
    model, pictures = load(trained, "cpu"), held_out(trained)
    result = evaluated(model, pictures, samples=400, prior="normal")
    assert result.kl.nats == pytest.approx(best.held_out.kl, abs=1e-3)
    assert result.active_units == best.active_units
    # Training draws one latent for each picture: so far apart may two such numbers be.
    singles = [evaluated(model, pictures, seed=seed).reconstruction.nats for seed in range(20)]
    assert abs(best.held_out.reconstruction - result.reconstruction.nats) < 4 * np.std(singles) + 1e-3


def test_thresholded_pixels_are_black_or_white(grey: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), np.uint8)
    pictures[0, 0, 0, 0], pictures[0, 0, 1, 0] = 127, 128
    model = load(grey, "cpu")
    made = bounds(model, pictures, binarize="threshold")
    expected_of = bounds(model, np.where(pictures > 127, 255, 0).astype(np.uint8))
    np.testing.assert_allclose(made.negative_elbo, expected_of.negative_elbo)
    assert not made.grey
    assert not expected_of.grey
    assert evaluated(model, pictures).normalised is False
    assert evaluated(model, pictures, binarize="dynamic").normalised is True


def test_drawn_pixels_follow_the_seed_and_no_batch(grey: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), np.uint8)
    model = load(grey, "cpu")
    once = bounds(model, pictures, binarize="dynamic")
    np.testing.assert_allclose(bounds(model, pictures, binarize="dynamic", batch_size=4).bound, once.bound, atol=1e-4)
    assert not np.allclose(bounds(model, pictures, binarize="dynamic", seed=2).mean, once.mean)
    black_and_white = np.where(pictures > 99, 255, 0).astype(np.uint8)
    unchanged, drawn = bounds(model, black_and_white), bounds(model, black_and_white, binarize="dynamic")
    np.testing.assert_allclose(drawn.bound, unchanged.bound)


def test_drawn_pixels_are_white_as_often_as_they_are_bright(grey: Path) -> None:
    model = load(grey, "cpu")
    seen: list[NDArray[np.float32]] = []
    run = model.pair.encoder.session.run

    class Session:
        def run(self, names: list[str], feed: dict[str, NDArray[np.float32]], *_: Any) -> Any:
            seen.append(feed["image"])
            return run(names, feed)

    object.__setattr__(model.pair.encoder, "session", Session())
    bounds(model, np.full((200, 8, 8, 1), 51, np.uint8), binarize="dynamic")
    assert set(np.unique(np.concatenate(seen))) == {0.0, 1.0}
    assert np.concatenate(seen).mean() == pytest.approx(0.2, abs=0.02)


def test_pixels_of_0_and_1_are_for_bernoulli_models(exact: tuple[LinearGaussian, Model]) -> None:
    known, model = exact
    with pytest.raises(UsageError) as refusal:
        bounds(model, known.pictures(2, seed=0), binarize="dynamic")
    assert "gaussian" in refusal.value.message


def test_bits_per_dimension_are_for_8_bit_values(exact: tuple[LinearGaussian, Model], folder: Path) -> None:
    known, model = exact
    pictures = known.pictures(20, seed=0)
    assert evaluated(model, pictures).bound.bits_per_dimension is None
    result = evaluated(load(known.write(folder / "logistic", "logistic"), "cpu"), pictures)
    assert result.bound.bits_per_dimension == pytest.approx(result.bound.nats / math.log(2) / 16)
    assert result.negative_elbo.bits_per_dimension == pytest.approx(result.negative_elbo.nats / math.log(2) / 16)


def change_weight(path: Path, name: str, value: float) -> None:
    def change(model: Any) -> None:
        (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
        tensor.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(tensor), value), name))

    edit(path, change)


@pytest.mark.parametrize(
    ("file", "weight", "value", "word"),
    [(ENCODER_FILE, "t", -1.0, "standard deviation"), (DECODER_FILE, "log_s", -500.0, "not finite")],
)
def test_what_has_no_logarithm_is_an_error(tmp_path: Path, file: str, weight: str, value: float, word: str) -> None:
    known = linear_gaussian.exact()
    change_weight(known.write(tmp_path / "m") / file, weight, value)
    with pytest.raises(VaeError) as refusal:
        bounds(load(tmp_path / "m", "cpu"), known.pictures(3, seed=0))
    assert word in refusal.value.message
    assert file in refusal.value.message


def test_of_many_latents_the_first_tell_which_components_are_near(
    inexact: tuple[LinearGaussian, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture's bound is almost that under the whole mixture, and the same in any batch.

    These components are much narrower than the posteriors, so that many latents lie near a component of their own.
    """
    known, _ = inexact
    generator = np.random.default_rng(0)
    size = known.latent_dim
    factors = np.tile(0.2 * np.eye(size, dtype=np.float32), (50, 1, 1))
    mixture = Mixture(np.full(50, -np.log(50)), generator.normal(0, 2, (50, size)).astype(np.float32), factors)
    model, pictures = with_prior(known, tmp_path, mixture), known.pictures(40, seed=0)
    found = bounds(model, pictures, samples=1000, prior="model")
    in_parts = bounds(model, pictures, samples=1000, prior="model", batch_size=70)
    monkeypatch.setattr("vaecli.evaluation.bounds.PRUNE_FROM_SAMPLES", 10_000)
    whole = bounds(model, pictures, samples=1000, prior="model")
    for other, tolerance in ((in_parts, 1e-5), (whole, 0.01)):
        np.testing.assert_allclose(found.bound, other.bound, atol=tolerance)
        np.testing.assert_allclose(found.kl, other.kl, atol=tolerance)
    assert (found.bound >= whole.bound - 1e-6).all(), "components that are left out loosen the bound, but for rounding"


def test_the_floor_is_that_of_the_first_latent(
    inexact: tuple[LinearGaussian, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the latents of a picture are decoded in several batches."""
    known, model = inexact
    monkeypatch.setattr(likelihoods, "floor", lambda likelihood, parameters, image: parameters[0][..., 0, 0, 0])
    floors = [bounds(model, known.pictures(3, seed=0), samples=64, batch_size=rows).floor for rows in (16, 32, 64)]
    for other in floors[1:]:
        np.testing.assert_allclose(floors[0], other, rtol=1e-6)
