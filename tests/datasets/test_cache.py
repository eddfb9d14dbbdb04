"""Prepared pictures: opened at once, made again when damaged, gone when cleared, never half there."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.drawing import numbered, values
from tests.notes import texts
from vaecli.datasets import cache as caches
from vaecli.datasets import dataset
from vaecli.datasets.cache import IMAGES, RECORD, Cache, entry_name
from vaecli.datasets.classes import KnownClasses, of_names
from vaecli.datasets.dataset import ImageSet, summary_of
from vaecli.errors import VaeError
from vaecli.events import Note
from vaecli.pictures.arrays import Pixels

NAME = entry_name("test")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def make(cache: Cache) -> Path:
    classes = of_names(["cat", "dog"] * 15)
    chunks = [numbered(30)[:13], numbered(30)[13:]]
    cache.make(NAME, "photos", chunks, lambda: [Note("a note")], train=20, classes=lambda: KnownClasses(classes))
    (folder,) = cache.folder.iterdir()
    return folder


def test_what_was_made_is_opened(cache: Cache) -> None:
    make(cache)
    prepared = cache.open(NAME)
    assert prepared is not None
    assert isinstance(prepared.images, np.memmap)
    assert values(prepared.images) == list(range(30))
    record = prepared.record
    assert (record.source, record.shape, record.train, texts(record.notes)) == (
        "photos",
        (30, 4, 5, 1),
        20,
        ("a note",),
    )
    assert (record.classes, record.labels) == (("cat", "dog"), [0, 1] * 15)
    assert record.summary == summary_of(ImageSet(numbered(30)))


def test_an_entry_is_a_folder_with_a_plain_npy(cache: Cache) -> None:
    folder = make(cache)
    assert folder == cache.folder / NAME
    assert sorted(path.name for path in folder.iterdir()) == [IMAGES, RECORD]
    assert values(np.load(folder / IMAGES)) == list(range(30))


def test_the_number_of_images_may_grow_by_many_digits(cache: Cache) -> None:
    cache.make(NAME, "photos", (numbered(1, 1, 1) for _ in range(12_345)))
    assert np.load(cache.folder / NAME / IMAGES).shape == (12_345, 1, 1, 1)


def test_nothing_is_there_before(cache: Cache) -> None:
    assert cache.open(NAME) is None
    assert cache.entries() == []
    cache.clear()
    assert not cache.folder.exists()


@pytest.mark.parametrize("place", [3, 60, 200, -1])
def test_damaged_images_are_not_opened(cache: Cache, place: int) -> None:
    path = make(cache) / IMAGES
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    assert cache.open(NAME) is None


@pytest.mark.parametrize("file", [IMAGES, RECORD])
@pytest.mark.parametrize("kept", [0, 10, -1, None])
def test_an_incomplete_entry_counts_as_absent_and_is_made_anew(cache: Cache, file: str, kept: int | None) -> None:
    path = make(cache) / file
    if kept is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:kept])
    assert cache.open(NAME) is None
    (entry,) = cache.entries()
    assert entry.record is None
    make(cache)
    assert cache.open(NAME) is not None
    assert [path.name for path in cache.folder.iterdir()] == [NAME]


@pytest.mark.parametrize("record", [b"{}", b'{"name": "of another program"}', b"[1, 2]", b"\xff\xfe"])
def test_a_record_that_is_not_ours_is_refused(cache: Cache, record: bytes) -> None:
    (make(cache) / RECORD).write_bytes(record)
    assert cache.open(NAME) is None


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ('"train":20', '"train":30'),  # no held-out image is left
        ('"train":20', '"train":0'),
        ('"train":20', '"train":-1'),
        ('"labels":[0', '"labels":[2'),
        ('"labels":[0,', '"labels":['),
        ('"version":', '"other":' + "[" * 9999),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(cache: Cache, ours: str, theirs: str) -> None:
    record = make(cache) / RECORD
    text = record.read_text()
    assert ours in text
    record.write_text(text.replace(ours, theirs))
    assert cache.open(NAME) is None


def test_a_damaged_entry_is_replaced_and_a_good_one_stays(cache: Cache) -> None:
    damaged = make(cache)
    (damaged / RECORD).write_bytes(b"damaged")
    first = damaged.stat().st_ino
    assert cache.open(NAME) is None
    good = make(cache).stat().st_ino
    assert cache.open(NAME) is not None
    assert good != first
    assert make(cache).stat().st_ino == good, "another process may have it open"


def test_an_entry_of_another_version_is_refused(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    make(cache)
    monkeypatch.setattr(caches, "VERSION", caches.VERSION + 1)
    assert cache.open(NAME) is None
    assert entry_name("test") != NAME


def test_large_entries_are_read_on_opening_where_somebody_has_written_to_them(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "RESIDENT_BYTES", 100)
    path = make(cache) / IMAGES
    written, whole = path.stat(), path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    assert cache.open(NAME) is None
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert cache.open(NAME) is not None  # not read
    path.write_bytes(whole)
    assert cache.open(NAME) is not None  # as from a copy of the data folder


def test_a_failure_leaves_nothing(cache: Cache) -> None:
    def chunks() -> Iterator[Pixels]:
        yield numbered(5)
        raise VaeError("stopped", "go on")

    with pytest.raises(VaeError, match="stopped"):
        cache.make(NAME, "photos", chunks())
    assert list(cache.folder.iterdir()) == []


@pytest.mark.parametrize("damaged", [False, True])
def test_two_makers_of_one_entry_both_succeed(cache: Cache, damaged: bool) -> None:
    """The second makes all of its entry while the first is half done; a third reads throughout."""
    if damaged:
        (make(cache) / RECORD).write_text("damaged")
    opened = []

    def chunks() -> Iterator[Pixels]:
        yield numbered(30)[:13]
        opened.append(cache.make(NAME, "photos", [numbered(30)]))
        yield numbered(30)[13:]

    first = cache.make(NAME, "photos", chunks())
    for prepared in (first, *opened, cache.open(NAME)):
        assert prepared is not None
        assert values(prepared.images) == list(range(30))
    assert [path.name for path in cache.folder.iterdir()] == [NAME]


def test_entries_are_sized_and_sorted_by_source(cache: Cache) -> None:
    for source in ("dogs", "cats"):
        cache.make(entry_name(source), source, [numbered(3)])
    entries = cache.entries()
    assert [entry.record and entry.record.source for entry in entries] == ["cats", "dogs"]
    for entry in entries:
        assert entry.bytes == sum((entry.path / name).stat().st_size for name in (IMAGES, RECORD))


def test_clear_removes_entries_and_what_killed_runs_have_left(cache: Cache) -> None:
    temporary: list[Path] = []

    def chunks() -> Iterator[Pixels]:
        temporary.extend(cache.folder.iterdir())
        yield numbered(5)

    cache.make(NAME, "photos", chunks())
    (leftover,) = temporary
    assert leftover.name != NAME
    leftover.mkdir()
    (leftover / IMAGES).write_bytes(bytes(100))
    keep = cache.folder.parent / "MNIST"
    keep.mkdir()
    assert [entry.path.name for entry in cache.entries()] == [NAME]
    cache.clear()
    assert not cache.folder.exists()
    assert keep.exists()


def test_clear_leaves_what_another_process_is_writing(cache: Cache) -> None:
    def chunks() -> Iterator[Pixels]:
        yield numbered(5)
        Cache(cache.folder.parent).clear()
        yield numbered(5)

    assert len(cache.make(NAME, "photos", chunks()).images) == 10


def test_clear_leaves_what_this_program_did_not_write(cache: Cache) -> None:
    make(cache)
    (cache.folder / "notes.txt").write_text("mine")
    (cache.folder / "photos").mkdir()
    cache.clear()
    assert sorted(path.name for path in cache.folder.iterdir()) == ["notes.txt", "photos"]


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
