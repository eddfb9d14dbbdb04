"""What `vaecli.inspect` finds at a path. See also commands/test_info.py, with a real training."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import msgspec
import onnx
import pytest

from tests.tiny_model import GREY, edit, metadata, write_flow, write_pair
from vaecli import VaeError, files, inspect
from vaecli.config import Config, TrainingConfig
from vaecli.events import EpochMetrics, Losses
from vaecli.inspection import mismatch_with_training, over_seeds, runs
from vaecli.model_format import DECODER_FILE, ENCODER_FILE, METADATA_KEY, Versions, to_json
from vaecli.run_folder import DataFacts, RunFolder, RunRecord


def write_training(run: Path, losses: list[float], seed: int = 0) -> RunFolder:
    """The config and the metrics of a training that `write_pair` might be of."""
    folder = RunFolder(run)
    folder.write_record(
        RunRecord(
            config=Config(training=TrainingConfig(seed=seed)),
            data=DataFacts(name="nothing", hash=metadata(GREY, 2, 0).data_hash, image_shape=GREY, train=9, held_out=1),
            device="cpu",
            precision="float32",
            path="autograd",
            parameters=1,
            versions=Versions(vaecli="0", torch="none"),
        )
    )
    for epoch, loss in enumerate(losses, 1):
        values = Losses(loss=loss, reconstruction=loss, kl=0)
        folder.append_metrics(
            EpochMetrics(epoch=epoch, seconds=2, images_per_second=1, train=values, held_out=values, active_units=2)
        )
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_pair(tmp_path / "run")


def test_a_run_folder_needs_no_runtime(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    folder = write_training(run, [3, 4])
    folder.previews.mkdir()
    for name in ("data.png", "epoch-0001.png"):
        (folder.previews / name).write_bytes(b"12345")
    found = inspect(run)
    assert (found.path, found.kind, found.problems) == (str(run), "run folder", [])
    assert found.model is not None
    assert (found.model.opset, found.model.metadata) == (20, metadata(GREY, 2, 0))
    assert found.training is not None
    assert (found.training.epochs, found.training.seconds) == (2, 4)
    assert (found.training.best, found.training.last) == tuple(folder.read_metrics())
    sizes = {file.name: file.bytes for file in found.files}
    assert list(sizes) == ["config.json", "metrics.jsonl", "previews/", "encoder.onnx", "decoder.onnx"]
    assert sizes["previews/"] == 10
    assert sizes["decoder.onnx"] == folder.decoder.stat().st_size


def test_one_file_is_compared_with_the_other_beside_it(run: Path, tmp_path: Path) -> None:
    assert inspect(run / "encoder.onnx").problems == []
    write_pair(tmp_path / "other", seed=1)
    shutil.copy(tmp_path / "other" / "decoder.onnx", run)
    found = inspect(run / "encoder.onnx")
    assert found.problems == ["encoder.onnx and decoder.onnx are of different models"]
    assert found.model is not None
    assert found.model.metadata.pair == "random-0"
    assert [file.name for file in found.files] == ["encoder.onnx"]
    assert inspect(run).model is None
    assert inspect(run).problems == found.problems


@pytest.mark.parametrize(("missing", "other"), [("encoder.onnx", "decoder.onnx"), ("decoder.onnx", "encoder.onnx")])
def test_half_a_pair(run: Path, missing: str, other: str) -> None:
    (run / missing).unlink()
    assert inspect(run).problems == [f"{missing} is missing; it belongs to {other}"]
    assert inspect(run).model is not None


def test_an_exported_model_and_the_training_beside_it(run: Path) -> None:
    """The model is of epoch 1."""
    for losses, seed, words in (
        ([3.0], 0, None),
        ([2.0, 3.0], 0, None),
        ([3.0, 1.0, 2.0], 0, "epoch 2 of this run is better"),
        ([3.0], 1, "of another training"),
    ):
        (run / "metrics.jsonl").unlink(missing_ok=True)
        write_training(run, losses, seed)
        found = inspect(run)
        assert found.training is not None
        assert mismatch_with_training(metadata(GREY, 2, 0), found.training) == next(iter(found.problems), None)
        assert len(found.problems) == (words is not None)
        assert words is None or words in found.problems[0]


def test_what_is_damaged_is_a_problem_and_the_rest_is_told(run: Path) -> None:
    folder = write_training(run, [3])
    folder.config.write_text("{}")
    folder.decoder.write_bytes(b"\xff")
    found = inspect(run)
    assert found.training is None
    assert found.model is not None
    of_config, of_decoder = found.problems
    assert of_config.startswith(f"{folder.config}: not the config of a run")
    assert of_decoder.startswith(f"{folder.decoder}: not an ONNX file")
    with pytest.raises(VaeError, match="not an ONNX file"):
        inspect(folder.decoder)


def test_it_becomes_json(run: Path) -> None:
    write_training(run, [3])
    record = msgspec.to_builtins(inspect(run))
    assert list(record) == ["path", "kind", "training", "model", "files", "problems"]
    assert msgspec.convert(record, type(inspect(run))) == inspect(run)


def test_nothing_of_ours(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for path, words in (
        (tmp_path, "no training and no exported model"),
        (tmp_path / "none", "no such file"),
        (tmp_path / "notes.txt", "neither a run folder nor an exported file"),
    ):
        with pytest.raises(VaeError, match=words) as refusal:
            inspect(path)
        assert str(path) in refusal.value.message


def test_what_killed_commands_left_is_told(run: Path) -> None:
    folder = write_training(run, [3])
    folder.previews.mkdir()
    (run / ".best.pt.01234567.part").touch()
    (folder.previews / ".epoch-0002.png.01234567.part").touch()
    (run / ".pending").mkdir()
    assert inspect(run).problems == [
        "an export was killed while it replaced the model: the next use of the model completes it",
        "a killed training or export has left .best.pt.01234567.part, previews/.epoch-0002.png.01234567.part: "
        "the next one removes what was left",
    ]
    with folder.locked():
        assert inspect(run).problems == []


def test_what_is_being_written_is_not_taken_for_left(run: Path) -> None:
    with files.replacing(RunFolder(run).best):
        assert inspect(run).problems == []


def test_a_vamp_prior_that_is_missing_is_told(tmp_path: Path) -> None:
    write_pair(tmp_path)
    known = msgspec.structs.replace(metadata(GREY, 2, seed=0), trained_prior="vamp")
    for name in (ENCODER_FILE, DECODER_FILE):
        edit(tmp_path / name, lambda model: onnx.helper.set_model_props(model, {METADATA_KEY: to_json(known)}))
    told = "prior.onnx is missing: the model was trained with a VampPrior and needs it"
    assert told in inspect(tmp_path).problems
    write_flow(tmp_path)
    assert f"{told}, except to draw from its flow" in inspect(tmp_path).problems


def test_links_to_runs_are_followed_and_each_run_comes_once(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    for name in ("a", "b"):
        (tmp_path / "runs" / name).symlink_to(trained)
    (tmp_path / "runs" / "loop").symlink_to(tmp_path)
    assert [run.path for run in runs(tmp_path / "runs")] == [str(tmp_path / "runs" / "a")]
    shutil.copytree(trained, tmp_path / "real" / "run-3")
    (tmp_path / "real" / "latest").symlink_to("run-3")
    assert [run.path for run in runs(tmp_path / "real")] == [str(tmp_path / "real" / "run-3")]


def test_a_copy_of_a_run_counts_once_and_how_it_is_shown_does_not_matter(tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        write_training(tmp_path / name, [100 + 10 * seed], seed)
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    record = RunFolder(tmp_path / "b").read_record()
    shown = msgspec.structs.replace(record.config.training, previews=7, device="cpu")
    config = msgspec.structs.replace(record.config, training=shown)
    RunFolder(tmp_path / "b").write_record(msgspec.structs.replace(record, config=config))
    (summary,) = over_seeds(runs(tmp_path))
    assert summary.runs == [str(tmp_path / name) for name in ("a", "b")]
    assert summary.mean == 105
    assert summary.standard_deviation == pytest.approx(50**0.5)


def test_a_link_to_nothing_among_the_previews(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    (run / "previews" / "x.png").symlink_to("nowhere")
    assert "previews/" in [file.name for file in inspect(run).files]


def test_a_run_in_a_line_has_the_terms_of_its_loss(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "a").symlink_to(trained)
    (run,) = runs(tmp_path / "runs")
    best = inspect(trained).training
    assert best is not None
    assert best.best is not None
    assert (run.reconstruction, run.kl) == (best.best.held_out.reconstruction, best.best.held_out.kl)
    assert run.active_units == best.best.active_units
