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
from vaecli.datasets.division import hold_out
from vaecli.errors import VaeError
from vaecli.inference.training_data import to_split
from vaecli.jobs.blocks import LEAST, plan_split, read_pictures
from vaecli.pictures.reader import Reader


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


def latents(row: dict[str, str]) -> dict[str, str]:
    return {column: value for column, value in row.items() if column != "label"}


def test_the_held_out_pictures_by_name_and_class(folder: Path, run: Path, tmp_path: Path) -> None:
    result = vae("encode", "--split", "held-out", "--run", run, "-o", tmp_path / "a.csv")
    rows = rows_of(tmp_path / "a.csv")
    expected = [names(folder)[row] for row in hold_out(60)[1]]
    assert [row["name"] for row in rows] == expected
    assert [row["label"] for row in rows] == [Path(name).parent.name for name in expected]
    assert "6 held-out pictures of pictures" in result.err
    by_name = vae("encode", *expected, "--run", run, "-o", tmp_path / "b.csv")
    assert by_name.code == 0
    # Of pictures by name the classes are known where the mixture of this small model has them, which is chance.
    assert [latents(row) for row in rows] == [latents(row) for row in rows_of(tmp_path / "b.csv")]


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


@pytest.fixture
def own_folder(folder: Path, run: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of the folder and of its run that a test may change."""
    pictures, copy = tmp_path / "grown", tmp_path / "copied"
    shutil.copytree(folder, pictures)
    shutil.copytree(run, copy)
    record = (copy / "config.json").read_text().replace(str(folder), str(pictures))
    (copy / "config.json").write_text(record)
    assert "6 held-out pictures of grown" in vae("reconstruct", "--run", copy, "-o", tmp_path / "before.png").err
    return pictures, copy


@pytest.mark.parametrize(
    "command", [("reconstruct",), ("traverse",), ("manifold",), ("plot", "latents"), ("plot", "kl"), ("explore",)]
)
def test_pictures_of_a_folder_that_has_grown_are_not_called_held_out(
    command: tuple[str, ...], own_folder: tuple[Path, Path], tmp_path: Path
) -> None:
    pictures, run = own_folder
    Image.new("L", (8, 8), 200).save(pictures / "a" / "new.png")
    if command[0] == "plot":
        pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'vaecli[plot]'")
    output = tmp_path / ("o.html" if command == ("explore",) else "o.png")
    result = vae(*command, "--run", run, "-o", output)
    assert result.code == 0, result.err
    assert "has other pictures than at the training: the model was trained on some of these" in result.err
    assert "held-out" not in result.err
    assert_refused(vae("evaluate", "--run", run), 1, "which of them were held out is not known")


def test_a_diagram_of_a_part_of_the_training_is_warned_of(own_folder: tuple[Path, Path], tmp_path: Path) -> None:
    pictures, run = own_folder
    told = vae("traverse", "--run", run, "--data", pictures / "a", "-o", tmp_path / "o.png").err
    assert "is a part of the training's pictures: the model was trained on some of these" in told
    assert "held-out" not in told


def test_pictures_of_the_training_under_another_name_are_warned_of(
    own_folder: tuple[Path, Path], folder: Path, tmp_path: Path
) -> None:
    pictures, run = own_folder
    more = tmp_path / "more"
    shutil.copytree(folder / "b", more / "other")
    (more / "link").symlink_to(pictures)
    for source in (pictures / "a", more / "link" / "a"):
        told = vae("evaluate", "--run", run, "--data", source, "-q").err
        assert "warning: the model was trained on pictures of" in told, source
    assert "warning" not in vae("evaluate", "--run", run, "--data", folder / "a", "-q").err


def test_a_part_of_the_training_or_a_link_to_it_has_no_split_of_its_own(
    own_folder: tuple[Path, Path], tmp_path: Path
) -> None:
    pictures, run = own_folder
    part = pictures / "b"
    for command in (("encode", part, "-o", tmp_path / "o.csv"), ("score", part), ("evaluate", "--data", part)):
        refused = vae(*command, "--run", run, "--split", "held-out")
        assert_refused(refused, 1, "has pictures of the training: which of them were held out is not known")
    (tmp_path / "link").symlink_to(pictures)
    same = vae("encode", tmp_path / "link", "--run", run, "--split", "held-out", "-o", tmp_path / "o.csv")
    assert same.code == 0
    Image.new("L", (8, 8), 200).save(pictures / "a" / "new.png")
    refused = vae("score", tmp_path / "link", "--run", run, "--split", "held-out")
    assert_refused(refused, 1, "has other pictures than at the training")


def test_a_table_of_somebody_else_says_nothing(own_folder: tuple[Path, Path], tmp_path: Path) -> None:
    pictures, run = own_folder
    shutil.copytree(pictures, tmp_path / "other")
    (tmp_path / "other" / "labels.csv").write_text("id,x,y\n1,2,3\n")
    assert vae("encode", tmp_path / "other", "--run", run, "-o", tmp_path / "o.csv").code == 0
    assert {row["label"] for row in rows_of(tmp_path / "o.csv")} == {"a", "b"}


def test_listed_folders_tell_classes_to_a_job_as_well(own_folder: tuple[Path, Path], tmp_path: Path) -> None:
    pictures, run = own_folder
    (tmp_path / "list.txt").write_text(f"{pictures}\n")
    encode = ("encode", "--files-from", tmp_path / "list.txt", "--run", run)
    assert vae(*encode, "-o", tmp_path / "o.csv").code == 0
    assert vae(*encode, "--workers", "1", "-o", tmp_path / "o.parquet/").code == 0
    rows = pq.read_table(tmp_path / "o.parquet").to_pylist()
    assert [row["label"] for row in rows] == [row["label"] for row in rows_of(tmp_path / "o.csv")]


def test_groups_stay_together(folder: Path, tmp_path: Path) -> None:
    pictures, run = tmp_path / "pictures", tmp_path / "run"
    shutil.copytree(folder, pictures)
    group = {f"{name}/{number}.png": f"{name}{number // 4}" for name in ("a", "b") for number in range(30)}
    (pictures / "labels.csv").write_text("\n".join(["file,group", *(f"{file},{of}" for file, of in group.items())]))
    trained = vae("train", "--data", pictures, "--epochs", "1", "--validation", "6", "--run", run, *TINY)
    assert "labels.csv: the pictures of each of 16 groups stay together" in trained.err
    assert vae("export", "--run", run).code == 0
    found = {}
    for split in ("train", "validation", "held-out"):
        assert vae("encode", "--split", split, "--run", run, "-o", tmp_path / "o.csv").code == 0
        rows = rows_of(tmp_path / "o.csv")
        found[split] = {group[str(Path(row["name"]).relative_to(pictures))] for row in rows}
        assert {row["label"] for row in rows} <= {"a", "b"}, "classes are those of the subfolders"
    assert sum(map(len, found.values())) == len(set.union(*found.values())) == 16
    assert vae("evaluate", "--run", run, "--json").json["chose_epoch"] is False
    (pictures / "labels.csv").write_text((pictures / "labels.csv").read_text().replace("a/0.png,a0", "a/0.png,a1"))
    assert_refused(vae("evaluate", "--run", run), 1, "which of them were held out is not known")


def test_pictures_that_were_named_to_choose_the_epoch_are_told(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    own = ("--data", folder / "a", "--held-out", folder / "b")
    assert vae("train", *own, "--epochs", "1", "--run", run, *TINY).code == 0
    assert vae("export", "--run", run).code == 0
    alone, named = vae("evaluate", "--run", run, "--json"), vae("evaluate", "--run", run, "--data", own[3], "--json")
    assert alone.json["negative_elbo"] == named.json["negative_elbo"]
    assert (alone.json["chose_epoch"], named.json["chose_epoch"]) == (True, True)
    assert (alone.json["trained_on"], named.json["trained_on"]) == (True, False)


def test_a_conditional_model_is_not_measured_by_other_classes(folder: Path, tmp_path: Path) -> None:
    pictures, run = tmp_path / "pictures", tmp_path / "run"
    shutil.copytree(folder, pictures)
    names = [f"{name}/{number}.png" for name in ("a", "b") for number in range(30)]

    def label(first: str, second: str) -> None:
        rows = [f"{name},{first if name < 'b' else second}" for name in names]
        (pictures / "labels.csv").write_text("\n".join(["file,label", *rows]) + "\n")

    label("round", "long")
    train = ("train", "--data", pictures, "--conditional", "--epochs", "1", "--run", run, *TINY)
    assert vae(*train).code == 0
    assert vae("export", "--run", run).code == 0
    assert vae("evaluate", "--run", run).code == 0
    label("long", "round")
    for command in (
        ("evaluate",),
        ("score", "--split", "held-out"),
        ("encode", "--split", "all", "-o", tmp_path / "o.csv"),
    ):
        assert_refused(vae(*command, "--run", run), 1, "has other classes than at the training")


def test_the_column_of_classes_does_not_depend_on_the_prior(own_folder: tuple[Path, Path], tmp_path: Path) -> None:
    pictures, run = own_folder
    other = tmp_path / "other"
    shutil.copytree(pictures / "a", other / "good")
    shutil.copytree(pictures / "b", other / "bad")
    found = []
    for prior in ("mixture", "normal"):
        assert vae("export", "--run", run, "--prior", prior).code == 0
        assert vae("encode", other, "--run", run, "-o", tmp_path / "o.csv").code == 0
        assert vae("encode", other, "--run", run, "--workers", "1", "-o", tmp_path / f"{prior}.parquet/").code == 0
        rows = pq.read_table(tmp_path / f"{prior}.parquet").to_pylist()
        assert [row["label"] for row in rows] == [row["label"] for row in rows_of(tmp_path / "o.csv")]
        found.append([(row["name"], row["label"]) for row in rows_of(tmp_path / "o.csv")])
    assert found[0] == found[1]
    assert {label for _, label in found[0]} == {"good", "bad"}
    (other / "labels.csv").write_text("file,label\ngood/1.png,fine\n")
    vae("encode", other, "--run", run, "-o", tmp_path / "o.csv")
    labels = {row["name"]: row["label"] for row in rows_of(tmp_path / "o.csv")}
    assert labels[f"{other}/good/1.png"] == "fine"
    assert labels[f"{other}/good/2.png"] == "good"


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
        (("--files-from", "list", "--split", "train"), ("--split: not with --files-from",)),
        (("-", "--split", "train"), ("--split: stdin",)),
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


def test_the_data_are_never_replaced(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images[:30], x_test=images[30:])
    data, run = tmp_path / "a.npz", tmp_path / "run"
    assert vae("train", "--data", data, "--epochs", "1", "--run", run, *TINY).code == 0
    assert vae("export", "--run", run).code == 0
    before = data.read_bytes()
    refused = vae("encode", "--split", "all", "--run", run, "-o", data)
    assert_refused(refused, 2, "is one of the files to read")
    np.save(tmp_path / "b.npy", images)
    for flags in (("--split", "all"), ()):
        refused = vae("reconstruct", tmp_path / "b.npy", *flags, "--run", run, "-o", tmp_path / "b.npy")
        assert_refused(refused, 2, "is one of the files to read")
    assert data.read_bytes() == before


def test_names_of_training_and_test_images(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images[:30], x_test=images[30:])
    run = tmp_path / "run"
    assert vae("train", "--data", tmp_path / "a.npz", "--epochs", "1", "--run", run, *TINY).code == 0
    assert vae("export", "--run", run).code == 0
    assert load(run, "cpu").read(split="train").names[3] == f"{tmp_path}/a.npz[3]"
    assert vae("reconstruct", "--split", "all", "--run", run, "-o", f"{tmp_path}/made/").code == 0
    written = {path.name for path in (tmp_path / "made").iterdir()}
    assert written >= {"a-0000.png", "a-test-0000.png"}
    assert len(written) == 40


def test_names_are_those_of_the_place_that_is_asked_for(
    folder: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the path was when the pictures were prepared."""
    monkeypatch.chdir(folder.parent)
    model = load(run, "cpu")
    assert model.read(folder.name, split="all").names[:2] == ["pictures/a/0.png", "pictures/a/1.png"]
    assert model.read(split="all").names[0] == str(folder / "a" / "0.png")


def test_pictures_that_have_moved_are_split_as_at_the_training(folder: Path, run: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    read = load(run, "cpu").read(moved, split="validation")
    assert len(read.names) == 6
    found = vae("evaluate", "--data", moved, "--split", "train", "--run", run, "--json").json
    assert (found["n"], found["trained_on"]) == (48, True)


def test_a_job_on_data_that_change_meanwhile(run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((200, 8, 8), np.uint8))
    pair = load(run, "cpu").pair
    plan = plan_split(pair, to_split(pair, [str(tmp_path / "a.npy")], (), None), "train")
    np.save(tmp_path / "a.npy", np.ones((200, 8, 8), np.uint8))
    with pytest.raises(VaeError, match="has changed since the job began"):
        list(read_pictures(plan.blocks[0], Reader((8, 8), 1), (1, 8, 8)))


def test_a_block_is_read_in_parts(run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4000, 8, 8), np.uint8))
    pair = load(run, "cpu").pair
    plan = plan_split(pair, to_split(pair, [str(tmp_path / "a.npy")], (), None), "train")
    assert max(len(chunk) for chunk in read_pictures(plan.blocks[0], Reader((8, 8), 1), (1, 8, 8))) == LEAST


def test_data_sets_by_name_are_not_those_of_a_training_of_the_same_name(tmp_path: Path, folder: Path) -> None:
    """A folder that is called mnist-5k, of which the exported files alone are left."""
    mine, run = Path(shutil.copytree(folder, tmp_path / "mnist-5k")), tmp_path / "run"
    assert vae("train", "--data", f"{mine}/", "--image-size", "28", "--epochs", "1", "--run", run, *TINY).code == 0
    assert vae("export", "--run", run).code == 0
    (run / "config.json").unlink()
    for output in ("a.npz", "a.parquet/"):
        assert vae("encode", "mnist-5k", "--run", run, "-o", f"{tmp_path}/{output}", "--json").json["n"] == 500


def test_what_is_not_known_of_prepared_pictures_is_null(run: Path, tmp_path: Path) -> None:
    found = vae("encode", "--split", "all", "--run", run, "-o", tmp_path / "a.npz", "--json").json
    assert (found["fitted"], found["skipped"]) == (None, None)
