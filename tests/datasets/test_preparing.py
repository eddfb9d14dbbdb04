"""Folders of pictures: decoded once on all cores, kept, and refused where they cannot be trained on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.datasets.drawing import Recorder, draw, draw_folder, values
from tests.notes import texts
from vaecli.config import DataConfig
from vaecli.datasets import Dataset, load
from vaecli.errors import VaeError


def loaded(folder: Path, kept: Path, on_event: Recorder | None = None, **settings: Any) -> Dataset:
    return load(DataConfig(source=str(folder), dir=str(kept), **settings), on_event or Recorder())


def test_a_tenth_is_held_out_in_natural_order(tmp_path: Path, kept: Path) -> None:
    data = loaded(draw_folder(tmp_path / "photos", 40), kept)
    assert data.name == "photos"
    assert data.image_shape == (1, 4, 5)
    assert values(data.held_out.whole()) == [5, 10, 29, 34]
    assert values(data.train.whole()) == [n for n in range(40) if n not in (5, 10, 29, 34)]
    assert data.value_range == (0, 39)
    assert texts(data.notes) == ()


def test_the_second_run_opens_what_the_first_has_kept(tmp_path: Path, kept: Path) -> None:
    folder = draw_folder(tmp_path / "photos", 20)
    first, second = Recorder(), Recorder()
    one = loaded(folder, kept, first)
    other = loaded(folder, kept, second)
    assert first.begun == [("reading photos", 20, "pictures")]
    assert first.done == 20
    assert second.progress == []
    assert one.hash == other.hash
    assert values(one.train.whole()) == values(other.train.whole())


def test_progress_counts_every_file_read(tmp_path: Path, kept: Path) -> None:
    folder = draw_folder(tmp_path / "photos", 100)
    (folder / "50.bmp").write_text("no picture")
    recorder = Recorder()
    loaded(folder, kept, recorder)
    assert [event.done for event in recorder.progress] == [*range(0, 100, 16), 100]


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
    (images,) = (kept / "prepared").glob("*/images.npy")
    images.write_bytes(images.read_bytes()[:300])
    again = Recorder()
    assert loaded(folder, kept, again).hash == before.hash
    assert again.done == 20


def test_mixed_sizes_are_brought_to_one(tmp_path: Path, kept: Path) -> None:
    for index, size in enumerate([(30, 20), (20, 30), (64, 64), (100, 7)]):
        draw(tmp_path / "photos" / f"{index}.jpg", 40 * index, size, "RGB")
    data = loaded(tmp_path / "photos", kept, image_size="8x12")
    assert data.image_shape == (3, 8, 12)
    assert texts(data.notes) == ("cropped, resized or converted 4 pictures",)
    everything = sorted(values(data.train.whole()) + values(data.held_out.whole()))
    assert all(abs(value - 40 * index) <= 3 for index, value in enumerate(everything))


def test_channels_as_asked_for(tmp_path: Path, kept: Path) -> None:
    folder = draw_folder(tmp_path / "photos", 5, mode="RGB")
    draw(folder / "grey.png", 9)
    assert loaded(folder, kept, channels=1).image_shape == (1, 4, 5)
    assert loaded(folder, kept, channels=3).image_shape == (3, 4, 5)


def test_sizes_that_differ_are_named(tmp_path: Path, kept: Path) -> None:
    folder = draw_folder(tmp_path / "photos", 5)
    draw(folder / "others" / "1.png", 1, (8, 6))
    draw(folder / "others" / "2.png", 1, (3, 4))
    with pytest.raises(VaeError) as error:
        loaded(folder, kept)
    assert error.value.message == f"{folder}: pictures differ in size: 0.bmp is 4x5, others/1.png is 6x8"
    assert "`image_size` 64" in error.value.hint
    assert list((kept / "prepared").iterdir()) == []


def test_pictures_turned_by_their_camera_count_as_they_are_seen(tmp_path: Path, kept: Path) -> None:
    folder = draw_folder(tmp_path / "photos", 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (5, 4), 200).save(folder / "turned.jpg", exif=exif.tobytes())
    with pytest.raises(VaeError, match=r"0\.bmp is 4x5, turned\.jpg is 5x4"):
        loaded(folder, kept)


def test_channels_that_differ_are_named(tmp_path: Path, kept: Path) -> None:
    folder = draw_folder(tmp_path / "photos", 5)
    draw(folder / "colour.png", 1, mode="RGB")
    with pytest.raises(VaeError) as error:
        loaded(folder, kept)
    assert error.value.message == f"{folder}: pictures differ in channels: 0.bmp is grey, colour.png is colour"
    assert "`channels` 3" in error.value.hint


def test_too_large_to_train_on(tmp_path: Path, kept: Path) -> None:
    folder = draw_folder(tmp_path / "photos", 2, size=(1030, 2))
    with pytest.raises(VaeError, match=r"0\.bmp: 2x1030 pixels") as error:
        loaded(folder, kept)
    assert "`image_size`" in error.value.hint
    assert loaded(folder, kept, image_size="2x4").image_shape == (1, 2, 4)


def test_transparency_is_said_once_and_again_from_the_cache(tmp_path: Path, kept: Path) -> None:
    folder = draw_folder(tmp_path / "photos", 5)
    for name in ("a.png", "b.png"):
        Image.new("LA", (5, 4), (0, 0)).save(folder / name)
    for _ in range(2):
        assert texts(loaded(folder, kept).notes) == ("transparent parts of 2 pictures were filled with white",)


def test_one_unreadable_picture_in_a_hundred_is_skipped_and_listed(tmp_path: Path, kept: Path) -> None:
    folder = draw_folder(tmp_path / "photos", 100)
    (folder / "50.bmp").write_bytes((folder / "50.bmp").read_bytes()[:-5])
    data = loaded(folder, kept)
    assert len(data.train) + len(data.held_out) == 99
    (note,) = texts(data.notes)
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
    with pytest.raises(VaeError, match="photos: its only picture cannot be read"):
        loaded(tmp_path / "photos", kept)


def test_files_with_other_endings_are_noted_also_where_the_pictures_are_kept(tmp_path: Path, kept: Path) -> None:
    (tmp_path / "photos").mkdir()
    for value in range(2):
        draw(tmp_path / "photos" / f"{value}.png", value)
    assert texts(loaded(tmp_path / "photos", kept).notes) == ()
    (tmp_path / "photos" / "a.heic").touch()
    assert texts(loaded(tmp_path / "photos", kept).notes) == (
        "left out a file with another ending (.heic); save HEIC as JPEG",
    )


@pytest.mark.parametrize(
    ("sizes", "note"),
    [
        ([(8, 80), (8, 80)], "2 pictures: 90% of their area is lost; `image_size` 3x25 has their shape"),
        ([(80, 8), (8, 80)], "2 pictures: 90% of their area is lost"),
        ([(8, 12), (8, 12)], "2 pictures"),
    ],
)
def test_a_crop_that_loses_most_is_told(sizes: list[tuple[int, int]], note: str, tmp_path: Path, kept: Path) -> None:
    (tmp_path / "photos").mkdir()
    for index, (height, width) in enumerate(sizes):
        Image.new("L", (width, height), index).save(tmp_path / "photos" / f"{index}.png")
    found = loaded(tmp_path / "photos", kept, image_size=8)
    assert texts(found.notes) == (f"cropped, resized or converted {note}",)


def test_an_empty_folder_and_a_single_picture(tmp_path: Path, kept: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "notes.txt").touch()
    with pytest.raises(VaeError, match="photos: no picture in this folder"):
        loaded(tmp_path / "photos", kept)
    draw(tmp_path / "photos" / "a.png", 1)
    with pytest.raises(VaeError, match="photos: only one picture"):
        loaded(tmp_path / "photos", kept)
