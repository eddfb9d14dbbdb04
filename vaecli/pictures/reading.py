"""The pictures that a user names: image files, folders, shards, arrays and stdin, decoded on all cores."""

from __future__ import annotations

import codecs
import io
import math
import os
import re
import sys
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias, TypeVar

import numpy as np

from vaecli import events, limits, processors
from vaecli.errors import UsageError, VaeError, file_error
from vaecli.events import OnEvent
from vaecli.files import real_path
from vaecli.model_format import ImageShape
from vaecli.pictures.arrays import NPY_MAGIC, ZIP_MAGIC, Pixels, is_array, read_array, size_of
from vaecli.pictures.decoding import FORMAT_NAMES, SUFFIXES, Picture, decode, fit, quiet_pillow
from vaecli.pictures.places import expand, is_address, natural_key, opened
from vaecli.pictures.shards import SUFFIXES as SHARDS
from vaecli.pictures.shards import Packed, find_shards, is_shard, read_shard
from vaecli.streams import STDIN
from vaecli.wording import how_many

CHUNK = 16  # pictures in a task of a thread: starting one costs more than decoding a tiny picture
ENDINGS = (*SUFFIXES, *SHARDS)  # of the files that are read below an address
# Of files that stand beside pictures and are none: they are left out without a word, as are those without an ending.
BESIDE = frozenset({"", ".txt", ".md", ".csv", ".json", ".jsonl", ".toml", ".xml", ".html", ".ini", ".db", ".py"})
LONGEST_NAME = 4096  # bytes of a path
TAR_MAGIC = slice(257, 262)  # where the file format is named
LARGE = 2**20  # bytes of a picture's file in a shard
LISTED = 3  # unreadable pictures that a message names
MUCH = 0.5  # a note says how much cropping loses, if it is more than this share of the area of the pictures
TOLERATED = 100  # one picture of this many in a folder may be unreadable

Source: TypeAlias = Path | bytes | VaeError  # where a picture is, its file, or why that cannot be read
Item = TypeVar("Item")
Result = TypeVar("Result")


class EmptyFolderError(VaeError):
    """A folder has no pictures."""


@dataclass(frozen=True)
class PictureInputs:
    """The pictures of all INPUTs, in a model's shape."""

    images: Pixels = field(repr=False)  # (n, h, w, c); a memory map where the INPUT is one .npy of that shape
    names: list[str] = field(repr=False)  # the path of each as given or found; `digits.npy[17]` for a row of an array
    fitted: int = 0  # pictures that were cropped, resized or converted
    notes: tuple[str, ...] = ()  # what was done to the pictures, in sentences for a person
    skipped: int = 0  # unreadable pictures that were left out
    sources: tuple[str, ...] = field(default=(), repr=False)  # the files that were read, which no output may replace


def listed_names(source: str) -> list[str]:
    """The names in the file `source`, or on stdin for `-`: one a line, or each ended by a NUL as by `find -print0`.

    Raises:
        VaeError: the file cannot be read, or there is no name in it.
        UsageError: `-` with nothing piped into it.
    """
    if source == STDIN and (sys.stdin is None or sys.stdin.isatty()):
        problem = f"`files_from` -: stdin is {'closed' if sys.stdin is None else 'a terminal'}"
        raise UsageError(problem, "pipe names into it: find pictures -name '*.png' | vae score --files-from -")
    try:
        content = _read(source).removeprefix(codecs.BOM_UTF8)  # of Windows' editor
    except OSError as error:
        raise file_error(source, error) from error
    lines = content.split(b"\0") if b"\0" in content else [line.removesuffix(b"\r") for line in content.split(b"\n")]
    names = [os.fsdecode(line) for line in lines if line]
    if not names:
        raise VaeError(f"`files_from` {source}: no name in it", "one picture, folder or array a line")
    return names


def find_pictures(folder: Path, left_out: list[str] | None = None) -> list[Path]:
    """Every picture file below `folder` in natural order (2 before 10), without hidden files and folders.

    The names of files that a person may take for pictures are added to `left_out`; see `left_out_note`.

    Raises VaeError where the folder or one below it cannot be read, or there is no picture.
    """

    def fail(error: OSError) -> None:
        raise error

    found: list[Path] = []
    others: list[str] = []
    seen: set[Path] = set()  # links may form a cycle
    try:
        for place, folders, names in os.walk(folder, followlinks=True, onerror=fail):
            real = real_path(Path(place))
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))  # of two links, the same is taken
            names = [name for name in names if not name.startswith(".")]
            pictures = [name for name in names if name.lower().endswith(SUFFIXES)]
            others += [name for name in {*names}.difference(pictures) if _ending(name) not in BESIDE]
            found += [path for path in (Path(place, name) for name in pictures) if path.is_file()]
    except OSError as error:
        raise file_error(error.filename, error) from error
    if not found:
        but = f", but {_files(others)}" if others else ""
        raise EmptyFolderError(
            f"{folder}: no picture in this folder{but}",
            f"put {FORMAT_NAMES} files into it, or name another; names must end in {', '.join(SUFFIXES)}",
        )
    if left_out is not None:
        left_out += others
    return sorted(found, key=lambda path: natural_key(str(path.relative_to(folder))))


