"""What commands say about the model, the seed and the processor they use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import vae
from tests.pictures.packing import png


def test_a_seed_that_is_drawn_is_told_and_draws_the_same_again(grey: Path, tmp_path: Path) -> None:
    result = vae("sample", "--run", grey, "-o", tmp_path / "a.npy", "--json")
    assert f"seed {result.json['seed']}, drawn at random" in result.err
    again = vae("sample", "--run", grey, "-o", tmp_path / "b.npy", "--seed", str(result.json["seed"]))
    assert "drawn at random" not in again.err
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


@pytest.mark.parametrize("command", ["encode", "score", "reconstruct", "interpolate"])
def test_the_pictures_that_were_skipped_are_named(command: str, grey: Path, tmp_path: Path) -> None:
    folder, output = tmp_path / "pictures", tmp_path / ("o.csv" if command in ("encode", "score") else "o.npy")
    folder.mkdir()
    for number in range(100):
        (folder / f"{number}.png").write_bytes(png(number, 8))
    (folder / "7.png").write_bytes(b"no picture")
    result = vae(command, "--run", grey, "--device", "cpu", folder, "-o", output, "--json", "-q")
    assert (result.json["skipped"], result.json["skipped_names"]) == (1, [str(folder / "7.png")])


def test_the_processor_is_named(grey: Path, tmp_path: Path) -> None:
    result = vae("sample", "--run", grey, "-o", tmp_path / "a.png", "--device", "cpu", "--json")
    assert "running on the CPU, " in result.err
    assert result.json["provider"] == "CPUExecutionProvider"


def test_a_model_older_than_its_runs_best_epoch_is_told_even_quietly(run: Path, tmp_path: Path) -> None:
    assert vae("train", "--run", run, "--resume", "--epochs", "12").code == 0
    drawn = vae("sample", "--run", run, "-o", tmp_path / "a.png", "-q")
    assert drawn.code == 0
    assert "warning: the exported model is of epoch 3; epoch " in drawn.err
    assert vae("export", "--run", run).code == 0
    assert vae("sample", "--run", run, "-o", tmp_path / "a.png", "-q").err == ""
