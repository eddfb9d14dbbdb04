"""The VampPrior: its density, where it starts, and trainings with it from the first step to a sample."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributions

from tests.command_line import assert_refused, vae
from vaecli import export, load, train
from vaecli.config import ModelConfig
from vaecli.errors import UsageError, VaeError
from vaecli.evaluation.dimensions import order_dimensions
from vaecli.settings import resolve
from vaecli.training.checkpoint import load_checkpoint
from vaecli.training.model import VAE
from vaecli.training.noise import Noise
from vaecli.training.objective import divergence, elbo, importance_weighted
from vaecli.training.vamp_prior import PseudoInputs

SHAPE = (1, 4, 4)
EXACT = {"device": "cpu", "precision": "float32"}
VAMP = (
    "--prior", "vamp", "--pseudo-inputs", "10", "--hidden", "16", "--latent-dim", "3", "--seed", "1",
    "--device", "cpu", "--precision", "float32",
)  # fmt: skip


def vamp_model(classes: int = 0) -> VAE:
    config = ModelConfig(prior="vamp", pseudo_inputs=6, hidden=8, latent_dim=3, dropout=0.0, conditional=bool(classes))
    model = VAE(config, SHAPE, classes)
    model.initialise(torch.Generator().manual_seed(1))
    pictures = torch.rand(9, *SHAPE, generator=torch.Generator().manual_seed(2))
    assert model.pseudo_inputs is not None
    starts = model.pseudo_inputs.starts(9, torch.arange(9) % classes if classes else None)
    model.pseudo_inputs.initialise_from(pictures[starts])
    return model.double()


def mixture_of(model: VAE, rows: list[int]) -> distributions.Distribution:
    """The mixture of the posteriors of some pseudo-inputs, by PyTorch's own distributions."""
    assert model.pseudo_inputs is not None
    labels = model.pseudo_inputs.labels
    mean, std = model.encode(model.pseudo_inputs.pictures[rows], label=None if labels is None else labels[rows])
    parts = distributions.Independent(distributions.Normal(mean, std), 1)
    return distributions.MixtureSameFamily(distributions.Categorical(torch.ones(len(rows))), parts)


def test_the_density_is_that_of_the_posteriors_mixture() -> None:
    model = vamp_model()
    latent = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = model.log_prior(latent)
    torch.testing.assert_close(found, mixture_of(model, list(range(6))).log_prob(latent))
    plain = VAE(ModelConfig(latent_dim=3, hidden=4), SHAPE)
    normal = distributions.Normal(0.0, 1.0).log_prob(latent).sum(-1)
    torch.testing.assert_close(plain.log_prior(latent), normal)


def test_with_classes_it_is_that_of_the_class() -> None:
    model = vamp_model(classes=2)
    latent = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    label = torch.tensor([0, 1, 1, 0])
    found = model.log_prior(latent, label)
    for row, of in enumerate(label.tolist()):
        expected = mixture_of(model, [of, of + 2, of + 4]).log_prob(latent[row])
        torch.testing.assert_close(found[row], expected)


def test_it_starts_from_pictures_of_the_classes() -> None:
    pictures = torch.linspace(0, 1, 8).reshape(8, 1, 1, 1).expand(8, *SHAPE)
    inputs = PseudoInputs(6, SHAPE, classes=2)
    inputs.initialise_from(pictures[inputs.starts(8, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]))])
    starts = inputs.pictures[:, 0, 0, 0].tolist()
    assert starts == pytest.approx([0.02, 4 / 7, 1 / 7, 5 / 7, 2 / 7, 6 / 7], abs=1e-5)
    few = PseudoInputs(5, SHAPE, classes=0)
    few.initialise_from(pictures[few.starts(2, None)])
    assert few.pictures[:, 0, 0, 0].tolist() == pytest.approx([0.02, 1 / 7] * 2 + [0.02], abs=1e-5)


