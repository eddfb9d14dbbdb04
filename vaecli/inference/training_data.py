"""The data that a model was trained on: which they are, and the settings that split them as in training."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import msgspec

from vaecli import datasets
from vaecli.config import DataConfig, Split
from vaecli.datasets import builtin, catalogue
from vaecli.datasets.dataset import Dataset
from vaecli.datasets.source import overlap, same
from vaecli.errors import UsageError, VaeError
from vaecli.events import OnEvent
from vaecli.inference.pair import Pair
from vaecli.run_folder import RunFolder, RunRecord
from vaecli.streams import STDIN


def own_data(pair: Pair) -> DataConfig | None:
    """What the model was trained on: as its run folder records it, or a name in the catalogue.

    None where neither tells. Any other name in the files may be a path on somebody else's machine.
    """
    if (record := _record(pair)) is not None:
        return record.config.data
    name = pair.metadata.data_name
    if name not in (builtin.NAME, *catalogue.NAMED):
        return None
    return msgspec.structs.replace(_shaped(name, pair), validation=pair.metadata.training.validation)


def _record(pair: Pair) -> RunRecord | None:
    """What its run folder records of the training; None where there is no record, or one of other pictures."""
    with contextlib.suppress(VaeError):
        record = RunFolder(pair.folder).read_record()
        if record.data.hash == pair.metadata.data_hash:
            return record
    return None


def known_data(pair: Pair, flag: str) -> DataConfig:
    """As `own_data`. Raises VaeError where they are not known, whose hint has the `flag` that names others."""
    own = own_data(pair)
    if own is None:
        raise VaeError(
            f"{pair.folder}: was trained on {pair.metadata.data_name}, which the exported files cannot locate",
            f"name pictures with {flag}: a data set, a folder, a .npy or .npz",
        )
    return own


def own_of(own: DataConfig | None, source: str) -> DataConfig | None:
    """The training's own settings of its pictures, where `source` names the same ones."""
    if own is None or not same(own.source, source):
        return None
    return msgspec.structs.replace(own, source=source)


def in_shape(pair: Pair, source: str) -> DataConfig:
    """The training's own settings of these pictures; of others, those that make them fit the model."""
    return own_of(own_data(pair), source) or _shaped(source, pair)


def to_split(pair: Pair, inputs: Sequence[str], listed: Sequence[str], data_dir: str | None) -> DataConfig:
    """The data of which a split is asked for: those of the training, or those that the one of `inputs` names.

    Raises:
        VaeError: the training's data are not known.
        UsageError: there are several inputs, stdin, or a list of names.
    """
    if listed:
        raise UsageError("`split`: not with `files_from`", "leave one of them out")
    if len(inputs) > 1 or STDIN in inputs:
        problem = "stdin" if STDIN in inputs else "several INPUTs"
        raise UsageError(f"`split`: {problem}, and the split is of one data set, folder or array", "name one, or none")
    data = in_shape(pair, inputs[0]) if inputs else known_data(pair, "INPUT")
    return msgspec.structs.replace(data, dir=data_dir or data.dir)


def load_split(pair: Pair, data: DataConfig, split: Split, on_event: OnEvent) -> tuple[DataConfig, Dataset]:
    """The data that `to_split` gives, loaded, with the settings that split them as the training did.

    Raises VaeError where they cannot be loaded, or are those of the training and have changed since.
    """
    try:
        dataset = datasets.load(data, on_event)
    except VaeError as error:
        error.message = error.message.replace("`source` ", "")  # the command has INPUTs
        own = own_data(pair)
        if own is not None and own.source == data.source:
            error.hint += "; if the pictures have moved, name them as INPUT"
        raise
    return as_at_training(pair, data, dataset, split)


def as_at_training(pair: Pair, data: DataConfig, dataset: Dataset, split: Split) -> tuple[DataConfig, Dataset]:
    """The settings and the data set, with as many pictures for validation as then, where its pictures are the same.

    Raises VaeError where they have changed since, or are a part of them, and the `split` is not `all`; or where their
    classes have changed, and the model is conditional.
    """
    if dataset.hash == pair.metadata.data_hash:
        _check_classes(pair, data, dataset)
        trained = msgspec.structs.replace(data, validation=pair.metadata.training.validation)
        return trained, dataset if trained == data else datasets.load(trained)
    if split == "all":
        return data, dataset
    if has_changed(pair, data, dataset):
        raise VaeError(
            f"{data.source}: has other pictures than at the training: which of them were held out is not known",
            "bring them back, or train anew; `split` all takes every picture",
        )
    if includes_trained_on(pair, data.sources):
        raise VaeError(
            f"{data.source}: has pictures of the training: which of them were held out is not known",
            "name all that it was trained on; `split` all takes every picture",
        )
    return data, dataset


def has_changed(pair: Pair, data: DataConfig, dataset: Dataset) -> bool:
    """Whether these are the data of the training by their settings, and their pictures are others now."""
    own = own_of(own_data(pair), data.source)
    is_own = own is not None and msgspec.structs.replace(own, dir=data.dir) == data
    return is_own and dataset.hash != pair.metadata.data_hash


def _check_classes(pair: Pair, data: DataConfig, dataset: Dataset) -> None:
    """Raise VaeError where the model is conditional and its training had other classes for these pictures."""
    record = _record(pair)
    if record is not None and pair.conditional and record.data.difference(dataset, conditional=True):
        raise VaeError(
            f"{data.source}: has other classes than at the training", "bring them back, or train and export anew"
        )


def includes_trained_on(pair: Pair, sources: Sequence[str]) -> bool:
    """Whether one of these files or folders is, or is within, what the model was trained on, by their paths."""
    own = own_data(pair)
    return own is not None and any(overlap(own.source, source) for source in sources)


def measured_epochs(pair: Pair, source: str) -> bool:
    """Whether these are the pictures that were named to be held out of the training, and chose its best epoch."""
    own = own_data(pair)
    named = own is not None and own.held_out is not None and same(own.held_out, source)
    return named and not pair.metadata.training.validation


def _shaped(source: str, pair: Pair) -> DataConfig:
    channels, height, width = pair.image_shape
    return DataConfig(source=source, image_size=f"{height}x{width}", channels=channels)
