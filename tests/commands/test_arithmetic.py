"""`vae arithmetic`: sums of latents of pictures and classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.command_line import Result, assert_refused, vae
from tests.tiny_model import two_gaussians, write_pair, write_prior
from vaecli import load
from vaecli.errors import UsageError


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A model that knows cats, about -4, and dogs, about 4."""
    folder = write_pair(tmp_path / "pets")
    write_prior(folder, two_gaussians(2, (1, 1)), classes=("cat", "dog"))
    return folder


def arithmetic(run: Path, output: Path, *expression: str | Path) -> Result:
    return vae("arithmetic", "--run", run, "-o", output, "--device", "cpu", *expression)


def draw(folder: Path, *seeds: int) -> Path:
    folder.mkdir()
    for seed in seeds:
        image = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(image).save(folder / f"{seed}.png")
    return folder


def test_pictures_folders_and_classes(pets: Path, tmp_path: Path) -> None:
    folder = draw(tmp_path / "some", 1, 2, 3)
    one = folder / "2.png"
    result = arithmetic(pets, tmp_path / "a.npy", folder, "-", one, "+", "dog", "--dtype", "float32", "--json")
    assert result.code == 0, result.err
    model = load(pets, "cpu")
    several, _ = model.encode(model.read(folder).images)
    expected = several.mean(axis=0) - several[1] + 4
    assert result.json["latent"] == pytest.approx(expected.tolist(), abs=1e-5)
    assert (result.json["n"], result.json["expression"]) == (1, [str(folder), "-", str(one), "+", "dog"])
    assert np.allclose(np.load(tmp_path / "a.npy"), model.decode(expected[np.newaxis]), atol=1e-5)


def test_the_pictures_are_never_replaced(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    picture = draw(tmp_path / "drawn", 1) / "1.png"
    before = picture.rename(tmp_path / "in/0001.png").read_bytes()
    result = arithmetic(pets, f"{tmp_path}/in/", tmp_path / "in", "+", tmp_path / "in")  # type: ignore[arg-type]
    assert_refused(result, 2, "one of the files to read")
    assert (tmp_path / "in/0001.png").read_bytes() == before


def test_a_picture_shows_the_terms_and_then_the_result(pets: Path, tmp_path: Path) -> None:
    result = arithmetic(pets, tmp_path / "a.png", "cat", "-", "dog", "--scale", "1", "--json")
    assert (result.json["n"], result.json["columns"]) == (3, 3)
    model = load(pets, "cpu")
    drawn = np.asarray(Image.open(tmp_path / "a.png"))
    for column, value in enumerate((-4.0, 4.0, -8.0)):
        expected = np.rint(255 * model.decode(np.full((1, 2), value))[0])
        assert np.abs(drawn[:, 10 * column : 10 * column + 8] - expected).max() <= 1


def test_a_file_of_a_classs_name_is_the_file(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "dog", 5)
    model = load(pets, "cpu")
    alone = arithmetic(pets, tmp_path / "a.npy", "dog", "--json")
    assert alone.json["latent"] == pytest.approx(model.encode(model.read("dog").images)[0][0].tolist(), abs=1e-5)


@pytest.mark.parametrize("expression", [("cat", "dog"), ("cat", "-"), ("-", "cat"), ("cat", "*", "dog"), ("+",)])
def test_what_is_no_sum_is_refused(pets: Path, tmp_path: Path, expression: tuple[str, ...]) -> None:
    assert_refused(arithmetic(pets, tmp_path / "a.png", *expression), 2, "not terms with + or - between them")


def test_terms_in_one_word_are_told_apart(pets: Path, tmp_path: Path) -> None:
    first, second = load(pets).classes[:2]
    result = vae("arithmetic", f"{first}-{second}", "--run", pets, "-o", tmp_path / "o.png")
    assert_refused(result, 2, f"put spaces around + and -: {first} - {second}")


def test_a_name_that_is_nothing_is_refused(pets: Path, tmp_path: Path) -> None:
    assert_refused(arithmetic(pets, tmp_path / "a.png", "cat", "+", "cow"), 1, "cow")
    with pytest.raises(UsageError, match="no class of this model"):
        load(pets).class_mean("cow")
