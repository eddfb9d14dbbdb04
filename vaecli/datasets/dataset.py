"""A data set as training sees it: images to learn from and images held out, in memory or in a large file."""

from __future__ import annotations

import hashlib
import math
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaecli.config import Split
from vaecli.datasets.classes import Classes
from vaecli.errors import UsageError, VaeError, check_choice, file_error
from vaecli.events import Note
from vaecli.model_format import ImageShape
from vaecli.parallel import cut
from vaecli.pictures.arrays import CHUNK_BYTES, Pixels
from vaecli.pictures.places import row_name

if TYPE_CHECKING:
    from vaecli.datasets.division import Division

RESIDENT_BYTES = 2**29  # data up to this size are held in memory, larger data are read from their file
SAMPLE_IMAGES, SAMPLE_BYTES = 4096, 2**26  # the sample that is hashed of larger data
LARGEST_READ = 2**30  # bytes: Linux reads less than 2 GiB at once
ONLY_ONE = "only one picture, and one must be held out"

NamesOf: TypeAlias = Callable[[NDArray[np.int64]], list[str]]  # rows of an array -> the names of these pictures


class ImageSet:
    """Images, uint8 (n, h, w, c): all or some rows of an array that may be a memory map, their classes and names.

    `images[rows]` copies those rows into memory, `images.whole()` all of them.
    """

    def __init__(
        self,
        array: Pixels,
        rows: NDArray[np.int64] | None = None,
        classes: Classes | None = None,
        names: NamesOf | None = None,
    ) -> None:
        """`classes` and `names` are those of the whole array."""
        self._array, self._rows = array, rows  # no rows: all, in order
        self._classes, self._names = classes, names
        large = array.nbytes > RESIDENT_BYTES and array.flags.c_contiguous and hasattr(os, "pread")
        self._file = _File(array) if large and isinstance(array, np.memmap) and array.filename else None

    def __len__(self) -> int:
        return len(self._array) if self._rows is None else len(self._rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, h, w, c)."""
        height, width, channels = self._array.shape[1:]
        return len(self), height, width, channels

    @property
    def classes(self) -> Classes | None:
        """The class of each; None where it is not known."""
        return self._classes if self._classes is None or self._rows is None else self._classes[self._rows]

    @property
    def nbytes(self) -> int:
        """The memory that all of them take."""
        return math.prod(self.shape)

    @property
    def resident(self) -> bool:
        """Whether they are small enough to hold in memory: then call `whole`, else read batch by batch."""
        return self.nbytes <= RESIDENT_BYTES

    def __getitem__(self, chosen: slice | NDArray[np.integer[Any]]) -> Pixels:
        """Copy the chosen images, in the order chosen. Raises VaeError where their file can no longer be read."""
        if self._rows is not None:
            chosen = self._rows[chosen]
        if self._file is None:
            return np.array(self._array[chosen], order="C")
        if isinstance(chosen, slice):
            chosen = np.arange(*chosen.indices(len(self._array)))
        return self._file.read(chosen).reshape(-1, *self.shape[1:])

    def rows(self, chosen: NDArray[np.int64]) -> ImageSet:
        """Some of them, as a set of its own."""
        return ImageSet(self._array, chosen if self._rows is None else self._rows[chosen], self._classes, self._names)

    def names(self, chosen: NDArray[np.int64]) -> list[str]:
        """The names of some of them: a file's path, else numbers from 0."""
        rows = chosen if self._rows is None else self._rows[chosen]
        return [row_name("", row) for row in rows.tolist()] if self._names is None else self._names(rows)

    def whole(self) -> Pixels:
        """All of them in memory, contiguous; without a copy where they already are."""
        if self._rows is None and not isinstance(self._array, np.memmap):
            return np.ascontiguousarray(self._array)
        images = np.empty(self.shape, np.uint8)
        start = 0
        for chunk in self.chunks():
            images[start : start + len(chunk)] = chunk
            start += len(chunk)
        return images

    def chunks(self, size: int = CHUNK_BYTES) -> Iterator[Pixels]:
        """All of them in order, about `size` bytes at a time."""
        return cut(self, max(1, size * len(self) // max(1, self.nbytes)))


class _File:
    """The file behind a memory map of contiguous rows, read row by row with pread.

    1.6 GB of 28x28 pictures, random batches of 128: 0.16 ms a batch and no memory. A map whose pages are dropped
    after each batch takes 0.44 ms and 250 MB (1.1 GB at 1,024), one whose pages are kept takes 1.6 GB.
    """

    def __init__(self, array: np.memmap[Any, np.dtype[np.uint8]]) -> None:
        whole = array
        while isinstance(whole.base, np.memmap):
            whole = whole.base
        # A view keeps the offset of the whole map.
        self._start = whole.offset + (array.ctypes.data - whole.ctypes.data)
        self._path, self._row = str(array.filename), array[:1].nbytes
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY)
        except OSError as error:
            raise file_error(self._path, error) from error
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """The bytes of those rows, one after the other."""
        size = self._row
        offsets = (rows.astype(np.int64) * size + self._start).tolist()
        pieces = [(offset, size) for offset in offsets]
        if len(rows) > 1 and (np.diff(rows) == 1).all():
            end = offsets[-1] + size
            pieces = [(start, min(LARGEST_READ, end - start)) for start in range(offsets[0], end, LARGEST_READ)]
        try:
            content = bytearray().join([os.pread(self._descriptor, count, offset) for offset, count in pieces])
        except OSError as error:
            raise file_error(self._path, error) from error
        if len(content) != len(rows) * self._row:
            raise VaeError(f"{self._path}: has become shorter while it was read", "leave it alone while it is used")
        return np.frombuffer(content, np.uint8)


@dataclass(frozen=True)
class Summary:
    """What looking at all images tells, or at a fixed sample of many."""

    hash: str
    value_range: tuple[int, int]  # smallest and largest value, 0 to 255
    shape: tuple[int, int, int, int]  # (n, h, w, c)


def summarize(chunks: Iterable[Pixels], total: int | None = None) -> Summary:
    """The summary of images that arrive in chunks (k, h, w, c), a sample of `total` where that is given."""
    digest = hashlib.sha256()
    low, high, count, size = 255, 0, 0, (0, 0, 0)
    for chunk in chunks:
        if not count:
            size = chunk.shape[1:]
            digest.update(repr(size).encode())
        digest.update(np.ascontiguousarray(chunk).data)
        low, high = min(low, int(chunk.min())), max(high, int(chunk.max()))
        count += len(chunk)
    digest.update(str(total or count).encode())
    kind = "sha256" if total is None else "sha256-sample"
    return Summary(f"{kind}:{digest.hexdigest()}", (low, high), (total or count, *size))


def summary_of(*parts: ImageSet) -> Summary:
    """The summary of images in their order: of every byte, up to RESIDENT_BYTES.

    Of larger data SAMPLE_IMAGES evenly spaced ones are hashed, and their number. That takes no time and still tells
    data sets apart; the hash then begins with `sha256-sample:`.
    """
    if sum(part.nbytes for part in parts) <= RESIDENT_BYTES:
        return summarize(chunk for part in parts for chunk in part.chunks())
    samples = []
    for part in parts:
        rows = min(len(part), SAMPLE_IMAGES, max(1, SAMPLE_BYTES * len(part) // part.nbytes))
        # Not `spread`: other rows would change the hashes that earlier runs have recorded.
        samples.append(part[np.linspace(0, len(part) - 1, rows).astype(np.int64)])
    return summarize(samples, total=sum(map(len, parts)))


def split_summary_of(*parts: ImageSet) -> Summary:
    """The summary of images whose split is the user's own: other parts of the same images have another hash."""
    summary = summary_of(*parts)
    digest = hashlib.sha256(f"{summary.hash} {[len(part) for part in parts]}".encode())
    return replace(summary, hash=f"{summary.hash.partition(':')[0]}:{digest.hexdigest()}")


@dataclass(frozen=True)
class Found:
    """The images that a source holds, as they are stored."""

    name: str
    parts: tuple[Pixels, ...]  # each (n, h, w, c): training and held-out images, or one array to be split
    version: object  # changes when the images do
    notes: tuple[Note, ...] = ()  # what a person should know
    summary: Summary | None = None  # where it is known already
    validation: int = 0  # how many of the training images, the last ones, are the data set's own validation split
    classes: Classes | None = None  # of all images in their order, where they are known
    no_classes: str = ""  # why they are not, where somebody may expect them to be
    names: tuple[NamesOf, ...] = ()  # of each part, where its pictures have names
    division: Division | None = None  # of the first part, where labels.csv says it


class Pictures:
    """Some rows of image sets, one after the other, read when they are sliced: uint8 (b, h, w, c)."""

    def __init__(self, parts: tuple[ImageSet, ...], rows: NDArray[np.int64] | None = None) -> None:
        """`rows` ascend; None: all."""
        self._parts = parts
        self._rows = np.arange(sum(map(len, parts))) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, chosen: slice | NDArray[np.int64], /) -> NDArray[np.uint8]:
        """Read the chosen ones, which must be in ascending order."""
        found = [part[rows] for part, rows in self._within(chosen) if len(rows)]
        if len(found) == 1:
            return found[0]
        return np.concatenate(found) if found else np.empty((0, *self._parts[0].shape[1:]), np.uint8)

    def names(self, chosen: slice = slice(None)) -> list[str]:
        """The names of the chosen ones: a file's path, else its number among all pictures."""
        return [name for part, rows in self._within(chosen) for name in part.names(rows)]

    @cached_property
    def classes(self) -> Classes | None:
        """The class of each; None where it is not known."""
        known = [classes for classes in (part.classes for part in self._parts) if classes is not None]
        if len(known) < len(self._parts):
            return None
        return Classes(known[0].names, np.concatenate([classes.labels for classes in known])[self._rows])

    def labels(self, chosen: slice = slice(None)) -> list[str | None]:
        """The names of their classes, of the chosen ones; None where they are not known."""
        classes = self.classes
        if classes is None:
            return [None] * len(self._rows[chosen])
        return [classes.names[label] for label in classes.labels[chosen].tolist()]

    def some(self, most: int | None) -> Pictures:
        """At most `most` of them, evenly spaced; None: all."""
        return self if most is None else Pictures(self._parts, self._rows[spread(most, len(self))])

    def _within(self, chosen: slice | NDArray[np.int64]) -> Iterator[tuple[ImageSet, NDArray[np.int64]]]:
        """Each image set, and those of its rows that are chosen."""
        rows, start = self._rows[chosen], 0
        for part in self._parts:
            yield part, rows[(rows >= start) & (rows < start + len(part))] - start
            start += len(part)


@dataclass(frozen=True)
class Dataset:
    """Images to train on and images held out."""

    name: str
    train: ImageSet
    validation: ImageSet | None  # cut from the training images; None: the held-out ones take their place
    held_out: ImageSet
    hash: str  # of the training images, then the held-out ones, or of all in their order; see `summary_of`
    value_range: tuple[int, int]  # smallest and largest value, 0 to 255
    notes: tuple[Note, ...] = ()  # what a person should know
    no_classes: str = ""  # why the classes are not known, where somebody may expect them to be
    has_test_images: bool = False  # of its own, which are held out; else a tenth of all images is

    @property
    def image_shape(self) -> ImageShape:
        """(channels, height, width)."""
        _, height, width, channels = self.train.shape
        return channels, height, width

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; none where they are not known."""
        known = self.train.classes
        return () if known is None else known.names

    @cached_property
    def labels_hash(self) -> str | None:
        """A hash of the names of the classes and of the class of each image; None where they are not known."""
        parts = [part.classes for part in (self.train, self.validation, self.held_out) if part is not None]
        digest = hashlib.sha256(repr(self.classes).encode())
        for known in parts:
            if known is None:
                return None
            digest.update(known.labels.astype(np.int64).tobytes())
        return f"sha256:{digest.hexdigest()}"

    @property
    def measured(self) -> ImageSet:
        """The images that each epoch is measured on, and that choose the best one."""
        return self.held_out if self.validation is None else self.validation

    def of_split(self, split: Split) -> Pictures:
        """The pictures of a split.

        Raises UsageError where there is no such `split`, or no picture is for validation.
        """
        check_choice("split", split, Split)
        if split == "validation" and self.validation is None:
            raise UsageError(
                f"`split` validation: no images of {self.name} are for validation", "take `split` held-out"
            )
        chosen = {
            "held-out": (self.held_out,),
            "validation": (self.validation,),
            "train": (self.train,),
            "all": (self.train, self.validation, self.held_out),
        }[split]
        return Pictures(tuple(part for part in chosen if part is not None))


def spread(count: int, available: int) -> NDArray[np.int64]:
    """`count` of `available` rows (or all), evenly spaced, since many sets are sorted by class."""
    count = min(count, available)
    return np.arange(count, dtype=np.int64) * available // count
