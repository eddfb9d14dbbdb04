"""The pictures a command is given: image files, folders, arrays and stdin, read on all cores."""

from __future__ import annotations

import io
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from vaecli import processors
from vaecli.errors import UsageError, VaeError, file_error
from vaecli.pictures.arrays import NPY_MAGIC, ZIP_MAGIC, Pixels, is_array, read_array
from vaecli.pictures.decoding import (
    FORMAT_NAMES,
    ImageShape,
    Picture,
    decode,
    is_picture,
    quiet_pillow,
)

HANDFUL = 16  # pictures that a thread decodes before it looks for more
TOLERATED = 100  # of so many pictures in a folder one may be unreadable


@dataclass(frozen=True)
class Inputs:
    """What a command was given to look at, in a model's shape."""

    images: Pixels  # (n, h, w, c); a memory map where one .npy fitted as it was
    names: list[str]  # the path of each as it was given or found; `digits.npy[17]` for a row of an array
    fitted: int  # how many had to be cropped, resized or converted
    notes: tuple[str, ...]  # what was done to the pictures, in sentences for a person


@dataclass(frozen=True)
class FoundFile:
    """A picture file in a folder, with what tells whether it changed."""

    path: Path
    size: int  # bytes
    modified: int  # nanoseconds since 1970


def find_pictures(folder: Path) -> list[FoundFile]:
    """Every picture file below `folder` in natural order (2 before 10), but for what is hidden.

    Raises:
        VaeError: the folder or one in it cannot be read, or there is no picture in it.
    """
    found: list[FoundFile] = []
    waiting = [os.fspath(folder)]
    seen: set[tuple[int, int]] = set()  # links may lead in circles
    while waiting:
        place = waiting.pop()
        try:
            status = os.stat(place)  # noqa: PTH116 - strings all along, for folders of a million files
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        waiting.append(entry.path)
                    elif is_picture(entry.name) and entry.is_file():
                        status = entry.stat()
                        found.append(FoundFile(Path(entry.path), status.st_size, status.st_mtime_ns))
        except OSError as error:
            raise file_error(error.filename or place, error) from error
    if not found:
        raise VaeError(f"{folder}: no picture in this folder", f"put {FORMAT_NAMES} files into it, or name another")
    return sorted(found, key=lambda file: natural_key(str(file.path.relative_to(folder))))


def natural_key(text: str) -> tuple[list[tuple[int, str]], str]:
    """Sorts names as people do: 2 before 10, and capitals beside small letters."""
    parts = re.split(r"(\d+)", text.casefold())
    # Numbers compare by length, then by digits: as many digits as there may be, without a conversion.
    return [(len(part.lstrip("0")) if part.isdigit() else -1, part.lstrip("0") or part) for part in parts], text


Item = TypeVar("Item")
Result = TypeVar("Result")


