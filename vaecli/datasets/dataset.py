"""A data set as training sees it: images to learn from and images held out, in memory or mapped."""

from __future__ import annotations

import hashlib
import math
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaecli.errors import VaeError, file_error
from vaecli.pictures.arrays import Pixels
from vaecli.pictures.decoding import ImageShape

Progress: TypeAlias = Callable[[str, int | None, str], AbstractContextManager[Callable[[int], None]]]

HELD_OUT = 10  # one image of so many is held out, where a data set has no test images of its own
RESIDENT_BYTES = 2**29  # data up to this size are held in memory, larger ones gathered from their file
SAMPLE_IMAGES, SAMPLE_BYTES = 4096, 2**26  # what stands for larger data where all would take too long
CHUNK_BYTES = 2**24  # of images that are looked at in order


class Images:
    """Pictures, uint8 (n, h, w, c): some or all rows of an array that may be a memory map.

    `images[rows]` copies those rows into memory, `images.whole()` all of them.
    """

    def __init__(self, array: Pixels, rows: NDArray[np.int64] | None = None) -> None:
        self._array = array
        self._rows = rows  # None: all, in order
        self._file = _file_of(array)

    def __len__(self) -> int:
        return len(self._array) if self._rows is None else len(self._rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, h, w, c)."""
        height, width, channels = self._array.shape[1:]
        return len(self), height, width, channels

    @property
    def nbytes(self) -> int:
        """Bytes in memory, were all of them there."""
        return math.prod(self.shape)

    @property
    def resident(self) -> bool:
        """Whether they are few enough to hold in memory: then call `whole`, else gather batch by batch."""
        return self.nbytes <= RESIDENT_BYTES

    def __getitem__(self, chosen: slice | NDArray[np.integer[Any]]) -> Pixels:
        """Copy the chosen ones, in the order chosen: the only memory this takes.

        Raises:
            VaeError: the file has become shorter, or cannot be read any more.
        """
        if self._rows is not None:
            chosen = self._rows[chosen]
        if self._file is None:
            return np.array(self._array[chosen], order="C")
        if isinstance(chosen, slice):
            chosen = np.arange(len(self._array))[chosen]
        return self._file.read(chosen).reshape(-1, *self.shape[1:])

    def whole(self) -> Pixels:
        """All of them in memory, contiguous; without a copy where they already are."""
        if self._rows is None and not isinstance(self._array, np.memmap):
            return np.ascontiguousarray(self._array)
        return self[:]

    def chunks(self, size: int = CHUNK_BYTES) -> Iterator[Pixels]:
        """All of them in order, about `size` bytes at a time."""
        rows = max(1, size * len(self) // max(1, self.nbytes))
        for start in range(0, len(self), rows):
            yield self[start : start + rows]


class _File:
    """The file behind a large map, read row by row.

    To touch a map would cost more than the copy: the system maps up to 2 MB around each row touched, so that
    in no time the whole file counts as this process's memory.
    """

    def __init__(self, path: Path, start: int, row: int) -> None:
        self._path, self._start, self._row = path, start, row  # the first row's place, bytes in a row
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise file_error(path, error) from error
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Those rows' bytes, one after the other."""
        descriptor, row = self._descriptor, self._row
        places = (rows.astype(np.int64) * row + self._start).tolist()
        try:
            if len(places) > 1 and places[-1] - places[0] == (len(places) - 1) * row and (np.diff(rows) == 1).all():
                content = bytearray(os.pread(descriptor, len(places) * row, places[0]))
            else:
                content = bytearray().join([os.pread(descriptor, row, place) for place in places])
        except OSError as error:
            raise file_error(self._path, error) from error
        if len(content) != len(places) * row:
            raise VaeError(f"{self._path}: has become shorter while it was read", "leave it alone while it is used")
        return np.frombuffer(content, np.uint8)


