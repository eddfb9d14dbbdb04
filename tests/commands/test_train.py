"""`vae train` through its command line: what it writes, what it says, how it goes on, how it refuses."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

from tests.command_line import PROJECT, assert_refused, exit_code, heed_interrupts, vae, vae_process
from tests.conftest import TINY
from vaecli.config import Activation
from vaecli.errors import VaeError
from vaecli.model_format import LIKELIHOODS
from vaecli.run_folder import RunFolder
from vaecli.training.learner import Learner

ACTIVATIONS = get_args(Activation)


def weights(run: Path, name: str = "checkpoint.pt") -> dict[str, torch.Tensor]:
    content = torch.load(run / name, weights_only=True)
    model: dict[str, torch.Tensor] = content.get("weights", content)["model"]
    return model


def without_times(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in event.items() if key not in ("seconds", "images_per_second", "run")}
        for event in events
    ]


def test_a_run_folder_holds_what_the_contract_lists(trained: Path) -> None:
    assert sorted(path.name for path in trained.iterdir()) == [
        "best.pt",
        "checkpoint.pt",
        "config.json",
        "decoder.onnx",
        "encoder.onnx",
        "metrics.jsonl",
        "previews",
        "prior.onnx",
    ]
    assert sorted(path.name for path in (trained / "previews").iterdir()) == [
        "data.png",
        "epoch-0001.png",
        "epoch-0002.png",
        "epoch-0003.png",
    ]
    record = json.loads((trained / "config.json").read_text())
    assert record["config"]["training"]["seed"] == 7
    assert record["config"]["model"]["latent_dim"] == 3
    assert record["data"]["train"] + record["data"]["held_out"] == 120
    assert set(record["versions"]) == {"vaecli", "torch"}


def test_the_loss_falls_and_is_the_sum_of_its_terms(trained: Path) -> None:
    epochs = RunFolder(trained).read_metrics()
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    assert epochs[-1].train.loss < epochs[0].train.loss
    for epoch in epochs:
        for losses in (epoch.train, epoch.held_out):
            assert losses.loss == pytest.approx(losses.reconstruction + losses.kl, rel=1e-6)


def test_json_is_one_object_a_line_and_metrics_hold_the_epochs(blobs: Path, tmp_path: Path) -> None:
    result = vae("train", "--data", blobs, "--run", tmp_path / "r", "--epochs", "2", "--seed", "1", "--json", *TINY)
    *epochs, done = result.events
    assert [event["event"] for event in result.events] == ["epoch", "epoch", "done"]
    assert set(epochs[0]) >= {"epoch", "seconds", "images_per_second", "train", "held_out"}
    assert set(epochs[0]["train"]) == set(epochs[0]["held_out"]) == {"loss", "reconstruction", "kl"}
    expected = {"run", "epochs", "best_epoch", "best_loss", "chosen_by", "seconds", "device", "precision", "seed"}
    assert set(done) - {"event"} == expected
    assert [json.loads(line) for line in (tmp_path / "r/metrics.jsonl").read_text().splitlines()] == epochs
    assert done["best_loss"] == min(epoch["held_out"]["loss"] for epoch in epochs)
    assert done["chosen_by"] == "held-out"


def test_people_read_stderr_and_stdout_stays_empty(blobs: Path, tmp_path: Path) -> None:
    result = vae_process("train", "--data", blobs, "--run", tmp_path / "r", "--epochs", "1", *TINY)
    assert result.code == 0
    assert result.stdout == b""
    assert "\x1b" not in result.err
    assert "\r" not in result.err
    assert "108 images to train on, 12 held out, 8x8x1, values 0 to 255\n" in result.err
    assert "will keep: the epoch with the lowest loss on the 12 held-out images, after any KL warm-up\n" in result.err
    assert re.search(
        r"done: best epoch 1, chosen by the held-out images: \d+\.\d\d nats per image on them\n", result.err
    )
    assert "epoch 1/1: loss" in result.err
    assert "seed" in result.err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--beta", "1000"), "none of the 4 latent dimensions is active"),
        (("--latent-dim", "64"), r"\d+ of 64 latent dimensions are unused"),
        ((), None),
    ],
    ids=["collapsed", "too many", "in use"],
)
def test_a_collapse_is_told(tmp_path: Path, flags: tuple[str, ...], told: str | None) -> None:
    small = ("--config", "tutorial", "--hidden", "32", "--latent-dim", "4", "--batch-size", "64", "--epochs", "2")
    result = vae(
        "train", "--run", tmp_path / "r", "--seed", "1", *small, "--device", "cpu", "--precision", "float32", *flags
    )
    assert result.code == 0, result.err
    if told is None:
        assert "dimensions are unused" not in result.err
        assert "is active" not in result.err
    else:
        assert re.search(told + ".*; --kl-warmup 10, --free-bits 0.1 or a smaller --beta", result.err), result.err


def test_validation_images_choose_the_epoch(blobs: Path, tmp_path: Path) -> None:
    run = tmp_path / "r"
    flags = ("--data", blobs, "--run", run, "--epochs", "2", "--validation", "20", *TINY)
    result = vae("train", *flags, "--json")
    assert "blobs.npy, 88 images to train on, 20 for validation, 12 held out, 8x8x1" in result.err
    assert "will keep: the epoch with the lowest loss on the 20 validation images, after any KL warm-up\n" in result.err
    assert re.search(r"epoch 2/2: loss .*; validation \d", result.err)
    assert "chosen by the validation images" in result.err
    assert result.events[-1]["chosen_by"] == "validation"
    (data,) = (line for line in vae("info", run).out.splitlines() if line.startswith("data "))
    assert data.endswith("train 88, validation 20, held out 12")
    assert vae("export", "--run", run).code == 0
    measured = vae("evaluate", "--run", run, "--split", "validation", "--prior", "normal", "--json")
    assert (measured.json["n"], measured.json["chose_epoch"]) == (20, True)
    assert measured.json["kl"] == pytest.approx(result.events[1]["held_out"]["kl"], abs=1e-3)
    assert "the epoch of these weights was chosen by these pictures" in measured.err
    untouched = vae("evaluate", "--run", run, "--prior", "normal", "--json")
    assert (untouched.json["n"], untouched.json["chose_epoch"]) == (12, False)
    assert "chosen" not in untouched.err
    assert vae("evaluate", "--run", run, "--split", "all", "--json").json["n"] == 120
    assert_refused(vae("train", *flags, "--resume", "--validation", "21"), 2, "--validation 21", "begun with 20")


def test_quiet_says_nothing(blobs: Path, tmp_path: Path) -> None:
    result = vae("train", "--data", blobs, "--run", tmp_path / "r", "--epochs", "1", "-q", *TINY)
    assert (result.code, result.stdout, result.err) == (0, b"", "")


@pytest.mark.parametrize(
    "knobs",
    [
        (),
        ("--schedule", "cosine", "--warmup-steps", "5", "--ema", "0.9", "--output-bias", "--clip-gradient", "5"),
        ("--objective", "dreg", "--importance-samples", "3", "--dropout", "0", "--binarize", "dynamic"),
        ("--importance-samples", "3", "--activation", "elu"),
    ],
    ids=["defaults", "averaged", "weighted", "paired"],
)
def test_a_resumed_run_equals_an_unbroken_one(
    blobs: Path, tmp_path: Path, knobs: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the number that is fastest depends on what else runs here
    common = ("--data", str(blobs), "--seed", "3", "--json", *TINY, *knobs)
    whole = vae("train", "--run", tmp_path / "whole", "--epochs", "4", *common)
    part = tmp_path / "cut"
    stopped = _stopped_after(2, ("train", "--run", str(part), "--epochs", "4", *common))
    resumed = vae("train", "--run", part, "--resume", "--json")
    assert resumed.code == 0, resumed.err
    assert without_times(stopped + resumed.events) == without_times(whole.events)
    for name in ("checkpoint.pt", "best.pt"):
        for key, tensor in weights(tmp_path / "whole", name).items():
            assert torch.equal(tensor, weights(part, name)[key]), key
    assert (part / "metrics.jsonl").read_text().count("\n") == 4


def _stopped_after(epochs: int, args: tuple[str, ...]) -> list[dict[str, Any]]:
    """Run a training that Ctrl-C ends in the step after so many epochs; its epoch events."""
    original = Learner.step
    steps = 0

    def step(self: Learner, *batch: Any) -> None:
        nonlocal steps
        steps += 1
        if steps > epochs * self.steps_per_epoch:
            raise KeyboardInterrupt
        original(self, *batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "step", step)
        result = vae(*args)
    assert result.code == 130
    assert f"epoch {epochs} is kept" in result.err
    assert "--resume" in result.err
    return [json.loads(line) for line in result.out.splitlines() if "exit_code" not in line]


def test_resuming_may_train_longer(run: Path, blobs: Path) -> None:
    result = vae("train", "--run", run, "--resume", "--epochs", "5", "--json")
    assert result.code == 0, result.err
    assert [event["epoch"] for event in result.events[:-1]] == [4, 5]
    assert [epoch.epoch for epoch in RunFolder(run).read_metrics()] == [1, 2, 3, 4, 5]


def test_resuming_refuses_a_checkpoint_of_another_version(run: Path) -> None:
    content = torch.load(run / "checkpoint.pt", weights_only=True)
    content["learner"]["moments"] = content["learner"].pop("optimizer")
    torch.save(content, run / "checkpoint.pt")
    before = (run / "checkpoint.pt").read_bytes()
    assert_refused(vae("train", "--run", run, "--resume", "--epochs", "9"), 1, "checkpoint.pt", "--overwrite")
    assert (run / "checkpoint.pt").read_bytes() == before


def test_lines_that_are_lost_are_told(run: Path) -> None:
    """The epoch's weights are in the checkpoint, and its line was cut by a full disk, say."""
    metrics = run / "metrics.jsonl"
    before = metrics.read_text().splitlines()
    metrics.write_text("\n".join(before[:-1]) + "\n" + before[-1][:20])
    result = vae("train", "--run", run, "--resume", "--epochs", str(len(before) + 1))
    assert f"warning: {metrics}: the lines of 1 epoch are lost" in result.err.splitlines()
    assert result.code == 0


