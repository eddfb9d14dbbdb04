"""The pictures that a model is measured on: of the data it was trained on, of another data set, or an array."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from vaecli import datasets
from vaecli.config import DataConfig, Split
from vaecli.datasets import builtin
from vaecli.datasets.classes import Classes
from vaecli.datasets.dataset import ImageSet, Pictures
from vaecli.datasets.preparing import UnfitError
from vaecli.errors import VaeError, check_choice, check_count
from vaecli.events import Note, OnEvent, ignore
from vaecli.inference.pair import Pair
from vaecli.inference.training_data import (
    as_at_training,
    has_changed,
    in_shape,
    includes_trained_on,
    known_data,
    measured_epochs,
    own_data,
    own_of,
)
from vaecli.parallel import cut
from vaecli.wording import pictures_of_split

PROBED = 5000  # training pictures that probes of the latents are fitted to


@dataclass(frozen=True)
class EvaluationData:
    """Pictures of a model's shape, and how they relate to it."""

    name: str  # of the data set
    split: Split
    pictures: Pictures
    available: int  # pictures in the split
    trained_on: bool | None  # whether the model was trained on this data set; None: not known, of an array
    chose_epoch: bool  # whether these are the pictures that chose the model's epoch
    probed: Pictures | None  # training pictures of known classes, beside held-out ones: to fit a probe to
    notes: tuple[Note, ...]  # what a person should know about how they were read
    sources: tuple[str, ...] = ()  # where they are, which no output may replace
    overlaps: bool = False  # whether the model was trained on some of them, as their paths tell, of another data set

    def __str__(self) -> str:
        """For a person: `500 held-out pictures of mnist-5k`."""
        return f"{pictures_of_split(len(self.pictures), self.split)} of {self.name}"

    def digest(self, size: int) -> str:
        """A hash of the pictures, of which `size` are read at once."""
        digest = hashlib.sha256()
        for batch in self.batches(size):
            digest.update(np.ascontiguousarray(batch).data)
        return digest.hexdigest()

    def batches(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """The pictures, (b, h, w, c), in batches of `size`."""
        return cut(self.pictures, size)


def choose(
    pair: Pair,
    asked: DataConfig | str | None = None,
    data_dir: str | None = None,
    on_event: OnEvent = ignore,
    *,
    split: Split | None = None,
    n: int | None = None,
    lenient: bool = False,
) -> EvaluationData:
    """The pictures of a split of the data set `asked` for, or of the one that the model was trained on.

    Without a `split`, the held-out ones; of a data set without test images that the model was not trained on, all. With
    `n`, that many of them, evenly spaced. `data_dir` is the folder of named data sets. If `lenient`, all pictures of
    the training's data are taken, with a warning, where they have changed since.

    Raises:
        VaeError: the data set cannot be loaded; its pictures are of another shape than the model's; or the training's
            data have changed since, and which of them were held out is not known.
        UsageError: the validation split of data without one is asked for, there is no such `split`, or `n` is 0.
    """
    if split is not None:
        check_choice("split", split, Split)  # before the data are loaded
    _check_n(n)
    data = _config(pair, asked, data_dir)
    try:
        dataset = datasets.load(data, on_event)
    except UnfitError as error:
        raise VaeError(error.message, _fit_hint(pair)) from error  # of all shapes only the model's will do
    except VaeError as error:
        if asked is not None:
            raise
        message = f"{pair.folder}: was trained on {data.source}, which cannot be loaded: {error.message}"
        raise VaeError(message, f"{error.hint}; or name other pictures with `data`") from error
    if dataset.image_shape != pair.image_shape:
        channels, height, width = pair.image_shape
        theirs = dataset.image_shape
        raise VaeError(
            f"`data` {dataset.name}: pictures of {theirs[1]}x{theirs[2]}x{theirs[0]}, "
            f"and this model takes {height}x{width}x{channels}",
            _fit_hint(pair),
        )
    trained_on = dataset.hash == pair.metadata.data_hash
    overlaps, changed = not trained_on and includes_trained_on(pair, data.sources), has_changed(pair, data, dataset)
    if overlaps and lenient:
        what = "has other pictures than at the training" if changed else "is a part of the training's pictures"
        on_event(Note(f"{data.source} {what}: the model was trained on some of these", warning=True))
    if split is None and overlaps and (lenient or not changed):
        split = "all"
    data, dataset = as_at_training(pair, data, dataset, split or "held-out")
    if split is None:
        split = "held-out" if trained_on or dataset.has_test_images else "all"
    pictures = dataset.of_split(split)
    return EvaluationData(
        name=dataset.name,
        split=split,
        pictures=pictures.some(n),
        available=len(pictures),
        trained_on=trained_on,
        chose_epoch=_chose_epoch(pair, split) if trained_on else measured_epochs(pair, data.source),
        probed=None if split in ("train", "all") or not dataset.classes else Pictures((dataset.train,)).some(PROBED),
        notes=dataset.notes,
        sources=data.sources,
        overlaps=overlaps,
    )


def _chose_epoch(pair: Pair, split: Split) -> bool:
    """Whether a split of the training's data has pictures that chose the model's epoch."""
    return split in ("all", "validation" if pair.metadata.training.validation else "held-out")


def _fit_hint(pair: Pair) -> str:
    channels, height, width = pair.image_shape
    return f"`image_size` {height}x{width} `channels` {channels} crops, resizes and converts them"


def of_array(pictures: NDArray[np.uint8], n: int | None = None, classes: Classes | None = None) -> EvaluationData:
    """Pictures (b, h, w, c) that somebody has in memory, and their classes if they are known.

    With `n`, that many of them, evenly spaced.

    Raises UsageError where `n` is 0.
    """
    _check_n(n)
    chosen = Pictures((ImageSet(pictures, classes=classes),))
    return EvaluationData("array", "all", chosen.some(n), len(chosen), None, False, None, ())


def held_out(
    pair: Pair, source: str | Path | None, data_dir: str | None, most: int, on_event: OnEvent
) -> EvaluationData | None:
    """At most `most` held-out pictures to examine a model with; nothing is downloaded that was not named.

    Of `source` where it is named: all of it where the model was not trained on it and it has no test images. Else of
    the data that the model was trained on, where they are on this machine; else of the digits in the package, where
    they fit. None where there are neither, or no encoder.

    Raises:
        VaeError: the named data set cannot be read.
    """
    if source is not None:
        return choose(pair, in_shape(pair, str(source)), data_dir, on_event, n=most, lenient=True)
    if not pair.has_encoder:
        return None
    own = own_data(pair)
    with contextlib.suppress(VaeError):  # nobody asked for these: the digits may serve
        if own is not None and datasets.is_here(msgspec.structs.replace(own, dir=data_dir or own.dir)):
            return choose(pair, own, data_dir, on_event, n=most, lenient=True)
    if pair.image_shape == (1, builtin.SIDE, builtin.SIDE):
        return choose(pair, DataConfig(), data_dir, on_event, split="held-out", n=most)
    return None


def _check_n(n: int | None) -> None:
    if n is not None:
        check_count("n", n, 1, "it is the number of pictures to measure")


def _config(pair: Pair, asked: DataConfig | str | None, data_dir: str | None) -> DataConfig:
    """The settings of the data set that is asked for. That of the training is prepared as it was there."""
    if asked is None:
        own = known_data(pair, "`data`")
        return msgspec.structs.replace(own, dir=data_dir or own.dir)
    if isinstance(asked, str):
        asked = own_of(own_data(pair), asked) or DataConfig(source=asked)
    return msgspec.structs.replace(asked, dir=data_dir or asked.dir)
