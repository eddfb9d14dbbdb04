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
from vaecli.datasets import builtin, catalogue
from vaecli.datasets.classes import Classes
from vaecli.datasets.dataset import ImageSet, spread
from vaecli.datasets.folder import UnfitError
from vaecli.errors import UsageError, VaeError, check_choice, check_count
from vaecli.events import OnEvent, ignore
from vaecli.inference.pair import Pair
from vaecli.processors import cut
from vaecli.run_folder import RunFolder
from vaecli.wording import how_many

PROBED = 5000  # training pictures that probes of the latents are fitted to


class Pictures:
    """Some rows of image sets, one after the other, read when they are sliced: uint8 (b, h, w, c)."""

    def __init__(self, parts: tuple[ImageSet, ...], rows: NDArray[np.int64]) -> None:
        self._parts, self._rows = parts, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, chosen: slice | NDArray[np.int64], /) -> NDArray[np.uint8]:
        """Read the chosen ones, which must be in ascending order."""
        rows, found, start = self._rows[chosen], [], 0  # rows ascend
        for part in self._parts:
            found.append(part[rows[(rows >= start) & (rows < start + len(part))] - start])
            start += len(part)
        return np.concatenate(found)

    @property
    def classes(self) -> Classes | None:
        """The class of each; None where it is not known."""
        known = [classes for classes in (part.classes for part in self._parts) if classes is not None]
        if len(known) < len(self._parts):
            return None
        return Classes(known[0].names, np.concatenate([classes.labels for classes in known])[self._rows])


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
    notes: tuple[str, ...]  # what a person should know about how they were read

    def __str__(self) -> str:
        """For a person: `500 held-out pictures of mnist-5k`."""
        kind = "" if self.split == "all" else f"{self.split} "
        return f"{how_many(len(self.pictures), f'{kind}picture')} of {self.name}"

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
    split: Split = "held-out",
    n: int | None = None,
) -> EvaluationData:
    """The pictures of a split of the data set `asked` for, or of the one that the model was trained on.

    With `n`, that many of them, evenly spaced. `data_dir` is the folder of named data sets.

    Raises:
        VaeError: the data set cannot be loaded, or its pictures are of another shape than the model's.
        UsageError: the validation split of data without one is asked for, there is no such `split`, or `n` is 0.
    """
    check_choice("split", split, Split)
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
    validation = () if dataset.validation is None else (dataset.validation,)
    parts = {
        "held-out": (dataset.held_out,),
        "validation": validation,
        "train": (dataset.train,),
        "all": (dataset.train, *validation, dataset.held_out),
    }[split]
    if not parts:
        raise UsageError(
            f"`split` validation: no images of {dataset.name} were for validation",
            "the held-out ones chose the epoch: `split` held-out",
        )
    available = sum(map(len, parts))
    rows = spread(min(n or available, available), available)
    trained_on = dataset.hash == pair.metadata.data_hash
    return EvaluationData(
        name=dataset.name,
        split=split,
        pictures=Pictures(parts, rows),
        available=available,
        trained_on=trained_on,
        chose_epoch=trained_on and split in ("all", "validation" if pair.metadata.training.validation else "held-out"),
        probed=None if split in ("train", "all") or not dataset.classes else _some(dataset.train, PROBED),
        notes=dataset.notes,
    )


def _fit_hint(pair: Pair) -> str:
    channels, height, width = pair.image_shape
    return f"`image_size` {height}x{width} `channels` {channels} crops, resizes and converts them"


def _some(images: ImageSet, most: int) -> Pictures:
    return Pictures((images,), spread(min(most, len(images)), len(images)))


def of_array(pictures: NDArray[np.uint8], n: int | None = None, classes: Classes | None = None) -> EvaluationData:
    """Pictures (b, h, w, c) that somebody has in memory, and their classes if they are known.

    With `n`, that many of them, evenly spaced.

    Raises UsageError where `n` is 0.
    """
    _check_n(n)
    available = len(pictures)
    chosen = Pictures((ImageSet(pictures, classes=classes),), spread(min(n or available, available), available))
    return EvaluationData("array", "all", chosen, available, None, False, None, ())


def held_out(
    pair: Pair, source: str | Path | None, data_dir: str | None, most: int, on_event: OnEvent
) -> EvaluationData | None:
    """At most `most` held-out pictures to examine a model with; nothing is downloaded that was not named.

    Of `source` where it is named. Else of the data that the model was trained on, where they are on this machine;
    else of the digits in the package, where they fit. None where there are neither, or no encoder.

    Raises:
        VaeError: the named data set cannot be read.
    """
    own = own_data(pair)
    if source is not None:
        source = str(source)
        asked = _own_of(own, source) or _shaped(source, pair)
        return choose(pair, asked, data_dir, on_event, n=most)
    if not pair.has_encoder:
        return None
    with contextlib.suppress(VaeError):  # nobody asked for these: the digits may serve
        if own is not None and datasets.is_here(msgspec.structs.replace(own, dir=data_dir or own.dir)):
            return choose(pair, own, data_dir, on_event, n=most)
    if pair.image_shape == (1, builtin.SIDE, builtin.SIDE):
        return choose(pair, DataConfig(), data_dir, on_event, n=most)
    return None


def own_data(pair: Pair) -> DataConfig | None:
    """What the model was trained on: as its run folder records it, or a name in the catalogue.

    None where neither tells. Any other name in the files may be a path on somebody else's machine.
    """
    with contextlib.suppress(VaeError):
        record = RunFolder(pair.folder).read_record()
        if record.data.hash == pair.metadata.data_hash:
            return record.config.data
    name = pair.metadata.data_name
    if name not in (builtin.NAME, *catalogue.NAMED):
        return None
    return msgspec.structs.replace(_shaped(name, pair), validation=pair.metadata.training.validation)


def _check_n(n: int | None) -> None:
    if n is not None:
        check_count("n", n, 1, "it is the number of pictures to measure")


def _config(pair: Pair, asked: DataConfig | str | None, data_dir: str | None) -> DataConfig:
    """The settings of the data set that is asked for. That of the training is prepared as it was there."""
    own = own_data(pair)
    if asked is None:
        if own is None:
            raise VaeError(
                f"{pair.folder}: was trained on {pair.metadata.data_name}, which the exported files cannot locate",
                "name pictures with `data`: a data set, a folder, a .npy or .npz",
            )
        return msgspec.structs.replace(own, dir=data_dir or own.dir)
    if isinstance(asked, str):
        asked = _own_of(own, asked) or DataConfig(source=asked)
    return msgspec.structs.replace(asked, dir=data_dir or asked.dir)


def _shaped(source: str, pair: Pair) -> DataConfig:
    """Those pictures, cropped, resized and converted to the model's shape."""
    channels, height, width = pair.image_shape
    return DataConfig(source=source, image_size=f"{height}x{width}", channels=channels)


def _own_of(own: DataConfig | None, source: str) -> DataConfig | None:
    """The training's own settings of its pictures, where `source` names the same ones."""
    return own if own is not None and datasets.located(own.source) == datasets.located(source) else None
