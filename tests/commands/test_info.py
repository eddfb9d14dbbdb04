"""`vae info` through its command line: what a run folder or an exported file is."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import msgspec
import onnx
import pytest

import vaecli
from tests.command_line import assert_refused, vae
from tests.terminal import vae_on_terminal
from tests.tiny_model import edit
from vaecli import model_format
from vaecli.inspection import over_seeds
from vaecli.run_folder import RunFolder


def test_a_run_folder(trained: Path, blobs: Path) -> None:
    record = vae("info", trained, "--json").json
    assert (record["path"], record["kind"], record["problems"]) == (str(trained), "run folder", [])
    training, model = record["training"], record["model"]
    assert training["record"] == json.loads((trained / "config.json").read_text())
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert training["epochs"] == 3
    assert training["last"] == lines[-1]
    assert training["best"] == min(lines, key=lambda line: float(line["held_out"]["loss"]))
    assert training["seconds"] == pytest.approx(sum(line["seconds"] for line in lines))
    assert model["opset"] == 20
    metadata = model["metadata"]
    assert metadata["image_shape"] == [1, 8, 8]
    assert metadata["data_hash"] == training["record"]["data"]["hash"]
    assert metadata["training"]["epoch"] == training["best"]["epoch"]
    sizes = {file["name"]: file["bytes"] for file in record["files"]}
    assert sizes.pop("previews/") == sum(path.stat().st_size for path in (trained / "previews").iterdir())
    assert sizes == {path.name: path.stat().st_size for path in trained.iterdir() if path.is_file()}


def test_people_read_lines(trained: Path, blobs: Path) -> None:
    result = vae("info", trained)
    assert result.code == 0
    assert result.err == ""
    lines = result.out.splitlines()
    assert lines[0] == f"{trained}: a run folder"
    (data,) = (line for line in lines if re.match("data  +name", line))
    assert "  name blobs.npy, hash " in data
    assert data.endswith(", image shape 1x8x8, train 108, validation 0, held out 12")
    assert any(re.fullmatch("chosen by  +held-out", line) for line in lines)
    assert any(re.fullmatch("epochs  +3", line) for line in lines)
    assert any(re.fullmatch("latent dim  +3", line) for line in lines)
    best = vae("info", trained, "--json").json["training"]["best"]
    (told,) = (line for line in lines if line.startswith("best "))
    assert f"  epoch {best['epoch']}, " in told
    assert f"held-out {best['held_out']['loss']:.2f} nats per image (" in told
    assert "nats per image" in told
    (settings,) = (line for line in lines if line.startswith("settings "))
    assert f"--data {blobs}" in settings
    assert "--latent-dim 3" in settings
    assert "--beta" not in settings


def test_a_switch_is_told_as_its_flag(run: Path) -> None:
    config = run / "config.json"
    config.write_text(config.read_text().replace('"shuffle": true', '"shuffle": false'))
    assert "--no-shuffle" in vae("info", run).out


def test_the_run_that_is_usual(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAE_RUN", str(trained))
    assert vae("info", "--json").json["path"] == str(trained)
    assert vae("info", "--run", trained, "--json").json["path"] == str(trained)


@pytest.mark.parametrize("half", ["encoder.onnx", "decoder.onnx"])
def test_an_exported_file(trained: Path, tmp_path: Path, half: str) -> None:
    shutil.copy(trained / half, tmp_path / "other.onnx")
    for path in (trained / half, tmp_path / "other.onnx"):
        record = vae("info", path, "--json").json
        assert (record["kind"], record["training"], record["problems"]) == ("exported file", None, [])
        model = vae("info", trained, "--json").json["model"]
        if path.parent == tmp_path:  # where no prior is beside it
            assert model["metadata"].pop("prior")["kind"] == "mixture"
            assert record["model"]["metadata"].pop("prior") is None
        assert record["model"] == model
        assert record["files"] == [{"name": path.name, "bytes": path.stat().st_size}]


def test_a_training_that_was_not_exported(run: Path) -> None:
    for half in ("encoder.onnx", "decoder.onnx"):
        (run / half).unlink()
    assert vae("info", run, "--json").json["problems"] == ["prior.onnx is alone, without encoder.onnx and decoder.onnx"]
    (run / "prior.onnx").unlink()
    record = vae("info", run, "--json").json
    assert record["model"] is None
    assert record["training"]["epochs"] == 3
    assert record["problems"] == []


def test_a_pair_without_its_training(trained: Path, tmp_path: Path) -> None:
    for half in ("encoder.onnx", "decoder.onnx"):
        shutil.copy(trained / half, tmp_path)
    record = vae("info", tmp_path, "--json").json
    assert record["training"] is None
    assert record["model"] is not None
    assert record["problems"] == []


def test_halves_of_two_models(run: Path, grey: Path) -> None:
    shutil.copy(grey / "decoder.onnx", run)
    for path in (run, run / "encoder.onnx", run / "decoder.onnx"):
        result = vae("info", path, "--json")
        assert result.code == 0
        (problem,) = result.json["problems"]
        assert "are of different models" in problem
        assert f"warning: {problem}" in result.err
    assert vae("info", run, "--json").json["model"] is None


def test_one_half_alone(run: Path) -> None:
    (run / "decoder.onnx").unlink()
    assert vae("info", run, "--json").json["problems"] == ["decoder.onnx is missing; it belongs to encoder.onnx"]


def test_a_damaged_half(run: Path) -> None:
    (run / "decoder.onnx").write_bytes((run / "decoder.onnx").read_bytes()[:500])
    result = vae("info", run, "--json")
    assert result.code == 0
    (problem,) = result.json["problems"]
    assert "decoder.onnx: not an ONNX file, or a damaged one" in problem
    assert result.json["model"] is not None
    assert_refused(vae("info", run / "decoder.onnx"), 1, "decoder.onnx", "damaged")


def test_a_model_of_another_training(run: Path, tmp_path: Path) -> None:
    config = run / "config.json"
    config.write_text(config.read_text().replace('"seed": 7', '"seed": 8'))
    (problem,) = vae("info", run, "--json").json["problems"]
    assert "of another training" in problem


def test_a_model_that_training_has_left_behind(run: Path) -> None:
    metrics = RunFolder(run).read_metrics()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    exported = vae("info", run, "--json").json["model"]["metadata"]["training"]["epoch"]
    later = []
    for epoch in (len(metrics) + 1, len(metrics) + 2):
        line = json.loads(lines[-1])
        line["epoch"] = epoch
        line["objective"] = 1.0 / epoch
        later.append(json.dumps(line))
    (run / "metrics.jsonl").write_text("\n".join([*lines, *later]) + "\n")
    (problem,) = vae("info", run, "--json").json["problems"]
    assert problem == f"the exported model is of epoch {exported}; epoch 5 of this run is better: vae export again"


def test_a_damaged_config(run: Path) -> None:
    (run / "config.json").write_text("{}")
    record = vae("info", run, "--json").json
    assert record["training"] is None
    assert "config.json: not the config of a run" in record["problems"][0]


def test_without_a_config(run: Path) -> None:
    (run / "config.json").unlink()
    record = vae("info", run, "--json").json
    assert record["training"] is None
    assert "config.json is not there" in record["problems"][0]


def test_a_training_before_its_first_epoch(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    record = vae("info", run, "--json").json
    assert (record["training"]["epochs"], record["training"]["best"]) == (0, None)
    assert vae("info", run).code == 0


def test_nothing_of_ours(tmp_path: Path) -> None:
    assert_refused(vae("info", tmp_path / "none"), 1, "none", "no such file")
    assert_refused(vae("info", tmp_path), 1, str(tmp_path), "no training", "name the folder of a run")
    (tmp_path / "a.txt").write_text("text")
    assert_refused(vae("info", tmp_path / "a.txt"), 1, "a.txt", ".onnx")
    (tmp_path / "a.onnx").write_text("text")
    assert_refused(vae("info", tmp_path / "a.onnx"), 1, "a.onnx", "not an ONNX file")


def test_what_a_file_says_of_itself_steers_no_terminal(grey: Path, tmp_path: Path) -> None:
    def rename(model: onnx.ModelProto) -> None:
        (entry,) = model.metadata_props
        entry.value = entry.value.replace('"nothing"', r'"[red]\u001b[2Jx"')

    path = Path(shutil.copy(grey / "decoder.onnx", tmp_path / "[bold]a.onnx"))
    edit(path, rename)
    assert vae("info", path, "--json").json["model"]["metadata"]["data_name"] == "[red]\x1b[2Jx"
    seen = vae_on_terminal("info", path, columns=200, piped=False)
    for shown in (vae("info", path).out, seen.screen):
        assert f"{path}: an exported file" in shown
        assert "[red]?[2Jx" in shown
        assert "\x1b[2J" not in shown


def test_runs_are_listed_with_the_settings_in_which_they_differ(trained: Path, tmp_path: Path) -> None:
    for name, beta in (("one", 1.0), ("four", 4.0)):
        run = Path(shutil.copytree(trained, tmp_path / name))
        record = json.loads((run / "config.json").read_text())
        record["config"]["training"]["beta"] = beta
        (run / "config.json").write_text(json.dumps(record))
    lines = vae("info", tmp_path).out.splitlines()
    assert lines[1].split()[-1] == "settings"
    (four,) = (line for line in lines if line.startswith("four"))
    assert four.endswith("--beta 4.0")
    (one,) = (run for run in vaecli.runs(tmp_path) if run.path.endswith("one"))
    assert one.config is not None
    assert one.config.training.beta == 1


def test_the_runs_below_a_folder_best_first(trained: Path, grey: Path, tmp_path: Path) -> None:
    for name, change in (("worse", 5.0), ("better", -5.0)):
        run = Path(shutil.copytree(trained, tmp_path / "runs/deep" / name))
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for line in lines:
            line["held_out"]["loss"] += change
            line["objective"] += change
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    other = Path(shutil.copytree(tmp_path / "runs/deep/better", tmp_path / "runs/validated"))
    record = json.loads((other / "config.json").read_text())
    record["data"]["validation"] = 4
    (other / "config.json").write_text(json.dumps(record))
    (tmp_path / "runs/deep/better/encoder.onnx").unlink()
    shutil.copytree(grey, tmp_path / "runs/pair")
    (tmp_path / "runs/empty").mkdir()
    result = vae("info", tmp_path / "runs")
    assert (result.code, result.err) == (0, "")
    columns, *rows = [line.split() for line in result.out.splitlines()[1:] if line]
    assert result.out.splitlines()[1:-1].count("") == 2, "between losses that are not comparable"
    # The losses of other pictures, here those for validation, are apart.
    assert [row[0] for row in rows] == ["deep/better", "deep/worse", "validated", "pair"]
    assert columns[:2] == ["run", "nats"]
    assert [row[-1] for row in rows] == ["held-out", "held-out", "validation", "held-out"]
    assert ["no" in row for row in rows] == [True, False, False, False]  # exported
    assert {"blobs.npy", "mnist-5k"} <= set(rows[0])
    listed = vae("info", tmp_path / "runs", "--json").json
    assert listed["kind"] == "folder of runs"
    assert f"{listed['runs'][0]['loss']:.2f}" in rows[0]
    assert [run.path for run in vaecli.runs(tmp_path)] == [run["path"] for run in listed["runs"]]


def test_the_settings_of_a_run_are_those_that_its_recipe_does_not_have(blobs: Path, tmp_path: Path) -> None:
    flags = ("--config", "mnist-5k", "--data", str(blobs), "--prior", "normal", "--epochs", "1", "--seed", "5")
    assert vae("train", *flags, "--run", tmp_path / "run").code == 0
    (line,) = (
        line for line in vae("info", tmp_path / "run").stdout.decode().splitlines() if line.startswith("settings")
    )
    settings = line.removeprefix("settings").strip().split(", ")
    assert settings == [f"--data {blobs}", "--prior normal", "--epochs 1", "--seed 5"]


def test_the_mean_over_seeds(trained: Path, tmp_path: Path) -> None:
    """Of runs that differ in nothing else; the others are not in it."""
    for name, seed, beta, change in (("a", 1, 1.0, 0.0), ("b", 2, 1.0, 3.0), ("c", 3, 1.0, 6.0), ("d", 4, 2.0, 0.0)):
        run = Path(shutil.copytree(trained, tmp_path / name))
        record = json.loads((run / "config.json").read_text())
        record["config"]["training"].update(seed=seed, beta=beta)
        (run / "config.json").write_text(json.dumps(record))
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for line in lines:
            line["held_out"]["loss"] += change
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (summary,) = over_seeds(vaecli.runs(tmp_path))
    assert [Path(path).name for path in summary.runs] == ["a", "b", "c"]
    losses = {Path(run.path).name: run.loss for run in vaecli.runs(tmp_path)}
    assert summary.mean == losses["b"]
    assert summary.standard_deviation == pytest.approx(3)
    lines = vae("info", tmp_path).out.splitlines()
    assert lines[lines.index("mean over seeds") + 2].split() == ["a,", "b,", "c", f"{losses['b']:.2f}", "3.00", "3"]
    assert vae("info", tmp_path, "--json").json["over_seeds"][0]["mean"] == losses["b"]


def test_several_folders_are_listed_together(trained: Path, tmp_path: Path) -> None:
    for name in ("a", "b/c"):
        shutil.copytree(trained, tmp_path / name)
    result = vae("info", tmp_path / "a", tmp_path / "b", "--json")
    assert [run["path"] for run in result.json["runs"]] == [f"{tmp_path}/a", f"{tmp_path}/b/c"]
    assert result.json["path"] == [f"{tmp_path}/a", f"{tmp_path}/b"]
    assert_refused(vae("info", tmp_path / "a", trained / "encoder.onnx"), 2, "not a folder")


def test_an_export_of_another_epoch_is_told(trained: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(trained, tmp_path / name)
    lines = (tmp_path / "a/metrics.jsonl").read_text().splitlines()
    better = json.loads(lines[-1]) | {"epoch": len(lines) + 1, "objective": -1e9}
    (tmp_path / "a/metrics.jsonl").write_text("\n".join([*lines, json.dumps(better), ""]))
    heading, *rows = [line.split("  ") for line in vae("info", tmp_path).out.splitlines()[1:] if line]
    assert "exported" in "".join(heading)
    assert ["another epoch" in " ".join(row) for row in rows] == [row[0] == "a" for row in rows]
    exported = {Path(run.path).name: run.exported_epoch for run in vaecli.runs(tmp_path)}
    assert exported["a"] == exported["b"] != better["epoch"]


def test_an_encoder_without_the_prior_that_it_needs(grey: Path, tmp_path: Path) -> None:
    shutil.copytree(grey, tmp_path / "run")
    (tmp_path / "run/prior.onnx").unlink(missing_ok=True)

    def trained_with_vamp(model: onnx.ModelProto) -> None:
        known = model_format.from_json(model.metadata_props[0].value)
        text = model_format.to_json(msgspec.structs.replace(known, trained_prior="vamp"))
        onnx.helper.set_model_props(model, {model_format.METADATA_KEY: text})

    for name in ("encoder.onnx", "decoder.onnx"):
        edit(tmp_path / "run" / name, trained_with_vamp)
    for path in (tmp_path / "run", tmp_path / "run/encoder.onnx"):
        result = vae("info", path)
        assert "N(0, I)" not in result.out
        assert "prior.onnx is missing" in result.err


def test_what_all_runs_have_is_said_once(trained: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(trained, tmp_path / "runs" / name)
    heading, columns, *_ = vae("info", tmp_path / "runs").stdout.decode().splitlines()
    assert "; all: " in heading
    assert "data blobs.npy" in heading
    assert "settings --" in heading
    assert columns.split()[:3] == ["run", "nats", "epochs"]


def test_what_cannot_be_read_of_a_run_in_a_list_is_told(trained: Path, tmp_path: Path) -> None:
    for name in ("whole", "damaged"):
        shutil.copytree(trained, tmp_path / name)
    (tmp_path / "damaged/config.json").write_text("{")
    result = vae("info", tmp_path, "--json")
    assert result.code == 0
    (warning,) = result.err.splitlines()
    assert warning.startswith(f"warning: {tmp_path}/damaged/config.json: not the config of a run")
    assert [bool(run["problems"]) for run in result.json["runs"]].count(True) == 1
