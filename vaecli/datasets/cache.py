"""Prepared pictures: decoded and fitted once, kept in the data folder as .npy files that open at once.

An entry is one file. Behind the array, where NumPy does not look, stands a record of what it holds; so a file
cut short has no record, and one rename puts both in place.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np

from vaecli import files
from vaecli.datasets.dataset import RESIDENT_BYTES, Content, ContentCount, Images
from vaecli.errors import VaeError, file_error
from vaecli.pictures.arrays import Pixels

FOLDER = "prepared"
VERSION = 1  # of the record, and of the way pictures are decoded and fitted: another one makes new entries
STRETCH = 256  # pictures
_MAGIC = b"vaecache"
_LENGTH_BYTES = 8


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What an entry holds."""

    version: int
    source: str  # the SPEC's name or path
    shape: tuple[int, int, int, int]  # (n, h, w, c)
    train: int | None = None  # the first so many are for training; None: a fixed tenth is held out
    labels: list[int] | None = None  # of the images behind those
    hash: str
    value_range: tuple[int, int]
    notes: tuple[str, ...] = ()

    @property
    def content(self) -> Content:
        """What can be said of the images as a whole."""
        return Content(self.hash, self.value_range)


@dataclass(frozen=True)
class Entry:
    """A prepared set of pictures on disk."""

    path: Path
    record: Record | None  # None: damaged, or of another version
    bytes: int


@dataclass(frozen=True)
class Prepared:
    """A prepared set of pictures, opened."""

    images: Pixels  # (n, h, w, c), a memory map
    record: Record


def key(*parts: object) -> str:
    """The name of an entry, from everything its content depends on."""
    return hashlib.sha256(msgspec.json.encode((VERSION, parts))).hexdigest()[:32]


def stretches(pictures: Iterator[Pixels]) -> Iterator[Pixels]:
    """Single pictures (h, w, c) as stretches (k, h, w, c), which are written at once."""
    while stretch := list(islice(pictures, STRETCH)):
        yield np.stack(stretch)


class Cache:
    """The entries in a data folder. Making one touches no disk."""

    def __init__(self, data_folder: Path) -> None:
        self.folder = data_folder / FOLDER

    def has(self, name: str) -> bool:
        """Whether there is an entry of that key."""
        return _read_record(self._path(name)) is not None

    def open(self, name: str) -> Prepared | None:
        """The entry of that key; None where there is none, or a damaged one, which is to be made again."""
        path = self._path(name)
        record = _read_record(path)
        if record is None:
            return None
        try:
            images = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            return None
        if images.shape != record.shape or images.dtype != np.uint8:
            return None
        seen = Images(images)
        if seen.nbytes <= RESIDENT_BYTES:  # it is read into memory anyway
            count = ContentCount()
            for chunk in seen.chunks():
                count.add(chunk)
            if count.result().hash != record.hash:
                return None
        return Prepared(images, record)

    def make(
        self,
        name: str,
        source: str,
        chunks: Iterable[Pixels],
        notes: Iterable[str] = (),
        *,
        train: int | None = None,
        labels: list[int] | None = None,
    ) -> Prepared:
        """Write an entry from stretches of images (k, h, w, c), as many as come, and open it.

        `notes` is read after the last stretch.

        Raises:
            VaeError: it cannot be written, or no image came. Whatever a stretch raises comes through.
        """
        files.make_folder(self.folder)
        path = self._path(name)
        count = ContentCount()
        total, shape = 0, (0, 0, 0)
        with files.replacing(path) as stream:
            for chunk in chunks:
                if not total:
                    shape = chunk.shape[1:]
                    _write_header(stream, (0, *shape))
                stream.write(np.ascontiguousarray(chunk).data)
                count.add(chunk)
                total += len(chunk)
            if not total:
                raise VaeError(f"{source}: no images", "check the pictures")
            found = count.result()
            record = Record(
                version=VERSION,
                source=source,
                shape=(total, *shape),
                train=train,
                labels=labels,
                hash=found.hash,
                value_range=found.value_range,
                notes=tuple(notes),
            )
            encoded = msgspec.json.encode(record)
            stream.write(encoded + len(encoded).to_bytes(_LENGTH_BYTES, "little") + _MAGIC)
            stream.seek(0)
            _write_header(stream, record.shape)
        return Prepared(np.load(path, mmap_mode="r", allow_pickle=False), record)

    def entries(self) -> list[Entry]:
        """Everything in the cache, sorted by what it was made from.

        Raises:
            VaeError: the folder cannot be read.
        """
        try:
            found = [Entry(path, _read_record(path), path.stat().st_size) for path in self.folder.glob("*.npy")]
        except OSError as error:
            raise file_error(error.filename or self.folder, error) from error
        return sorted(found, key=lambda entry: (entry.record.source if entry.record else "", entry.path.name))

    def clear(self) -> None:
        """Remove every entry, and what an interrupted one left behind.

        Raises:
            VaeError: one cannot be removed.
        """
        for pattern in ("*.npy", ".*.npy.*.part"):
            for path in self.folder.glob(pattern):
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise file_error(path, error) from error
        with contextlib.suppress(OSError):  # not empty, or never made
            self.folder.rmdir()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"


def _write_header(stream: BinaryIO, shape: tuple[int, ...]) -> None:
    """The header of a .npy. NumPy leaves room in it for the first dimension to grow: it can be rewritten."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)


def _read_record(path: Path) -> Record | None:
    """The record at the end of an entry; None where there is none that fits."""
    tail = _LENGTH_BYTES + len(_MAGIC)
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            if size < tail:
                return None
            stream.seek(size - tail)
            end = stream.read(tail)
            length = int.from_bytes(end[:_LENGTH_BYTES], "little")
            if not end.endswith(_MAGIC) or length > size - tail:
                return None
            stream.seek(size - tail - length)
            record = msgspec.json.decode(stream.read(length), type=Record)
    except (OSError, msgspec.DecodeError):
        return None
    return record if record.version == VERSION else None
