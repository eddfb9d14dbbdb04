"""Data sets as INPUTs of a command: the held-out pictures of a known name, or those of a split."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from vaecli.config import DataConfig, Split
from vaecli.datasets import builtin
from vaecli.datasets.catalogue import NAMED
from vaecli.datasets.dataset import Dataset
from vaecli.errors import VaeError
from vaecli.events import Note
from vaecli.model_format import ImageShape
from vaecli.pictures.inputs import PictureInputs
from vaecli.wording import pictures_of_split

ALMOST = 0.8  # of two names, by difflib: above this, one may be a misspelling of the other


def named(name: str, image_shape: ImageShape, directory: str | None = None) -> DataConfig | None:
    """The data set `name`, its pictures cropped, resized and converted to `image_shape` (c, h, w).

    What is missing of it is downloaded into the data folder `directory`. None where no data set has that name, nor one
    like it.

    Raises VaeError where the name is almost one.
    """
    known = (builtin.NAME, *NAMED)
    if name not in known:
        if close := difflib.get_close_matches(name, known, cutoff=ALMOST):
            raise VaeError(f"{name}: no such file or folder", f"did you mean the data set {' or '.join(close)}?")
        return None
    channels, height, width = image_shape
    return DataConfig(source=name, dir=directory, image_size=f"{height}x{width}", channels=channels)


def of_split(dataset: Dataset, split: Split, sources: Sequence[str] = ()) -> PictureInputs:
    """The pictures of a split, in memory. A picture's name is its path, or `mnist-test[17]` by its row in the data.

    `sources` are where the data are. Raises UsageError where there is no such `split`.
    """
    pictures = dataset.of_split(split)
    names, notes = pictures.names(), split_notes(dataset, split, len(pictures))
    read, labels = (*sources, *names), tuple(pictures.labels())
    return PictureInputs(pictures[:], names, fitted=None, skipped=None, notes=notes, sources=read, labels=labels)


def split_notes(dataset: Dataset, split: Split, count: int) -> tuple[Note, ...]:
    """What a person should know of the `count` pictures of a split."""
    return (Note(f"{pictures_of_split(count, split)} of {dataset.name}"), *dataset.notes)
