"""Pictures in a folder or in shards as a data set: decoded and resized on all cores, and kept in the cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vaecli.config import LARGEST_SIDE, DataConfig
from vaecli.datasets import cache, classes, label_table
from vaecli.datasets.cache import Cache, Prepared, name_below
from vaecli.datasets.classes import KnownClasses
from vaecli.datasets.label_table import LABELS_FILE
from vaecli.errors import VaeError
from vaecli.events import OnEvent, Progress
from vaecli.pictures import places
from vaecli.pictures.arrays import Pixels
from vaecli.pictures.folders import find_pictures
from vaecli.pictures.reader import Entry, Reader
from vaecli.pictures.shards import no_picture_in, read_shard
from vaecli.untrusted_text import storable

RESIZE_HINT = "`image_size` 64 crops and resizes every picture to 64x64; HxW works too"


class UnfitError(VaeError):
    """Pictures differ in shape, or are too large: `image_size` and `channels` make them fit."""


def prepare(folder: Path, data: DataConfig, place: Cache, on_event: OnEvent, left_out: list[str]) -> Prepared:
    """Every picture below `folder`, in natural order and of one shape, from the cache or else added to it.

    `left_out` is as in `find_pictures`.

    Raises:
        VaeError: there is none; they differ in size or channels and `data` sets neither; they are too large to train
            on; more than one in a hundred cannot be read; labels.csv does not fit; the cache cannot be written.
    """
    files = find_pictures(folder, left_out)
    table = [folder / LABELS_FILE] if label_table.exists(folder) else []
    name = cache.entry_name("folder", [_version(path) for path in (*files, *table)], data.size, data.channels)
    prepared = place.open(name)
    if prepared is not None:
        return prepared
    class_of = dict(zip(map(str, files), classes.of_folder(folder, files) or (), strict=False))
    kept: list[str] = []  # of the files, those that can be read
    reader = Reader(data.size, data.channels)

    def images() -> Iterator[Pixels]:
        for chunk in _of_one_shape(str(folder), reader.folder(folder, files, on_event)):
            kept.extend(entry.name for entry in chunk)
            yield np.stack([entry.pixels for entry in chunk])

    def of_kept() -> KnownClasses:
        known = classes.of_names([class_of[name] for name in kept]) if class_of else None
        return KnownClasses(known, classes.outside_subfolders(folder, files))

    def names() -> list[str]:
        place = str(folder)  # which is no part of the names of files in .
        return [name_below(f"./{name}" if place == "." else name, 0, place) for name in kept]

    return place.make(name, str(folder.absolute()), images(), reader.notes, classes=of_kept, names=names)


def prepare_shards(source: str, shards: Sequence[str], data: DataConfig, place: Cache, on_event: OnEvent) -> Prepared:
    """The pictures in shards, in their order and of one shape, from the cache or else added to it.

    They have classes where each has a label.

    Raises VaeError as `prepare` does, and where a shard is damaged.
    """
    name = cache.entry_name("shards", [places.version(shard) for shard in shards], data.size, data.channels)
    prepared = place.open(name)
    if prepared is not None:
        return prepared
    labels: list[str | None] = []  # of the pictures that can be read
    names: list[str] = []
    reader = Reader(data.size, data.channels)

    def chunks() -> Iterator[list[Entry]]:
        done = 0
        for number, shard in enumerate(shards):
            for chunk in reader.shard(shard, read_shard(shard)):
                labels.extend(entry.label for entry in chunk)
                names.extend(name_below(entry.name, number, shard) for entry in chunk)
                done += len(chunk)
                on_event(Progress(f"reading {Path(source).name}", done, None, "pictures"))
                yield chunk
        if not done:
            raise no_picture_in(source)

    def images() -> Iterator[Pixels]:
        for chunk in _of_one_shape(source, chunks()):
            yield np.stack([entry.pixels for entry in chunk])

    def of_labels() -> KnownClasses:
        held = [label for label in labels if label is not None]
        return KnownClasses(classes.of_names(held) if len(held) == len(labels) else None)

    return place.make(name, source, images(), reader.notes, classes=of_labels, names=lambda: names)


def _version(path: Path) -> tuple[str, int, int]:
    """As `places.version`; of a link to nothing, which is a picture that cannot be read, its name."""
    try:
        return places.version(str(path))
    except VaeError:
        return storable(str(path)), 0, 0


def check_side(name: str, height: int, width: int) -> None:
    """Raise VaeError for pictures that are too large to train on."""
    if max(height, width) > LARGEST_SIDE:
        problem = f"{height}x{width} pixels, more than the {LARGEST_SIDE} a side may have"
        raise UnfitError(f"{name}: {problem}", RESIZE_HINT)


def _of_one_shape(source: str, chunks: Iterable[list[Entry]]) -> Iterator[list[Entry]]:
    """The same chunks. Raises VaeError where a picture is too large, or of another shape than the first."""
    first: Entry | None = None
    for chunk in chunks:
        first = first or chunk[0]
        _check_shapes(source, [first, *chunk])
        yield chunk


def _check_shapes(source: str, pictures: Sequence[Entry]) -> None:
    """Raise VaeError where pictures are too large, or one is of another shape than the first."""
    (first, pixels, _), *others = pictures
    height, width, channels = pixels.shape
    check_side(first, height, width)
    for file, other, _ in others:
        if other.shape == pixels.shape:
            continue
        what, hint = "size", RESIZE_HINT
        kinds = [f"{height}x{width}", f"{other.shape[0]}x{other.shape[1]}"]
        if other.shape[:2] == (height, width):
            what, hint = "channels", "`channels` 1 makes them all grey, `channels` 3 all colour"
            kinds = ["grey" if channels == 1 else "colour", "colour" if channels == 1 else "grey"]
        names = [name.removeprefix(source).lstrip("/") for name in (first, file)]
        listed = f"{names[0]} is {kinds[0]}, {names[1]} is {kinds[1]}"
        raise UnfitError(f"{source}: pictures differ in {what}: {listed}", hint)
