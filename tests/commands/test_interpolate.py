"""`vae interpolate` through its command line: strips, animations and arrays from picture to picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.command_line import Result, assert_refused, vae, vae_process
from tests.tiny_model import two_gaussians, write_pair, write_prior
from vaecli import load


def interpolate(run: Path, output: Path | str, *more: str | Path) -> Result:
    return vae("interpolate", "--run", run, "-o", output, "--device", "cpu", *more)


def pictures(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (n, 8, 8), np.uint8)


@pytest.fixture
def stops(tmp_path: Path) -> list[Path]:
    """Three pictures of the model's size."""
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for image, path in zip(pictures(3), paths, strict=True):
        Image.fromarray(image).save(path)
    return paths


@pytest.mark.parametrize("method", ["slerp", "lerp"])
def test_a_strip_from_one_picture_to_another(grey: Path, stops: list[Path], tmp_path: Path, method: str) -> None:
    flags = ("--steps", "5", "--method", method, "--dtype", "float32", "--json")
    result = interpolate(grey, tmp_path / "o.npy", *stops[:2], *flags)
    assert result.code == 0, result.err
    expected = load(grey, device="cpu").interpolate(*pictures(2), steps=5, method=method)  # type: ignore[arg-type]
    assert np.allclose(np.load(tmp_path / "o.npy"), expected, atol=1e-6)
    assert result.json.items() >= {"n": 5, "stops": 2, "steps": 5, "method": method, "seed": None}.items()


@pytest.fixture
def fitted(tmp_path: Path) -> Path:
    """A model whose prior is a mixture of two Gaussians."""
    return write_prior(write_pair(tmp_path / "fitted"), two_gaussians()).parent


def test_a_fitted_prior_is_followed(fitted: Path, stops: list[Path], tmp_path: Path) -> None:
    """By default, in equal steps of the pictures, from one reconstruction to the other."""
    result = interpolate(fitted, tmp_path / "o.npy", *stops[:2], "--steps", "9", "--dtype", "float32", "--json")
    assert result.json["method"] == "string"
    model = load(fitted, device="cpu")
    found = np.load(tmp_path / "o.npy")
    assert np.allclose(found, model.interpolate(*pictures(2), steps=9, method="string"), atol=1e-6)
    assert np.allclose(found[[0, -1]], model.reconstruct(pictures(2)), atol=1e-6)
    lengths = np.linalg.norm(np.diff(found.reshape(9, -1), axis=0), axis=1)
    assert lengths.max() < 1.1 * lengths.min()
    for method in ("slerp", "lerp"):
        other = interpolate(
            fitted, tmp_path / "other.npy", *stops[:2], "--method", method, "--dtype", "float32", "--json"
        )
        assert other.json["method"] == method
        assert not np.allclose(np.load(tmp_path / "other.npy"), found, atol=1e-3)


def test_few_components_of_many_dimensions_are_not_followed(tmp_path: Path) -> None:
    run = write_prior(write_pair(tmp_path / "run", latent_dim=3), two_gaussians(3)).parent
    assert interpolate(run, tmp_path / "o.npy", "--seed", "1", "--json").json["method"] == "slerp"
    flags = ("--seed", "1", "--method", "string", "--json")
    assert interpolate(run, tmp_path / "o.npy", *flags).json["method"] == "string"


def test_a_prior_that_was_not_fitted_cannot_be_followed(grey: Path, tmp_path: Path) -> None:
    result = interpolate(grey, tmp_path / "o.npy", "--method", "string")
    assert_refused(result, 2, "--method string", "N(0, I)", "vae export")


def test_the_default_is_one_row_of_nine(grey: Path, stops: list[Path], tmp_path: Path) -> None:
    result = interpolate(grey, tmp_path / "o.png", *stops[:2], "--json")
    assert (result.json["n"], result.json["columns"]) == (9, 9)
    assert result.json["width"] > 5 * result.json["height"]


