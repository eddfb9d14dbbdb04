"""A folder of pictures as a data set: decoded and resized on all cores, and kept in the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vaecli.config import LARGEST_SIDE, DataConfig
from vaecli.datasets import cache, classes
from vaecli.datasets.cache import Cache, Prepared
from vaecli.datasets.classes import LABELS_FILE, Classes
from vaecli.errors import VaeError
from vaecli.events import OnEvent
from vaecli.pictures.arrays import Pixels
from vaecli.pictures.reading import Reader, find_pictures

RESIZE_HINT = "`image_size` 64 crops and resizes every picture to 64x64; HxW works too"


def prepare(folder: Path, data: DataConfig, place: Cache, on_event: OnEvent) -> Prepared:
    """Every picture below `folder`, in natural order and of one shape, from the cache or else added to it.

    Raises:
        VaeError: there is none; they differ in size or channels and `data` sets neither; they are too large to train
            on; more than one in a hundred cannot be read; labels.csv does not fit; the cache cannot be written.
    """
    files = find_pictures(folder)
    table = [folder / LABELS_FILE] if (folder / LABELS_FILE).is_file() else []
    name = cache.entry_name("folder", cache.file_versions(*files, *table), data.size, data.channels)
    prepared = place.open(name)
    if prepared is not None:
        return prepared
    class_of = dict(zip(files, classes.of_folder(folder, files) or (), strict=False))
    kept: list[Path] = []  # of the files, those that can be read
    reader = Reader(data.size, data.channels)

    def images() -> Iterator[Pixels]:
        first: tuple[Path, Pixels] | None = None
        for chunk in reader.folder(folder, files, on_event):
            first = first or chunk[0]
            _check_shapes(folder, [first, *chunk])
            kept.extend(file for file, _ in chunk)
            yield np.stack([pixels for _, pixels in chunk])

    def of_kept() -> Classes | None:
        return classes.of_names([class_of[file] for file in kept]) if class_of else None

    return place.make(name, str(folder), images(), reader.notes, classes=of_kept)


def check_side(name: str, height: int, width: int) -> None:
    """Raise VaeError for pictures that are too large to train on."""
    if max(height, width) > LARGEST_SIDE:
        problem = f"{height}x{width} pixels, more than the {LARGEST_SIDE} a side may have"
        raise VaeError(f"{name}: {problem}", RESIZE_HINT)


def _check_shapes(folder: Path, pictures: Sequence[tuple[Path, Pixels]]) -> None:
    """Raise VaeError where pictures (h, w, c) are too large, or one is of another shape than the first."""
    (first, pixels), *others = pictures
    height, width, channels = pixels.shape
    check_side(str(first), height, width)
    for file, other in others:
        if other.shape == pixels.shape:
            continue
        what, hint = "size", RESIZE_HINT
        kinds = [f"{height}x{width}", f"{other.shape[0]}x{other.shape[1]}"]
        if other.shape[:2] == (height, width):
            what, hint = "channels", "`channels` 1 makes them all grey, `channels` 3 all colour"
            kinds = ["grey" if channels == 1 else "colour", "colour" if channels == 1 else "grey"]
        names = [path.relative_to(folder) for path in (first, file)]
        listed = f"{names[0]} is {kinds[0]}, {names[1]} is {kinds[1]}"
        raise VaeError(f"{folder}: pictures differ in {what}: {listed}", hint)
