"""Prepared pictures: decoded and resized once, then kept in the data folder as arrays that open at once.

An entry is a folder with images.npy, record.json and, where the pictures have names, names.txt. It is made beside its
place and renamed into it.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
import platformdirs
from numpy.typing import NDArray

from vaecli import files, limits
from vaecli.datasets.classes import Classes, KnownClasses
from vaecli.datasets.dataset import Found, ImageSet, NamesOf, Summary, summarize
from vaecli.errors import VaeError, file_error
from vaecli.events import Note
from vaecli.pictures.arrays import Pixels, npy_header
from vaecli.untrusted_text import storable

FOLDER = "prepared"
IMAGES, NAMES, RECORD = "images.npy", "names.txt", "record.json"
NAME_END = b"\0"  # after each name in names.txt: a file's name may hold a line break
PLACE_END = ":"  # in a name, after the number of the place that it is below; no number: below none
VERSION = 6  # of an entry, and of how pictures are decoded and resized: a change makes new entries
_NAME = "[0-9a-f]" * 32
_UNFINISHED = r"\.[0-9a-f]{32}\."  # how the names begin of what is being written


def data_folder(directory: str | Path | None) -> Path:
    """Where named data sets and prepared pictures are kept: `directory`, or the user's cache folder.

    It need not exist: what is kept there first makes it. Raises VaeError where `directory` is a file.
    """
    if directory is None:
        return platformdirs.user_cache_path("vaecli")
    path = files.with_home(directory)
    if path.exists() and not path.is_dir():
        raise VaeError(f"`dir` {directory}: is a file, not a folder", "name a folder")
    return path


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What an entry holds."""

    version: int
    source: str  # a data set's name, or a path
    summary: Summary
    train: int | None = None  # number of training images, which are first; None: a fixed tenth is held out
    classes: tuple[str, ...] = ()  # their names, where they are known
    labels: list[int] | None = None  # the class of each image, an index into `classes`
    no_classes: str = ""  # why they are not, where somebody may expect them to be
    notes: tuple[Note, ...] = ()
    names_bytes: int = 0  # the size of names.txt; 0: there is none
    modified: int | None = None  # when the images were written, in nanoseconds since 1970

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, h, w, c)."""
        return self.summary.shape


@dataclass(frozen=True)
class Entry:
    """An entry on disk."""

    path: Path
    record: Record | None  # None: damaged, or of another version
    bytes: int


@dataclass(frozen=True)
class Prepared:
    """An entry, opened."""

    path: Path
    images: Pixels  # (n, h, w, c), a memory map
    record: Record

    def names_below(self, places: Sequence[str]) -> NamesOf:
        """The names of the pictures in some rows, which were prepared from the files in these `places`."""

        def names(rows: NDArray[np.int64]) -> list[str]:
            content, ends = self._names
            starts = np.concatenate([[0], ends[:-1] + 1])
            texts = (os.fsdecode(content[starts[row] : ends[row]].tobytes()) for row in rows.tolist())
            parts = (text.partition(PLACE_END) for text in texts)
            return [(places[int(place)] if place else "") + rest for place, _, rest in parts]

        return names

    @cached_property
    def _names(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The content of names.txt, a memory map, and where each name ends. Raises VaeError where it cannot be read."""
        try:
            content = np.memmap(self.path / NAMES, np.uint8, "r")
        except OSError as error:
            raise file_error(self.path / NAMES, error) from error
        return content, np.flatnonzero(content == NAME_END[0])

    def found(self, name: str, notes: tuple[Note, ...] = (), places: Sequence[str] = ()) -> Found:
        """Its images, as the source `name`. `places` are the folder or the shards that they were prepared from."""
        images, record = self.images, self.record
        parts = (images,) if record.train is None else (images[: record.train], images[record.train :])
        classes = None if record.labels is None else Classes(record.classes, np.array(record.labels, np.int64))
        names = (self.names_below(places),) if record.names_bytes else ()
        return Found(
            name,
            parts,
            record.summary.hash,
            notes + record.notes,
            record.summary,
            classes=classes,
            no_classes=record.no_classes,
            names=names,
        )


def name_below(name: str, number: int, place: str) -> str:
    """A picture's name for `Cache.make`, without its place, which may have another path the next time."""
    return f"{number}{PLACE_END}{name.removeprefix(place)}" if name.startswith(place) else f"{PLACE_END}{name}"


def entry_name(*parts: object) -> str:
    """The name of an entry, a hash of everything that its content depends on."""
    return hashlib.sha256(msgspec.json.encode((VERSION, parts))).hexdigest()[:32]


