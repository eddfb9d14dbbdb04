"""The held-out loss that an export checks: what it is compared with, and what it refuses."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import vaecli
from tests.command_line import assert_refused, vae
from tests.conftest import TINY
from vaecli.evaluation import likelihoods
from vaecli.exporting import held_out
from vaecli.run_folder import RunFolder
from vaecli.training import checkpoint
from vaecli.training.checkpoint import load_weights


def contents(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.glob("*.onnx")}


def test_the_report_has_the_loss_beside_pytorch_s_and_the_recorded_one(run: Path) -> None:
    best = load_weights(run / "best.pt").losses
    result = vae("export", "--run", run, "--json")
    found = result.json["held_out"]
    measured = vaecli.load(run, "cpu").evaluate(importance_samples=1, prior="normal")
    assert found["pictures"] == measured.n == 12
    assert found["loss"] == pytest.approx(measured.negative_elbo.nats, abs=1e-6)
    assert found["standard_error"] == pytest.approx(measured.negative_elbo.standard_error, abs=1e-6)
    assert found["recorded"] == best.loss
    assert 0 <= found["difference"] < 1e-4
    assert result.json["providers"] == ["CPUExecutionProvider"]
    assert f"held-out loss: {found['loss']:.3f} nats per image on 12 pictures, in PyTorch" in result.err
    assert f"the training recorded {best.loss:.3f}, with" in result.err


@pytest.mark.parametrize(
    "settings",
    [
        ("--binarize", "dynamic", "--ema", "0.9", "--beta", "4"),
        ("--binarize", "threshold", "--validation", "20"),
        ("--likelihood", "gaussian"),
        ("--likelihood", "logistic"),
        ("--likelihood", "continuous-bernoulli"),
        ("--likelihood", "logistic-mixture", "--components", "2"),
    ],
    ids=" ".join,
)
def test_it_agrees_whatever_is_trained(settings: tuple[str, ...], blobs: Path, tmp_path: Path) -> None:
    run = tmp_path / "r"
    trained = vae("train", "--data", blobs, "--run", run, "--epochs", "3", "--seed", "1", *TINY, *settings)
    assert trained.code == 0, trained.err
    check = vaecli.export(run).held_out
    assert check is not None
    assert check.pictures == (20 if "--validation" in settings else 12)
    assert check.difference < 1e-3
    assert check.standard_error is not None
    assert abs(check.loss - check.recorded) < 3 * check.standard_error


def test_at_most_some_pictures_are_measured(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "FEWEST", 3)
    monkeypatch.setattr(held_out, "NUMBERS", 7 * 64)
    check = vaecli.export(run).held_out
    assert check is not None
    assert check.pictures == 7


def test_weights_that_were_not_measured_are_refused(run: Path) -> None:
    before, best = contents(run), load_weights(run / "best.pt")
    wrong = {name: 3 * tensor for name, tensor in best.model.items()}
    checkpoint.save(run / "best.pt", replace(best, model=wrong))
    refused = vae("export", "--run", run)
    assert_refused(refused, 4, "12 held-out pictures have a loss of", f"training recorded {best.losses.loss:.6g}")
    assert contents(run) == before


def test_a_formula_that_differs_from_training_s_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = likelihoods.bernoulli_of_pictures

    def wrong(image: NDArray[np.float64], logits: NDArray[np.float64]) -> Any:
        return right(image, logits) + 0.064

    monkeypatch.setattr(likelihoods, "bernoulli_of_pictures", wrong)
    before = contents(run)
    assert_refused(vae("export", "--run", run), 4, "reconstruction of 12 held-out pictures", "0.064 nats per image")
    assert contents(run) == before


def test_pictures_that_are_not_here_are_not_compared(run: Path, tmp_path: Path) -> None:
    folder = RunFolder(run)
    source = str(folder.read_record().config.data.source)
    for other in (tmp_path / "gone.npy", tmp_path / "changed.npy"):
        if other.name == "changed.npy":
            np.save(other, np.load(source)[:100])
        again = Path(shutil.copytree(run, tmp_path / other.stem))
        (again / "config.json").write_text(folder.config.read_text().replace(source, str(other)))
        result = vae("export", "--run", again, "--prior", "normal", "--json")
        assert result.json["held_out"] is None
        assert "the held-out loss was not compared" in result.err


def test_too_few_pictures_are_not_compared_with_the_record(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard error of four pictures says little: by chance such an export would be refused."""
    monkeypatch.setattr("vaecli.exporting.held_out.ERRORS", 0)
    monkeypatch.setattr("vaecli.exporting.held_out.RECORDED_SHARE", 0)
    assert_refused(vae("export", "--run", run), 4, "12 held-out pictures have a loss of")
    monkeypatch.setattr("vaecli.exporting.held_out.FEWEST", 4)
    monkeypatch.setattr("vaecli.exporting.held_out.MOST", 4)
    assert vae("export", "--run", run).code == 0


def test_equal_pictures_are_not_compared_with_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have the same latent, and so no standard error, but the recorded loss was measured with others."""
    np.save(tmp_path / "black.npy", np.zeros((200, 8, 8), np.uint8))
    run = tmp_path / "r"
    trained = vae("train", "--data", tmp_path / "black.npy", "--run", run, "--epochs", "1", "--seed", "1", *TINY)
    assert trained.code == 0, trained.err
    monkeypatch.setattr("vaecli.exporting.held_out.RECORDED_SHARE", 0)
    check = vaecli.export(run).held_out
    assert check is not None
    assert (check.pictures, check.standard_error) == (20, None)


def test_the_standard_error_is_that_of_different_pictures() -> None:
    values = np.random.default_rng(0).normal(size=20)
    digests = np.arange(20, dtype=np.uint64)
    usual = pytest.approx((values.std(ddof=1) / np.sqrt(20), 20))
    assert held_out._standard_error(values, digests) == usual
    assert held_out._standard_error(values.repeat(3), digests.repeat(3)) == usual
    mostly_one = np.minimum(np.arange(200, dtype=np.uint64), 10)
    assert held_out._standard_error(values[mostly_one], mostly_one)[1] < 2


def test_the_refusal_has_digits_enough(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaecli.exporting.held_out.ERRORS", 0)
    monkeypatch.setattr("vaecli.exporting.held_out.RECORDED_SHARE", 1e-6)
    refused = vae("export", "--run", run)
    assert_refused(refused, 4, "12 held-out pictures have a loss of", "e-05 apart")
