"""The data sets that are known by name, with their sizes, and whether they are here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vaecli.datasets import builtin, named
from vaecli.datasets.cache import data_folder
from vaecli.datasets.catalogue import NAMED


@dataclass(frozen=True)
class KnownSet:
    """A data set that a name stands for, as a person or a script sees it."""

    name: str
    title: str
    train: int
    held_out: int
    shape: tuple[int, int, int]  # (height, width, channels)
    here: bool  # it can be loaded without network


def data_sets(directory: str | Path | None = None) -> list[KnownSet]:
    """Every name that `source` may be.

    Raises:
        VaeError: the data folder `directory` is a file.
    """
    root = data_folder(directory)
    held_out, side = 10 * builtin.HELD_OUT_PER_DIGIT, builtin.SIDE
    train = 10 * builtin.PER_DIGIT - held_out
    sets = [KnownSet(builtin.NAME, builtin.TITLE, train, held_out, (side, side, 1), here=True)]
    for name, known in NAMED.items():
        channels, height, width = known.shape
        here = named.is_here(name, root)
        sets.append(KnownSet(name, known.title, known.train, known.held_out, (height, width, channels), here))
    return sets
