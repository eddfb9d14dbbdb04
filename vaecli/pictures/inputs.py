"""The INPUTs of a command: pictures from files, folders, shards, arrays, stdin and lists of names, in one shape."""

from __future__ import annotations

import codecs
import io
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import numpy as np

from vaecli import events, limits
from vaecli.errors import UsageError, VaeError, file_error
from vaecli.events import Note, OnEvent
from vaecli.model_format import ImageShape
from vaecli.pictures.arrays import (
    NPY_MAGIC,
    ZIP_MAGIC,
    Pixels,
    ReadLabels,
    array_notes,
    is_array,
    read_array,
    read_labels,
    size_of,
)
from vaecli.pictures.decoding import FORMAT_NAMES, fit
from vaecli.pictures.folders import ENDINGS, is_picture_name, left_out_note, pictures_or_shards
from vaecli.pictures.places import expand, is_address, opened, row_name
from vaecli.pictures.reader import Entry, Reader
from vaecli.pictures.shards import is_shard, read_shard
from vaecli.streams import STDIN

LONGEST_NAME = 4096  # bytes of a path
ALL_ROWS = "; encode, score and reconstruct with `output` NAME.parquet/ write a row with the error for each"
NO_INPUT_HINT = (
    "name image files, folders, .npy or .npz files, shards or a data set, - for stdin, or `split` held-out for "
    "pictures of the training's data"
)
TAR_MAGIC = slice(257, 262)  # where the file format is named


Kind: TypeAlias = Literal["shard", "folder", "array", "picture", "missing"]


def kind_of(place: str) -> Kind:
    """What an INPUT is, by its name and by what is there. What a pipe holds, its first bytes tell."""
    path = Path(place)
    if is_shard(place) and not path.is_dir():
        return "shard"
    if place != STDIN and not is_address(place):
        if path.is_dir():
            return "folder"
        if not path.exists():
            return "missing"
    return "array" if is_array(place) else "picture"


