"""`vae data`: the names, and the prepared pictures: listed, sized, cleared."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import PROJECT, assert_refused, vae, vae_process
from tests.datasets.drawing import Recorder, draw_folder
from vaecli.config import DataConfig
from vaecli.datasets import load
from vaecli.datasets.catalogue import NAMED


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A data folder with the prepared pictures of two folders in it."""
    (tmp_path / "kept").mkdir()
    for name, n in (("cats", 3), ("dogs", 4)):
        folder = draw_folder(tmp_path / name, n)
        load(DataConfig(source=str(folder), dir=str(tmp_path / "kept")), Recorder())
    return tmp_path / "kept"


def test_lists_every_name_on_stdout(tmp_path: Path) -> None:
    result = vae("data", "--data-dir", tmp_path)
    assert (result.code, result.err) == (0, "")
    rows = [line.split() for line in result.out.splitlines()]
    assert {"mnist-5k", *NAMED} <= {row[0] for row in rows if row}
    assert ["mnist-5k", "4,500", "500", "28x28x1", "yes"] in rows
    assert ["cifar10", "50,000", "10,000", "32x32x3", "no"] in rows
    assert "no prepared pictures" in result.out
    assert "prepared pictures\n" not in result.out, "a table without rows"


def test_a_reader_that_leaves_early_ends_it_quietly(kept: Path) -> None:
    command = f"set -o pipefail; {sys.executable} -m vaecli data --data-dir {kept} | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "data sets\n", "")


def size_of(entry: Path) -> int:
    return sum(file.stat().st_size for file in entry.iterdir())


def test_says_what_is_here(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").touch()
    sets = {known["name"]: known["here"] for known in vae("data", "--data-dir", tmp_path, "--json").json["sets"]}
    assert not sets["mnist"]
    (raw / "t10k-images-idx3-ubyte").touch()
    sets = {known["name"]: known["here"] for known in vae("data", "--data-dir", tmp_path, "--json").json["sets"]}
    assert sets["mnist"]
    assert not sets["kmnist"]


def test_lists_and_sizes_prepared_pictures(kept: Path) -> None:
    result = vae("data", "--data-dir", kept)
    (row,) = (line.split() for line in result.out.splitlines() if line.startswith(str(kept.parent / "cats")))
    assert row[1:3] == ["3", "4x5x1"]
    record = vae("data", "--data-dir", kept, "--json", "-q")
    assert record.err == ""
    prepared = record.json["prepared"]
    assert [entry["shape"] for entry in prepared] == [[3, 4, 5, 1], [4, 4, 5, 1]]
    assert [Path(entry["source"]).name for entry in prepared] == ["cats", "dogs"]
    assert record.json["prepared_bytes"] == sum(size_of(entry) for entry in (kept / "prepared").iterdir())
    assert len(np.load(prepared[1]["path"])) == 4


def test_a_damaged_one_is_listed_as_such(kept: Path) -> None:
    damaged = next((kept / "prepared").iterdir())
    (damaged / "images.npy").write_bytes(b"nothing")
    result = vae("data", "--data-dir", kept)
    assert result.code == 0
    assert any(line.startswith(damaged.name) and "damaged or outdated" in line for line in result.out.splitlines())


def test_clear_removes_them(kept: Path) -> None:
    total = sum(map(size_of, (kept / "prepared").iterdir()))
    result = vae("data", "--clear", "--json", "--data-dir", kept)
    assert result.code == 0
    assert result.json == {"data_folder": str(kept), "removed": 2, "removed_bytes": total}
    assert list(kept.iterdir()) == []
    assert vae("data", "--clear", "--json", "--data-dir", kept).json["removed"] == 0


def test_the_environment_names_the_folder(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAE_DATA", str(kept))
    assert vae("data", "--json").json["data_folder"] == str(kept)


def test_a_folder_that_is_not_there_yet_has_nothing_in_it(tmp_path: Path) -> None:
    listed = vae("data", "--data-dir", tmp_path / "new", "--json")
    assert (listed.code, listed.json["prepared"]) == (0, [])
    assert not any(known["here"] for known in listed.json["sets"] if known["name"] in NAMED)
    assert vae("data", "--clear", "--data-dir", tmp_path / "new").code == 0
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_data_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_refused(vae("data", "--data-dir", tmp_path / "file"), 1, "--data-dir", "file: is a file")


def test_works_without_torch(tmp_path: Path) -> None:
    for name in ("torch", "torchvision", "onnxruntime"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('blocked')")
    assert vae_process("data", "--json", env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}).code == 0
