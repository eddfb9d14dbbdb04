"""The pictures that a model is evaluated on: those it was trained with, or others of its shape."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from vaecli import datasets
from vaecli.config import DataConfig
from vaecli.datasets import builtin, named
from vaecli.datasets.dataset import Images, Progress
from vaecli.errors import VaeError
from vaecli.inference.model import Model
from vaecli.run_folder import RunFolder

Split: TypeAlias = Literal["held-out", "train", "all"]


@dataclass(frozen=True)
class EvaluationData:
    """Pictures in a model's shape, and what they have to do with it."""

    name: str
    pictures: Chosen
    available: int  # pictures in the split
    trained_on: bool  # whether they are of the data set that the model was trained on
    notes: tuple[str, ...]


class Chosen:
    """Some rows of the one or two parts of a data set."""

    def __init__(self, parts: tuple[Images, ...], rows: NDArray[np.int64]) -> None:
        self._parts, self._rows = parts, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, chosen: slice, /) -> NDArray[np.uint8]:
        """Copy a stretch of them: (b, h, w, c)."""
        rows, first = self._rows[chosen], len(self._parts[0])
        found = [self._parts[0][rows[rows < first]]]
        found += [part[rows[rows >= first] - first] for part in self._parts[1:]]
        return np.concatenate(found)


def recorded(model: Model) -> DataConfig | None:
    """The data settings of the training, where the pair lies in its run folder; None where it does not."""
    with contextlib.suppress(VaeError):
        record = RunFolder(model.folder).read_record()
        if record.data.hash == model.metadata.data_hash:
            return record.config.data
    return None


def open_data(model: Model, asked: DataConfig | None, directory: str | None, progress: Progress) -> datasets.Dataset:
    """The data set `asked` for; without, the one that the model was trained on.

    `directory` is where named data sets are kept, if that was said.

    Raises:
        VaeError: it cannot be loaded, or its pictures are of another shape than the model's.
    """
    channels, height, width = model.image_shape
    if asked is None:
        dataset = _load_own(model, directory, progress)
    else:
        dataset = datasets.load(msgspec.structs.replace(asked, dir=directory), progress)
    if dataset.image_shape != model.image_shape:
        theirs = dataset.image_shape
        raise VaeError(
            f"--data {dataset.name}: pictures of {theirs[1]}x{theirs[2]}x{theirs[0]}, "
            f"and this model takes {height}x{width}x{channels}",
            f"--image-size {height}x{width} --channels {channels} crops, resizes and converts them",
        )
    return dataset


def own_data(model: Model) -> DataConfig | None:
    """What the model was trained on: as its run folder records it, or by a name that everybody knows.

    None where the two files alone cannot tell. A name in them may be anybody's: as a path it says nothing here.
    """
    known, name = recorded(model), model.metadata.data_name
    if known is None and name in (builtin.NAME, *named.NAMED):
        return shaped(name, model)
    return known


def shaped(source: str, model: Model) -> DataConfig:
    """Those pictures, cropped, resized and converted to what `model` takes."""
    channels, height, width = model.image_shape
    return DataConfig(source=source, image_size=f"{height}x{width}", channels=channels)


def evenly(count: int, available: int) -> NDArray[np.int64]:
    """`count` of so many rows, spread evenly, since many data sets are sorted by class."""
    return np.arange(count, dtype=np.int64) * available // count


def _load_own(model: Model, directory: str | None, progress: Progress) -> datasets.Dataset:
    name = model.metadata.data_name
    hint = "name pictures with --data: a data set, a folder, a .npy or .npz"
    known = own_data(model)
    if known is None:
        raise VaeError(f"{model.folder}: was trained on {name}, which cannot be found from the two files", hint)
    try:
        return datasets.load(msgspec.structs.replace(known, dir=directory or known.dir), progress)
    except VaeError as error:
        message = f"{model.folder}: was trained on {name}, which cannot be loaded: {error.message}"
        raise VaeError(message, f"{error.hint}; or {hint}") from error


def choose(dataset: datasets.Dataset, model: Model, split: Split, n: int | None) -> EvaluationData:
    """The pictures of a split, or `n` of them spread evenly over it, since many data sets are sorted by class."""
    parts = {
        "held-out": (dataset.held_out,),
        "train": (dataset.train,),
        "all": (dataset.train, dataset.held_out),
    }[split]
    available = sum(len(part) for part in parts)
    count = available if n is None else min(n, available)
    rows = evenly(count, available)
    same = dataset.hash == model.metadata.data_hash
    return EvaluationData(dataset.name, Chosen(parts, rows), available, same, dataset.notes)
