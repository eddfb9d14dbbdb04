"""`vae plot` through its command line, and what its diagrams are made of."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.command_line import PROJECT, Result, assert_refused, vae
from vaecli import plots


def plot(what: str, run: Path, output: Path | str, *more: str | Path) -> Result:
    return vae("plot", what, "--run", run, "-o", output, *more)


@pytest.fixture
def matplotlib() -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'vaecli[plot]'")


def vertices(svg: str, colour: str) -> list[int]:
    """How many points each line of a colour has."""
    lines = re.findall(rf'<path d="([^"]*)"[^>]*style="fill: none; stroke: {colour}; stroke-width: 1\.[26]', svg)
    return [len(re.findall("[ML]", line)) for line in lines]


@pytest.mark.usefixtures("matplotlib")
@pytest.mark.parametrize("what", ["loss", "kl", "latents"])
def test_every_form(what: str, trained: Path, tmp_path: Path) -> None:
    for suffix in ("png", "svg", "pdf"):
        result = plot(what, trained, tmp_path / f"o.{suffix}", "--json")
        assert result.code == 0, result.err
        assert result.json["output"] == f"{tmp_path}/o.{suffix}"
    with Image.open(tmp_path / "o.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 400
    assert b"<svg" in (tmp_path / "o.svg").read_bytes()
    assert (tmp_path / "o.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.usefixtures("matplotlib")
@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_same_diagram_is_the_same_file(suffix: str, trained: Path, tmp_path: Path) -> None:
    for name in "ab":
        assert plot("latents", trained, tmp_path / f"{name}.{suffix}").code == 0
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


@pytest.mark.usefixtures("matplotlib")
def test_the_losses_of_every_epoch(trained: Path, tmp_path: Path) -> None:
    record = plot("loss", trained, tmp_path / "o.svg", "--json").json
    best = vae("info", trained, "--json").json["training"]["best"]
    assert record["epochs"] == 3
    assert (record["best_epoch"], record["best_loss"]) == (best["epoch"], best["held_out"]["loss"])
    svg = (tmp_path / "o.svg").read_text()
    assert vertices(svg, plots.HELD_OUT.lower())[:3] == [3, 3, 3]
    assert vertices(svg, plots.TRAIN)[:3] == [3, 3, 3]


@pytest.mark.usefixtures("matplotlib")
def test_the_losses_of_several_runs(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    result = vae("plot", "loss", trained, other, "-o", tmp_path / "o.svg", "--json")
    alone = plot("loss", trained, tmp_path / "one.svg", "--json").json
    facts = {name: alone[name] for name in ("epochs", "best_epoch", "best_loss")}
    assert result.json["runs"] == [{"run": str(run), **facts} for run in (trained, other)]
    assert "cannot be compared" not in result.err
    svg = (tmp_path / "o.svg").read_text()
    for colour in ("#1f77b4", "#ff7f0e"):
        assert vertices(svg, colour)[:3] == [3, 3, 3]


@pytest.mark.usefixtures("matplotlib")
def test_runs_of_several_seeds_have_one_colour(trained: Path, tmp_path: Path) -> None:
    runs = []
    for seed, loss in ((71, 30.0), (72, 32.0), (73, 34.0)):
        runs.append(tmp_path / f"seed-{seed}")
        shutil.copytree(trained, runs[-1])
        record = json.loads((runs[-1] / "config.json").read_text())
        record["config"]["training"]["seed"] = seed
        (runs[-1] / "config.json").write_text(json.dumps(record))
        epochs = [json.loads(line) for line in (runs[-1] / "metrics.jsonl").read_text().splitlines()]
        for epoch in epochs:
            epoch["held_out"]["loss"] = loss
        (runs[-1] / "metrics.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    copy = tmp_path / "copy"
    shutil.copytree(runs[0], copy)
    assert vae("plot", "loss", *runs, copy, "-o", tmp_path / "o.svg").code == 0
    svg = (tmp_path / "o.svg").read_text()
    assert "seed-71 and 2 more seeds, kept: 32.00 ± 2.00" in svg
    assert "copy, kept: 30.00 after epoch" in svg
    assert vertices(svg, "#1f77b4") == [3] * (3 * 3 + 1), "three runs in three panels, and the legend"
    assert vertices(svg, "#ff7f0e") == [3] * (3 * 1 + 1)


@pytest.mark.usefixtures("matplotlib")
def test_losses_that_cannot_be_compared_are_told(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    record = json.loads((other / "config.json").read_text())
    record["data"]["hash"] = "sha256:0"
    record["config"]["model"]["conditional"] = True
    (other / "config.json").write_text(json.dumps(record))
    result = vae("plot", "loss", trained, other, "-o", tmp_path / "o.png")
    assert result.code == 0
    assert (
        "warning: the runs differ in data and whether they know the class: their losses cannot be compared"
        in result.err
    )


def test_a_folder_that_is_missing_is_told_before_the_work(trained: Path, tmp_path: Path) -> None:
    result = plot("latents", trained, tmp_path / "none" / "o.png")
    assert_refused(result, 1, "no such folder", "mkdir -p")
    assert "running on" not in result.err


def test_latents_are_those_of_one_run(trained: Path, grey: Path, tmp_path: Path) -> None:
    assert_refused(vae("plot", "latents", trained, grey, "-o", tmp_path / "o.png"), 2, f"{grey}: a diagram of latents")


@pytest.mark.usefixtures("matplotlib")
def test_the_run_of_a_diagram_is_an_argument_or_a_flag(trained: Path, tmp_path: Path) -> None:
    for what in ("loss", "kl", "latents"):
        by_flag = plot(what, trained, tmp_path / "flag.svg", "--json").json
        by_argument = vae("plot", what, trained, "-o", tmp_path / "argument.svg", "--json").json
        assert {**by_argument, "output": ""} == {**by_flag, "output": ""}
        assert (tmp_path / "flag.svg").read_bytes() == (tmp_path / "argument.svg").read_bytes()


@pytest.mark.usefixtures("matplotlib")
def test_the_kl_is_what_evaluate_measures(trained: Path, tmp_path: Path) -> None:
    record = plot("kl", trained, tmp_path / "o.png", "--json").json
    measured = vae("evaluate", "--run", trained, "-k", "1", "--json").json
    for name in ("kl_per_dimension", "mean_variance"):
        assert record[name] == pytest.approx(measured[name], rel=1e-5), name
    assert record["active_units"] == measured["active_units"]
    assert (record["n"], record["data"]) == (measured["n"], measured["data"])


@pytest.mark.usefixtures("matplotlib")
def test_the_kl_of_several_runs(trained: Path, digits: Path, tmp_path: Path) -> None:
    result = vae("plot", "kl", trained, digits, "-o", tmp_path / "o.png", "--json")
    alone = [plot("kl", run, tmp_path / "one.png", "--json").json for run in (trained, digits)]
    kept = ("n", "data", "kl_per_dimension", "mean_variance", "active_units")
    facts = [{name: one[name] for name in kept} for one in alone]
    assert result.json["runs"] == [
        {"run": str(run), **fact} for run, fact in zip((trained, digits), facts, strict=True)
    ]
    assert "500 held-out pictures of mnist-5k, which are not the same pictures: --data may name" in result.err


@pytest.mark.usefixtures("matplotlib")
def test_points_are_coloured_by_class_where_that_is_known(digits: Path, trained: Path, tmp_path: Path) -> None:
    record = plot("latents", digits, tmp_path / "known.svg", "--json").json
    assert record.items() >= {"n": 500, "data": "mnist-5k", "labelled": True}.items()
    svg = (tmp_path / "known.svg").read_text()
    assert len(set(re.findall(r'<use [^>]*style="fill: (#[0-9a-f]{6})', svg))) == 10
    record = plot("latents", trained, tmp_path / "unknown.svg", "--json").json
    assert (record["n"], record["labelled"]) == (12, False)
    svg = (tmp_path / "unknown.svg").read_text()
    assert set(re.findall(r'<use [^>]*style="fill: (#[0-9a-f]{6})', svg)) == {plots.HELD_OUT}


def test_without_matplotlib_the_extra_is_named(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = plot("loss", trained, tmp_path / "o.png")
    assert_refused(result, 1, "a diagram needs matplotlib", "vaecli[plot]")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("what", "output", "flags", "words"),
    [
        ("loss", "o.jpg", (), ".svg"),
        ("loss", "o", (), ".svg"),
        ("loss", "-", ("--json",), "stdout"),
        ("loss", "o.png", ("--data", "mnist-5k"), "--data"),
        ("curve", "o.png", (), "curve"),
    ],
)
def test_what_cannot_be_meant(trained: Path, what: str, output: str, flags: tuple[str, ...], words: str) -> None:
    result = plot(what, trained, output, *flags)
    assert result.code == 2
    assert words in result.err


@pytest.mark.usefixtures("matplotlib")
def test_nothing_to_plot(grey: Path, run: Path, tmp_path: Path) -> None:
    assert_refused(plot("loss", grey, tmp_path / "o.png"), 1, "metrics.jsonl", "there is no training")
    (run / "metrics.jsonl").write_text("")
    assert_refused(plot("loss", run, tmp_path / "o.png"), 1, "metrics.jsonl", "no epoch")
    assert_refused(plot("latents", grey, tmp_path / "o.png"), 1, "--data")
    assert not (tmp_path / "o.png").exists()


@pytest.mark.usefixtures("matplotlib")
def test_on_stdout_and_where_nothing_may_be_replaced(trained: Path, tmp_path: Path) -> None:
    assert plot("loss", trained, "-").stdout.startswith(b"\x89PNG")
    (tmp_path / "o.png").write_bytes(b"mine")
    assert_refused(plot("loss", trained, tmp_path / "o.png", "--no-clobber"), 1, "exists already")
    assert (tmp_path / "o.png").read_bytes() == b"mine"


@pytest.mark.usefixtures("matplotlib")
def test_letters_that_the_font_lacks_are_one_note(grey: Path, tmp_path: Path) -> None:
    for name in ("Äpfel", "日本"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(15):
            Image.new("L", (8, 8), 9 * number).save(tmp_path / "data" / name / f"{number}.png")
    result = plot("latents", grey, tmp_path / "o.png", "--data", tmp_path / "data")
    assert result.code == 0, result.err
    assert "Glyph" not in result.err
    (note,) = (line for line in result.err.splitlines() if "font lacks" in line)
    assert note == "matplotlib's font lacks 日 本: boxes are drawn in their places"


@pytest.mark.usefixtures("matplotlib")
def test_runs_that_are_not_exported_are_left_out_of_a_diagram_of_their_kl(trained: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(trained, bare, ignore=shutil.ignore_patterns("*.onnx"))
    result = vae("plot", "kl", bare, trained, "-o", tmp_path / "o.png")
    assert result.code == 0, result.err
    assert f"warning: {bare}: left out, because it is not exported" in result.err
    assert_refused(vae("plot", "kl", bare, "-o", tmp_path / "o.png"), 1, "no exported model in it")


def test_nothing_is_left_where_home_cannot_be_written(trained: Path, tmp_path: Path) -> None:
    """Then matplotlib makes a folder for its font cache, which every call would leave."""
    (tmp_path / "scratch").mkdir()
    (tmp_path / "home").touch()  # nothing can be made in it
    places = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "scratch"), "PYTHONPATH": str(PROJECT)}
    environment = {**os.environ, **places}
    for name in ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "vaecli", "plot", "loss", str(trained), "-q", "-o", str(tmp_path / "a.svg")]
    subprocess.run(command, env=environment, check=True)
    assert (tmp_path / "a.svg").stat().st_size > 0
    assert [*(tmp_path / "scratch").iterdir()] == []
