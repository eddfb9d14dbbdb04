"""Command lines that cannot be parsed: what is wrong, without a word of the parser's, and what was meant."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.command_line import assert_refused, vae


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("sample --run= -o a.png", "--run"),
        ("train --config=", "--config"),
        ("sample -o a.png --seed=", "--seed"),
        ("sample --output=", "--output"),
        ("train --device=", "--device"),
        ("encode a.png '' -o e.csv", "INPUT"),
        ("info ''", "PATH"),
    ],
)
def test_an_empty_value_is_that_of_a_variable_that_is_not_set(line: str, named: str) -> None:
    result = vae(*shlex.split(line))
    assert_refused(
        result, 2, f"{named} is empty", "is a variable of the shell not set?", f"vae {line.split()[0]} --help"
    )


def test_a_flag_that_is_given_twice_is_warned_of() -> None:
    twice = vae("train", "--beta", "2", "--data", "mnist-5k", "--beta=4", "-q", "--print-config")
    assert twice.err == "warning: --beta is given 2 times: the last one counts\n"
    assert "beta = 4.0" in twice.out
    several = vae("sample", "--label", "3", "--label", "7", "--run", "none", "-o", "-", "-q", "-q")
    assert "times" not in several.err, "it takes several labels, and a flag without a value says the same twice"
    assert "times" not in vae("sample", "--run", "none", "-o", "-", "--", "-o", "-o").err
    assert "times" not in vae("sample", "--run", "none", "-o", "--run").err, "that is a value"
    assert "--run is given 2 times" in vae("sample", "-r", "none", "--run=none", "-o", "-").err


def test_a_value_of_blanks_is_quoted() -> None:
    assert_refused(vae("sample", "-o", "a.png", "--n", " "), 2, "--n ' ': expected a whole number")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("generate", ("generate: no such command", "did you mean vae sample?")),
        ("smaple", ("smaple: no such command", "did you mean vae sample?")),
        ("xyz", ("xyz: no such command", "see vae --help")),
        ("train --lr 3", ("--lr: no such flag of vae train", "did you mean --learning-rate?", "vae train --help")),
        ("train --learning-rat 3", ("did you mean --learning-rate?",)),
        ("train --output runs/a", ("--output: no such flag of vae train", "did you mean --run?")),
        ("train -o runs/a", ("-o: no such flag of vae train", "did you mean --run?")),
        ("sample --out a.png", ("--out: no such flag of vae sample", "did you mean --output?")),
        ("export runs/none", ("runs/none: not an argument of vae export", "did you mean --run runs/none?")),
        ("train --gpu", ("did you mean --device cuda?",)),
        ("sample --lr 3", ("--lr: no such flag of vae sample", "see vae sample --help")),
        ("train --device gpu", ("--device gpu: expected one of auto, cpu, cuda", "did you mean cuda?")),
        ("train --precision fp32", ("did you mean float32?",)),
        ("evaluate --split test", ("--split test: expected one of held-out,", "see vae evaluate --help")),
        ("train --epochs many", ("--epochs many: expected a whole number",)),
        ("train --beta=x", ("--beta x: expected a number",)),
        ("sample -o a.png --n 0", ("--n 0: expected 1 or more",)),
        ("sample -o a.png --seed 99999999999999999999999", ("expected 18446744073709551615 or less",)),
        ("sample -o a.png --n", ("error: --n requires an argument",)),
        ("train mnist", ("error: mnist: not an argument of vae train", "did you mean --data mnist?")),
        ("train --test photos", ("--test: no such flag of vae train", "vae evaluate --data FOLDER measures them")),
        ("train --val photos", ("--held-out FOLDER names pictures that choose the best epoch, --validation N",)),
        ("train --resize 64", ("did you mean --image-size?",)),
        ("train --groups slide", ("hint: see vae train --help",)),
        ("sample --class 3", ("did you mean --label?",)),
        ("sample --temperature 0.7 1.0", ("error: 1.0: not an argument of vae sample",)),
        ("plot", ("error: loss|kl|latents is missing", "see vae plot --help")),
        ("plot lsos", ("error: lsos: expected one of loss, kl, latents", "did you mean loss?")),
        ("encode pictures/", ("error: --output is missing", "see vae encode --help")),
        ("help", ("help: no such command", "did you mean vae --help?")),
        ("help train", ("help: no such command", "did you mean vae train --help?")),
        ("runs", ("runs: no such command", "did you mean vae info FOLDER?")),
        ("-q sample", ("-q: no such flag before a command", "vae sample -q")),
        ("--run runs/q1 sample", ("--run: no such flag before a command", "vae sample --run")),
        ("sample --version", ("--version: no such flag of vae sample", "vae --version")),
        ("--nonsense", ("--nonsense: no such flag of vae", "see vae --help")),
    ],
)
def test_what_is_wrong_and_what_was_meant(line: str, words: tuple[str, ...]) -> None:
    result = vae(*line.split())
    assert_refused(result, 2, *words)
    for parsers in (
        "Value error",
        "Input should",
        "unable to parse",
        "Invalid value",
        "Possible options",
        "Missing",
        "Got ",
    ):
        assert parsers not in result.err
    if "did you mean" not in " ".join(words):
        assert "did you mean" not in result.err


def test_a_folder_without_its_flag(trained: Path, tmp_path: Path) -> None:
    data = tmp_path / "my pictures"
    data.mkdir()
    for command, folder, meant in (
        ("train", data, f"--data '{data}'"),
        ("train", trained, f"--run {trained}"),
        ("sample", trained, f"--run {trained}"),
        ("sample", data, f"--run '{data}'"),
    ):
        assert_refused(vae(command, folder), 2, f"not an argument of vae {command}", f"did you mean {meant}? see")
    assert "did you mean" not in vae("train", tmp_path / "nowhere").err
    for named in (data, "mnist-5k"):
        wanted = "mnist-5k" if named == "mnist-5k" else f"'{data}'"
        assert_refused(vae("evaluate", named), 2, f"{named}: no run folder", f"did you mean --data {wanted}?")


def test_a_file_whose_name_begins_with_a_dash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-dash.jpg").touch()
    refused = vae("reconstruct", "-dash.jpg", "-o", "x.png")
    assert_refused(refused, 2, "-d: no such flag of vae reconstruct", "-dash.jpg is a file: write ./-dash.jpg")
    assert_refused(vae("reconstruct", "-dusk.jpg", "-o", "x.png"), 2, "see vae reconstruct --help")


def test_a_folder_for_the_list_of_data_sets(tmp_path: Path) -> None:
    (tmp_path / "my cats").mkdir()
    refused = vae("data", tmp_path / "my cats")
    assert_refused(refused, 2, "not an argument of vae data", f"vae train --data '{tmp_path / 'my cats'}' says what")
