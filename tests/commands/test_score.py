"""`vae score` through its command line: the order, the columns, the picture, how it refuses."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import linear_gaussian
from tests.command_line import PROJECT, Result, assert_refused, vae, vae_process
from tests.test_using_without_torch import VAE
from tests.test_using_without_torch import run as run_without_torch
from tests.tiny_model import add_reference
from vaecli.commands.reports import _score
from vaecli.model_format import REFERENCE_VERSION
from vaecli.pictures.grid import lay_out

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(PROJECT)}


def score(run: Path, *more: str | Path) -> Result:
    return vae("score", "--run", run, "--device", "cpu", *more)


KNOWN = linear_gaussian.exact()
HELD_OUT = 199  # pictures that the model with a reference was compared with
LOSSES = ("excess", "negative_elbo", "reconstruction", "kl")  # columns


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of which -log p(x) is known, exported without statistics of held-out pictures."""
    return KNOWN.write(tmp_path_factory.mktemp("models") / "bare")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with them."""
    folder = KNOWN.write(tmp_path_factory.mktemp("models") / "linear")
    add_reference(folder, KNOWN.pictures(HELD_OUT, seed=1))
    return folder


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder of 20 pictures drawn from that model, and 3 of something else."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for index, picture in enumerate(KNOWN.pictures(20, seed=0)):
        Image.fromarray(picture[:, :, 0]).save(folder / f"drawn-{index}.png")
    for index, other in enumerate(np.random.default_rng(0).integers(0, 256, (3, 4, 4), np.uint8)):
        Image.fromarray(other).save(folder / f"other-{index}.png")
    return folder


def rows(path: Path) -> tuple[list[str], list[list[str]]]:
    with path.open(encoding="utf-8", newline="") as stream:
        heading, *body = csv.reader(stream)
    return heading, body


def test_the_strangest_come_first(model: Path, mixed: Path, tmp_path: Path) -> None:
    result = score(model, mixed, "-o", tmp_path / "s.csv", "--seed", "1", "--json")
    heading, body = rows(tmp_path / "s.csv")
    assert heading == ["name", "strangeness", "tail", "local", "local_tail", *LOSSES]
    assert len(body) == 23
    assert all("other-" in row[0] for row in body[:3])
    assert all("drawn-" in row[0] for row in body[3:])
    columns = dict(zip(heading[1:], np.array([row[1:] for row in body], float).T, strict=True))
    assert (np.diff(columns["strangeness"]) <= 0).all()
    np.testing.assert_allclose(columns["tail"][:3], 1 / (HELD_OUT + 1))
    assert (np.diff(columns["tail"]) >= 0).all()
    np.testing.assert_allclose(columns["negative_elbo"], columns["reconstruction"] + columns["kl"], atol=2e-4)
    facts = {"n": 23, "sorted_by": "strangeness", "seed": 1, "picture": None, "reference": HELD_OUT, "flagged": None}
    assert result.json["prior"] == "normal"
    assert result.json.items() >= facts.items()
    assert [record["name"] for record in result.json["strangest"]] == [row[0] for row in body[:10]]
    assert result.json["strangest"][0]["kl"] == pytest.approx(columns["kl"][0], abs=1e-4)
    least = f"tail 0.0050: stranger than all {HELD_OUT} held-out pictures"
    assert least in result.err
    assert least not in score(model, mixed / "drawn-0.png").err


def test_the_next_command_can_be_copied(model: Path, mixed: Path, tmp_path: Path) -> None:
    folder = mixed.rename(tmp_path / "my pictures")
    (line,) = (line for line in score(model, folder).err.splitlines() if line.startswith("next: "))
    command = shlex.split(line.removeprefix("next: vae "))
    assert vae(*command[:-1], tmp_path / command[-1]).code == 0
    assert (tmp_path / "strangest.png").is_file()
    assert "next: " not in score(model, folder, "--picture", tmp_path / "again.png").err


def test_without_held_out_pictures_the_order_is_by_the_excess(bare: Path, mixed: Path, tmp_path: Path) -> None:
    result = score(bare, mixed, "-o", tmp_path / "s.csv", "--json")
    heading, body = rows(tmp_path / "s.csv")
    assert heading == ["name", "local", *LOSSES]
    excess = [float(row[heading.index("excess")]) for row in body]
    assert excess == sorted(excess, reverse=True)
    assert min(excess) > 0
    assert result.json.items() >= {"sorted_by": "excess", "reference": 0}.items()
    assert "sorted by the excess loss: this model's files have no statistics of held-out pictures" in result.err
    assert_refused(
        score(bare, mixed, "--flag", "0.01"),
        1,
        "no statistics of held-out pictures",
        "vae export",
        "as a folder of 200 has",
    )


def test_black_on_white_is_told_from_white_on_black(tmp_path: Path) -> None:
    dark = KNOWN.pictures(30, seed=1) // 4
    folder = KNOWN.write(tmp_path / "dark")
    add_reference(folder, dark)
    np.save(tmp_path / "negatives.npy", 255 - dark)
    told = "these pictures are brighter than all held-out ones of the training: --invert takes their negatives"
    assert told in score(folder, tmp_path / "negatives.npy").err
    assert told not in score(folder, tmp_path / "negatives.npy", "--invert").err


def test_the_statistics_of_a_later_version_are_ignored(mixed: Path, tmp_path: Path) -> None:
    folder = KNOWN.write(tmp_path / "later")
    add_reference(folder, KNOWN.pictures(30, seed=1), version=REFERENCE_VERSION + 1)
    assert score(folder, mixed, "--json").json["sorted_by"] == "excess"


def test_a_flag_lists_what_few_held_out_pictures_reach(model: Path, mixed: Path, tmp_path: Path) -> None:
    result = score(model, mixed, "--flag", "0.01", "-o", tmp_path / "s.csv", "--json")
    _, body = rows(tmp_path / "s.csv")
    assert len(body) == result.json["flagged"] == len(result.json["strangest"])
    assert [row[0] for row in body[:3]] == [record["name"] for record in result.json["strangest"][:3]]
    assert {Path(row[0]).name for row in body} >= {f"other-{index}.png" for index in range(3)}
    assert all(float(row[2]) <= 0.01 for row in body)
    assert score(model, mixed, "--flag", "0.5", "--json").json["flagged"] > len(body)
    listed = score(model, mixed, "--flag", "0.01").out.splitlines()
    assert listed[0] == f"flagged at 0.01: {len(body)} of 23"
    refused = score(model, mixed, "--flag", "0.001")
    assert_refused(refused, 2, "--flag 0.001", "199 held-out pictures", "from 0.005 to 1", "0.01 flags")


def test_nothing_flagged_is_no_error(model: Path, tmp_path: Path) -> None:
    usual = tmp_path / "usual.npy"
    np.save(usual, KNOWN.pictures(HELD_OUT, seed=1)[:1])  # held out itself
    result = score(model, usual, "--flag", "0.01", "-o", tmp_path / "s.csv", "--heatmap", f"{tmp_path}/heat/", "--json")
    assert (result.code, result.json["flagged"], result.json["strangest"]) == (0, 0, [])
    assert rows(tmp_path / "s.csv")[1] == []
    assert not (tmp_path / "heat").exists()
    assert f"nothing is flagged, so {tmp_path}/heat/ was not written" in result.err
    assert "next:" not in result.err
    (tmp_path / "p.png").write_bytes(b"old")
    stale = score(model, usual, "--flag", "0.01", "--picture", tmp_path / "p.png", "-q")
    assert "warning: nothing is flagged" in stale.err
    assert "what is there is of an earlier command" in stale.err


def test_a_tail_that_is_shown_is_one_to_flag(model: Path, mixed: Path) -> None:
    listed = score(model, mixed, "--top", "1").out
    assert " 0.0050 " in listed
    assert _score("tail", 1 / 151) == "0.0067"
    assert _score("tail", 0.25) == "0.2500"


def test_pixels_of_another_kind_have_no_tail(digits: Path, tmp_path: Path) -> None:
    images = tmp_path / "some.npy"
    np.save(images, np.random.default_rng(0).integers(0, 256, (30, 28, 28), np.uint8))
    folder = Path(shutil.copytree(digits, tmp_path / "digits"))
    add_reference(folder, np.load(images)[..., np.newaxis])
    assert score(folder, images, "--json").json["sorted_by"] == "strangeness"
    result = score(folder, images, "--binarize", "dynamic", "--json")
    assert result.json["sorted_by"] == "excess"
    assert "not of --binarize dynamic" in result.err
    assert_refused(score(folder, images, "--binarize", "dynamic", "--flag", "0.1"), 1, "--flag")


def test_a_heat_map_for_each_picture_is_brightest_where_it_is_strange(model: Path, tmp_path: Path) -> None:
    pictures = KNOWN.pictures(3, seed=0)
    pictures[1, 2, 3] = 255 - pictures[1, 2, 3]
    pictures[1, 2, 3] = 255 if pictures[1, 2, 3] > 127 else 0
    np.save(tmp_path / "three.npy", pictures)
    result = score(model, tmp_path / "three.npy", "--heatmap", f"{tmp_path}/heat/", "--json")
    assert result.json["heatmap"] == f"{tmp_path}/heat/"
    found = {path.name: np.asarray(Image.open(path)).astype(int) for path in (tmp_path / "heat").iterdir()}
    assert sorted(found) == ["three-0000.png", "three-0001.png", "three-0002.png"]
    red = found["three-0001.png"][:, :, 0] - found["three-0001.png"][:, :, 2]
    row, column = np.unravel_index(red.argmax(), red.shape)
    assert max(abs(row - 2), abs(column - 3)) <= 1, "the colour is that of an area around each pixel"
    np.save(tmp_path / "many.npy", KNOWN.pictures(40, seed=0))
    score(model, tmp_path / "many.npy", "--heatmap", tmp_path / "all.npy")
    assert np.load(tmp_path / "all.npy").shape == (40, 4, 4, 3)
    sheet = score(model, tmp_path / "three.npy", "--heatmap", tmp_path / "sheet.png", "--json")
    assert sheet.code == 0
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.mode == "RGB"


def test_names_from_a_list(model: Path, mixed: Path, tmp_path: Path) -> None:
    names = sorted(str(path) for path in mixed.iterdir())
    whole = vae_process("score", mixed, "--run", model, "-o", "-").out
    for separator in ("\n", "\0"):
        given = separator.join(names).encode()
        result = vae_process("score", "--files-from", "-", "--run", model, "-o", "-", stdin=given)
        assert sorted(result.out.splitlines()) == sorted(whole.splitlines())
    (tmp_path / "list.txt").write_text("\n".join(names[:4]) + "\n")
    assert score(model, names[4], "--files-from", tmp_path / "list.txt", "--json").json["n"] == 5
    (tmp_path / "list.txt").write_text("")
    assert_refused(score(model, "--files-from", tmp_path / "list.txt"), 1, "--files-from", "no name in it")
    assert_refused(score(model, "-", "--files-from", "-"), 2, "--files-from", "stdin")


def test_a_reader_of_the_table_may_leave_early(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "many.npy", np.tile(KNOWN.pictures(100, seed=0), (100, 1, 1, 1)))
    vae_score = f"{sys.executable} -m vaecli score many.npy --run {model}"
    script = f"set -o pipefail; {vae_score} -o - --picture p.png | head -n 1"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"error" not in done.stderr
    assert (tmp_path / "p.png").exists()


def test_a_skipped_picture_is_a_warning_also_when_quiet(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    Image.fromarray(KNOWN.pictures(1, seed=0)[0, :, :, 0]).save(folder / "0.png")
    for index in range(1, 100):
        (folder / f"{index}.png").hardlink_to(folder / "0.png")
    (folder / "broken.png").write_text("no picture")
    names = "\n".join(str(path) for path in folder.iterdir())
    (tmp_path / "list.txt").write_text(names)
    for inputs in ((folder,), ("--files-from", tmp_path / "list.txt")):
        result = score(model, *inputs, "--quiet", "--json")
        assert (result.json["n"], result.json["skipped"]) == (100, 1)
        assert result.json["skipped_names"] == [str(folder / "broken.png")]
        assert result.err.startswith("warning: skipped 1 of 101 pictures")


def test_by_the_strangest_area(model: Path, bare: Path, tmp_path: Path) -> None:
    pictures = KNOWN.pictures(20, seed=0)
    pictures[7, 1, 1] = 255 if pictures[7, 1, 1] < 128 else 0
    np.save(tmp_path / "some.npy", pictures)
    result = score(model, tmp_path / "some.npy", "--by", "local", "--top", "3", "-o", tmp_path / "all.csv", "--json")
    assert result.json["sorted_by"] == "local"
    first = result.json["strangest"][0]
    assert first["name"].endswith("[7]")
    assert 1 / (HELD_OUT + 1) <= first["local_tail"] <= 3 / (HELD_OUT + 1)
    with (tmp_path / "all.csv").open() as stream:
        values = [float(row["local"]) for row in csv.DictReader(stream)]
    assert values == sorted(values, reverse=True)
    flagged = score(model, tmp_path / "some.npy", "--by", "local", "--flag", "0.1")
    assert "local_tail" in flagged.out
    assert score(bare, tmp_path / "some.npy", "--by", "local", "--json").json["sorted_by"] == "local"
    assert_refused(score(bare, tmp_path / "some.npy", "--by", "strangeness"), 2, "--by strangeness", "no statistics")
    assert_refused(score(model, tmp_path / "some.npy", "--by", "bound"), 2, "--by bound", "add --importance-samples")


def test_by_the_bound(bare: Path, mixed: Path, tmp_path: Path) -> None:
    result = score(bare, mixed, "-o", tmp_path / "s.jsonl", "-k", "30", "--seed", "1", "--json")
    lines = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert list(lines[0])[1:] == ["local", *LOSSES, "bound"]
    bounds = [line["bound"] for line in lines]
    assert bounds == sorted(bounds, reverse=True)
    pictures = np.stack([np.asarray(Image.open(line["name"])) for line in lines])
    np.testing.assert_allclose(bounds, KNOWN.negative_log_p(pictures), atol=2e-4)
    assert result.json["sorted_by"] == "bound"
    assert result.json["importance_samples"] == 30


def test_the_scores_are_those_of_evaluate(bare: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "some.npy", KNOWN.pictures(50, seed=0))
    pictures = tmp_path / "some.npy"
    score(bare, pictures, "-o", tmp_path / "s.npz", "-k", "10", "--seed", "5")
    evaluated = vae("evaluate", "--run", bare, "--data", pictures, "--split", "all", "--json").json
    with np.load(tmp_path / "s.npz") as stored:
        assert sorted(stored.files) == ["bound", "excess", "kl", "local", "name", "negative_elbo", "reconstruction"]
        assert stored["bound"].shape == stored["name"].shape == (50,)
        assert float(stored["kl"].mean()) == pytest.approx(evaluated["kl"], rel=1e-5)
        assert float(stored["bound"].mean()) == pytest.approx(evaluated["bound"], abs=1e-3)


def test_csv_on_stdout(model: Path, mixed: Path) -> None:
    result = score(model, mixed, "-o", "-", "--seed", "1")
    heading, *body = csv.reader(result.out.splitlines())
    assert heading[0] == "name"
    assert len(body) == 23
    assert "strangest" not in result.out + result.err, "once is enough"


def test_people_see_the_first_ten(model: Path, mixed: Path) -> None:
    result = score(model, mixed, "--seed", "1")
    title, heading, *listed, _ = result.out.splitlines()
    assert title == "strangest"
    assert heading.split() == ["picture", "strangeness", "tail", "excess"]
    assert len(listed) == 10
    quiet = score(model, mixed, "--seed", "1", "--quiet")
    assert (quiet.out, quiet.err) == (result.out, "")


def test_no_batch_size_changes_a_score(model: Path, mixed: Path, tmp_path: Path) -> None:
    for size in ("1", "5", "99"):
        score(model, mixed, "-o", tmp_path / f"{size}.csv", "--seed", "1", "--batch-size", size)
    one = rows(tmp_path / "1.csv")[1]
    for size in ("5", "99"):
        for row, expected in zip(rows(tmp_path / f"{size}.csv")[1], one, strict=True):
            assert row[0] == expected[0]
            np.testing.assert_allclose(np.array(row[1:], float), np.array(expected[1:], float), atol=2e-4)


def test_a_picture_of_the_strangest(model: Path, mixed: Path, tmp_path: Path) -> None:
    result = score(model, mixed, "--picture", tmp_path / "s.png", "--top", "3", "--json", "--seed", "1")
    assert result.json["picture"] == str(tmp_path / "s.png")
    assert len(result.json["strangest"]) == 3
    for top in (2, 15):  # also without a picture
        assert len(score(model, mixed, "--top", str(top), "--json").json["strangest"]) == top
        assert len(score(model, mixed, "--top", str(top)).out.splitlines()) == top + 3
    with Image.open(tmp_path / "s.png") as picture:
        sheet = np.asarray(picture)
    first = np.asarray(Image.open(result.json["strangest"][0]["name"]))
    scale = lay_out(6, linear_gaussian.SHAPE, stacked=2).scale
    np.testing.assert_array_equal(sheet[: 4 * scale : scale, : 4 * scale : scale], first)


def test_a_folder_of_the_strangest_is_numbered_by_rank(model: Path, mixed: Path, tmp_path: Path) -> None:
    result = score(model, mixed, "--picture", f"{tmp_path}/top/", "--top", "2", "--seed", "1", "--json")
    strangest = [Path(record["name"]) for record in result.json["strangest"]]
    found = sorted((tmp_path / "top").iterdir())
    assert [path.name for path in found] == [f"{rank:04}-{path.name}" for rank, path in enumerate(strangest, 1)]
    np.testing.assert_array_equal(np.asarray(Image.open(found[0])), np.asarray(Image.open(strangest[0])))


def test_more_than_there_are(model: Path, mixed: Path, tmp_path: Path) -> None:
    result = score(model, mixed, "--picture", tmp_path / "all.npy", "--top", "99", "--json")
    assert len(result.json["strangest"]) == 23
    assert np.load(tmp_path / "all.npy").shape == (23, 4, 4)


def test_both_files_or_none(model: Path, mixed: Path, tmp_path: Path) -> None:
    arguments = ("-o", tmp_path / "s.csv", "--picture", tmp_path / "no/p.png")
    assert_refused(score(model, mixed, *arguments), 1, "no such folder")
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--picture", "-"), ("--picture",)),
        (("--heatmap", "-"), ("--heatmap",)),
        (("--heatmap", "a.gif"), ("a.gif",)),
        (("--flag", "0"), ("--flag 0",)),
        (("--flag", "1"), ("--flag 1",)),
        (("--picture", "a.txt"), ("--picture a.txt",)),
        (("-o", "a.npy"), ("a.npy", ".csv")),
        (("-o", "a.png"), ("a.png", ".csv")),
        (("--top", "0", "--picture", "a.png"), ("--top",)),
        (("-k", "0"), ("--importance-samples",)),
    ],
    ids=str,
)
def test_wrong_usage(model: Path, mixed: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert_refused(score(model, mixed, *arguments), 2, *words)


def test_no_input(model: Path, tmp_path: Path) -> None:
    assert_refused(score(model), 2, "INPUT")
    assert_refused(score(model, tmp_path / "gone.png", "-o", tmp_path / "s.csv"), 1, "gone.png")
    assert list(tmp_path.iterdir()) == []


def test_it_needs_no_torch(model: Path, mixed: Path, tmp_path: Path) -> None:
    done = run_without_torch(VAE, "score", str(mixed), "--run", model, "-o", tmp_path / "s.csv", "--json", "--top", "2")
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["n"] == 23


def test_a_folder_that_is_missing_is_told_before_the_work(grey: Path, blobs: Path, tmp_path: Path) -> None:
    result = vae("score", blobs, "--run", grey, "-o", tmp_path / "none/s.csv")
    assert_refused(result, 1, "no such folder", "mkdir -p")
    assert "running on" not in result.err


def test_a_parquet_folder_of_scores(grey: Path, blobs: Path, tmp_path: Path) -> None:
    command = ("score", "--run", grey, "--device", "cpu", blobs, "--workers", "1")
    result = vae(*command, "-o", f"{tmp_path}/s.parquet/", "--json")
    assert result.json.items() >= {"n": 120, "errors": 0, "seed": 0, "form": "parquet"}.items()
    assert result.json["columns"] == ["name", "label", "local", *LOSSES, "error"]
    assert_refused(vae(*command, "-o", f"{tmp_path}/t.parquet/", "--top", "2"), 2, "--top", "NAME.parquet/")


def test_a_table_never_replaces_a_listed_input(grey: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", np.zeros((3, 8, 8), np.uint8))
    (tmp_path / "list").write_text(f"{tmp_path}/in.npz\n")
    before = (tmp_path / "in.npz").read_bytes()
    for command in ("score", "encode"):
        result = vae(command, "--files-from", tmp_path / "list", "--run", grey, "-o", tmp_path / "in.npz")
        assert_refused(result, 2, "one of the files to read")
    assert (tmp_path / "in.npz").read_bytes() == before


def test_the_pictures_of_the_training_are_warned_of(run: Path, blobs: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", np.load(blobs)[:3])
    told = "the model was trained on these pictures"
    assert told in score(run, blobs, "-q").err
    assert told not in score(run, tmp_path / "other.npy", "-q").err
    assert told not in score(run, "--split", "held-out", "-q").err
