"""`vae evaluate` through its command line: which pictures it takes, what it says, how it refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import linear_gaussian
from tests.command_line import Result, assert_refused, vae
from tests.conftest import TINY
from tests.test_using_without_torch import VAE
from tests.test_using_without_torch import run as run_without_torch
from tests.tiny_model import edit
from vaecli import datasets
from vaecli.config import DataConfig
from vaecli.model_format import DECODER_FILE, ENCODER_FILE, METADATA_KEY


def evaluate(run: Path, *more: str | Path) -> Result:
    return vae("evaluate", "--run", run, "--device", "cpu", *more)


def pair_alone(run: Path, folder: Path, **changes: Any) -> Path:
    """The two files without the run folder, with other values in their metadata."""
    folder.mkdir()
    for name in (ENCODER_FILE, DECODER_FILE):
        shutil.copy(run / name, folder / name)

        def change(model: Any) -> None:
            (entry,) = (entry for entry in model.metadata_props if entry.key == METADATA_KEY)
            entry.value = json.dumps({**json.loads(entry.value), **changes})

        edit(folder / name, change)
    return folder


def test_the_json_says_it_all(trained: Path, blobs: Path) -> None:
    result = evaluate(trained, "--seed", "3", "--json", "--importance-samples", "20").json
    assert set(result) == {
        "run",
        "pair",
        "epoch",
        "data",
        "split",
        "trained_on",
        "chose_epoch",
        "n",
        "likelihood",
        "binarize",
        "prior",
        "importance_samples",
        "negative_elbo",
        "reconstruction",
        "kl",
        "bound",
        "negative_elbo_normal",
        "standard_error",
        "bits_per_dimension",
        "effective_samples",
        "normalised",
        "mean_squared_error",
        "psnr",
        "latent_dim",
        "active_units",
        "probes",
        "kl_per_dimension",
        "mean_variance",
        "samples",
        "seed",
        "provider",
        "seconds",
    }
    assert result["data"] == blobs.name
    assert result["samples"] is None
    assert result["n"] == 12
    assert result["trained_on"] is True
    assert result["chose_epoch"] is True
    assert result["seed"] == 3
    assert result["importance_samples"] == 20
    assert result["bits_per_dimension"] is None
    assert result["normalised"] is False
    assert result["provider"] == "CPUExecutionProvider"
    assert result["negative_elbo"] == pytest.approx(result["reconstruction"] + result["kl"])
    assert result["bound"] < result["negative_elbo"]
    assert 1 < result["effective_samples"]["low"] < result["effective_samples"]["median"] < 20
    assert result["prior"] == "mixture"
    normal = evaluate(trained, "--seed", "3", "--json", "--importance-samples", "20", "--prior", "normal").json
    assert normal["prior"] == "normal"
    assert normal["kl"] == pytest.approx(sum(result["kl_per_dimension"]))
    assert result["kl"] < normal["kl"]
    assert len(result["kl_per_dimension"]) == len(result["mean_variance"]) == result["latent_dim"] == 3
    estimates = {"negative_elbo", "reconstruction", "kl", "bound", "negative_elbo_normal"}
    assert set(result["standard_error"]) == {name for name in estimates if result[name] is not None}


def test_people_read_the_same_on_stdout(trained: Path) -> None:
    result = evaluate(trained, "--seed", "3", "-k", "20")
    numbers = evaluate(trained, "--seed", "3", "-k", "20", "--json").json
    assert "data: 12 held-out pictures of blobs.npy" in result.err.splitlines()
    lines = result.out.splitlines()
    assert lines[0] == f"{trained} on 12 held-out pictures of blobs.npy"
    assert lines[1] == "likelihood bernoulli, binarize none, seed 3"
    rows = [re.split("  +", line) for line in lines]
    for name, key in (("negative ELBO", "negative_elbo"), ("KL", "kl"), ("bound, K = 20", "bound")):
        assert any(row[:2] == [name, f"{numbers[key]:.3f}"] for row in rows)
    assert f"active units: {numbers['active_units']} of 3 latent dimensions" in lines
    largest = int(np.argmax(numbers["kl_per_dimension"]))
    assert any(row[:2] == [str(largest), f"{max(numbers['kl_per_dimension']):.3f}"] for row in rows)
    assert any("grey pixels" in line and "cross-entropies" in line for line in lines)
    median, low = (numbers["effective_samples"][name] for name in ("median", "low"))
    said = f"effective sample size of the bound: median {median:.1f} of 20, 5 % quantile {low:.2f}"
    assert said in lines
    assert "effective sample size" not in evaluate(trained, "-k", "1").out, "one latent is one sample"
    quiet = evaluate(trained, "--quiet", "--seed", "3", "-k", "20")
    assert (quiet.err, quiet.out) == ("", result.out)


def test_samples_beside_what_would_be_good(trained: Path) -> None:
    result = evaluate(trained, "--samples", "6", "--json")
    assert result.code == 0, result.err
    found = result.json["samples"]
    assert found["n"] == 6
    for name in ("samples", "reconstructions", "pictures"):
        assert set(found[name]) == {"precision", "recall", "frechet_distance"}
    lines = evaluate(trained, "--samples", "6").out.splitlines()
    assert "6 samples of the mixture compared with as many pictures" in lines
    rows = [re.split("  +", line) for line in lines]
    for title, name in (("samples", "samples"), ("other pictures, reconstructed", "reconstructions")):
        like = found[name]
        assert [title, *(f"{like[key]:.3f}" for key in ("precision", "recall", "frechet_distance"))] in rows
    assert any("comparable within one exported model only" in line for line in lines)
    other = evaluate(trained, "--samples", "6", "--prior", "normal", "--json").json["samples"]
    assert other["pictures"] == found["pictures"]
    assert other["samples"] != found["samples"]


def test_colour_is_not_called_grey(colour: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "some.npy", np.random.default_rng(0).integers(0, 256, (20, 10, 12, 3), np.uint8))
    result = evaluate(colour, "--data", tmp_path / "some.npy")
    assert result.code == 0, result.err
    assert "colour under a Bernoulli likelihood: these are cross-entropies" in result.out
    assert "grey" not in result.out + result.err


def test_without_a_seed_it_is_deterministic(trained: Path) -> None:
    first, again = evaluate(trained, "--json").json, evaluate(trained, "--json").json
    assert first["seed"] == 0
    assert again["bound"] == first["bound"]
    assert evaluate(trained, "--json", "--seed", "1").json["bound"] != first["bound"]


def test_no_batch_size_changes_a_number(trained: Path) -> None:
    numbers = [evaluate(trained, "--json", "--seed", "1", "--batch-size", size).json for size in ("1", "3", "500")]
    for key in ("negative_elbo", "bound", "kl", "active_units", "mean_variance", "standard_error"):
        for result in numbers[1:]:
            assert result[key] == pytest.approx(numbers[0][key], rel=1e-6), key


def test_the_parts_of_a_data_set(trained: Path) -> None:
    counts = {split: evaluate(trained, "--json", "--split", split).json["n"] for split in ("held-out", "train", "all")}
    assert counts == {"held-out": 12, "train": 108, "all": 120}


def test_n_are_spread_evenly(trained: Path, blobs: Path, tmp_path: Path) -> None:
    held_out = datasets.load(DataConfig(source=str(blobs))).held_out
    assert evaluate(trained, "--json", "-n", "5").json["n"] == 5
    assert "data: 5 of 12 held-out pictures of blobs.npy" in evaluate(trained, "-n", "5").err
    assert evaluate(trained, "--json", "-n", "500").json["n"] == 12
    # KL has no noise: it tells which pictures they were.
    np.save(tmp_path / "five.npy", held_out[np.array([0, 2, 4, 7, 9])][..., 0])
    five = evaluate(trained, "--data", tmp_path / "five.npy", "--split", "all", "--json").json
    assert evaluate(trained, "--json", "-n", "5").json["kl"] == pytest.approx(five["kl"])


def test_other_data_is_told(trained: Path, blobs: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", np.load(blobs)[:50])
    result = evaluate(trained, "--data", tmp_path / "other.npy", "--json", "--quiet")
    assert result.json["trained_on"] is False
    assert (result.json["n"], result.json["split"]) == (50, "all")
    tenth = evaluate(trained, "--data", tmp_path / "other.npy", "--split", "held-out", "--json", "--quiet")
    assert (tenth.json["n"], tenth.json["split"]) == (5, "held-out")
    assert result.err == ""
    told = evaluate(trained, "--data", tmp_path / "other.npy").err
    assert "\nother.npy is not the data set that this model was trained on, blobs.npy\n" in f"\n{told}"
    assert evaluate(trained, "--data", blobs, "--quiet").err == ""
    assert result.json["chose_epoch"] is False


def test_several_runs_beside_each_other(trained: Path, grey: Path, blobs: Path, tmp_path: Path) -> None:
    runs = []
    for seed in (71, 72, 73):
        runs.append(tmp_path / f"seed-{seed}")
        shutil.copytree(trained, runs[-1])
        record = json.loads((runs[-1] / "config.json").read_text())
        record["config"]["training"]["seed"] = seed
        (runs[-1] / "config.json").write_text(json.dumps(record))
    alone = evaluate(trained, "--json", "--seed", "5").json
    result = vae("evaluate", *runs, "--json", "--seed", "5")
    ours = [{**facts, "run": str(trained), "provider": alone["provider"]} for facts in result.json["runs"]]
    assert ours == [{name: value for name, value in alone.items() if name != "seconds"}] * 3
    (summary,) = result.json["over_seeds"]
    assert summary["mean"] == pytest.approx(alone["bound"])
    assert (summary["standard_deviation"], sorted(summary["runs"])) == (0, [str(run) for run in runs])
    report = vae("evaluate", *runs, "--seed", "5").out.splitlines()
    assert report[0] == "nats per image on 12 held-out pictures of blobs.npy, best first"
    assert report[2].split()[:2] == [str(runs[0]), f"{alone['bound']:.2f}"]
    assert "mean over seeds" in report
    (runs[0] / "encoder.onnx").unlink()
    left = vae("evaluate", *runs, f"{runs[1]}/", runs[1] / ".." / "seed-72", "--seed", "5", "-q", "--json")
    assert f"warning: {runs[0]}: left out: {runs[0]}/encoder.onnx: no such file" in left.err
    assert [facts["run"] for facts in left.json["runs"]] == [str(run) for run in runs[1:]], "each once"
    assert_refused(vae("evaluate", runs[1], tmp_path / "none"), 2, "none: no such run folder")
    other = vae("evaluate", runs[1], grey, "--data", blobs, "-q", "--seed", "5")
    assert "warning: the models differ in data, likelihood or classes: their losses cannot be compared" in other.err
    assert "measured on" in other.out
    np.save(tmp_path / "new.npy", 255 - np.load(blobs))
    same = vae("evaluate", runs[1], grey, "--data", tmp_path / "new.npy", "-q", "--seed", "5")
    assert "cannot be compared" not in same.err


def test_pictures_that_chose_the_epoch_are_told(trained: Path) -> None:
    told = "the epoch of these weights was chosen by these pictures: new ones have a slightly higher loss"
    held_out = evaluate(trained, "--json")
    assert told in held_out.err.splitlines()
    assert held_out.json["chose_epoch"] is True
    train = evaluate(trained, "--json", "--split", "train")
    assert told not in train.err
    assert train.json["chose_epoch"] is False
    assert_refused(evaluate(trained, "--split", "validation"), 2, "--split validation", "blobs.npy", "--split held-out")


def test_the_two_files_alone_know_a_data_set_by_name(digits: Path, tmp_path: Path) -> None:
    pair = pair_alone(digits, tmp_path / "pair", data_name="mnist-5k")
    result = evaluate(pair, "--json", "-n", "20", "--split", "all")
    assert result.json["data"] == "mnist-5k"
    assert result.json["trained_on"] is False  # the hash in this file is made up


def test_the_two_files_alone_name_no_path(trained: Path, blobs: Path, tmp_path: Path) -> None:
    pair = pair_alone(trained, tmp_path / "pair", data_name=str(blobs))
    assert_refused(evaluate(pair), 1, str(blobs), "--data")
    assert evaluate(pair, "--data", blobs, "--quiet").code == 0


def test_a_config_of_another_training_says_nothing(run: Path) -> None:
    record = json.loads((run / "config.json").read_text())
    record["data"]["hash"] = "another"
    (run / "config.json").write_text(json.dumps(record))
    assert_refused(evaluate(run), 1, "blobs.npy, which the exported files cannot locate", "--data")


def test_data_that_is_gone(run: Path) -> None:
    record = json.loads((run / "config.json").read_text())
    record["config"]["data"]["source"] = "gone/blobs.npy"
    (run / "config.json").write_text(json.dumps(record))
    assert_refused(evaluate(run), 1, "gone/blobs.npy", "no such file", "--data")


def test_data_of_another_shape_is_refused_or_fitted(trained: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "large.npy", np.random.default_rng(0).integers(0, 256, (20, 12, 10, 3), np.uint8))
    refused = evaluate(trained, "--data", tmp_path / "large.npy")
    assert_refused(refused, 1, "large.npy", "12x10x3", "8x8x1", "--image-size 8x8 --channels 1")
    (tmp_path / "several").mkdir()
    for side in (9, 12):
        Image.new("RGB", (side, side)).save(tmp_path / f"several/{side}.png")
    several = evaluate(trained, "--data", tmp_path / "several")
    assert_refused(several, 1, "pictures differ in size", "--image-size 8x8 --channels 1")
    fitted = evaluate(trained, "--data", tmp_path / "large.npy", "--image-size", "8x8", "--channels", "1", "--json")
    assert fitted.json["n"] == 20


def test_pixels_are_made_0_or_1_as_in_training(blobs: Path, tmp_path: Path) -> None:
    run = tmp_path / "r"
    trained = vae("train", "--data", blobs, "--run", run, "--epochs", "1", "--binarize", "threshold", *TINY)
    assert trained.code == 0, trained.err
    assert vae("export", "--run", run).code == 0, "the pair says it by itself"
    result = evaluate(run, "--json", "--seed", "1")
    assert "made 0 or 1" in result.err
    assert result.json["binarize"] == "threshold"
    assert result.json["normalised"] is True
    grey = evaluate(run, "--json", "--seed", "1", "--binarize", "none").json
    assert grey["binarize"] == "none"
    assert grey["normalised"] is False
    assert grey["kl"] != result.json["kl"]
    coins = [evaluate(run, "--json", "--seed", seed, "--binarize", "dynamic").json["kl"] for seed in ("1", "1", "2")]
    assert coins[0] == coins[1] != coins[2]


def test_a_gaussian_model(tmp_path: Path) -> None:
    known = linear_gaussian.exact()
    pictures = known.pictures(100, seed=0)
    np.save(tmp_path / "drawn.npy", pictures)
    model = known.write(tmp_path / "model")
    found = evaluate(model, "--data", tmp_path / "drawn.npy", "--split", "all", "--json", "-k", "3")
    assert found.json["bound"] == pytest.approx(known.negative_log_p(pictures).mean(), abs=1e-4)
    assert found.json["normalised"] is False
    shown = evaluate(model, "--data", tmp_path / "drawn.npy", "--split", "all").out
    assert "gaussian is a density" in shown
    assert found.json["active_units"] == 2
    assert_refused(evaluate(model, "--binarize", "dynamic"), 2, "--binarize", "gaussian")


def test_bits_per_dimension(tmp_path: Path) -> None:
    known = linear_gaussian.exact()
    np.save(tmp_path / "drawn.npy", known.pictures(20, seed=0))
    model = known.write(tmp_path / "model", "logistic")
    result = evaluate(model, "--data", tmp_path / "drawn.npy", "--json")
    assert result.json["bits_per_dimension"]["bound"] == pytest.approx(result.json["bound"] / 16 / np.log(2))
    assert "bits per dimension" in evaluate(model, "--data", tmp_path / "drawn.npy").out


def test_one_picture_has_no_standard_error(trained: Path) -> None:
    result = evaluate(trained, "-n", "1", "--json")
    assert result.json["standard_error"]["bound"] is None
    assert "unknown" in evaluate(trained, "-n", "1").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-n", "0"), ("--n",)),
        (("--importance-samples", "0"), ("--importance-samples",)),
        (("--samples", "1"), ("--samples",)),
        (("--samples", "2", "-n", "3"), ("--samples", "too few")),
        (("--seed", str(2**64)), ("seed",)),
        (("--split", "test"), ("test",)),
        (("--image-size", "8"), ("--data",)),
        (("--data", "mnist-5k", "--image-size", "0"), ("--image-size",)),
    ],
    ids=str,
)
def test_wrong_usage(trained: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert_refused(evaluate(trained, *arguments), 2, *words)


def test_data_that_nobody_knows(trained: Path) -> None:
    assert_refused(evaluate(trained, "--data", "mnist-6k"), 1, "mnist-6k", "mnist-5k")


def test_half_a_model(run: Path) -> None:
    (run / ENCODER_FILE).unlink()
    assert_refused(evaluate(run), 1, ENCODER_FILE)


def test_it_needs_no_torch(trained: Path) -> None:
    done = run_without_torch(VAE, "evaluate", "--run", trained, "--json", "--quiet")
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["n"] == 12
