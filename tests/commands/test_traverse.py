"""`vae traverse` through its command line: rows of pictures, one a latent dimension."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.command_line import Result, assert_refused, vae
from tests.tiny_model import two_gaussians, write_flow, write_pair, write_prior
from vaecli import load
from vaecli.inference.mixture import moments


def traverse(run: Path, output: Path | str, *more: str | Path) -> Result:
    return vae("traverse", "--run", run, "-o", output, "--device", "cpu", *more)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)).save(path)
    return path


def test_rows_are_dimensions_in_order_of_their_kl(trained: Path, tmp_path: Path) -> None:
    result = traverse(trained, tmp_path / "o.npy", "--dtype", "float32", "--steps", "5", "--json")
    assert result.code == 0, result.err
    record = result.json
    assert record.items() >= {"n": 15, "steps": 5, "range": 3, "ordered_by": "kl", "seed": None}.items()
    assert record["values"] == sorted(record["values"], reverse=True)
    assert sorted(record["dimensions"]) == [0, 1, 2]
    model = load(trained, device="cpu")
    mean, std = moments(model.pair.prior, 3)
    latents = np.repeat(mean[np.newaxis].astype(np.float32), 15, axis=0)  # the other dimensions stay there
    for row, dimension in enumerate(record["dimensions"]):
        walked = mean[dimension] + std[dimension] * np.array([-3, -1.5, 0, 1.5, 3])
        assert np.allclose(record["coordinates"][row], walked)
        latents[5 * row : 5 * row + 5, dimension] = walked
    assert np.allclose(np.load(tmp_path / "o.npy"), model.decode(latents), atol=1e-6)
    assert "KL in nats on 12 held-out pictures" in result.err


def test_the_first_rows_only(trained: Path, tmp_path: Path) -> None:
    every = traverse(trained, tmp_path / "all.npy", "--json").json
    first = traverse(trained, tmp_path / "first.npy", "--dims", "1", "--json").json
    assert first["dimensions"] == every["dimensions"][:1]
    assert np.array_equal(np.load(tmp_path / "first.npy"), np.load(tmp_path / "all.npy")[:9])


def test_from_a_picture(grey: Path, picture: Path, tmp_path: Path) -> None:
    """All but the dimension of the row stay where the picture's mean has them."""
    result = traverse(grey, tmp_path / "o.npy", picture, "--steps", "2", "--range", "1", "--dtype", "float32", "--json")
    model = load(grey, device="cpu")
    mean, _ = model.encode(np.asarray(Image.open(picture))[np.newaxis])
    latents = np.repeat(mean, 4, axis=0)
    first, second = result.json["dimensions"]
    latents[:2, first] = latents[2:, second] = -1, 1
    assert np.allclose(np.load(tmp_path / "o.npy"), model.decode(latents), atol=1e-6)


def test_in_units_of_the_prior(tmp_path: Path) -> None:
    """Of a fitted prior: about its mean, as far as its standard deviation reaches. --prior normal: as without one."""
    mixture = two_gaussians()
    run = write_prior(write_pair(tmp_path / "run"), mixture).parent
    record = traverse(run, tmp_path / "o.npy", "--steps", "3", "--range", "2", "--dtype", "float32", "--json").json
    latents = np.repeat(mixture.mean[np.newaxis], 6, axis=0)
    for row, dimension in enumerate(record["dimensions"]):
        mean, std = mixture.mean[dimension], mixture.std[dimension]
        latents[3 * row : 3 * row + 3, dimension] = [mean - 2 * std, mean, mean + 2 * std]
    assert np.allclose(np.load(tmp_path / "o.npy"), load(run, device="cpu").decode(latents), atol=1e-6)
    assert record["prior"] == "mixture"
    flags = ("--steps", "3", "--range", "2", "--json")
    normal = traverse(run, tmp_path / "n.npy", *flags, "--prior", "normal")
    assert normal.json["coordinates"] == [[-2, 0, 2]] * 2
    (run / "prior.onnx").unlink()
    without = traverse(run, tmp_path / "w.npy", *flags)
    assert np.array_equal(np.load(tmp_path / "n.npy"), np.load(tmp_path / "w.npy"))
    assert without.json["dimensions"] == normal.json["dimensions"]


