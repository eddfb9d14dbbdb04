"""Killed before any of its file events, a command leaves the old state or the new one, and nothing for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import vaecli
from tests.command_line import PROJECT, Result, vae
from tests.faults.events import left_by_kills, strays
from tests.pictures.packing import png, tar
from vaecli import datasets, files
from vaecli.config import DataConfig
from vaecli.datasets.cache import Cache
from vaecli.run_folder import RunFolder
from vaecli.training.checkpoint import load_checkpoint, load_weights


def settings(blobs: Path, epochs: int) -> dict[str, dict[str, Any]]:
    return {
        "data": {"source": str(blobs)},
        "model": {"prior": "normal", "hidden": 16, "latent_dim": 3},
        "training": {
            "epochs": epochs,
            "batch_size": 32,
            "device": "cpu",
            "precision": "float32",
            "seed": 7,
            "schedule": "constant",
        },
    }


def trained_on(run: Path) -> tuple[list[Any], list[torch.Tensor]]:
    """All that a training leaves but the time it took: its epochs, and the numbers in its files."""
    folder = RunFolder(run)
    epochs = [(epoch.epoch, epoch.train, epoch.held_out, epoch.objective) for epoch in folder.read_metrics()]
    state, best = load_checkpoint(folder.checkpoint), load_weights(folder.best)
    return [*epochs, best.epoch], [*state.weights.model.values(), *best.model.values()]


def assert_same(run: Path, expected: tuple[list[Any], list[torch.Tensor]]) -> None:
    epochs, numbers = trained_on(run)
    assert epochs == expected[0]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(numbers, expected[1], strict=True))


@pytest.mark.parametrize("begun", [False, True], ids=["begun", "resumed"])
def test_a_training_goes_on_as_if_it_had_not_been_killed(blobs: Path, tmp_path: Path, begun: bool) -> None:
    run, epochs = tmp_path / "run", 2
    if begun:
        vaecli.train(settings(blobs, 1), run)
    states = left_by_kills(run, lambda: vaecli.train(settings(blobs, epochs), run, resume=begun), tmp_path / "killed")
    expected = trained_on(run)
    assert len(states) > 30
    for state in states:
        vaecli.train(settings(blobs, epochs), state, resume=(state / "config.json").exists())
        assert_same(state, expected)
        assert strays(state) == [], state.name


def test_what_is_overwritten_can_be_overwritten_again(blobs: Path, run: Path, tmp_path: Path) -> None:
    def overwrite(folder: Path) -> None:
        vaecli.train(settings(blobs, 1), folder, overwrite=True)

    states = left_by_kills(run, lambda: overwrite(run), tmp_path / "killed")
    expected, cleared = trained_on(run), 0
    for state in states:
        if (state / "config.json").exists() and not (state / "best.pt").exists():
            break  # a new training has begun, as above
        cleared += not (state / "config.json").exists()
        overwrite(state)
        assert_same(state, expected)
        assert strays(state) == [], state.name
    assert cleared > 5


def test_an_export_leaves_the_old_model_or_the_new_one(run: Path, tmp_path: Path) -> None:
    old = vaecli.load(run).sample(2, seed=1)
    vaecli.train(None, run, flags={("training", "epochs"): 4}, resume=True)
    states = left_by_kills(run, lambda: vaecli.export(run, weights="last", prior="normal"), tmp_path / "killed")
    new = vaecli.load(run).sample(2, seed=1)
    assert not np.array_equal(old, new)
    found = set()
    for state in states:
        sampled = vaecli.load(state).sample(2, seed=1)
        found.add(np.array_equal(sampled, new))
        assert np.array_equal(sampled, new) or np.array_equal(sampled, old), state.name
        with RunFolder(state).locked():
            assert strays(state) == [], state.name
        assert np.array_equal(vaecli.load(state).sample(2, seed=1), sampled)
    assert found == {False, True}


COMMANDS: dict[str, tuple[str, ...]] = {  # that write a file of this name; PICTURES stand for other ones in each state
    "a.png": ("sample", "--seed", "SEED"),
    "a.npy": ("sample", "--seed", "SEED"),
    "a.webp": ("reconstruct", "PICTURES"),
    "a.gif": ("interpolate", "--seed", "SEED"),
    "a.csv": ("encode", "PICTURES"),
    "a.jsonl": ("score", "PICTURES"),
    "a.html": ("explore", "--data", "PICTURES"),
    "a.npz": ("encode", "PICTURES"),
    "a.svg": ("plot", "latents", "--data", "PICTURES"),
    "folder/": ("sample", "--seed", "SEED", "-n", "FEWER", "--clobber"),
}


def write(model: Path, place: Path, name: str, seed: int) -> Result:
    """Write to the `place`; other content for another seed."""
    pictures = model.parent / f"pictures-{seed}.npy"
    if not pictures.exists():
        np.save(pictures, np.random.default_rng(seed).integers(0, 256, (40, 8, 8), np.uint8))
    words = {"SEED": str(seed), "FEWER": str(4 - seed), "PICTURES": str(pictures)}
    return vae(*(words.get(word, word) for word in COMMANDS[name]), "--run", model, "-o", f"{place}/{name}")


def content(path: Path) -> dict[str, bytes]:
    """Of a file, or of the visible files in a folder."""
    inside = [path] if path.is_file() else [*path.glob("[!.]*")]
    return {file.name: file.read_bytes() for file in inside}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("replaced", [False, True], ids=["new", "replaced"])
def test_what_is_written_is_the_old_or_the_new(grey: Path, tmp_path: Path, name: str, replaced: bool) -> None:
    place = tmp_path / "place"
    place.mkdir()
    if replaced:
        assert write(grey, place, name, 1).code == 0
    old = content(place / name)
    states = left_by_kills(place, lambda: write(grey, place, name, 2), tmp_path / "killed")
    new, seen = content(place / name), []
    assert new not in (old, {})
    for state in states:
        if name == "folder/" and replaced:
            files.finish_pending_moves(state / name)  # as the next command that fills it
        seen.append(content(state / name))
        assert seen[-1] in (old, new), state.name
        assert write(grey, state, name, 2).code == 0
        assert content(state / name) == new
        assert strays(state) == [], state.name
    assert seen[0] == old
    assert seen[-1] == new


def test_a_parquet_folder_is_completed_from_what_a_killed_job_has_left(grey: Path, tmp_path: Path) -> None:
    pictures, place = tmp_path / "pictures", tmp_path / "place"
    pictures.mkdir()
    place.mkdir()
    for number in range(2):
        tar(pictures / f"{number}.tar", {f"{row}.png": png(100 * number + 10 * row, side=8) for row in range(3)})

    def work(place: Path, *more: str) -> None:
        result = vae("encode", pictures, "--run", grey, "-o", f"{place}/a.parquet/", "--workers", "1", *more)
        assert result.code == 0, result.err

    states = left_by_kills(place, lambda: work(place), tmp_path / "killed")
    expected, found = pq.read_table(place / "a.parquet"), set[int]()
    assert len(expected) == 6
    for state in states:
        found.add(len([*(state / "a.parquet").glob("*.parquet")]))
        work(state, "--resume")
        assert pq.read_table(state / "a.parquet") == expected, state.name
        assert strays(state) == [], state.name
    assert found == {0, 1, 2}


def test_prepared_pictures_are_whole_or_not_there(tmp_path: Path) -> None:
    pictures, place = tmp_path / "pictures", tmp_path / "data"
    pictures.mkdir()
    place.mkdir()
    for number in range(20):
        Image.new("L", (8, 8), number).save(pictures / f"{number}.png")

    def load(folder: Path) -> str:
        return datasets.load(DataConfig(source=str(pictures), dir=str(folder))).hash

    expected = load(tmp_path / "other")
    for state in left_by_kills(place, lambda: load(place), tmp_path / "killed"):
        assert all(entry.record is not None for entry in Cache(state).entries())
        assert load(state) == expected
        assert strays(state) == [], state.name


def test_a_process_that_is_really_killed(grey: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vaecli", "sample", "--run", str(grey), "-n", "10000000", "-o", "a.npy"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(PROJECT)}, cwd=tmp_path
    )
    assert process.stderr is not None
    while not process.stderr.readline().startswith(b"running on "):
        pass
    vae("sample", "--run", grey, "-o", tmp_path / "a.npy")
    assert len(strays(tmp_path)) == 1, "it is still being written"
    process.kill()
    process.communicate()
    assert len(strays(tmp_path)) == 1
    vae("sample", "--run", grey, "-o", tmp_path / "a.npy")
    assert strays(tmp_path) == []
