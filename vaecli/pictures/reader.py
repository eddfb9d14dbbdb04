"""The reader of pictures: decodes many on all cores, fits them to a shape, and counts what was done to them."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias, TypeVar

from vaecli import events, parallel, processors
from vaecli.errors import VaeError
from vaecli.events import Changes, Note, OnEvent
from vaecli.pictures import places
from vaecli.pictures.arrays import Pixels
from vaecli.pictures.decoding import Picture, decode, fit, quiet_pillow
from vaecli.pictures.shards import Packed
from vaecli.wording import how_many

CHUNK = 16  # pictures in a task of a thread: starting one costs more than decoding a tiny picture
LARGE = 2**20  # bytes of a picture's file in a shard
LISTED = 3  # unreadable pictures that a message names
MUCH = 0.5  # a note says how much cropping loses, if it is more than this share of the area of the pictures
TOLERATED = 100  # one picture of this many in a folder may be unreadable

Source: TypeAlias = Path | bytes | VaeError  # where a picture is, its file, or why that cannot be read
Named: TypeAlias = tuple[str, Source, str | None]  # the name of a picture, the picture, and its class
Item = TypeVar("Item")
Result = TypeVar("Result")


def on_all_cores(function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[list[Result], None, None]:
    """`map` on threads, in order, CHUNK results at a time. Memory stays flat.

    Threads, because Pillow releases the GIL while it decodes and resizes.
    """
    remaining = iter(items)
    chunks = iter(lambda: list(islice(remaining, CHUNK)), [])
    with quiet_pillow():
        yield from parallel.ordered_map(lambda chunk: [function(item) for item in chunk], chunks, processors.usable())


def source_of(name: str) -> Path | bytes | VaeError:
    """Where a picture is; at an address its bytes, or why they cannot be read."""
    if not places.is_address(name):
        return Path(name)
    try:
        with places.opened(name) as stream:
            return stream.read()
    except VaeError as error:
        return error


class Entry(NamedTuple):
    """A picture of a folder or a shard."""

    name: str
    pixels: Pixels  # (h, w, c)
    label: str | None = None  # its class, where a shard has one for it


class Reader:
    """Decodes pictures and fits them to a size (h, w) and to channels, where None keeps a picture's own.

    It counts the pictures that were changed, and those skipped as unreadable.
    """

    def __init__(self, size: tuple[int, int] | None, channels: int | None, instead: str = "") -> None:
        """`instead` ends the hint of the error at too many unreadable pictures: what else can be done."""
        self._size, self._channels, self._instead = size, channels, instead
        self.done = Changes()
        self.skipped_names: list[str] = []
        self._lost = 0.0  # of the fitted pictures, the sum of the shares of their area that cropping lost
        self._tall = 0.0  # the sum of their log(height / width)
        self._skips: list[Note] = []  # one for each folder with unreadable pictures

    def folder(
        self, folder: Path, files: Sequence[str] | Sequence[Path], on_event: OnEvent = events.ignore
    ) -> Iterator[list[Entry]]:
        """The readable ones of the picture `files` in a folder or a list, in order, in chunks.

        Raises VaeError after the last chunk where more than one in TOLERATED cannot be read.
        """
        items = ((name, source_of(name), None) for name in map(str, files))
        chunks = on_all_cores(self.attempt, self._ready(items))
        counted = events.counted(chunks, on_event, f"reading {folder.name or folder}", len(files), "pictures")
        return self._readable(str(folder), counted)

    def shard(self, shard: str, packed: Iterable[Packed]) -> Iterator[list[Entry]]:
        """The readable ones of the pictures in a shard, as those of a folder. Raises the same."""
        return self._readable(shard, on_all_cores(self.attempt, self._ready(packed)))

    def attempts(self, sources: Iterable[Named]) -> Iterator[list[tuple[str, Pixels | VaeError, str | None]]]:
        """Names with the pictures in their files (h, w, c) and their classes, in order, in chunks.

        Where one cannot be read, with why.
        """
        for chunk in on_all_cores(self.attempt, self._ready(sources)):
            yield [
                (name, self._count(found) if isinstance(found, Picture) else found, label)
                for name, found, label in chunk
            ]

    def _ready(self, items: Iterable[Named]) -> Iterator[tuple[str, Source | Picture, str | None]]:
        """The same, but with large pictures decoded: of what is packed, many wait for a thread."""
        for name, source, label in items:
            large = isinstance(source, bytes) and len(source) > LARGE
            yield self.attempt((name, source, label)) if large else (name, source, label)

    def _readable(
        self, place: str, chunks: Iterable[list[tuple[str, Picture | VaeError, str | None]]]
    ) -> Iterator[list[Entry]]:
        first: list[VaeError] = []  # of the unreadable ones
        names: list[str] = []  # of all unreadable ones
        count = 0
        for chunk in chunks:
            count += len(chunk)
            entries: list[Entry] = []
            for name, result, label in chunk:
                if isinstance(result, Picture):
                    entries.append(Entry(name, self._count(result), label))
                else:
                    names.append(name)
                    if len(first) < LISTED:
                        first.append(result)
            if entries:
                yield entries
        unreadable = len(names)
        if not unreadable:
            return
        more = f"; and {unreadable - LISTED} more" if unreadable > LISTED else ""
        listed = "; ".join(error.message for error in first) + more
        share = f"{unreadable} of {how_many(count, 'picture')}"
        if unreadable == count:
            none = "its only picture cannot" if count == 1 else f"none of its {count} pictures can"
            raise VaeError(f"{place}: {none} be read: {listed}", first[0].hint)
        if unreadable * TOLERATED > count:
            remedy = f"remove or replace them; up to one in {TOLERATED} would be skipped"
            raise VaeError(f"{place}: {share} cannot be read: {listed}", remedy + self._instead)
        self.skipped_names += names
        self._skips.append(Note(f"skipped {share} that cannot be read: {listed}", warning=True))

    @property
    def skipped(self) -> int:
        """How many unreadable pictures were left out."""
        return len(self.skipped_names)

    def picture(self, source: Path | BinaryIO, name: str) -> Pixels:
        """One picture (h, w, c). Raises VaeError, see `decode`."""
        with quiet_pillow():
            return self._count(self._decode(source, name))

    def notes(self, goal: str = "") -> tuple[Note, ...]:
        """What was done to the pictures. `goal` is what they were fitted to."""
        return (*self._skips, *self.done.notes(goal + self._loss(goal)))

    def _loss(self, goal: str) -> str:
        """What cropping lost, where it is much; where there is no `goal`, with the size that would lose less."""
        if not self._lost > MUCH * self.done.fitted or self._size is None:
            return ""
        said = f": {self._lost / self.done.fitted:.0%} of their area is lost"
        height, width = self._size
        tall = math.exp(self._tall / self.done.fitted)
        high, wide = (max(1, round(math.sqrt(height * width * share))) for share in (tall, 1 / tall))
        if goal or _lost((high, wide), self._size) < MUCH:  # pictures of many shapes have none in common
            return said
        return f"{said}; `image_size` {high}x{wide} has their shape"

    def attempt(self, item: tuple[str, Source | Picture, str | None]) -> tuple[str, Picture | VaeError, str | None]:
        """The same with the decoded and fitted picture in the file, or with why that fails. Threads may call it."""
        name, source, label = item
        if isinstance(source, Picture | VaeError):
            return name, source, label
        try:
            return name, self._decode(io.BytesIO(source) if isinstance(source, bytes) else source, name), label
        except VaeError as error:
            return name, error, label

    def _decode(self, source: Path | BinaryIO, name: str) -> Picture:
        picture = decode(source, name, self._size)
        height, width, channels = picture.pixels.shape
        pixels = fit(picture.pixels, (self._channels or channels, *(self._size or (height, width))), picture.area)
        return replace(picture, pixels=pixels, fitted=pixels is not picture.pixels, size=(height, width))

    def _count(self, picture: Picture) -> Pixels:
        self.done.fitted += picture.fitted
        self.done.flattened += picture.flattened
        self.done.deep += picture.deep
        self.done.first += picture.first
        if picture.fitted and picture.size is not None:
            self._lost += _lost(picture.size, picture.pixels.shape[:2])
            self._tall += math.log(picture.size[0] / picture.size[1])
        return picture.pixels


def _lost(before: tuple[int, int], after: tuple[int, int]) -> float:
    """The share of a picture's area that is lost where (h, w) is cropped to the shape of another."""
    ratio = before[0] * after[1] / (before[1] * after[0])
    return 1 - min(ratio, 1 / ratio)
