"""`vae reconstruct` through its command line: pictures in, pairs or reconstructions out."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.command_line import Result, assert_refused, vae, vae_process
from vaecli import load


def reconstruct(run: Path, output: Path | str, *more: str | Path) -> Result:
    return vae("reconstruct", "--run", run, "-o", output, "--device", "cpu", *more)


def pictures(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (n, 8, 8), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three grey pictures of the model's size: b.png, 2.png, 10.png."""
    place = tmp_path / "in"
    place.mkdir()
    for image, name in zip(pictures(3), ("b.png", "2.png", "10.png"), strict=True):
        Image.fromarray(image).save(place / name)
    return place


def nearest(images: NDArray[Any]) -> NDArray[np.uint8]:
    numbers: NDArray[np.uint8] = np.rint(images * 255).astype(np.uint8)
    return numbers


def test_each_original_stands_above_its_reconstruction(grey: Path, folder: Path, tmp_path: Path) -> None:
    result = reconstruct(grey, tmp_path / "a.png", folder / "b.png", folder / "2.png", "--scale", "1", "--json")
    assert result.code == 0, result.err
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    assert picture.shape == (18, 18)
    model = load(grey, device="cpu")
    for column, image in enumerate(pictures(2)):
        left = 10 * column
        assert np.array_equal(picture[:8, left : left + 8], image)
        expected = nearest(model.reconstruct(image[None])[0]).astype(int)
        assert np.abs(picture[10:, left : left + 8] - expected).max() <= 1
    assert result.json.items() >= {"n": 2, "seed": None, "stochastic": False, "fitted": 0, "columns": 2}.items()