def test_from_a_draw(grey: Path, tmp_path: Path) -> None:
    seeded = [traverse(grey, tmp_path / f"{name}.npy", "--seed", "4", "--json") for name in "ab"]
    mean = traverse(grey, tmp_path / "c.npy")
    assert [result.json["seed"] for result in seeded] == [4, 4]
    assert mean.code == 0
    a, b, c = (np.load(tmp_path / f"{name}.npy") for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_without_pictures_of_its_kind(grey: Path, tmp_path: Path) -> None:
    result = traverse(grey, tmp_path / "o.npy", "--json")
    assert result.json["ordered_by"] == "change"
    assert "squared change of a pixel" in result.err


def test_on_pictures_that_are_named(grey: Path, tmp_path: Path) -> None:
    result = traverse(grey, tmp_path / "o.npy", "--data", "mnist-5k", "--json")
    assert result.json["ordered_by"] == "kl"
    assert "500 held-out pictures of mnist-5k" in result.err


def test_the_decoder_alone_will_do(digits: Path, tmp_path: Path) -> None:
    shutil.copy(digits / "decoder.onnx", tmp_path)
    assert traverse(tmp_path, tmp_path / "o.npy", "--json").json["ordered_by"] == "change"
    assert_refused(traverse(tmp_path, tmp_path / "o.npy", "--data", "mnist-5k"), 1, "encoder.onnx", "no such file")


def test_a_grid_has_a_row_for_each_with_its_number_and_kl(trained: Path, tmp_path: Path) -> None:
    record = traverse(trained, tmp_path / "o.png", "--scale", "1", "--json").json
    texts = record["width"] - (9 * 10 - 2)
    assert (record["columns"], record["height"]) == (9, 3 * 10 - 2)
    assert texts > 0
    array = tmp_path / "o.npy"
    traverse(trained, array)
    drawn = np.asarray(Image.open(tmp_path / "o.png"))
    assert np.array_equal(drawn[10:18, texts + 10 : texts + 18], np.load(array)[10])
    assert (drawn[:8, :texts] > 200).any(), "the text of the first row"


def test_an_animation_moves_all_dimensions_at_once(trained: Path, tmp_path: Path) -> None:
    record = traverse(trained, tmp_path / "o.gif", "--steps", "4", "--scale", "1", "--json").json
    assert (record["n"], record["frames"]) == (4, 6)
    traverse(trained, tmp_path / "o.npy", "--steps", "4")
    walks = np.load(tmp_path / "o.npy").reshape(3, 4, 8, 8)
    with Image.open(tmp_path / "o.gif") as animation:
        for step in range(4):
            animation.seek(step)
            frame = np.asarray(animation.convert("L"))
            assert np.array_equal(frame[:8, :8], walks[0, step])
            assert np.array_equal(frame[:8, 10:18], walks[1, step])
            assert np.array_equal(frame[10:18, :8], walks[2, step])


def test_in_a_folder_each_picture_says_what_it_is(trained: Path, tmp_path: Path) -> None:
    record = traverse(trained, f"{tmp_path}/out/", "--dims", "1", "--steps", "2", "--json").json
    (dimension,) = record["dimensions"]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"dimension-{dimension}-step-{step}.png" for step in (1, 2)]


def test_of_several_pictures_the_first(grey: Path, picture: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "many.npy", np.stack([np.asarray(Image.open(picture)), np.zeros((8, 8), np.uint8)]))
    result = traverse(grey, tmp_path / "a.npy", tmp_path / "many.npy")
    assert "the first of 2 pictures" in result.err
    traverse(grey, tmp_path / "b.npy", picture)
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--steps", "1"), "--steps"),
        (("--dims", "0"), "--dims"),
        (("--dims", "99"), "--dims 99: the model has"),
        (("--range", "0"), "--range"),
        (("--range", "inf"), "--range"),
        (("--range", "nan"), "--range"),
        (("--seed", "-1"), "--seed"),
    ],
)
def test_what_cannot_be_meant(grey: Path, tmp_path: Path, flags: tuple[str, ...], words: str) -> None:
    assert_refused(traverse(grey, tmp_path / "o.png", *flags), 2, words)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_and_a_seed(grey: Path, picture: Path, tmp_path: Path) -> None:
    assert_refused(traverse(grey, tmp_path / "o.png", picture, "--seed", "1"), 2, "--seed", "IMAGE")


def test_the_picture_is_never_replaced(grey: Path, picture: Path) -> None:
    before = picture.read_bytes()
    assert_refused(traverse(grey, picture, picture), 2, "one of the files to read")
    assert picture.read_bytes() == before


def test_on_stdout(grey: Path) -> None:
    result = traverse(grey, "-")
    assert result.stdout.startswith(b"\x89PNG")


def test_a_seed_starts_from_the_flow_and_steps_are_of_the_mixture(picture: Path, tmp_path: Path) -> None:
    run = write_pair(tmp_path / "run")
    write_prior(run, two_gaussians())
    write_flow(run)
    for flags, start in (
        ((), "mean"),
        (("--seed", "3"), "flow"),
        (("--seed", "3", "--prior", "mixture"), "mixture"),
        (("--seed", "3", "--prior", "normal"), "normal"),
        ((picture,), "picture"),
    ):
        record = traverse(run, tmp_path / "o.npy", *flags, "--json").json
        assert (record["start"], record["prior"]) == (start, "normal" if start == "normal" else "mixture")
