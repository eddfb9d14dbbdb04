"""Prepared pictures: decoded and fitted once, kept in the data folder as .npy files that open at once.

An entry is one file. Behind the array, where NumPy does not look, stands a record of what it holds; so a file
cut short has no record, and one rename puts both in place.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import struct
import zlib
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
_TAIL = struct.Struct("<QL8s")  # behind the record: its length, its checksum, the magic bytes


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
        return _open(self._path(name)) is not None

    def open(self, name: str) -> Prepared | None:
        """The entry of that key; None where there is none, or a damaged one, which is to be made again."""
        prepared = _open(self._path(name))
        if prepared is None:
            return None
        seen = Images(prepared.images)
        if seen.nbytes <= RESIDENT_BYTES:  # it is read into memory anyway
            count = ContentCount()
            for chunk in seen.chunks():
                count.add(chunk)
            if count.result().hash != prepared.record.hash:
                return None
        return prepared

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
            stream.write(encoded + _TAIL.pack(len(encoded), zlib.crc32(encoded), _MAGIC))
            stream.seek(0)
            _write_header(stream, record.shape)
        prepared = _open(path)
        if prepared is None:
            raise VaeError(f"{path}: is not what was written", "check the disk it is on")
        return prepared

    def entries(self) -> list[Entry]:
        """Everything in the cache, sorted by what it was made from.

        Raises:
            VaeError: the folder cannot be read.
        """
        try:
            found = [Entry(path, _record(path), path.stat().st_size) for path in self.folder.glob("*.npy")]
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


def _record(path: Path) -> Record | None:
    prepared = _open(path)
    return None if prepared is None else prepared.record


def _open(path: Path) -> Prepared | None:
    """Map an entry; None where it is not there, or no record stands behind its array that fits."""
    try:
        with path.open("rb") as stream:
            end = stream.seek(0, io.SEEK_END) - _TAIL.size
            stream.seek(max(0, end))
            length, checksum, magic = _TAIL.unpack(stream.read())
            if magic != _MAGIC or length > end:
                return None
            stream.seek(end - length)
            encoded = stream.read(length)
        if zlib.crc32(encoded) != checksum:
            return None
        record = msgspec.json.decode(encoded, type=Record)
        start = end - length - math.prod(record.shape)
        if record.version != VERSION or start < 0:
            return None
        return Prepared(np.memmap(path, np.uint8, "r", start, record.shape), record)
    except (OSError, struct.error, msgspec.DecodeError):
        return None