class Cache:
    """The entries in a data folder. Creating this object touches no disk."""

    def __init__(self, data_folder: Path) -> None:
        self.folder = data_folder / FOLDER

    def open(self, name: str) -> Prepared | None:
        """The entry of that name; None where there is none, or a damaged one, which must be made again."""
        prepared = _open(self.folder / name)
        if prepared is None:
            return None
        images, record = ImageSet(prepared.images), prepared.record
        # Hashing takes 0.9 s a GB. Large images are hashed only where somebody has written to their file.
        if not images.resident and record.modified == _modified(self.folder / name):
            return prepared
        return prepared if summarize(images.chunks()) == record.summary else None

    def make(
        self,
        name: str,
        source: str,
        chunks: Iterable[Pixels],
        notes: Callable[[], Sequence[Note]] = tuple,
        *,
        train: int | None = None,
        classes: Callable[[], KnownClasses] = lambda: KnownClasses(None),
        names: Callable[[], Sequence[str]] = tuple,
    ) -> Prepared:
        """Write an entry from chunks of images (k, h, w, c), at least one, and open it.

        `notes`, `classes` and `names` are called after the last chunk. Several processes may make the same entry at
        once: the first wins.

        Raises:
            VaeError: it cannot be written. Errors of `chunks` are passed on; then nothing is written.
        """
        try:
            files.make_folder(self.folder)
        except VaeError as error:
            raise VaeError(error.message, "pictures are prepared there: name another folder with `dir`") from error
        folder = self.folder / name
        try:
            with files.temporary_beside(folder, folder=True) as temporary:
                with (temporary / IMAGES).open("wb") as stream:
                    summary = summarize(_written(stream, chunks))
                    stream.seek(0)
                    stream.write(npy_header(summary.shape, np.uint8))
                (known, no_classes), named = classes(), b"".join(os.fsencode(name) + NAME_END for name in names())
                if named:
                    (temporary / NAMES).write_bytes(named)
                record = Record(
                    version=VERSION,
                    source=storable(source),
                    summary=summary,
                    train=train,
                    classes=known.names if known else (),
                    labels=known.labels.tolist() if known else None,
                    no_classes=storable(no_classes),
                    notes=tuple(Note(storable(note.text), note.warning) for note in notes()),
                    names_bytes=len(named),
                    modified=_modified(temporary),
                )
                (temporary / RECORD).write_bytes(msgspec.json.encode(record))
                try:
                    temporary.rename(folder)
                except OSError:
                    if self.open(name) is None:  # a damaged one, which is not removed in place: others make it, too
                        with files.temporary_beside(folder, folder=True) as aside:
                            folder.rename(aside)
                        temporary.rename(folder)
        except OSError as error:
            if self.open(name) is None:  # else another process was faster
                raise file_error(folder, error) from error
        prepared = _open(folder)
        if prepared is None:
            raise VaeError(f"{folder}: is not what was written", "check the disk it is on")
        return prepared

    def entries(self) -> list[Entry]:
        """Everything in the cache, sorted by what it was made from. Raises VaeError where one cannot be read."""
        found = []
        try:
            for path in self._paths():
                prepared = _open(path)
                size = sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())
                found.append(Entry(path, prepared.record if prepared else None, size))
        except OSError as error:
            raise file_error(error.filename or self.folder, error) from error
        return sorted(found, key=lambda entry: (entry.record.source if entry.record else "", entry.path.name))

    def clear(self) -> None:
        """Remove all entries, and what killed processes have left of theirs. Raises VaeError where that fails."""
        files.remove_leftovers(*files.unfinished_in(self.folder, _UNFINISHED))
        for path in self._paths():
            try:
                with contextlib.suppress(FileNotFoundError):  # another process has removed it
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            except OSError as error:
                raise file_error(path, error) from error
        with contextlib.suppress(OSError):  # not empty, or it never existed
            self.folder.rmdir()

    def _paths(self) -> list[Path]:
        return [*self.folder.glob(_NAME)]


def _written(stream: BinaryIO, chunks: Iterable[Pixels]) -> Iterator[Pixels]:
    """The same chunks, written as a .npy. NumPy pads its header, so that the total can be filled in at the end."""
    for chunk in chunks:
        if not stream.tell():
            stream.write(npy_header((0, *chunk.shape[1:]), np.uint8))
        stream.write(np.ascontiguousarray(chunk).data)
        yield chunk


def _modified(folder: Path) -> int:
    """When the images of an entry were written. Raises OSError."""
    return (folder / IMAGES).stat().st_mtime_ns


def _is_sound(record: Record) -> bool:
    """Whether a record's labels and training images are those of its images."""
    count, labels = record.shape[0], record.labels
    if record.train is not None and not 0 < record.train < count:
        return False
    return labels is None or (len(labels) == count and all(0 <= label < len(record.classes) for label in labels))


def _open(folder: Path) -> Prepared | None:
    """Map an entry; None where it does not exist, or its images are not what its record says."""
    try:
        record = msgspec.json.decode(limits.read_file(folder / RECORD), type=Record)
        if record.version != VERSION or not _is_sound(record):
            return None
        header = npy_header(record.shape, np.uint8)
        path = folder / IMAGES
        limits.check_file(path)
        with path.open("rb") as stream:
            if stream.read(len(header)) != header or path.stat().st_size != len(header) + math.prod(record.shape):
                return None
        if record.names_bytes and (folder / NAMES).stat().st_size != record.names_bytes:
            return None
        return Prepared(folder, np.memmap(path, np.uint8, "r", len(header), record.shape), record)
    except (OSError, ValueError, RecursionError, msgspec.DecodeError, VaeError):
        return None
