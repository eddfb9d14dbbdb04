"""`vaecli.export` from Python: its result, which weights it takes, and what it refuses."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vaecli
from tests.command_line import vae
from tests.conftest import TINY
from tests.datasets.drawing import draw, draw_folder
from vaecli.errors import UsageError, VaeError
from vaecli.evaluation.data import choose
from vaecli.events import Event, Note
from vaecli.inference import graph_file
from vaecli.run_folder import RunFolder
from vaecli.training import checkpoint
from vaecli.training.checkpoint import load_weights


@pytest.fixture
def two_epochs(run: Path) -> RunFolder:
    """A run whose best weights are of another epoch than its last ones."""
    folder = RunFolder(run)
    checkpoint.save(folder.best, replace(load_weights(folder.best), epoch=2))
    return folder


def test_the_result_says_what_was_written(two_epochs: RunFolder) -> None:
    for file in (two_epochs.encoder, two_epochs.decoder):
        file.unlink()
    result = vaecli.export(two_epochs.path)
    assert (result.encoder, result.decoder) == (two_epochs.encoder, two_epochs.decoder)
    assert (result.opset, result.epoch) == (20, 2)
    assert result.max_abs_difference.keys() == {"mean", "std", "image", "logits", "latent", "log_density"}
    assert all(0 <= difference < 1e-4 for difference in result.max_abs_difference.values())
    model = vaecli.load(two_epochs.path)
    assert model.sample(2, seed=1).shape == (2, 8, 8)


def test_the_last_weights_are_those_of_the_checkpoint(two_epochs: RunFolder) -> None:
    assert vaecli.export(two_epochs.path, weights="last").epoch == 3
    assert graph_file.read(two_epochs.encoder).metadata.training.epoch == 3


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported run on enough pictures that the held-out tenth makes a reference. Not to be changed."""
    folder = tmp_path_factory.mktemp("many")
    np.save(folder / "many.npy", np.random.default_rng(0).integers(0, 256, (300, 8, 8), np.uint8))
    settings = ("--epochs", "1", "--seed", "1", *TINY)
    assert vae("train", "--data", folder / "many.npy", "--run", folder / "run", *settings).code == 0
    assert vaecli.export(folder / "run").reference == 30
    return folder


def test_the_files_have_the_statistics_of_held_out_pictures(many: Path, tmp_path: Path) -> None:
    model = vaecli.load(many / "run")
    held_out = choose(model.pair).pictures[:]
    reference = model.metadata.reference
    assert reference is not None
    scores = model.score(held_out)
    np.testing.assert_allclose(scores.columns["excess"], reference.excess, atol=1e-3)
    assert (scores.reference, scores.sorted_by) == (30, "strangeness")
    assert len(scores.flagged(0.1)) <= 3
    for name in ("encoder.onnx", "decoder.onnx"):  # they alone are the model
        (tmp_path / name).write_bytes((many / "run" / name).read_bytes())
    np.testing.assert_array_equal(vaecli.load(tmp_path).score(held_out).order, scores.order)


def test_pictures_that_have_moved_are_named(many: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(many / "run", tmp_path / "copied"))
    moved = (many / "many.npy").rename(tmp_path / "moved.npy")
    try:
        with pytest.raises(VaeError, match=r"prior.onnx would be removed: .*many.npy is not on this machine"):
            vaecli.export(copied)
        (copied / "prior.onnx").unlink()
        assert vaecli.export(copied).reference == 0
        assert vaecli.export(copied, data=str(moved)).reference > 0
    finally:
        moved.rename(many / "many.npy")


def test_a_folder_that_has_grown_since_the_training(tmp_path: Path) -> None:
    """What a VampPrior is fitted to is still among the prepared pictures."""
    folder, kept = draw_folder(tmp_path / "growing", 40), tmp_path / "kept"
    settings = {
        "data": {"source": str(folder), "dir": str(kept)},
        "model": {"prior": "vamp", "pseudo_inputs": 4, "hidden": 8, "latent_dim": 2},
        "training": {"epochs": 1, "seed": 1, "device": "cpu", "precision": "float32"},
    }
    vaecli.train(settings, tmp_path / "run")
    before = vaecli.export(tmp_path / "run")
    draw(folder / "new.bmp", 200)
    told: list[Event] = []
    after = vaecli.export(tmp_path / "run", on_event=told.append)
    assert after.prior_summary == before.prior_summary
    assert any("those that were prepared for it are used" in event.text for event in told if isinstance(event, Note))
    shutil.rmtree(kept)
    with pytest.raises(VaeError, match="has other pictures than at the training"):
        vaecli.export(tmp_path / "run")