def test_a_row_for_each_leg(grey: Path, stops: list[Path], tmp_path: Path) -> None:
    """In a picture the middle stop ends one row and begins the next; elsewhere it comes once."""
    picture = interpolate(grey, tmp_path / "o.png", *stops, "--steps", "4", "--scale", "1", "--json").json
    assert (picture["columns"], picture["n"]) == (4, 8)
    pixels = np.asarray(Image.open(tmp_path / "o.png"))
    assert np.array_equal(pixels[:8, 30:38], pixels[10:18, :8])
    array = interpolate(grey, tmp_path / "o.npy", *stops, "--steps", "4", "--json").json
    assert array["shape"] == [7, 8, 8]
    assert np.array_equal(np.load(tmp_path / "o.npy")[3], pixels[10:18, :8])


def test_columns_wrap_the_walk(grey: Path, stops: list[Path], tmp_path: Path) -> None:
    result = interpolate(grey, tmp_path / "o.png", *stops, "--steps", "4", "--columns", "3", "--json")
    assert (result.json["columns"], result.json["n"]) == (3, 7)


def test_stops_may_come_from_an_array(grey: Path, stops: list[Path], tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", pictures(3))
    interpolate(grey, tmp_path / "1.npy", tmp_path / "in.npy")
    interpolate(grey, tmp_path / "2.npy", *stops)
    assert np.array_equal(np.load(tmp_path / "1.npy"), np.load(tmp_path / "2.npy"))


def test_without_pictures_between_two_draws(grey: Path, tmp_path: Path) -> None:
    result = interpolate(grey, tmp_path / "a.npy", "--json")
    seed = result.json["seed"]
    assert f"seed {seed}, drawn" in result.err
    interpolate(grey, tmp_path / "b.npy", "--seed", str(seed))
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    ends = np.rint(load(grey, device="cpu").sample(2, seed=seed) * 255)
    assert np.abs(np.load(tmp_path / "a.npy")[[0, -1]] - ends).max() <= 1


def test_an_animation(grey: Path, stops: list[Path], tmp_path: Path) -> None:
    result = interpolate(grey, tmp_path / "o.gif", *stops, "--steps", "5", "--scale", "2", "--json")
    assert result.code == 0, result.err
    assert (result.json["n"], result.json["frames"]) == (9, 16)
    with Image.open(tmp_path / "o.gif") as animation:
        assert animation.size == (16, 16)
        assert animation.info["loop"] == 0


def test_the_other_forms(grey: Path, tmp_path: Path) -> None:
    assert interpolate(grey, f"{tmp_path}/out/", "--steps", "3").code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0001.png", "0002.png", "0003.png"]
    piped = vae_process("interpolate", "--run", grey, "--steps", "3", "--scale", "1", "-o", "-")
    assert Image.open(io.BytesIO(piped.stdout)).size == (28, 8)


def test_one_picture_alone(grey: Path, stops: list[Path], tmp_path: Path) -> None:
    assert_refused(interpolate(grey, tmp_path / "o.png", stops[0]), 2, str(stops[0]), "two or more")


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--steps", "1"), "--steps"),
        (("--steps", "0"), "--steps"),
        (("--method", "cubic"), "--method"),
        (("--seed", "-1"), "--seed"),
    ],
)
def test_usage_that_cannot_be_meant(grey: Path, tmp_path: Path, flags: tuple[str, ...], word: str) -> None:
    assert_refused(interpolate(grey, tmp_path / "o.png", *flags), 2, word)
    assert list(tmp_path.iterdir()) == []


def test_a_seed_beside_pictures_means_nothing(grey: Path, stops: list[Path], tmp_path: Path) -> None:
    assert_refused(interpolate(grey, tmp_path / "o.png", *stops, "--seed", "1"), 2, "--seed")


def test_a_missing_picture_is_named(grey: Path, stops: list[Path], tmp_path: Path) -> None:
    assert_refused(interpolate(grey, tmp_path / "o.png", stops[0], tmp_path / "none.png"), 1, "none.png")


def test_inputs_are_never_replaced(grey: Path, stops: list[Path]) -> None:
    before = stops[1].read_bytes()
    assert_refused(interpolate(grey, stops[1], *stops), 2, "one of the files to read")
    array = stops[1].with_suffix(".npy")
    np.save(array, np.zeros((2, 8, 8), np.uint8))
    assert_refused(interpolate(grey, array, array), 2, "one of the files to read")
    assert stops[1].read_bytes() == before