def _file_of(array: Pixels) -> _File | None:
    """The file that an array is a stretch of; None where that is no large map, or rows are not stored one by one."""
    if not isinstance(array, np.memmap) or not array.flags.c_contiguous or not hasattr(os, "pread"):
        return None
    root = array
    while isinstance(root.base, np.memmap):
        root = root.base
    if root.nbytes <= RESIDENT_BYTES or root.filename is None:
        return None
    # NumPy hands the whole map's file name and offset on to views of a part of it.
    start = root.offset + (array.ctypes.data - root.ctypes.data)
    return _File(Path(root.filename), start, array[:1].nbytes)


@dataclass(frozen=True)
class Dataset:
    """What a SPEC came to."""

    name: str
    train: Images
    held_out: Images
    hash: str  # of the content, training images first; see `content`
    value_range: tuple[int, int]  # smallest and largest value, 0 to 255
    notes: tuple[str, ...] = ()  # what a person should know, in sentences

    @property
    def image_shape(self) -> ImageShape:
        """(channels, height, width)."""
        _, height, width, channels = self.train.shape
        return channels, height, width


@dataclass(frozen=True)
class Content:
    """What can be said of images by looking at all of them, or at a fixed sample of many."""

    hash: str
    value_range: tuple[int, int]


class ContentCount:
    """Looks at images as they pass by."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._range = 255, 0
        self._images = 0

    def add(self, images: Pixels) -> None:
        """Take in a stretch of images (n, h, w, c)."""
        if not self._images:
            self._digest.update(repr(images.shape[1:]).encode())
        self._digest.update(np.ascontiguousarray(images).data)
        self._range = min(self._range[0], int(images.min())), max(self._range[1], int(images.max()))
        self._images += len(images)

    def result(self, kind: str = "sha256", total: int | None = None) -> Content:
        """What was seen, of `total` images where that is not all of them."""
        self._digest.update(str(total or self._images).encode())
        return Content(f"{kind}:{self._digest.hexdigest()}", self._range)


def content(*parts: Images) -> Content:
    """Hash and value range of images in their order: of every byte, up to RESIDENT_BYTES.

    Of more, the hash is of the number of images and of SAMPLE_IMAGES spread evenly over them, which opens any
    file at once and still tells data sets apart; it then begins with `sha256-sample:`.
    """
    count = ContentCount()
    if sum(part.nbytes for part in parts) <= RESIDENT_BYTES:
        for part in parts:
            for images in part.chunks():
                count.add(images)
        return count.result()
    for part in parts:
        rows = min(len(part), SAMPLE_IMAGES, max(1, SAMPLE_BYTES * len(part) // part.nbytes))
        count.add(part[np.linspace(0, len(part) - 1, rows).astype(np.int64)])
    return count.result("sha256-sample", sum(map(len, parts)))


def hold_out(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows to train on and the rows held out, of n images without test images of their own.

    Of every ten successive images one is held out, at a place that a fixed hash of the ten's number picks:
    the same in every run and for every seed, spread over a sorted folder, and in step with no pattern in it.
    """
    tens = np.arange(max(1, n // HELD_OUT), dtype=np.uint64)
    held_out = (tens * HELD_OUT + _mixed(tens) % min(n, HELD_OUT)).astype(np.int64)
    train = np.ones(n, dtype=bool)
    train[held_out] = False
    return np.flatnonzero(train), held_out


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom ...")."""
    mixed = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def split(name: str, parts: Sequence[Pixels], notes: tuple[str, ...] = (), known: Content | None = None) -> Dataset:
    """A data set from its training and its test images, which are held out; or from one heap of images.

    Of a heap a fixed tenth is held out, at least one. `known` is the content, where that was looked at.

    Raises:
        VaeError: there are fewer than two images.
    """
    if len(parts) == 2:
        train, held_out = (Images(part) for part in parts)
    else:
        (heap,) = parts
        if len(heap) < 2:
            raise VaeError(
                f"--data {name}: only one picture, and one must be held out",
                "give a folder or an array of more",
            )
        train, held_out = (Images(heap, rows) for rows in hold_out(len(heap)))
    found = known or content(*(Images(part) for part in parts))
    return Dataset(name, train, held_out, found.hash, found.value_range, notes)
