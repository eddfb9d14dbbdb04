"""`vae score` through its command line: the order, the columns, the picture, how it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import linear_gaussian
from tests.command_line import Result, assert_refused, vae
from tests.test_using_without_torch import VAE
from tests.test_using_without_torch import run as run_without_torch
from vaecli.pictures.grid import lay_out


def score(run: Path, *more: str | Path) -> Result:
    return vae("score", "--run", run, "--device", "cpu", *more)


KNOWN = linear_gaussian.exact()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of which -log p(x) is known."""
    return KNOWN.write(tmp_path_factory.mktemp("models") / "linear")


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
    assert heading == ["name", "negative_elbo", "reconstruction", "kl"]
    assert len(body) == 23
    assert all("other-" in row[0] for row in body[:3])
    assert all("drawn-" in row[0] for row in body[3:])
    numbers = np.array([row[1:] for row in body], float)
    assert (np.diff(numbers[:, 0]) <= 0).all()
    np.testing.assert_allclose(numbers[:, 0], numbers[:, 1] + numbers[:, 2], atol=2e-4)
    assert result.json.items() >= {"n": 23, "sorted_by": "negative_elbo", "seed": 1, "picture": None}.items()
    assert [record["name"] for record in result.json["strangest"]] == [row[0] for row in body[:10]]
    assert result.json["strangest"][0]["kl"] == pytest.approx(numbers[0, 2], abs=1e-4)


def test_by_the_bound(model: Path, mixed: Path, tmp_path: Path) -> None:
    result = score(model, mixed, "-o", tmp_path / "s.jsonl", "-k", "30", "--seed", "1", "--json")
    lines = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert list(lines[0]) == ["name", "negative_elbo", "reconstruction", "kl", "bound"]
    bounds = [line["bound"] for line in lines]
    assert bounds == sorted(bounds, reverse=True)
    pictures = np.stack([np.asarray(Image.open(line["name"])) for line in lines])
    np.testing.assert_allclose(bounds, KNOWN.negative_log_p(pictures), atol=2e-4)
    assert result.json["sorted_by"] == "bound"
    assert result.json["importance_samples"] == 30


def test_the_scores_are_those_of_evaluate(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "some.npy", KNOWN.pictures(50, seed=0))
    pictures = tmp_path / "some.npy"
    score(model, pictures, "-o", tmp_path / "s.npz", "-k", "10", "--seed", "5")
    evaluated = vae("evaluate", "--run", model, "--data", pictures, "--split", "all", "--json").json
    with np.load(tmp_path / "s.npz") as stored:
        assert sorted(stored.files) == ["bound", "kl", "name", "negative_elbo", "reconstruction"]
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
    assert "negative ELBO" in heading
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
    result = score(model, mixed, "-o", tmp_path / "s.csv", "--top", "3", "--json", "--seed", "1")
    assert result.json["picture"] == str(tmp_path / "s.png")
    assert len(result.json["strangest"]) == 3
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
    assert result.json["top"] == 23
    assert np.load(tmp_path / "all.npy").shape == (23, 4, 4)


def test_both_files_or_none(model: Path, mixed: Path, tmp_path: Path) -> None:
    arguments = ("-o", tmp_path / "s.csv", "--picture", tmp_path / "no/p.png")
    assert_refused(score(model, mixed, *arguments), 1, "no such folder")
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--top", "3"), ("--top", "--picture")),
        (("--top", "3", "-o", "-"), ("--top", "--picture")),
        (("--picture", "-"), ("--picture",)),
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