def test_the_divergence_is_estimated_without_bias() -> None:
    model = vamp_model()
    mean, std = torch.zeros(1, 3, dtype=torch.float64), torch.full((1, 3), 0.7, dtype=torch.float64)
    draws = mean + std * torch.randn(40_000, 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    posterior = distributions.Independent(distributions.Normal(mean, std), 1)
    expected = (posterior.log_prob(draws) - mixture_of(model, list(range(6))).log_prob(draws)).mean()
    found = divergence(model, mean, std, draws, None)
    assert found.shape == (1, 1)
    assert found.item() == pytest.approx(expected.item(), abs=0.02)


def test_one_importance_sample_is_the_elbo_in_expectation() -> None:
    model = vamp_model()
    image = torch.rand(2000, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    noise = Noise(1, torch.device("cpu"))
    weighted = importance_weighted(model, image, noise, samples=1, kind="iwae").loss
    plain = elbo(model, image, noise, beta=1, free_bits=0).loss
    assert weighted.item() == pytest.approx(plain.item(), abs=0.1)


def test_the_pictures_learn(tmp_path: Path, blobs: Path) -> None:
    result = vae("train", "--data", blobs, "--run", tmp_path, "--epochs", "3", *VAMP, "--json")
    assert result.code == 0, result.err
    model = load_checkpoint(tmp_path / "checkpoint.pt").weights.model
    start = VAE(ModelConfig(prior="vamp", pseudo_inputs=10, hidden=16, latent_dim=3), (1, 8, 8))
    assert start.pseudo_inputs is not None
    assert model["pseudo_inputs.logits"].shape == start.pseudo_inputs.logits.shape
    assert model["pseudo_inputs.logits"].std() > 0.1
    assert vae("info", tmp_path, "--json").json["training"]["record"]["path"] == "autograd"


def test_a_resumed_training_is_the_whole_one(tmp_path: Path, blobs: Path) -> None:
    settings = ("--config", "tutorial", "--data", blobs, *VAMP)
    assert vae("train", *settings, "--run", tmp_path / "whole", "--epochs", "4").code == 0
    assert vae("train", *settings, "--run", tmp_path / "parts", "--epochs", "2").code == 0
    assert vae("train", "--resume", "--run", tmp_path / "parts", "--epochs", "4").code == 0
    whole, parts = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    assert all(torch.equal(value, parts.weights.model[name]) for name, value in whole.weights.model.items())
    assert (whole.best["epoch"], whole.best["held_out"]) == (parts.best["epoch"], parts.best["held_out"])


@pytest.fixture(scope="module")
def vamp(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("vamp")
    model = {"prior": "vamp", "pseudo_inputs": 20, "hidden": 32, "latent_dim": 2, "dropout": 0.0}
    train({"data": {"source": str(blobs)}, "model": model, "training": {"epochs": 40, "seed": 1, **EXACT}}, run)
    export(run)
    return run


def test_the_exported_model_has_a_prior_that_knows_its_latents(vamp: Path) -> None:
    model = load(vamp, "cpu")
    assert model.pair.prior is not None
    assert model.pair.trained_prior == "model"
    assert model.sample(4, seed=1).shape == (4, 8, 8)
    recorded = model.metadata.training.held_out_loss
    assert model.evaluate(importance_samples=20).negative_elbo.nats < recorded + 3
    scores = model.score(np.zeros((1, 8, 8), np.uint8))
    assert np.isfinite(scores.columns["excess"]).all()
    assert re.search(r"trained prior +vamp", vae("info", vamp).out)


def test_its_dimensions_are_measured_from_the_moments_of_its_prior(vamp: Path, blobs: Path) -> None:
    """N(0, 1) is far from its latents: a dimension far from 0 would count for much that carries nothing."""
    model = load(vamp, "cpu")
    assert model.pair.prior is not None
    result = model.evaluate(np.load(blobs))
    mean, std = model.encode(np.load(blobs))
    white, narrow = (mean - model.pair.prior.mean) / model.pair.prior.std, std / model.pair.prior.std
    expected = (0.5 * (white**2 + narrow**2 - 1) - np.log(narrow)).mean(0)
    np.testing.assert_allclose(result.kl_per_dimension, expected, rtol=1e-4)
    order = order_dimensions(model.pair, str(blobs))
    assert order.by == "kl"
    assert order.dimensions[0] == int(result.kl_per_dimension.argmax())


def test_a_model_of_few_pictures_has_its_prior_as_well(tmp_path: Path) -> None:
    for count, rows in ((2, 3), (1, 2)):  # of these, one is held out
        pictures, run = tmp_path / f"{count}.npy", tmp_path / f"run-{count}"
        np.save(pictures, np.random.default_rng(1).integers(0, 256, (rows, 8, 8), np.uint8))
        assert vae("train", "--data", pictures, "--epochs", "1", "--run", run, *VAMP).code == 0
        exported = vae("export", "--run", run)
        if count == 1:
            assert_refused(exported, 1, "cannot be exported: it has one training picture")
        else:
            assert exported.code == 0, exported.err
            assert vae("sample", "--run", run, "-n", "1", "--seed", "1", "-o", tmp_path / "o.npy").code == 0


def test_n01_is_nothing_to_it(vamp: Path, tmp_path: Path) -> None:
    for command in (("sample", "-o", tmp_path / "a.png"), ("evaluate",)):
        assert_refused(vae(*command, "--run", vamp, "--prior", "normal"), 2, "trained with a VampPrior")
    assert "--prior normal" not in vae("evaluate", "--run", vamp).out
    before = (vamp / "decoder.onnx").read_bytes()
    with pytest.raises(UsageError, match="trained with a VampPrior"):
        export(vamp, prior="normal")
    assert (vamp / "decoder.onnx").read_bytes() == before


def test_without_its_priors_file_it_draws_nothing(vamp: Path, tmp_path: Path) -> None:
    for name in ("encoder.onnx", "decoder.onnx"):
        shutil.copy(vamp / name, tmp_path)
    result = vae("sample", "--run", tmp_path, "-o", tmp_path / "a.png")
    assert_refused(result, 1, "prior.onnx: no such file", "copy it beside encoder and decoder")
    assert vae("reconstruct", vamp / "previews" / "data.png", "--run", tmp_path, "-o", tmp_path / "a.png").code == 0


def test_an_export_needs_the_pictures(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
    np.save(tmp_path / "a.npy", images)
    assert vae("train", "--data", tmp_path / "a.npy", "--run", tmp_path / "run", "--epochs", "1", *VAMP).code == 0
    (tmp_path / "a.npy").unlink()
    with pytest.raises(VaeError, match="is fitted to the latents of its training pictures"):
        export(tmp_path / "run")


def test_settings_that_do_not_go_with_it_are_refused(blobs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no KL of single dimensions"):
        resolve({"model": {"prior": "vamp"}, "training": {"free_bits": 0.1}})
    many = ("--prior", "vamp", "--latent-dim", "2049", "--hidden", "4")
    assert_refused(vae("train", "--data", blobs, "--run", tmp_path / "run", *many), 1, "2049 latent dimensions")