def test_without_the_pictures_of_the_training_there_are_no_statistics(many: Path, run: Path, tmp_path: Path) -> None:
    def exported(folder: Path) -> tuple[int, str]:
        told: list[Event] = []
        count = vaecli.export(folder, on_event=told.append).reference
        return count, next(event.text for event in told if isinstance(event, Note) and "vae score" in event.text)

    needed = "20 held-out pictures are needed, as a folder of 200 has"
    few = f"no statistics of held-out pictures for vae score: 12 held-out pictures of blobs.npy; {needed}"
    assert exported(run) == (0, few)
    copied = Path(shutil.copytree(many / "run", tmp_path / "copied"))
    (copied / "prior.onnx").unlink()
    kept = (many / "many.npy").rename(tmp_path / "kept.npy")
    try:
        assert exported(copied)[1].endswith("many.npy is not on this machine")
        np.save(many / "many.npy", np.zeros((300, 8, 8), np.uint8))
        assert exported(copied)[1].endswith("many.npy has other pictures than at the training")
    finally:
        kept.replace(many / "many.npy")
    assert vaecli.load(copied).metadata.reference is None


def test_other_weights_are_refused(run: Path) -> None:
    with pytest.raises(UsageError, match="`weights` first: expected one of best, last"):
        vaecli.export(run, weights="first")  # type: ignore[arg-type]  # not one of the literals


def test_a_training_without_an_epoch_has_nothing_to_export(run: Path) -> None:
    """As one that was stopped in its first."""
    for name in ("best.pt", "checkpoint.pt"):
        (run / name).unlink()
    with pytest.raises(VaeError, match="no epoch of its training has ended") as caught:
        vaecli.export(run)
    assert "`resume`" in caught.value.hint


@pytest.mark.parametrize(("gone", "words"), [("config.json", "there is no training in"), ("best.pt", "no such file")])
def test_a_file_of_the_training_that_is_missing_is_named(run: Path, gone: str, words: str) -> None:
    (run / gone).unlink()
    with pytest.raises(VaeError, match=words) as refusal:
        vaecli.export(run)
    assert str(run / gone) in refusal.value.message


def test_the_prior_is_fitted_where_the_pictures_are(run: Path) -> None:
    (run / "prior.onnx").unlink()
    result = vaecli.export(run)
    assert result.prior == run / "prior.onnx"
    assert result.prior_summary is not None
    assert result.prior_summary.pictures == 108
    assert result.prior_summary.gain > 0
    model = vaecli.load(run)
    assert model.pair.prior is not None
    assert model.pair.prior.components == result.prior_summary.components
    assert model.pair.prior_summary == result.prior_summary


def test_a_normal_prior_has_no_file_and_removes_an_older_one(run: Path) -> None:
    assert (run / "prior.onnx").exists()
    result = vaecli.export(run, prior="normal")
    assert (result.prior, result.prior_summary) == (None, None)
    assert not (run / "prior.onnx").exists()
    assert vaecli.load(run).pair.prior is None


@pytest.mark.parametrize("change", ["gone", "changed"])
def test_without_the_pictures_of_the_training_the_prior_stays_normal(run: Path, blobs: Path, change: str) -> None:
    content, events = blobs.read_bytes(), list[Event]()
    try:
        if change == "gone":
            blobs.unlink()
        else:
            np.save(blobs, 255 - np.load(blobs))
        with pytest.raises(VaeError, match=r"`prior` mixture: .*blobs.npy"):
            vaecli.export(run, prior="mixture")
        with pytest.raises(VaeError, match=r"prior.onnx would be removed") as refusal:
            vaecli.export(run)
        assert "`prior` normal exports without one" in refusal.value.hint
        assert (run / "prior.onnx").exists(), "what fails changes nothing"
        (run / "prior.onnx").unlink()
        assert vaecli.export(run, on_event=events.append).prior is None
    finally:
        blobs.write_bytes(content)
    assert not (run / "prior.onnx").exists()
    (warning,) = (event for event in events if isinstance(event, Note) and event.warning)
    assert "the prior stays N(0, I)" in warning.text


def test_another_kind_of_prior_is_refused(run: Path) -> None:
    with pytest.raises(UsageError, match="`prior` vamp: expected one of auto, mixture, flow, normal"):
        vaecli.export(run, prior="vamp")  # type: ignore[arg-type]  # not one of the literals


def test_the_same_run_gives_the_same_prior(run: Path) -> None:
    before = (run / "prior.onnx").read_bytes()
    vaecli.export(run, prior="mixture")
    assert (run / "prior.onnx").read_bytes() == before


def test_a_folder_that_is_replaced_during_an_export_gets_nothing(run: Path) -> None:
    def on_event(event: Event) -> None:
        if not run.with_name("moved").exists():
            run.rename(run.with_name("moved"))
            shutil.copytree(run.with_name("moved"), run, ignore=shutil.ignore_patterns("*.onnx"))

    with pytest.raises(VaeError, match="removed, moved or replaced during the export"):
        vaecli.export(run, prior="mixture", on_event=on_event)
    assert not RunFolder(run).decoder.exists()
