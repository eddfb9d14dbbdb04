"""Shards as a data set: prepared once, in a fixed order, with the classes that they have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.pictures.packing import parquet, png, tar
from vaecli import datasets
from vaecli.config import DataConfig
from vaecli.errors import VaeError


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(2):
        rows = range(20 * shard, 20 * shard + 20)
        files = {f"{row}.{end}": (png(row) if end == "png" else b"odd" if row % 2 else b"even")
                 for row in rows for end in ("png", "cls")}  # fmt: skip
        tar(folder / f"{shard}.tar", files)
    return folder


def load(source: str, tmp_path: Path) -> datasets.Dataset:
    kept = tmp_path / "kept"
    kept.mkdir(exist_ok=True)
    return datasets.load(DataConfig(source=source, dir=str(kept)))


def values(data: datasets.Dataset) -> list[int]:
    return sorted(int(image[0, 0, 0]) for part in (data.train, data.held_out) for image in part.whole())


@pytest.mark.parametrize("form", ["", "/*.tar", "/[01].tar"])
def test_a_folder_and_a_pattern_of_shards_are_a_data_set(shards: Path, tmp_path: Path, form: str) -> None:
    data = load(f"{shards}{form}", tmp_path)
    assert values(data) == list(range(40))
    assert data.classes == ("even", "odd")


def test_an_address_of_shards_is_a_data_set(shards: Path, tmp_path: Path) -> None:
    there, here = load(f"file://{shards}", tmp_path), load(str(shards), tmp_path)
    assert values(there) == list(range(40))
    np.testing.assert_array_equal(there.train.whole(), here.train.whole())  # the same are held out


def test_a_parquet_file_is_a_data_set(tmp_path: Path) -> None:
    shard = parquet(tmp_path / "0.parquet", None, image=map(png, range(20)), label=[7] * 10 + [8] * 10)
    data = load(str(shard), tmp_path)
    assert values(data) == list(range(20))
    assert data.classes == ("7", "8")


def test_shards_are_read_once(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(str(shards), tmp_path)
    monkeypatch.setattr("vaecli.datasets.preparing.read_shard", lambda _: pytest.fail("read again"))
    assert load(str(shards), tmp_path).train.whole().tobytes() == first.train.whole().tobytes()


def test_a_picture_that_cannot_be_read_takes_its_label_with_it(tmp_path: Path) -> None:
    files = dict[str, bytes]()
    for row in range(150):
        files |= {f"{row}.png": b"no picture" if row == 75 else png(row), f"{row}.cls": str(row).encode()}
    shard = tar(tmp_path / "0.tar", files)
    data = load(str(shard), tmp_path)
    assert len(values(data)) == 149
    for part in (data.train, data.held_out):
        assert part.classes is not None
        assert [data.classes[label] for label in part.classes.labels] == [str(image[0, 0, 0]) for image in part.whole()]


def test_labels_stay_with_their_pictures_where_all_have_one_name(tmp_path: Path) -> None:
    """A column of names may repeat one, and a damaged picture must not shift the labels of those after it."""
    pictures = [b"no picture" if row == 2 else png(row) for row in range(100)]
    images = [{"bytes": picture, "path": "image.png"} for picture in pictures]
    labels = [str(row) for row in range(100)]
    data = load(str(parquet(tmp_path / "0.parquet", None, image=images, label=labels)), tmp_path)
    assert len(values(data)) == 99
    for part in (data.train, data.held_out):
        assert part.classes is not None
        assert [data.classes[label] for label in part.classes.labels] == [str(image[0, 0, 0]) for image in part.whole()]


@pytest.mark.parametrize(
    ("source", "said"),
    [("0.tar", "damaged shard"), ("*.txt", r"notes\.txt is no shard"), ("no*.tar", "no file matches")],
)
def test_what_is_no_data_set_of_shards_is_said(tmp_path: Path, source: str, said: str) -> None:
    (tmp_path / "0.tar").write_bytes(b"none")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(VaeError, match=said):
        load(str(tmp_path / source), tmp_path)
    assert not list((tmp_path / "kept").rglob("images.npy"))
