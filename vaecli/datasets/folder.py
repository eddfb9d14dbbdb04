"""A folder of pictures as a data set: found, decoded on all cores, fitted, and kept in the cache."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from vaecli.config import LARGEST_SIDE, DataConfig
from vaecli.datasets import cache
from vaecli.datasets.cache import Cache, Prepared
from vaecli.datasets.dataset import Progress
from vaecli.errors import VaeError
from vaecli.pictures.arrays import Pixels
from vaecli.pictures.decoding import FORMATS, Picture, decode
from vaecli.pictures.reading import (
    FoundFile,
    check_unreadable,
    count_pictures,
    find_pictures,
    on_all_cores,
)


def prepare(folder: Path, data: DataConfig, place: Cache, progress: Progress) -> Prepared:
    """Every picture below `folder`, in natural order and one shape, from the cache or into it.

    Raises:
        VaeError: there is none; they differ in size or channels and nothing was said about it; they are too
            large to train on; more than one in a hundred cannot be read; the cache cannot be written.
    """
    files = find_pictures(folder)
    name = cache.key(
        "folder",
        [(str(file.path.absolute()), file.size, file.modified) for file in files],
        data.size,
        data.channels,
    )
    prepared = place.open(name)
    if prepared is not None:
        return prepared
    decoding = _Decoding(folder, files, data)
    with progress(f"reading {folder.name or folder}", len(files), "pictures") as advance:
        stretches = cache.stretches(decoding.pictures(advance))
        return place.make(name, str(folder), stretches, decoding.notes())


class _Decoding:
    """One pass over the files of a folder."""

    def __init__(self, folder: Path, files: Sequence[FoundFile], data: DataConfig) -> None:
        self._folder, self._files, self._data = folder, files, data
        self._unreadable: list[VaeError] = []
        self._flattened = 0
        self._fitted = 0

    def pictures(self, advance: Callable[[int], None]) -> Iterator[Pixels]:
        """Each picture that can be read, (h, w, c), all of the first one's shape.

        Raises:
            VaeError: another shape comes, one that is too large, or too many pictures cannot be read.
        """
        shape: tuple[int, ...] | None = None
        with contextlib.closing(on_all_cores(self._read, self._files)) as results:
            for file, result in zip(self._files, results, strict=True):
                advance(1)
                if isinstance(result, VaeError):
                    self._unreadable.append(result)
                    continue
                if shape is None:
                    shape = result.pixels.shape
                    self._check_size(shape, file)
                elif result.pixels.shape != shape:
                    raise self._differ(shape, result.pixels.shape)
                self._flattened += result.flattened
                self._fitted += result.fitted
                yield result.pixels
        if self._unreadable:
            check_unreadable(self._unreadable, len(self._files), self._folder)

    def notes(self) -> Iterator[str]:
        """What a person should know about the pictures, once they are all read."""
        if self._unreadable:
            yield check_unreadable(self._unreadable, len(self._files), self._folder)
        if self._flattened:
            yield f"transparency was laid onto white in {count_pictures(self._flattened)}"
        if self._fitted:
            yield f"{self._fitted} of {len(self._files)} pictures were cropped, resized or converted"

    def _read(self, file: FoundFile) -> Picture | VaeError:
        size = self._data.size
        try:
            picture = decode(file.path, str(file.path), size)
        except VaeError as error:
            return error
        height, width, channels = picture.pixels.shape
        return picture.fit((self._data.channels or channels, *(size or (height, width))))

    def _check_size(self, shape: tuple[int, ...], file: FoundFile) -> None:
        height, width, _ = shape
        if max(height, width) > LARGEST_SIDE:
            raise VaeError(
                f"{file.path}: {height}x{width} pixels, more than the {LARGEST_SIDE} a side may have",
                "--image-size 64 crops and resizes every picture to 64x64; HxW works too",
            )

    def _differ(self, expected: tuple[int, ...], found: tuple[int, ...]) -> VaeError:
        """The error for pictures of more than one shape, with the two commonest."""
        if expected[:2] != found[:2]:
            sizes = self._survey(_size_of, _size_name(*expected[:2]), _size_name(*found[:2]))
            return VaeError(
                f"{self._folder}: the pictures differ in size: {sizes}",
                "--image-size 64 crops and resizes them all to 64x64; HxW works too",
            )
        kinds = self._survey(_kind_of, _KINDS[expected[2]], _KINDS[found[2]])
        return VaeError(
            f"{self._folder}: the pictures differ in channels: {kinds}",
            "--channels 1 makes them all grey, --channels 3 all colour",
        )

    def _survey(self, look: Callable[[Image.Image], str], *seen: str) -> str:
        """Count what `look` finds in the headers of all files, without decoding them, in words."""

        def one(file: FoundFile) -> str | None:
            # A file that cannot be opened has no say here.
            with contextlib.suppress(Exception), Image.open(file.path, formats=FORMATS) as image:
                return look(image)
            return None

        counts = Counter(answer for answer in on_all_cores(one, self._files) if answer is not None)
        if len(counts) < 2:  # headers do not tell it all
            return " and ".join(seen)
        commonest = ", ".join(f"{answer} ({count})" for answer, count in counts.most_common(2))
        return commonest + (f", and {len(counts) - 2} more" if len(counts) > 2 else "")


_KINDS = {1: "grey", 3: "colour"}
_ORIENTATION, _SIDEWAYS = 0x0112, 5  # the EXIF tag, and the first of its values that swap width and height


def _size_name(height: int, width: int) -> str:
    return f"{height}x{width}"


def _size_of(image: Image.Image) -> str:
    # To look for EXIF in a PNG is to decode it.
    sideways = image.format != "PNG" and image.getexif().get(_ORIENTATION, 1) >= _SIDEWAYS
    return _size_name(*(image.size if sideways else image.size[::-1]))


def _kind_of(image: Image.Image) -> str:
    return _KINDS[1 if image.mode.startswith(("1", "L", "I", "F")) and image.mode != "LAB" else 3]