def test_what_is_removed_is_told_once_it_is(run: Path, blobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: RunFolder) -> None:
        raise VaeError(f"{folder.path}: permission denied", "change its permissions")

    monkeypatch.setattr(RunFolder, "clear", fail)
    result = vae("train", "--data", blobs, "--run", run, "--overwrite", *TINY)
    assert_refused(result, 1, "permission denied")
    assert "removed what" not in result.err


def test_resuming_forgets_lines_that_a_kill_left_behind(run: Path) -> None:
    metrics = run / "metrics.jsonl"
    last = metrics.read_text().splitlines()[-1].replace('"epoch":3', '"epoch":4')
    metrics.write_text(metrics.read_text() + last + "\n" + last[:20])
    assert vae("train", "--run", run, "--resume", "--epochs", "4").code == 0
    assert [epoch.epoch for epoch in RunFolder(run).read_metrics()] == [1, 2, 3, 4]


def test_resuming_refuses_other_settings_and_other_pictures(run: Path, blobs: Path, tmp_path: Path) -> None:
    assert_refused(vae("train", "--run", run, "--resume", "--latent-dim", "4"), 2, "--latent-dim 4", "with 3")
    other = tmp_path / "other.npy"
    np.save(other, 255 - np.load(blobs))
    record = run / "config.json"
    record.write_text(record.read_text().replace(str(blobs), str(other)))
    assert_refused(vae("train", "--run", run, "--resume"), 1, "its pictures are not those that this run was begun with")