def left_out_note(names: Sequence[str]) -> tuple[str, ...]:
    """A sentence on the files that `find_pictures` left out; none where there are none."""
    return (f"left out {_files(names)}",) if names else ()


def _files(names: Sequence[str]) -> str:
    endings = [ending for ending, _ in Counter(map(_ending, names)).most_common()]
    more = ", …" if len(endings) > LISTED else ""
    remedy = "; save HEIC as JPEG" if {".heic", ".heif"}.intersection(endings) else ""
    count = f"{len(names)} files with other endings" if len(names) > 1 else "a file with another ending"
    return f"{count} ({', '.join(endings[:LISTED])}{more}){remedy}"


def _ending(name: str) -> str:
    return Path(name).suffix.lower()


def pictures_or_shards(folder: Path, left_out: list[str] | None = None) -> list[Path] | list[str]:
    """The pictures below a folder as paths; where there are none, the shards in it as names.

    `left_out` is as in `find_pictures`. Raises VaeError where there is neither, or the folder cannot be read.
    """
    try:
        return find_pictures(folder, left_out)
    except EmptyFolderError:
        if shards := find_shards(folder):
            return shards
        raise


def on_all_cores(function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[list[Result], None, None]:
    """`map` on threads, in order, CHUNK results at a time. Memory stays flat.

    Threads, because Pillow releases the GIL while it decodes and resizes.
    """
    remaining = iter(items)
    chunks = iter(lambda: list(islice(remaining, CHUNK)), [])
    with quiet_pillow():
        yield from processors.ordered_map(lambda chunk: [function(item) for item in chunk], chunks, processors.usable())


class Entry(NamedTuple):
    """A picture of a folder or a shard."""

    name: str
    pixels: Pixels  # (h, w, c)
    label: str | None = None  # its class, where a shard has one for it


class Reader:
    """Decodes pictures and fits them to a size (h, w) and to channels, where None keeps a picture's own.

    It counts the pictures that were fitted (cropped, resized or converted), and those skipped as unreadable.
    """

    def __init__(self, size: tuple[int, int] | None, channels: int | None) -> None:
        self._size, self._channels = size, channels
        self.fitted = 0
        self.skipped = 0
        self._flattened = 0
        self._lost = 0.0  # of the fitted pictures, the shares of their area that cropping lost
        self._tall = 0.0  # the logarithms of their heights as shares of their widths
        self._skips: list[str] = []  # a sentence for each folder with unreadable pictures

    def folder(self, folder: Path, files: Sequence[Path], on_event: OnEvent = events.ignore) -> Iterator[list[Entry]]:
        """The readable ones of the picture `files` in a folder, in order, in chunks.

        Raises VaeError after the last chunk where more than one in TOLERATED cannot be read.
        """
        chunks = on_all_cores(self.attempt, ((str(file), file) for file in files))
        counted = events.counted(chunks, on_event, f"reading {folder.name or folder}", len(files), "pictures")
        return self._readable(str(folder), counted)

    def shard(self, shard: str, packed: Iterable[Packed]) -> Iterator[list[Entry]]:
        """The readable ones of the pictures in a shard, as those of a folder. Raises the same."""
        labels: deque[str | None] = deque()  # of the pictures that are under way: their names may be alike

        def items() -> Iterator[tuple[str, bytes]]:
            for picture in packed:
                labels.append(picture.label)
                yield picture.name, picture.content

        return self._readable(shard, on_all_cores(self.attempt, self._ready(items())), labels)

    def attempts(self, items: Iterable[tuple[str, Source]]) -> Iterator[list[tuple[str, Pixels | VaeError]]]:
        """Names with the pictures in their files (h, w, c), in order, in chunks; where one cannot be read, with why."""
        for chunk in on_all_cores(self.attempt, self._ready(items)):
            yield [(name, self._count(found) if isinstance(found, Picture) else found) for name, found in chunk]

    def _ready(self, items: Iterable[tuple[str, Source]]) -> Iterator[tuple[str, Source | Picture]]:
        """The same, but with large pictures decoded: of what is packed, many wait for a thread."""
        for name, source in items:
            large = isinstance(source, bytes) and len(source) > LARGE
            yield self.attempt((name, source)) if large else (name, source)

    def _readable(
        self,
        place: str,
        chunks: Iterable[list[tuple[str, Picture | VaeError]]],
        labels: deque[str | None] | None = None,
    ) -> Iterator[list[Entry]]:
        first: list[VaeError] = []  # of the unreadable ones
        count = unreadable = 0
        for chunk in chunks:
            count += len(chunk)
            entries: list[Entry] = []
            for name, result in chunk:
                label = labels.popleft() if labels else None
                if isinstance(result, Picture):
                    entries.append(Entry(name, self._count(result), label))
                else:
                    unreadable += 1
                    first += [result][: LISTED - len(first)]
            if entries:
                yield entries
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
            raise VaeError(f"{place}: {share} cannot be read: {listed}", remedy)
        self.skipped += unreadable
        self._skips.append(f"{events.SKIPPED} {share} that cannot be read: {listed}")

    def picture(self, source: Path | BinaryIO, name: str) -> Pixels:
        """One picture (h, w, c). Raises VaeError, see `decode`."""
        with quiet_pillow():
            return self._count(self._decode(source, name))

    def notes(self, goal: str = "") -> tuple[str, ...]:
        """What was done to the pictures, in sentences for a person. `goal` is what they were fitted to."""
        notes = self._skips.copy()
        if self._flattened:
            notes.append(f"transparency was laid onto white in {how_many(self._flattened, 'picture')}")
        if self.fitted:
            notes.append(f"cropped, resized or converted {how_many(self.fitted, 'picture')}{goal}{self._loss(goal)}")
        return tuple(notes)

    def _loss(self, goal: str) -> str:
        """What cropping lost, where it is much; where there is no `goal`, with the size that would lose less."""
        if not self._lost > MUCH * self.fitted or self._size is None:
            return ""
        said = f": {self._lost / self.fitted:.0%} of their area is lost"
        height, width = self._size
        tall = math.exp(self._tall / self.fitted)
        high, wide = (max(1, round(math.sqrt(height * width * share))) for share in (tall, 1 / tall))
        if goal or _lost((high, wide), self._size) < MUCH:  # pictures of many shapes have none in common
            return said
        return f"{said}; `image_size` {high}x{wide} has their shape"

    def attempt(self, item: tuple[str, Source | Picture]) -> tuple[str, Picture | VaeError]:
        """A name with the decoded and fitted picture in its file, or with why that fails. Threads may call it."""
        name, source = item
        if isinstance(source, Picture | VaeError):
            return name, source
        try:
            return name, self._decode(io.BytesIO(source) if isinstance(source, bytes) else source, name)
        except VaeError as error:
            return name, error

    def _decode(self, source: Path | BinaryIO, name: str) -> Picture:
        picture = decode(source, name, self._size)
        height, width, channels = picture.pixels.shape
        pixels = fit(picture.pixels, (self._channels or channels, *(self._size or (height, width))))
        return Picture(pixels, picture.flattened, pixels is not picture.pixels, (height, width))

    def _count(self, picture: Picture) -> Pixels:
        self._flattened += picture.flattened
        self.fitted += picture.fitted
        if picture.fitted and picture.size is not None:
            self._lost += _lost(picture.size, picture.pixels.shape[:2])
            self._tall += math.log(picture.size[0] / picture.size[1])
        return picture.pixels


def _lost(before: tuple[int, int], after: tuple[int, int]) -> float:
    """The share of a picture's area that is lost where (h, w) is cropped to the shape of another."""
    ratio = before[0] * after[1] / (before[1] * after[0])
    return 1 - min(ratio, 1 / ratio)


def _no_names(_: str) -> None:
    """No name stands for pictures."""


def read_inputs(
    inputs: Sequence[str],
    image_shape: ImageShape,
    *,
    invert: bool = False,
    listed: Sequence[str] = (),
    named: Callable[[str], PictureInputs | None] = _no_names,
    on_event: OnEvent = events.ignore,
) -> PictureInputs:
    """Read a command's INPUTs, fitted to `image_shape` (c, h, w), in the order given.

    An INPUT is an image file, a folder (with its subfolders, natural order), a .npy or .npz, a shard (see `shards`), a
    folder of them, a pattern or address of any of these files (see `places`), or `-`: a picture or an array on stdin,
    recognised by its first bytes. Where there is no such file, it is what `named` has under this name, in
    `image_shape`. `listed` are more of them, from a list: of its pictures some may be unreadable, as of a folder's or
    a shard's. `invert` turns every picture into its negative.

    Raises:
        VaeError: an INPUT is missing, empty, unreadable or no picture; of a folder, more than one in TOLERATED.
        UsageError: no INPUT, `-` twice, or `-` with nothing piped into it.
    """
    if not inputs and not listed:
        raise UsageError("no INPUT", "name image files, folders, .npy or .npz files, a data set, or - for stdin")
    if [*inputs, *listed].count(STDIN) > 1:
        raise UsageError("- is given more than once", "stdin can be read only once")
    channels, height, width = image_shape
    reader = Reader((height, width), channels)
    images: list[Pixels] = []  # of each INPUT, (n, h, w, c)
    names: list[str] = []
    notes: list[str] = []  # of what `named` has, and of files that are left out
    sources: list[str] = []

    def add(chunks: Iterable[list[Entry]]) -> None:
        found = [entry for chunk in chunks for entry in chunk]
        if found:
            names.extend(entry.name for entry in found)
            images.append(np.stack([entry.pixels for entry in found]))

    def read(text: str) -> None:
        sources.append(text)
        folder = Path(text)
        if is_shard(text) and not folder.is_dir():
            before = len(names)
            add(reader.shard(text, read_shard(text)))
            if len(names) == before:
                raise VaeError(f"{text}: no picture in this shard", f"pack {FORMAT_NAMES} files into it")
            return
        if text != STDIN and folder.is_dir():
            others: list[str] = []
            found = pictures_or_shards(folder, others)
            notes.extend(left_out_note(others))
            if isinstance(found[0], str):
                for shard in found:
                    read(str(shard))
            else:
                files = [Path(file) for file in found]
                sources.extend(map(str, files))
                add(reader.folder(folder, files, on_event))
            return
        if text != STDIN and not is_address(text) and not folder.exists() and (known := named(text)) is not None:
            names.extend(known.names)
            notes.extend(known.notes)
            images.append(known.images)
            return
        source, holds_array = _open(text)
        if not holds_array:
            names.append(text)
            images.append(reader.picture(source, text)[np.newaxis])
            return
        array = read_array(source, text)
        fits = array.shape[1:] == (height, width, channels)
        if not fits:
            limits.check_unpacked(len(array) * math.prod(image_shape), size_of(source), text)
        names.extend(f"{text}[{row}]" for row in range(len(array)))
        if not fits:
            array = np.stack([fit(row, image_shape) for row in array])
            reader.fitted += len(array)
        images.append(array)

    for text in inputs:
        for place in [text] if text == STDIN else expand(text, ENDINGS):
            read(place)
    for are_pictures, run in groupby(map(Path, listed), key=is_picture_name):
        if are_pictures:
            files = list(run)
            sources.extend(map(str, files))
            add(reader.folder(Path("the list"), files))
        else:
            for path in run:
                read(str(path))
    pixels = images[0] if len(images) == 1 else np.concatenate(images)
    notes += reader.notes(f" to the model's {height}x{width} {'grey' if channels == 1 else 'colour'}")
    if invert:
        pixels = 255 - pixels
    return PictureInputs(pixels, names, reader.fitted, tuple(notes), reader.skipped, tuple(sources))


def is_picture_name(path: Path) -> bool:
    """Whether a name in a list is that of a picture file."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def _begins_with_a_path(content: bytes) -> bool:
    """Whether it looks like the output of find."""
    first = re.split(rb"[\0\n]", content[:LONGEST_NAME], maxsplit=1)[0]
    return bool(first) and os.path.exists(first)  # noqa: PTH110 - of bytes, which Path refuses


def _read(source: str) -> bytes:
    """A file or pipe, or stdin. Raises OSError and VaeError."""
    if source == STDIN:
        return limits.read_stream(sys.stdin.buffer, source)
    return limits.read_file_or_pipe(Path(source))


def _open(text: str) -> tuple[Path | BinaryIO, bool]:
    """The file, or what is piped into stdin or a named pipe, as <(vae sample -o -) is; and whether it is an array."""
    path = Path(text)
    if is_address(text):
        with opened(text) as stream:
            content = stream.read()
        return io.BytesIO(content), content.startswith((NPY_MAGIC, ZIP_MAGIC))
    if text != STDIN and (path.is_file() or not path.exists()):
        return path, is_array(path)
    if text == STDIN and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError("- reads stdin, and nothing is piped into it", "as in: vae sample -o - | vae reconstruct -")
    try:
        content = _read(text)
    except OSError as error:
        raise file_error(text, error) from error
    if not content:
        came = "stdin is empty" if text == STDIN else "the pipe is empty"
        raise VaeError(f"{text}: {came}", "pipe a picture or a .npy into it")
    if content[TAR_MAGIC] == b"ustar":
        raise VaeError(f"{text}: a .tar cannot be read from a pipe", "write it to a file, and name that")
    if _begins_with_a_path(content):
        raise VaeError(f"{text}: a list of names, no picture", "`files_from` reads such a list: `files_from` -")
    return io.BytesIO(content), content.startswith((NPY_MAGIC, ZIP_MAGIC))
