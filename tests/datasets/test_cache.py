"""Prepared pictures: opened at once, made again when damaged, gone when cleared, never half there."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.drawing import numbered, values
from vaecli.datasets.cache import Cache, key
from vaecli.datasets.dataset import Images, content
from vaecli.errors import VaeError
from vaecli.pictures.arrays import Pixels

NAME = key("test")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def make(cache: Cache) -> Path:
    cache.make(NAME, "photos", [numbered(30)[:13], numbered(30)[13:]], ["a note"], train=20, labels=[1] * 10)
    (path,) = cache.folder.glob("*")
    return path


def test_what_was_made_is_opened(cache: Cache) -> None:
    make(cache)
    prepared = cache.open(NAME)
    assert prepared is not None
    assert isinstance(prepared.images, np.memmap)
    assert values(prepared.images) == list(range(30))
    record = prepared.record
    assert (record.source, record.shape, record.train, record.notes) == ("photos", (30, 4, 5, 1), 20, ("a note",))
    assert record.labels == [1] * 10
    assert record.content == content(Images(numbered(30)))


def test_an_entry_is_a_plain_npy(cache: Cache) -> None:
    assert values(np.load(make(cache))) == list(range(30))


def test_nothing_is_there_before(cache: Cache) -> None:
    assert cache.open(NAME) is None
    assert cache.entries() == []
    cache.clear()
    assert not cache.folder.exists()


@pytest.mark.parametrize("place", [200, -200, -30, -15, -1])
def test_a_damaged_entry_is_not_opened(cache: Cache, place: int) -> None:
    path = make(cache)
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    assert cache.open(NAME) is None


@pytest.mark.parametrize("kept", [0, 10, 500, -1])
def test_an_entry_cut_short_is_not_opened(cache: Cache, kept: int) -> None:
    path = make(cache)
    path.write_bytes(path.read_bytes()[:kept])
    assert cache.open(NAME) is None
    (entry,) = cache.entries()
    assert entry.record is None


def test_a_failure_leaves_nothing(cache: Cache) -> None:
    def chunks() -> Iterator[Pixels]:
        yield numbered(5)
        raise VaeError("stopped", "go on")

    with pytest.raises(VaeError, match="stopped"):
        cache.make(NAME, "photos", chunks())
    assert list(cache.folder.iterdir()) == []


def test_clear_removes_entries_and_leftovers_only(cache: Cache) -> None:
    path = make(cache)
    path.with_name(f".{path.name}.0badcafe.part").touch()
    keep = cache.folder.parent / "MNIST"
    keep.mkdir()
    cache.clear()
    assert not cache.folder.exists()
    assert keep.exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "prepared").write_text("a file in the way")
    with pytest.raises(VaeError, match="prepared: is a file"):
        make(Cache(tmp_path))


def test_a_full_disk_leaves_nothing(cache: Cache) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        with pytest.raises(VaeError, match="no room left"):
            cache.make(NAME, "photos", [numbered(100, 64, 64)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(cache.folder.iterdir()) == []
