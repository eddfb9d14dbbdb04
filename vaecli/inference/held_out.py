"""The pictures that a model is looked at with: held-out ones of --data, of its own data, or of the package."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from vaecli import datasets
from vaecli.config import DataConfig
from vaecli.datasets import builtin
from vaecli.datasets.dataset import Images, Progress
from vaecli.errors import VaeError
from vaecli.inference.batches import cut
from vaecli.inference.evaluation_data import evenly, own_data, shaped
from vaecli.inference.model import AnyImages, Model
from vaecli.model_format import ENCODER_FILE


@dataclass(frozen=True)
class HeldOut:
    """Some held-out pictures of a data set, in a model's shape."""

    source: str  # the SPEC
    images: Images
    rows: NDArray[np.int64]  # which of them are looked at
    labels: NDArray[np.int64] | None  # (len(rows),) the class of each, where it is known

    def __str__(self) -> str:
        """As a person is told: `500 held-out pictures of mnist-5k`."""
        return f"{len(self.rows):,} held-out pictures of {self.source}"

    def batches(self, size: int) -> Iterator[AnyImages]:
        """The pictures, uint8 (b, h, w, c), `size` at a time."""
        return (self.images[rows] for rows in cut(self.rows, size))


def held_out(
    model: Model, source: str | None, directory: str | None, most: int, progress: Progress
) -> HeldOut | None:
    """At most `most` held-out pictures, spread evenly, of the data set `source`, in `model`'s shape.

    Where no `source` is named: of the data that the model was trained on, where they are on this machine; else
    of the digits in the package, where the model takes such; else None. Nothing is fetched that was not named,
    and of a model without its encoder nothing else is looked at.

    Raises:
        VaeError: what was named cannot be read.
    """
    own = own_data(model)
    if source is not None:
        data = own if own is not None and own.source == source else shaped(source, model)
        return _read(data, directory, most, progress)
    if not (model.folder / ENCODER_FILE).exists():
        return None  # nothing could look at them
    with contextlib.suppress(VaeError):  # it was not asked for: the digits may do
        if own is not None and _is_here(own, directory):
            return _read(own, directory, most, progress)
    if model.image_shape == (1, builtin.SIDE, builtin.SIDE):
        return _read(DataConfig(), directory, most, progress)
    return None


def _is_here(data: DataConfig, directory: str | None) -> bool:
    """Whether all of a data set can be had without the network."""
    for known in datasets.known_sets(datasets.data_folder(directory or data.dir)):
        if known.name == data.source:
            return known.here
    return Path(data.source).expanduser().exists()


def _read(data: DataConfig, directory: str | None, most: int, progress: Progress) -> HeldOut:
    data = msgspec.structs.replace(data, dir=directory or data.dir)
    images = datasets.load(data, progress).held_out
    rows = evenly(min(most, len(images)), len(images))
    labels = datasets.labels(data)
    return HeldOut(data.source, images, rows, labels[rows] if labels is not None else None)
