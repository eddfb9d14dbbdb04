"""What a source names, where it is, and the errors where it names no pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.datasets.drawing import draw, draw_folder
from tests.datasets.set_files import mnist_like
from tests.pictures.packing import png, tar
from vaecli.config import DataConfig
from vaecli.datasets.source import Array, BuiltIn, Folder, Named, Shards, classify, is_here, located, overlap
from vaecli.errors import VaeError


def test_each_kind_of_source_is_told_apart(tmp_path: Path) -> None:
    assert classify("mnist-5k") == BuiltIn()
    assert classify("cifar10") == Named("cifar10")
    np.save(tmp_path / "a.npy", np.zeros((7, 5, 6), np.uint8))
    assert classify(str(tmp_path / "a.npy")) == Array(tmp_path / "a.npy")
    shards = [str(tar(tmp_path / name, {"1.png": png(1)})) for name in ("2.tar", "10.tar")]
    assert classify(shards[0]) == Shards(shards[:1])
    assert classify(str(tmp_path)) == classify(f"{tmp_path}/*.tar") == Shards(shards)
    draw_folder(tmp_path, 1)
    assert classify(str(tmp_path)) == Folder(tmp_path)  # pictures come before shards


def test_a_path_is_located_and_a_name_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert located("photos") == str(tmp_path / "photos")
    for source in ("mnist-5k", "cifar10", "s3://bucket/photos", str(tmp_path)):
        assert located(source) == source


@pytest.mark.parametrize("source", ["~nosuchuser/pictures", "~nosuchuser/*.tar"])
def test_the_home_folder_of_nobody_is_no_such_path(source: str) -> None:
    with pytest.raises(VaeError, match="nosuchuser"):
        classify(source)
    assert located(source).endswith(source)
    assert not overlap(source, "pictures")


class TestRefused:
    def test_a_single_picture(self, tmp_path: Path) -> None:
        with pytest.raises(VaeError, match=r"a\.png: only one picture"):
            classify(str(draw(tmp_path / "a.png", 1)))

    def test_text_called_png(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_text("text")
        with pytest.raises(VaeError, match=r"a\.png: not a picture"):
            classify(str(tmp_path / "a.png"))

    @pytest.mark.parametrize("source", ["photos/", "./photos", "photos.npy", "/nowhere/at/all"])
    def test_a_missing_path(self, source: str) -> None:
        with pytest.raises(VaeError, match=f"`source` {source}: no such file or folder"):
            classify(source)

    @pytest.mark.parametrize(("source", "meant"), [("fashion_mnist", "fashion-mnist"), ("MNIST5k", "mnist-5k")])
    def test_an_unknown_name_gets_the_closest(self, source: str, meant: str) -> None:
        with pytest.raises(VaeError, match=f"`source` {source}") as error:
            classify(source)
        assert f"did you mean {meant}" in error.value.hint

    def test_a_table_of_pixels_is_told_how_to_become_an_array(self, tmp_path: Path) -> None:
        (tmp_path / "digits.csv").write_text("0,0,255\n")
        with pytest.raises(VaeError, match=r"digits\.csv: neither a picture nor an array\nhint: .*np\.savez"):
            classify(str(tmp_path / "digits.csv"))


class TestIsHere:
    def test_the_digits_in_the_package_are(self) -> None:
        assert is_here(DataConfig())

    def test_paths_are_where_they_exist(self, tmp_path: Path) -> None:
        assert is_here(DataConfig(source=str(tmp_path)))
        assert not is_here(DataConfig(source=str(tmp_path / "photos.npy")))

    def test_named_sets_are_where_their_files_are(self, kept: Path) -> None:
        settings = DataConfig(source="mnist", dir=str(kept))
        assert not is_here(settings)
        mnist_like(kept / "MNIST" / "raw")
        assert is_here(settings)
        assert not is_here(DataConfig(source="mnist", dir=str(kept / "nowhere")))
        with pytest.raises(VaeError, match=r"`dir` .*raw/.*: is a file"):
            is_here(DataConfig(source="mnist", dir=str(next((kept / "MNIST" / "raw").iterdir()))))
