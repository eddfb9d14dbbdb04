"""Folders of pictures: decoded once on all cores, kept, and refused where they cannot be trained on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.datasets.drawing import Recorder, draw, draw_folder, values
from vaecli.config import DataConfig
from vaecli.datasets import Dataset, load
from vaecli.errors import VaeError


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The data folder."""
    (tmp_path / "kept").mkdir()
    return tmp_path / "kept"


def loaded(folder: Path, kept: Path, progress: Recorder | None = None, **settings: Any) -> Dataset:
    return load(DataConfig(source=str(folder), dir=str(kept), **settings), progress or Recorder())


def test_a_tenth_is_held_out_in_natural_order(tmp_path: Path, kept: Path) -> None:
    data = loaded(draw_folder(tmp_path / "photos", 40), kept)
    assert data.name == "photos"
    assert data.image_shape == (1, 4, 5)
    assert values(data.held_out.whole()) == [5, 10, 29, 34]
    assert values(data.train.whole()) == [n for n in range(40) if n not in (5, 10, 29, 34)]
    assert data.value_range == (0, 39)
    assert data.notes == ()


def test_the_second_run_opens_what_the_first_has_kept(tmp_path: Path, kept: Path) -> None:
    folder = draw_folder(tmp_path / "photos", 20)
    first, second = Recorder(), Recorder()
    one = loaded(folder, kept, first)
    other = loaded(folder, kept, second)
    assert first.begun == [("reading photos", 20, "pictures")]
    assert first.done == 20
    assert second.begun == []
    assert one.hash == other.hash
    assert values(one.train.whole()) == values(other.train.whole())


def test_nothing_is_written_beside_the_pictures(tmp_path: Path, kept: Path) -> None:
    folder = draw_folder(tmp_path / "photos", 3)
    loaded(folder, kept)
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("change", ["content", "more", "fewer", "options"])
def test_a_change_is_noticed(tmp_path: Path, kept: Path, change: str) -> None:
    folder = draw_folder(tmp_path / "photos", 20)
    before = loaded(folder, kept)
    settings = {}
    if change == "content":
        draw(folder / "3.bmp", 200)
        os.utime(folder / "3.bmp", ns=(1, 1))
    elif change == "more":
        draw(folder / "more" / "1.png", 77)
    elif change == "fewer":
        (folder / "3.bmp").unlink()
    else:
        settings = {"image_size": "3"}
    again = Recorder()
    after = loaded(folder, kept, again, **settings)
    assert again.done > 0
    assert after.hash != before.hash


def test_a_damaged_cache_is_made_again(tmp_path: Path, kept: Path) -> None:
    folder = draw_folder(tmp_path / "photos", 20)
    before = loaded(folder, kept)
    (entry,) = (kept / "prepared").iterdir()
    entry.write_bytes(entry.read_bytes()[:300])
    again = Recorder()
    assert loaded(folder, kept, again).hash == before.hash
    assert again.done == 20


def test_mixed_sizes_are_brought_to_one(tmp_path: Path, kept: Path) -> None:
    for index, size in enumerate([(30, 20), (20, 30), (64, 64), (100, 7)]):
        draw(tmp_path / "photos" / f"{index}.jpg", 40 * index, size, "RGB")
    data = loaded(tmp_path / "photos", kept, image_size="8x12")
    assert data.image_shape == (3, 8, 12)
    assert data.notes == ("4 of 4 pictures were cropped, resized or converted",)
    everything = sorted(values(data.train.whole()) + values(data.held_out.whole()))
    assert all(abs(value - 40 * index) <= 3 for index, value in enumerate(everything))


def test_channels_as_asked_for(tmp_path: Path, kept: Path) -> None:
    folder = draw_folder(tmp_path / "photos", 5, mode="RGB")
    draw(folder / "grey.png", 9)
    assert loaded(folder, kept, channels=1).image_shape == (1, 4, 5)
    assert loaded(folder, kept, channels=3).image_shape == (3, 4, 5)