@dataclass(frozen=True)
class PictureInputs:
    """The pictures of all INPUTs, in a model's shape."""

    images: Pixels = field(repr=False)  # (n, h, w, c); a memory map where the INPUT is one .npy of that shape
    names: list[str] = field(repr=False)  # the path of each as given or found; `digits.npy[17]` for a row of an array
    fitted: int | None = 0  # pictures that were cropped, resized or converted; None: not known, of prepared ones
    notes: tuple[Note, ...] = ()  # what was done to the pictures
    skipped: int | None = 0  # unreadable pictures that were left out; None as above
    sources: tuple[str, ...] = field(default=(), repr=False)  # the files that were read, which no output may replace
    labels: tuple[str | None, ...] = field(default=(), repr=False)  # the class of each; None where it is not known
    skipped_names: tuple[str, ...] = field(default=(), repr=False)  # of the unreadable pictures


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
        VaeError: an INPUT is missing, empty, unreadable or no picture; of a folder, more than one in a hundred.
        UsageError: no INPUT, `-` twice, or `-` with nothing piped into it.
    """
    if not inputs and not listed:
        raise UsageError("no INPUT", NO_INPUT_HINT)
    if [*inputs, *listed].count(STDIN) > 1:
        raise UsageError("- is given more than once", "stdin can be read only once")
    gathered = _Gathered(image_shape, named, on_event)
    for text in inputs:
        for place in [text] if text == STDIN else expand(text, ENDINGS):
            gathered.add(place)
    gathered.add_listed(listed)
    return gathered.pictures(invert=invert)


class _Gathered:
    """What the INPUTs of a command hold, gathered one INPUT after the other. Its methods raise as `read_inputs`."""

    def __init__(
        self, image_shape: ImageShape, named: Callable[[str], PictureInputs | None], on_event: OnEvent
    ) -> None:
        channels, height, width = image_shape
        self._image_shape, self._named, self._on_event = image_shape, named, on_event
        self._reader = Reader((height, width), channels, ALL_ROWS)
        self._images: list[Pixels] = []  # of each INPUT, (n, h, w, c)
        self._names: list[str] = []
        self._labels: list[str | None] = []  # that shards, arrays and `named` have
        self._notes: list[Note] = []  # of what `named` has, and of files that are left out
        self._sources: list[str] = []

    def add(self, text: str) -> None:
        """Add the pictures of one INPUT that is no pattern."""
        self._sources.append(text)
        kind = kind_of(text)
        if kind == "shard":
            self._add_shard(text)
        elif kind == "folder":
            self._add_folder(Path(text))
        elif kind == "missing" and (known := self._named(text)) is not None:
            self._add_known(known)
        else:
            self._add_file(text)

    def add_listed(self, names: Sequence[str]) -> None:
        """Add the INPUTs in a list. Of neighbours that are pictures some may be unreadable."""
        for are_pictures, run in groupby(names, key=is_picture_name):
            if are_pictures:
                self._add_files(Path("the list `files_from`"), list(run))
            else:
                for name in run:
                    self.add(name)

    def pictures(self, *, invert: bool) -> PictureInputs:
        """All that was added."""
        channels, height, width = self._image_shape
        pixels = self._images[0] if len(self._images) == 1 else np.concatenate(self._images)
        goal = f" to the model's {height}x{width} {'grey' if channels == 1 else 'colour'}"
        notes = (*self._notes, *self._reader.notes(goal))
        if invert:
            pixels = 255 - pixels
        reader = self._reader
        return PictureInputs(
            pixels,
            self._names,
            fitted=reader.done.fitted,
            notes=notes,
            skipped=reader.skipped,
            sources=tuple(self._sources),
            labels=tuple(self._labels),
            skipped_names=tuple(reader.skipped_names),
        )

    def _add_shard(self, place: str) -> None:
        before = len(self._names)
        self._add_entries(self._reader.shard(place, read_shard(place)))
        if len(self._names) == before:
            raise VaeError(f"{place}: no picture in this shard", f"pack {FORMAT_NAMES} files into it")

    def _add_folder(self, folder: Path) -> None:
        left_out: list[str] = []
        found = pictures_or_shards(folder, left_out)
        self._notes += left_out_note(left_out)
        if isinstance(found[0], str):
            for shard in found:
                self.add(str(shard))
        else:
            self._add_files(folder, list(map(str, found)), self._on_event)

    def _add_files(self, folder: Path, files: Sequence[str], on_event: OnEvent = events.ignore) -> None:
        """Add picture files, of which some may be unreadable. Messages call them by the name of `folder`."""
        self._sources += files
        self._add_entries(self._reader.folder(folder, files, on_event))

    def _add_entries(self, chunks: Iterable[list[Entry]]) -> None:
        found = [entry for chunk in chunks for entry in chunk]
        if found:
            self._names += (entry.name for entry in found)
            self._labels += (entry.label for entry in found)
            self._images.append(np.stack([entry.pixels for entry in found]))

    def _add_known(self, known: PictureInputs) -> None:
        self._names += known.names
        self._labels += known.labels
        self._notes += known.notes
        self._images.append(known.images)

    def _add_file(self, text: str) -> None:
        """Add a picture or an array: in a file, on stdin or in a named pipe."""
        source, holds_array = _open(text)
        if holds_array:
            self._add_array(source, text)
        else:
            self._names.append(text)
            self._labels.append(None)
            self._images.append(self._reader.picture(source, text)[np.newaxis])

    def _add_array(self, source: Path | BinaryIO, name: str) -> None:
        array = read_array(source, name)
        self._names += (row_name(name, row) for row in range(len(array)))
        found = read_labels(source, len(array)) if isinstance(source, Path) else ReadLabels(None)
        self._labels += [None] * len(array) if found.values is None else map(str, found.values.tolist())
        if isinstance(source, Path):
            self._notes += array_notes(source, name, len(array))
        channels, height, width = self._image_shape
        if array.shape[1:] != (height, width, channels):
            limits.check_unpacked(len(array) * math.prod(self._image_shape), size_of(source), name)
            array = np.stack([fit(row, self._image_shape) for row in array])
            self._reader.done.fitted += len(array)
        self._images.append(array)


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
        return path, is_array(text)
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
