"""Folders of pictures: which files are found, in which order, and what is said of the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from tests.notes import texts
from tests.pictures.packing import png, tar
from vaecli.config import DataConfig
from vaecli.datasets import load
from vaecli.errors import VaeError
from vaecli.pictures.folders import (
    EmptyFolderError,
    find_pictures,
    is_picture_name,
    left_out_note,
    pictures_or_shards,
)
from vaecli.pictures.inputs import read_inputs


def note(folder: Path) -> tuple[str, ...]:
    """The note on the files left out beside f.png."""
    left_out: list[str] = []
    assert find_pictures(folder, left_out) == [folder / "f.png"]
    return texts(left_out_note(left_out))


def test_folders_are_searched_in_natural_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.PNG", "a.Jpeg", "b/c/d.webp", ".hidden.png", ".git/e.png", "f.txt", "g.npy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    found = [str(path.relative_to(tmp_path)) for path in find_pictures(tmp_path)]
    assert found == ["a.Jpeg", "b/2.png", "b/10.PNG", "b/c/d.webp"]


def test_links_in_a_circle_hide_no_picture(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "up").symlink_to(tmp_path)
    assert find_pictures(tmp_path) == [tmp_path / "a.png"]


def test_a_link_to_nothing_is_a_picture_that_cannot_be_read(tmp_path: Path) -> None:
    """Such as one to a disk that is not there: otherwise it would be left out without a word."""
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "elsewhere/b.png")
    os.mkfifo(tmp_path / "c.png")
    assert find_pictures(tmp_path) == [tmp_path / "a.png", tmp_path / "b.png"]
    with pytest.raises(VaeError, match=r"1 of 2 pictures cannot be read: .*b\.png: no such file"):
        read_inputs([str(tmp_path)], (1, 4, 4))
    with pytest.raises(VaeError, match=r"1 of 2 pictures cannot be read: .*b\.png: no such file"):
        load(DataConfig(source=str(tmp_path)))


def test_files_with_other_endings_are_left_out_with_a_note(tmp_path: Path) -> None:
    for name in ("a.heic", "b/c.HEIC", "d.avif", ".e.heic", "labels.csv", "LICENSE"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    told = "3 files with other endings (.heic, .avif); save HEIC as JPEG"
    with pytest.raises(EmptyFolderError) as refused:
        find_pictures(tmp_path)
    assert refused.value.message == f"{tmp_path}: no picture in this folder, but {told}"
    assert "names must end in .png, .jpg, " in refused.value.hint
    (tmp_path / "f.png").touch()
    assert note(tmp_path) == (f"left out {told}",)
    (tmp_path / "d.avif").unlink()
    (tmp_path / "a.heic").unlink()
    assert note(tmp_path) == ("left out a file with another ending (.heic); save HEIC as JPEG",)
    (tmp_path / "b" / "c.HEIC").unlink()
    assert note(tmp_path) == ()


def test_shards_are_taken_where_there_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(EmptyFolderError):
        pictures_or_shards(tmp_path)
    shards = [str(tar(tmp_path / name, {"1.png": png(1)})) for name in ("2.tar", "10.tar")]
    assert pictures_or_shards(tmp_path) == shards
    (tmp_path / "a.png").touch()
    assert pictures_or_shards(tmp_path) == [tmp_path / "a.png"]


def test_the_name_of_a_picture(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    assert is_picture_name("missing.PNG")
    assert is_picture_name("s3://bucket/a.png?region=eu-west-1")
    assert not is_picture_name(str(tmp_path / "folder.png"))
    assert not is_picture_name("a.npy")
