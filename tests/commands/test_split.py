"""--split of the commands that read pictures: those that a training held out, trained on, or both."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.command_line import assert_refused, vae
from tests.conftest import TINY
from vaecli import load
from vaecli.datasets.dataset import hold_out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 pictures in two subfolders, by which they have classes."""
    folder = tmp_path_factory.mktemp("data") / "pictures"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(30):
            Image.new("L", (8, 8), 4 * number).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    assert vae("train", "--data", folder, "--validation", "6", "--epochs", "1", "--run", run, *TINY).code == 0
    assert vae("export", "--run", run).code == 0
    return run


def names(folder: Path) -> list[str]:
    return [str(folder / name / f"{number}.png") for name in ("a", "b") for number in range(30)]


def rows_of(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table.read_text().splitlines()))


def test_the_held_out_pictures_by_name_and_class(folder: Path, run: Path, tmp_path: Path) -> None:
    result = vae("encode", "--split", "held-out", "--run", run, "-o", tmp_path / "a.csv")
    rows = rows_of(tmp_path / "a.csv")
    expected = [names(folder)[row] for row in hold_out(60)[1]]
    assert [row["name"] for row in rows] == expected
    assert [row["label"] for row in rows] == [Path(name).parent.name for name in expected]
    assert "6 held-out pictures of pictures" in result.err
    by_name = vae("encode", *expected, "--run", run, "-o", tmp_path / "b.csv")
    assert by_name.code == 0
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()


def test_the_splits_are_all_pictures(folder: Path, run: Path, tmp_path: Path) -> None:
    found = {}
    for split in ("held-out", "validation", "train", "all"):
        assert vae("score", "--split", split, "--run", run, "-o", tmp_path / f"{split}.csv").code == 0
        found[split] = [row["name"] for row in rows_of(tmp_path / f"{split}.csv")]
    assert {split: len(rows) for split, rows in found.items()} == {
        "held-out": 6, "validation": 6, "train": 48, "all": 60,
    }  # fmt: skip
    assert sorted(found["all"]) == sorted(names(folder))
    assert sorted(found["train"] + found["validation"] + found["held-out"]) == sorted(names(folder))


def test_a_job(folder: Path, run: Path, tmp_path: Path) -> None:
    output = f"{tmp_path / 'a.parquet'}/"
    result = vae("encode", "--split", "train", "--run", run, "-o", output, "--json")
    assert result.json["n"] == 48
    assert "48 training pictures of pictures" in result.err
    table = pq.read_table(output).to_pydict()
    assert vae("encode", "--split", "train", "--run", run, "-o", tmp_path / "a.npz").code == 0
    stored = np.load(tmp_path / "a.npz")
    assert table["name"] == stored["name"].tolist()
    np.testing.assert_allclose(np.array(table["mean"]), stored["mean"], atol=1e-6)
    again = vae("encode", "--split", "train", "--run", run, "-o", output, "--resume")
    assert "1 of 1 blocks are there already" in again.err
    assert_refused(
        vae("encode", "--split", "all", "--run", run, "-o", output, "--resume"), 1, "was made from other inputs"
    )


def test_reconstructions_have_the_names_of_the_pictures(folder: Path, run: Path, tmp_path: Path) -> None:
    assert vae("reconstruct", "--split", "held-out", "--run", run, "-o", f"{tmp_path}/made/").code == 0
    written = {path.name for path in (tmp_path / "made").rglob("*.png")}
    assert written == {Path(names(folder)[row]).name for row in hold_out(60)[1]}


def test_an_input_is_split_as_training_would(run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((20, 8, 8), np.uint8))
    result = vae("encode", tmp_path / "a.npy", "--split", "held-out", "--run", run, "-o", tmp_path / "a.npz")
    assert result.code == 0
    expected = [f"{tmp_path / 'a.npy'}[{row}]" for row in hold_out(20)[1]]
    assert np.load(tmp_path / "a.npz")["name"].tolist() == expected


def test_a_folder_that_has_changed(folder: Path, tmp_path: Path) -> None:
    mine, run = Path(shutil.copytree(folder, tmp_path / "mine")), tmp_path / "run"
    assert vae("train", "--data", mine, "--epochs", "1", "--run", run, *TINY).code == 0
    assert vae("export", "--run", run).code == 0
    Image.new("L", (8, 8), 1).save(mine / "a" / "31.png")
    for output in ("a.npz", "a.parquet/"):
        refused = vae("encode", "--split", "held-out", "--run", run, "-o", f"{tmp_path}/{output}")
        assert_refused(refused, 1, "mine: has other pictures than at the training", "--split all")
        assert vae("encode", "--split", "all", "--run", run, "-o", f"{tmp_path}/{output}").code == 0
    assert_refused(vae("evaluate", "--run", run), 1, "mine: has other pictures than at the training")
    assert vae("evaluate", "--run", run, "--split", "all", "--json").json["n"] == 61
    assert vae("reconstruct", "--run", run, "-o", tmp_path / "a.png").code == 0, "pictures to look at are there"


def test_names_and_negatives_in_python(folder: Path, run: Path) -> None:
    model = load(run, "cpu")
    read = model.read(split="held-out")
    assert read.names == [names(folder)[row] for row in hold_out(60)[1]]
    np.testing.assert_array_equal(model.read(split="held-out", invert=True).images, 255 - read.images)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a.png", "b.png", "--split", "train"), ("--split: several INPUTs", "name one, or none")),
        (("--files-from", "list", "--split", "train"), ("--split: several INPUTs",)),
        (("--split", "test"), ("--split test: expected one of held-out, validation, train, all",)),
        ((), ("no INPUT", "--split held-out")),
    ],
)
def test_what_cannot_be_split(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list").write_text("a.png\n")
    for output in ("a.npz", "a.parquet/"):
        assert_refused(vae("encode", *arguments, "--run", run, "-o", output), 2, *words)


def test_data_that_are_not_known(grey: Path, tmp_path: Path) -> None:
    assert_refused(
        vae("encode", "--split", "train", "--run", grey, "-o", tmp_path / "a.npz"),
        1,
        "which the exported files cannot locate",
        "INPUT",
    )