def on_all_cores(function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
    """`map`, in order, on threads: Pillow lets go of the interpreter while it decodes and resizes.

    A task is a handful of items, because handing over a single tiny picture costs more than decoding it.
    Only a few tasks wait at a time, so memory stays flat however many items there are.
    """
    remaining = iter(items)
    tasks = iter(lambda: list(islice(remaining, HANDFUL)), [])
    count = processors.usable()
    with ThreadPoolExecutor(count) as pool, quiet_pillow():

        def submit(handful: list[Item]) -> Future[list[Result]]:
            return pool.submit(lambda: [function(item) for item in handful])

        waiting = deque(map(submit, islice(tasks, 2 * count)))
        try:
            while waiting:
                results = waiting.popleft().result()
                waiting.extend(map(submit, islice(tasks, 1)))
                yield from results
        finally:
            for future in waiting:
                future.cancel()


def check_unreadable(unreadable: Sequence[VaeError], total: int, folder: Path) -> str:
    """Say in a sentence which of a folder's pictures were skipped; one in TOLERATED may be.

    Raises:
        VaeError: more than that are unreadable, or all.
    """
    messages = [error.message for error in unreadable]
    listed = "; ".join(messages[:3]) + (f"; and {len(messages) - 3} more" if len(messages) > 3 else "")
    if len(unreadable) == total:
        raise VaeError(f"{folder}: none of its {total} pictures can be read: {listed}", unreadable[0].hint)
    if len(unreadable) * TOLERATED > total:
        raise VaeError(
            f"{folder}: {len(unreadable)} of {total} pictures cannot be read: {listed}",
            f"remove or replace them; up to one in {TOLERATED} would be skipped",
        )
    return f"skipped {len(unreadable)} of {total} pictures that cannot be read: {listed}"


def read_inputs(inputs: Sequence[str], image_shape: ImageShape, *, invert: bool = False) -> Inputs:
    """Read a command's INPUTs, fitted to `image_shape` (c, h, w), in the order given.

    An INPUT is an image file, a folder (searched through, natural order), a .npy or .npz, or `-`: a picture
    or an array on stdin, told apart by its first bytes. `invert` turns every picture into its negative.

    Raises:
        VaeError: an input is missing, empty, unreadable or no picture; in a folder one in TOLERATED may be.
        UsageError: no input, `-` twice, or `-` with nothing piped into it.
    """
    if not inputs:
        raise UsageError("no INPUT", "name image files, folders, .npy or .npz files, or - for stdin")
    if list(inputs).count("-") > 1:
        raise UsageError("- is there more than once", "stdin can be read only once")
    reader = _InputReader(image_shape)
    for text in inputs:
        reader.read(text)
    images = reader.images[0] if len(reader.images) == 1 else np.concatenate(reader.images)
    return Inputs(255 - images if invert else images, reader.names, reader.fitted, reader.notes())


class _InputReader:
    """Gathers the images of one INPUT after the other."""

    def __init__(self, image_shape: ImageShape) -> None:
        self._shape = image_shape
        self._size = image_shape[1:]
        self.images: list[Pixels] = []  # each (n, h, w, c)
        self.names: list[str] = []
        self.fitted = 0
        self._flattened = 0
        self._skipped: list[str] = []

    def read(self, text: str) -> None:
        """Read one INPUT, whatever it is."""
        path = Path(text)
        if text == "-":
            self._add_bytes(_stdin(), text)
        elif path.is_dir():
            self._add_folder(path)
        elif is_array(path):
            self._add_array(read_array(path, text), text)
        elif path.exists() and not path.is_file():  # a pipe, as in <(vae sample -o -)
            try:
                self._add_bytes(path.read_bytes(), text)
            except OSError as error:
                raise file_error(path, error) from error
        else:
            self._add_picture(path, text)

    def _add_bytes(self, content: bytes, name: str) -> None:
        if not content:
            raise VaeError(f"{name}: nothing came", "pipe a picture or a .npy into it")
        if content.startswith((NPY_MAGIC, ZIP_MAGIC)):
            self._add_array(read_array(io.BytesIO(content), name), name)
        else:
            self._add_picture(io.BytesIO(content), name)

    def _add_picture(self, source: Path | BinaryIO, name: str) -> None:
        with quiet_pillow():
            self._add([decode(source, name, self._size).fit(self._shape)], [name])

    def _add_folder(self, folder: Path) -> None:
        files = find_pictures(folder)
        results = list(zip(files, on_all_cores(self._try, files), strict=True))
        unreadable = [result for _, result in results if isinstance(result, VaeError)]
        if unreadable:
            self._skipped.append(check_unreadable(unreadable, len(files), folder))
        good = [(result, str(file.path)) for file, result in results if isinstance(result, Picture)]
        self._add([picture for picture, _ in good], [name for _, name in good])

    def _try(self, file: FoundFile) -> Picture | VaeError:
        try:
            return decode(file.path, str(file.path), self._size).fit(self._shape)
        except VaeError as error:
            return error

    def _add_array(self, array: Pixels, name: str) -> None:
        names = [f"{name}[{row}]" for row in range(len(array))]
        channels, height, width = self._shape
        if array.shape[1:] == (height, width, channels):
            self.images.append(array)
            self.names += names
        else:
            self._add([Picture(row).fit(self._shape) for row in array], names)

    def _add(self, pictures: Sequence[Picture], names: Sequence[str]) -> None:
        self.images.append(np.stack([picture.pixels for picture in pictures]))
        self.names += names
        self.fitted += sum(picture.fitted for picture in pictures)
        self._flattened += sum(picture.flattened for picture in pictures)

    def notes(self) -> tuple[str, ...]:
        """What a person should know about how these inputs were read."""
        channels, height, width = self._shape
        notes = list(self._skipped)
        if self._flattened:
            notes.append(f"transparency was laid onto white in {count_pictures(self._flattened)}")
        if self.fitted:
            colour = "grey" if channels == 1 else "colour"
            notes.append(
                f"cropped, resized or converted {count_pictures(self.fitted)} to the model's "
                f"{height}x{width} {colour}"
            )
        return tuple(notes)


def count_pictures(pictures: int) -> str:
    """So many pictures, in words."""
    return "1 picture" if pictures == 1 else f"{pictures} pictures"


def _stdin() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("- reads stdin, and nothing is piped into it", "as in: vae sample -o - | vae reconstruct -")
    return sys.stdin.buffer.read()