def test_a_run_is_not_overwritten_unasked(run: Path, blobs: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    result = vae("train", "--data", blobs, "--run", run, *TINY)
    assert_refused(result, 1, str(run), "--resume", "--overwrite")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_overwriting_leaves_nothing_of_the_old_run(run: Path, blobs: Path) -> None:
    (run / "notes.txt").write_text("mine")
    result = vae("train", "--data", blobs, "--run", run, "--overwrite", "--epochs", "1", "--previews", "0", *TINY)
    assert result.code == 0
    assert len(RunFolder(run).read_metrics()) == 1
    assert not (run / "decoder.onnx").exists(), "an export of the old weights would lie about the new"
    assert [path.name for path in (run / "previews").iterdir()] == ["data.png"]
    assert (run / "notes.txt").read_text() == "mine"


def test_bad_data_lose_nothing_of_the_old_run(run: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    result = vae("train", "--data", tmp_path / "nowhere", "--run", run, "--overwrite")
    assert_refused(result, 1, "nowhere")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_ended_training_keeps_its_last_epoch(blobs: Path, tmp_path: Path, number: signal.Signals, code: int) -> None:
    run = tmp_path / "r"
    args = (
        "train",
        "--data",
        str(blobs),
        "--run",
        str(run),
        "--epochs",
        "100000",
        "--previews",
        "0",
        "--json",
        *TINY,
    )
    with subprocess.Popen(
        [sys.executable, "-m", "vaecli", *args],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = json.loads(process.stdout.readline())
        process.send_signal(number)
        err = process.stderr.read()
        process.stdout.read()
    assert first["epoch"] == 1
    assert exit_code(process) == code
    assert err.splitlines()[-2].startswith("error: interrupted: epoch ")
    assert "Traceback" not in err
    assert vae("train", "--run", run, "--resume", "--epochs", str(len(RunFolder(run).read_metrics()) + 1)).code == 0


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_epoch(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Learner.step

    def step(self: Learner, *batch: Any) -> None:
        original(self, *batch)
        if self.steps == self.steps_per_epoch + 2:  # in the second epoch
            self.parameters.vector.data.fill_(float("nan"))

    monkeypatch.setattr(Learner, "step", step)
    result = vae("train", "--data", blobs, "--run", tmp_path / "r", "--epochs", "3", *TINY)
    assert_refused(result, 1, "epoch 2 is not finite", "--learning-rate")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights(tmp_path / "r").values())
    assert len(RunFolder(tmp_path / "r").read_metrics()) == 1


def test_patience_ends_a_run_that_stands_still(blobs: Path, tmp_path: Path) -> None:
    result = vae(
        "train", "--data", blobs, "--run", tmp_path / "r", "--epochs", "50", "--learning-rate", "1e-12",
        "--patience", "2", "--json", "--seed", "1", *TINY,
    )  # fmt: skip
    done = result.events[-1]
    assert (done["epochs"], done["best_epoch"]) == (3, 1), "rounding keeps each weight"


@pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16"])
def test_every_precision_trains(blobs: Path, tmp_path: Path, precision: str) -> None:
    result = vae(
        "train", "--data", blobs, "--run", tmp_path / "r", "--epochs", "2", "--json", *TINY, "--precision", precision
    )
    assert result.events[-1]["precision"] == precision
    assert result.events[1]["train"]["loss"] < result.events[0]["train"]["loss"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--latent-dim", "0"), ("--latent-dim 0",)),
        (("--seed", str(2**64)), ("--seed",)),
        (("--epochs", "many"), ("--epochs",)),
        (("--device", "tpu"), ("--device",)),
        (("--resume", "--overwrite"), ("--resume", "--overwrite")),
        (("--nonsense",), ("--nonsense", "vae train --help")),
        (("--objective", "iwae", "--beta", "2"), ("--beta",)),
        (("--importance-samples", "0"), ("--importance-samples 0",)),
        (("--scale", "0.1"), ("--scale", "gaussian")),
        (("--binarize", "dynamic", "--likelihood", "logistic"), ("--binarize",)),
    ],
)
def test_wrong_usage_exits_2(tmp_path: Path, flags: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert_refused(vae("train", "--run", tmp_path / "r", *flags), 2, *words)
    assert not (tmp_path / "r").exists()


def test_an_error_is_json_too_where_json_was_asked_for(tmp_path: Path) -> None:
    result = vae("train", "--run", tmp_path / "r", "--latent-dim", "0", "--json")
    assert result.json.keys() == {"error", "hint", "exit_code"}
    assert result.json["exit_code"] == result.code == 2
    assert len(result.err.splitlines()) == 2


def test_a_typo_in_a_config_names_file_section_and_key(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[training]\nepoch = 3\n")
    result = vae("train", "--config", file, "--run", tmp_path / "r")
    assert_refused(result, 1, "mine.toml", "[training] epoch", "did you mean epochs?")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_exits_3(blobs: Path, tmp_path: Path) -> None:
    result = vae("train", "--data", blobs, "--run", tmp_path / "r", "--device", "cuda")
    assert_refused(result, 3, "--device cuda")
    assert not (tmp_path / "r").exists()


def test_a_run_folder_that_cannot_be_made_is_an_error(blobs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert_refused(vae("train", "--data", blobs, "--run", tmp_path / "file/r", *TINY), 1, "file/r")


def test_a_full_disk_keeps_the_last_whole_epoch(blobs: Path, run: Path) -> None:
    """With a limit on the size of files, the next checkpoint does not fit: the kept one must survive."""
    before = (run / "checkpoint.pt").read_bytes()
    command = f"ulimit -f 4; exec {sys.executable} -m vaecli train --run {run} --resume --epochs 9 --previews 0"
    done = subprocess.run(["bash", "-c", command], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    error, hint = done.stderr.splitlines()[-2:]
    assert error.startswith("error: ")
    assert str(run) in error
    assert hint.startswith("hint: ")
    assert (run / "checkpoint.pt").read_bytes() == before
    assert not [path for path in run.iterdir() if path.name.endswith(".part")]


def test_a_damaged_checkpoint_is_refused(run: Path) -> None:
    (run / "checkpoint.pt").write_bytes((run / "checkpoint.pt").read_bytes()[:1000])
    assert_refused(vae("train", "--run", run, "--resume", "--epochs", "5"), 1, "checkpoint.pt")


def test_previews_are_reconstructions_of_the_first_training_images(trained: Path) -> None:
    with Image.open(trained / "previews/epoch-0003.png") as preview:
        picture = np.asarray(preview)
    assert picture.ndim == 2, "grey pictures stay grey"
    assert picture.max() > 60, "something was drawn"


@pytest.mark.slow
def test_every_likelihood_trains_with_every_objective(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    np.save(tmp_path / "colour.npy", rng.integers(0, 256, (40, 17, 20, 3), dtype=np.uint8))
    for likelihood in LIKELIHOODS:
        for objective in ("elbo", "iwae", "dreg"):
            run = tmp_path / f"{likelihood}-{objective}"
            trained = vae(
                "train", "--data", tmp_path / "colour.npy", "--run", run, "--likelihood", likelihood,
                "--objective", objective, "--epochs", "1", "--depth", "1", "--json",
                *TINY, "--importance-samples", "2", "--seed", "1",
            )  # fmt: skip
            assert trained.code == 0, trained.err
            bits = trained.events[0]["bits_per_dimension"]
            assert (bits is not None) == LIKELIHOODS[likelihood].eight_bit
            shutil.rmtree(run)


@pytest.mark.parametrize(
    "flags",
    [
        ("--likelihood", "gaussian", "--scale-per", "pixel"),
        ("--likelihood", "logistic", "--scale-per", "channel"),
        ("--likelihood", "logistic", "--scale", "0.1"),
        ("--likelihood", "logistic-mixture", "--components", "2", "--architecture", "conv", "--patch", "4"),
    ],
)
def test_scales_and_mixtures_train_export_and_evaluate(flags: tuple[str, ...], tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (40, 17, 20, 3), dtype=np.uint8)
    np.save(tmp_path / "colour.npy", images)
    run = ("--run", tmp_path / "run")
    small = (*TINY, "--width", "4", "--depth", "1", "--epochs", "1", "--output-bias")
    trained = vae("train", "--data", tmp_path / "colour.npy", *run, *flags, *small, "--json")
    assert trained.code == 0, trained.err
    assert vae("export", *run).code == 0
    evaluated = vae("evaluate", *run, "--json", "--importance-samples", "100", "--prior", "normal")
    assert evaluated.code == 0, evaluated.err
    losses = trained.events[0]["held_out"]
    assert evaluated.json["kl"] == pytest.approx(losses["kl"], abs=0.01)
    # Training draws one latent for each picture.
    assert evaluated.json["reconstruction"] == pytest.approx(losses["reconstruction"], rel=0.1)
    assert evaluated.json["normalised"] is ("gaussian" not in flags)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_learns_and_is_exported(blobs: Path, tmp_path: Path, activation: str) -> None:
    flags = ("--activation", activation, "--depth", "2", "--epochs", "2", *TINY)
    trained = vae("train", "--data", blobs, "--run", tmp_path, *flags, "--json")
    assert trained.code == 0, trained.err
    first, second = (event["held_out"]["loss"] for event in trained.events[:2])
    assert second < first
    exported = vae("export", "--run", tmp_path)
    assert exported.code == 0, exported.err


def test_a_convolution_refuses_pictures_it_cannot_halve(blobs: Path, tmp_path: Path) -> None:
    result = vae("train", "--data", blobs, "--run", tmp_path / "r", "--architecture", "conv")
    assert_refused(result, 1, "--architecture conv", "8x8", "16 to 256", "--image-size")


def test_skipped_pictures_are_a_warning_also_when_quiet(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(120):
        Image.fromarray(np.full((6, 6), index, np.uint8)).save(folder / f"{index}.png")
    (folder / "broken.png").write_text("no picture")
    result = vae("train", "--data", folder, "--run", tmp_path / "run", "--epochs", "1", "--quiet", *TINY)
    assert result.code == 0, result.err
    assert "warning: skipped 1 of 121 pictures that cannot be read" in result.err


def test_the_numbers_of_a_latent_map_are_counted_by_all_who_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "grey.npy", np.random.default_rng(1).integers(0, 256, (40, 16, 16), dtype=np.uint8))
    run = ("--run", tmp_path / "run")
    small = (
        "--config",
        "tutorial",
        "--architecture",
        "conv",
        "--width",
        "4",
        "--depth",
        "1",
        "--latent-map",
        "2",
        "--epochs",
        "1",
    )
    trained = vae("train", "--data", tmp_path / "grey.npy", *run, *small, "--device", "cpu")
    assert trained.code == 0, trained.err
    assert "128 latent dimensions" in trained.err
    monkeypatch.setattr("vaecli.exporting.stage.LARGEST_FITTED", 127)
    assert_refused(vae("export", *run, "--prior", "mixture"), 1, "no mixture for more than 127 latent dimensions")


def test_pictures_of_ones_own_are_held_out(blobs: Path, tmp_path: Path) -> None:
    """All commands know them, also where both have moved."""
    images = np.load(blobs)
    for name, part in (("train", images[:90]), ("test", images[90:])):
        np.save(tmp_path / f"{name}.npy", part)
    data = ("--data", tmp_path / "train.npy", "--held-out", tmp_path / "test.npy")
    result = vae("train", *data, "--hidden", "8", "--epochs", "1", "--seed", "1", "--run", tmp_path / "run")
    assert "90 images to train on, 30 held out" in result.err
    assert vae("export", "--run", tmp_path / "run").code == 0
    record = vae("evaluate", "--run", tmp_path / "run", "--json").json
    assert (record["n"], record["split"], record["trained_on"]) == (30, "held-out", True)
    (tmp_path / "moved").mkdir()
    for name in ("train", "test"):
        (tmp_path / f"{name}.npy").rename(tmp_path / "moved" / f"{name}.npy")
    moved = ("--data", tmp_path / "moved/train.npy", "--held-out", tmp_path / "moved/test.npy")
    assert vae("train", "--resume", "--epochs", "2", *moved, "--run", tmp_path / "run").code == 0
    shutil.rmtree(tmp_path / "run" / "previews")
    assert vae("export", *moved, "--run", tmp_path / "run").code == 0