def test_sizes_that_differ_are_counted(tmp_path: Path, kept: Path) -> None:
    folder = draw_folder(tmp_path / "photos", 5)
    for index, size in enumerate([(8, 6)] * 7 + [(1, 2), (3, 4)]):
        draw(folder / "others" / f"{index}.png", 1, size)
    with pytest.raises(VaeError) as error:
        loaded(folder, kept)
    assert f"{folder}: the pictures differ in size: 6x8 (7), 4x5 (5), and 2 more" in error.value.message
    assert "--image-size" in error.value.hint
    assert list((kept / "prepared").iterdir()) == []


def test_pictures_turned_by_their_camera_count_as_they_stand(tmp_path: Path, kept: Path) -> None:
    folder = draw_folder(tmp_path / "photos", 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (5, 4), 200).save(folder / "turned.jpg", exif=exif.tobytes())
    Image.new("L", (5, 4), 200).save(folder / "upright.jpg")
    with pytest.raises(VaeError, match=r"differ in size: 4x5 \(4\), 5x4 \(1\)"):
        loaded(folder, kept)


def test_channels_that_differ_are_counted(tmp_path: Path, kept: Path) -> None:
    folder = draw_folder(tmp_path / "photos", 5)
    draw(folder / "colour.png", 1, mode="RGB")
    with pytest.raises(VaeError) as error:
        loaded(folder, kept)
    assert "differ in channels: grey (5), colour (1)" in error.value.message
    assert "--channels 3" in error.value.hint


def test_too_large_to_train_on(tmp_path: Path, kept: Path) -> None:
    folder = draw_folder(tmp_path / "photos", 2, size=(1030, 2))
    with pytest.raises(VaeError, match=r"0\.bmp: 2x1030 pixels") as error:
        loaded(folder, kept)
    assert "--image-size" in error.value.hint
    assert loaded(folder, kept, image_size="2x4").image_shape == (1, 2, 4)


def test_transparency_is_said_once_and_again_from_the_cache(tmp_path: Path, kept: Path) -> None:
    folder = draw_folder(tmp_path / "photos", 5)
    for name in ("a.png", "b.png"):
        Image.new("LA", (5, 4), (0, 0)).save(folder / name)
    for _ in range(2):
        assert loaded(folder, kept).notes == ("transparency was laid onto white in 2 pictures",)


def test_one_unreadable_picture_in_a_hundred_is_skipped_and_listed(tmp_path: Path, kept: Path) -> None:
    folder = draw_folder(tmp_path / "photos", 100)
    (folder / "50.bmp").write_bytes((folder / "50.bmp").read_bytes()[:-5])
    data = loaded(folder, kept)
    assert len(data.train) + len(data.held_out) == 99
    (note,) = data.notes
    assert note.startswith("skipped 1 of 100 pictures that cannot be read: ")
    assert f"{folder}/50.bmp: damaged picture" in note


def test_more_than_one_in_a_hundred_ends_it(tmp_path: Path, kept: Path) -> None:
    folder = draw_folder(tmp_path / "photos", 99)
    (folder / "50.bmp").write_text("no picture")
    with pytest.raises(VaeError, match=r"photos: 1 of 99 pictures cannot be read: .*50\.bmp"):
        loaded(folder, kept)
    assert list((kept / "prepared").iterdir()) == []


def test_none_left(tmp_path: Path, kept: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("no picture")
    with pytest.raises(VaeError, match="photos: none of its 1 pictures can be read"):
        loaded(tmp_path / "photos", kept)


def test_an_empty_folder_and_a_single_picture(tmp_path: Path, kept: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "notes.txt").touch()
    with pytest.raises(VaeError, match="photos: no picture in this folder"):
        loaded(tmp_path / "photos", kept)
    draw(tmp_path / "photos" / "a.png", 1)
    with pytest.raises(VaeError, match="photos: only one picture"):
        loaded(tmp_path / "photos", kept)
