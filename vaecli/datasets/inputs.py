"""Data sets as INPUTs of a command: the held-out pictures of a known name."""

from __future__ import annotations

import difflib

from vaecli import datasets
from vaecli.config import DataConfig
from vaecli.datasets import builtin
from vaecli.datasets.catalogue import NAMED
from vaecli.errors import VaeError
from vaecli.events import OnEvent, ignore
from vaecli.model_format import ImageShape
from vaecli.pictures.inputs import PictureInputs
from vaecli.wording import how_many

ALMOST = 0.8  # of two names, by difflib: above this, one may be a misspelling of the other


def held_out(
    name: str, image_shape: ImageShape, directory: str | None = None, on_event: OnEvent = ignore
) -> PictureInputs | None:
    """The held-out pictures of the data set `name`, cropped, resized and converted to `image_shape` (c, h, w).

    None where no data set has that name, nor one like it. What is missing in the data folder `directory` is downloaded
    once. A picture's name is `mnist-5k[17]`, as of the row of an array.

    Raises VaeError where the name is almost one; and see `datasets.load`.
    """
    known = (builtin.NAME, *NAMED)
    if name not in known:
        if close := difflib.get_close_matches(name, known, cutoff=ALMOST):
            raise VaeError(f"{name}: no such file or folder", f"did you mean the data set {' or '.join(close)}?")
        return None
    channels, height, width = image_shape
    asked = DataConfig(source=name, dir=directory, image_size=f"{height}x{width}", channels=channels)
    found = datasets.load(asked, on_event)
    images, classes = found.held_out.whole(), found.held_out.classes
    labels = [None] * len(images) if classes is None else [classes.names[label] for label in classes.labels]
    notes = (f"{name}: its {how_many(len(images), 'held-out picture')}", *found.notes)
    names = [f"{name}[{row}]" for row in range(len(images))]
    return PictureInputs(images, names, notes=notes, labels=tuple(labels))