def test_an_array_holds_the_reconstructions_alone(grey: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", pictures(40))
    reconstruct(grey, tmp_path / "a.npy", tmp_path / "in.npy", "--dtype", "float32", "--batch-size", "7")
    expected = load(grey, device="cpu").reconstruct(pictures(40))
    assert np.allclose(np.load(tmp_path / "a.npy"), expected, atol=1e-6)


def test_a_folder_keeps_the_names(grey: Path, folder: Path, tmp_path: Path) -> None:
    assert reconstruct(grey, f"{tmp_path}/out/", folder).code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["10.png", "2.png", "b.png"]
    expected = nearest(load(grey, device="cpu").reconstruct(pictures(3)))
    for image, name in zip(expected, ("b.png", "2.png", "10.png"), strict=True):
        written = np.asarray(Image.open(tmp_path / "out" / name)).astype(int)
        assert np.abs(written - image).max() <= 1


def test_stochastic_goes_through_a_draw(grey: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", pictures(30))
    arguments = (tmp_path / "in.npy", "--dtype", "float32", "--stochastic")
    result = reconstruct(grey, tmp_path / "a.npy", *arguments, "--json")
    seed = result.json["seed"]
    assert f"seed {seed}, drawn" in result.err
    expected = load(grey, device="cpu").reconstruct(pictures(30), seed=seed)
    assert np.allclose(np.load(tmp_path / "a.npy"), expected, atol=1e-6)
    reconstruct(grey, tmp_path / "b.npy", *arguments, "--seed", str(seed), "--batch-size", "4")
    assert np.allclose(np.load(tmp_path / "b.npy"), expected, atol=1e-6)
    reconstruct(grey, tmp_path / "c.npy", *arguments, "--seed", str(seed + 1))
    assert not np.allclose(np.load(tmp_path / "c.npy"), expected, atol=1e-3)


def test_without_input_held_out_pictures(digits: Path, tmp_path: Path) -> None:
    result = reconstruct(digits, tmp_path / "a.png", "--scale", "1", "--json")
    assert result.json["n"] == 20
    assert result.json["columns"] == 10
    assert "no INPUT: 20 held-out pictures of mnist-5k" in result.err
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    assert picture[:28, :28].max() == 255  # a digit
    assert picture[:28, :28].min() == 0


def test_without_input_the_pictures_of_the_training_are_taken(trained: Path, tmp_path: Path) -> None:
    result = reconstruct(trained, tmp_path / "a.npy", "--json")
    assert (result.json["n"], np.load(tmp_path / "a.npy").shape) == (12, (12, 8, 8))
    assert "no INPUT: 12 held-out pictures of blobs.npy" in result.err


def test_without_input_where_those_are_not_here(grey: Path, tmp_path: Path) -> None:
    assert_refused(reconstruct(grey, tmp_path / "a.png"), 2, "no INPUT, and the pictures", "are not here")


def test_pictures_of_another_kind_are_fitted_and_that_is_said_once(colour: Path, folder: Path, tmp_path: Path) -> None:
    result = reconstruct(colour, tmp_path / "a.npy", folder, "--json")
    assert result.code == 0, result.err
    assert result.json["fitted"] == 3
    assert sum("3 pictures" in line and "10x12" in line for line in result.err.splitlines()) == 1
    assert np.load(tmp_path / "a.npy").shape == (3, 10, 12, 3)


def test_invert_turns_the_input(grey: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", pictures(3))
    np.save(tmp_path / "negative.npy", 255 - pictures(3))
    reconstruct(grey, tmp_path / "a.npy", tmp_path / "in.npy", "--invert")
    reconstruct(grey, tmp_path / "b.npy", tmp_path / "negative.npy")
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_one_command_pipes_into_the_next(grey: Path) -> None:
    drawn = vae_process("sample", "--run", grey, "-n", "1", "--scale", "1", "--seed", "1", "-o", "-")
    again = vae_process("reconstruct", "--run", grey, "-", "--scale", "1", "-o", "-", stdin=drawn.stdout)
    assert again.code == 0, again.err
    pair, original = (
        np.asarray(Image.open(io.BytesIO(again.stdout))),
        np.asarray(Image.open(io.BytesIO(drawn.stdout))),
    )
    assert np.array_equal(pair[:8], original)


def test_inputs_are_never_replaced(grey: Path, folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", pictures(3))
    before = {path: path.read_bytes() for path in [*folder.iterdir(), tmp_path / "in.npy"]}
    for output, source in (
        (f"{folder}/", folder),
        (folder / "b.png", folder),
        (tmp_path / "in.npy", tmp_path / "in.npy"),
    ):
        assert_refused(reconstruct(grey, output, source), 2, "--output", "one of the files to read")
    assert {path: path.read_bytes() for path in before} == before


def cut_short(path: Path) -> None:
    Image.fromarray(pictures(1)[0]).save(path)
    path.write_bytes(path.read_bytes()[:60])


def write_text(path: Path) -> None:
    path.write_text("not a picture")


def wrong_shape(path: Path) -> None:
    np.save(path, np.zeros((3, 8, 8, 5), np.uint8))


def not_numbers(path: Path) -> None:
    np.save(path, np.full((3, 8, 8), np.nan))


def empty_folder(path: Path) -> None:
    path.mkdir()


def nothing(_: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("none.png", nothing),
        ("none", nothing),
        ("none.npy", nothing),
        ("cut.png", cut_short),
        ("text.png", write_text),
        ("text.npy", write_text),
        ("shape.npy", wrong_shape),
        ("nan.npy", not_numbers),
        ("empty", empty_folder),
    ],
)
def test_inputs_that_cannot_be_read(grey: Path, tmp_path: Path, name: str, make: Any) -> None:
    make(tmp_path / name)
    (tmp_path / "a.png").write_bytes(b"mine")
    assert_refused(reconstruct(grey, tmp_path / "a.png", tmp_path / name), 1, str(tmp_path / name))
    assert (tmp_path / "a.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("flags", "word"),
    [(("--seed", "1"), "--stochastic"), (("--scale", "0"), "--scale"), (("--dtype", "float32"), "--dtype")],
)
def test_usage_that_cannot_be_meant(
    grey: Path, folder: Path, tmp_path: Path, flags: tuple[str, ...], word: str
) -> None:
    assert_refused(reconstruct(grey, tmp_path / "a.png", folder, *flags), 2, word)


def test_nothing_on_stdin(grey: Path, tmp_path: Path) -> None:
    result = vae_process("reconstruct", "--run", grey, "-", "-o", tmp_path / "a.png")
    assert_refused(result, 1, "stdin is empty")


def test_a_parquet_folder_of_pictures(grey: Path, blobs: Path, tmp_path: Path) -> None:
    command = ("reconstruct", "--run", grey, "--device", "cpu", blobs, "--workers", "1", "--stochastic", "--seed", "3")
    result = vae(*command, "-o", f"{tmp_path}/r.parquet/", "--json")
    assert (result.json["n"], result.json["seed"]) == (120, 3)
    assert result.json["columns"] == ["name", "image", "error"]
    model = load(grey, "cpu")
    expected = np.rint(model.reconstruct(np.load(blobs), seed=3) * 255)
    np.testing.assert_array_equal(model.read(tmp_path / "r.parquet").images[..., 0], expected)
    assert_refused(vae(*command, "-o", f"{tmp_path}/e.parquet/", "--columns", "2"), 2, "--columns", "NAME.parquet/")
