"""`vae manifold` through its command line: the plane of two latent dimensions."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from PIL import Image

from tests.command_line import Result, assert_refused, vae
from tests.tiny_model import two_gaussians, write_pair, write_prior
from vaecli import load


def manifold(run: Path, output: Path | str, *more: str | Path) -> Result:
    return vae("manifold", "--run", run, "-o", output, "--device", "cpu", *more)


def test_the_plane_of_a_model_of_two_dimensions(grey: Path, tmp_path: Path) -> None:
    result = manifold(grey, tmp_path / "o.npy", "--steps", "3", "--dtype", "float32", "--json")
    assert result.code == 0, result.err
    assert result.json.items() >= {"n": 9, "dimensions": [0, 1], "steps": 3, "prior": "normal"}.items()
    low, high = NormalDist().inv_cdf(1 / 6), NormalDist().inv_cdf(5 / 6)
    assert result.json["coordinates"] == [[low, 0, high], [low, 0, high]]
    latents = np.array([(x, y) for y in (high, 0, low) for x in (low, 0, high)], np.float32)
    assert np.allclose(np.load(tmp_path / "o.npy"), load(grey, device="cpu").decode(latents), atol=1e-6)


def test_a_picture_of_it_has_no_gaps(grey: Path, tmp_path: Path) -> None:
    record = manifold(grey, tmp_path / "o.png", "--steps", "4", "--scale", "1", "--json").json
    manifold(grey, tmp_path / "o.npy", "--steps", "4")
    plane = np.load(tmp_path / "o.npy").reshape(4, 4, 8, 8).swapaxes(1, 2).reshape(32, 32)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "o.png")), plane)
    assert (record["width"], record["height"]) == (32, 32)


def test_two_chosen_dimensions(trained: Path, tmp_path: Path) -> None:
    flags = ("--dims", "2", "0", "--steps", "2", "--prior", "normal", "--dtype", "float32", "--json")
    result = manifold(trained, tmp_path / "o.npy", *flags)
    assert result.json["dimensions"] == [2, 0]
    low, high = NormalDist().inv_cdf(1 / 4), NormalDist().inv_cdf(3 / 4)
    latents = np.array([(y, 0, x) for y in (high, low) for x in (low, high)], np.float32)
    assert np.allclose(np.load(tmp_path / "o.npy"), load(trained, device="cpu").decode(latents), atol=1e-6)


def test_the_plane_of_a_fitted_prior(tmp_path: Path) -> None:
    """At the prior's quantiles, the third dimension where it likely is; or of N(0, I)."""
    mixture = two_gaussians(3)
    write_prior(write_pair(tmp_path / "run", latent_dim=3), mixture)
    result = manifold(tmp_path / "run", tmp_path / "o.npy", "--dims", "2", "0", "--steps", "2", "--json")
    columns, rows = (mixture.quantiles(dimension, np.array([0.25, 0.75])).tolist() for dimension in (2, 0))
    np.testing.assert_allclose(result.json["coordinates"], [columns, rows], atol=1e-6)
    assert result.json["prior"] == "mixture"
    pairs = np.array([(x, y) for y in reversed(rows) for x in columns])
    expected = load(tmp_path / "run", device="cpu").decode(mixture.likeliest((2, 0), pairs))
    assert np.abs(np.load(tmp_path / "o.npy") - 255 * expected).max() <= 0.51
    normal = manifold(tmp_path / "run", tmp_path / "n.npy", "--steps", "2", "--prior", "normal", "--json").json
    assert normal["coordinates"] == [[NormalDist().inv_cdf(0.25), NormalDist().inv_cdf(0.75)]] * 2
    assert normal["prior"] == "normal"


def test_of_more_dimensions_those_that_carry_most(trained: Path, tmp_path: Path) -> None:
    result = manifold(trained, tmp_path / "o.npy", "--steps", "2", "--json")
    ordered = vae("traverse", "--run", trained, "-o", tmp_path / "t.npy", "--json").json["dimensions"]
    assert result.json["dimensions"] == ordered[:2]
    assert "KL in nats" in result.err


@pytest.mark.parametrize("dims", [("0", "2"), ("1", "1"), ("-1", "0")])
def test_dimensions_that_are_not_there(grey: Path, tmp_path: Path, dims: tuple[str, str]) -> None:
    assert_refused(manifold(grey, tmp_path / "o.png", "--dims", *dims), 2, "--dims", "from 0 to 1")
    assert list(tmp_path.iterdir()) == []


def test_one_dimension_is_no_plane(tmp_path: Path) -> None:
    one = write_pair(tmp_path / "one", latent_dim=1)
    assert_refused(manifold(one, tmp_path / "o.png"), 2, "one latent dimension", "vae traverse")


@pytest.mark.parametrize("flags", [("--steps", "1"), ("--dims", "0"), ("--dtype", "float32")])
def test_what_cannot_be_meant(grey: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    assert_refused(manifold(grey, tmp_path / "o.png", *flags), 2, flags[0])


def test_an_animation_is_not_made(grey: Path, tmp_path: Path) -> None:
    assert_refused(manifold(grey, tmp_path / "o.gif"), 2, "animation")
