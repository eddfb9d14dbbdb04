"""The data that a model was trained on: which they are, and the settings that split them as in training."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import msgspec

from vaecli import datasets
from vaecli.config import DataConfig, Split
from vaecli.datasets import builtin, catalogue
from vaecli.datasets.dataset import Dataset
from vaecli.errors import UsageError, VaeError
from vaecli.inference.pair import Pair
from vaecli.run_folder import RunFolder


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
    return own if own is not None and datasets.located(own.source) == datasets.located(source) else None


def in_shape(pair: Pair, source: str) -> DataConfig:
    """The training's own settings of these pictures; of others, those that make them fit the model."""
    return own_of(own_data(pair), source) or _shaped(source, pair)


def to_split(pair: Pair, inputs: Sequence[str], listed: Sequence[str], data_dir: str | None) -> DataConfig:
    """The data of which a split is asked for: those of the training, or those that the one of `inputs` names.

    Raises:
        VaeError: the training's data are not known.
        UsageError: there are several inputs, or a list of names.
    """
    if listed or len(inputs) > 1:
        raise UsageError("`split`: several INPUTs, and the split is of one data set", "name one, or none")
    data = in_shape(pair, inputs[0]) if inputs else known_data(pair, "INPUT")
    return msgspec.structs.replace(data, dir=data_dir or data.dir)


def has_changed(pair: Pair, data: DataConfig, dataset: Dataset) -> bool:
    """Whether `data` are those of the training and have changed since, so that it split them in another way."""
    return dataset.hash != pair.metadata.data_hash and own_of(own_data(pair), data.source) is not None


def check_unchanged(pair: Pair, data: DataConfig, dataset: Dataset, split: Split) -> None:
    """Raise VaeError where a split is asked for of data that have changed since the training."""
    if split != "all" and has_changed(pair, data, dataset):
        raise VaeError(
            f"{data.source}: has other pictures than at the training: which of them were held out is not known",
            "bring them back, or train anew; `split` all takes every picture",
        )


def _shaped(source: str, pair: Pair) -> DataConfig:
    channels, height, width = pair.image_shape
    return DataConfig(source=source, image_size=f"{height}x{width}", channels=channels)
