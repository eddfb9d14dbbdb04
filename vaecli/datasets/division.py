"""Which pictures of a data set are trained on, for validation, or held out.

By default one of ten successive pictures is held out, the same in every run. A labels.csv may say the split of each
picture, or the group that it is of: pictures of one group, such as those of one patient, then stay together.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaecli import noise
from vaecli.datasets import label_table
from vaecli.datasets.dataset import ONLY_ONE, Dataset, Found, ImageSet, Summary, summary_of
from vaecli.datasets.label_table import LabelTable
from vaecli.errors import VaeError
from vaecli.events import Note
from vaecli.wording import how_many, listed

HELD_OUT = 10  # one in so many is held out
TRAIN, VALIDATION, TEST = range(3)
NAMES = {
    "train": TRAIN, "training": TRAIN, "validation": VALIDATION, "valid": VALIDATION, "val": VALIDATION,
    "dev": VALIDATION, "test": TEST, "testing": TEST, "held-out": TEST, "held_out": TEST, "heldout": TEST,
}  # fmt: skip


@dataclass(frozen=True)
class Division:
    """What a labels.csv says of each of n pictures: its split, its group, or both."""

    splits: NDArray[np.int8] | None  # (n,) TRAIN, VALIDATION or TEST
    groups: NDArray[np.int64] | None  # (n,) numbers from 0, in the order of the pictures

    def of(self, summary: Summary) -> Summary:
        """The summary of the same pictures, divided like this: divided in another way they have another hash."""
        digest = hashlib.sha256(summary.hash.encode())
        for column in (self.splits, self.groups):
            digest.update(b"" if column is None else column.tobytes())
        return replace(summary, hash=f"{summary.hash.partition(':')[0]}:{digest.hexdigest()}")


def by_table(found: Found, folder: Path) -> Found:
    """The pictures of a folder, divided as its labels.csv says, if it does.

    Raises:
        VaeError: it does not say it of each picture, has a split of another name, or only one split or group.
    """
    table = label_table.read(folder) if label_table.divides(folder) else None
    if table is None:
        return found
    names, place = found.names[0](np.arange(len(found.parts[0]))), len(str(folder)) + 1
    files = [name[place:].replace(os.sep, "/") for name in names]
    splits = None if table.splits is None else _splits(table, table.of(files, table.splits, "split"))
    groups = None if table.groups is None else _groups(table, table.of(files, table.groups, "group"))
    notes = []
    if splits is not None:
        counts = np.bincount(splits, minlength=3)
        kinds = zip(("to train on", "for validation", "held out"), counts.tolist(), strict=True)
        notes.append(Note(f"{table.path.name}: {listed([f'{count:,} {kind}' for kind, count in kinds if count])}"))
    if groups is not None:
        count = int(groups.max()) + 1
        each = groups if splits is None else np.unique(np.stack([groups, splits]), axis=1)[0]  # a group for each split
        apart = 0 if splits is None else int((np.bincount(each) > 1).sum())
        if apart:
            text = f"{table.path.name}: {how_many(apart, 'group')} of {count} are in more than one split"
            notes.append(Note(text, warning=True))
        elif splits is None:
            notes.append(Note(f"{table.path.name}: the pictures of each of {how_many(count, 'group')} stay together"))
    return replace(found, division=Division(splits, groups), notes=(*found.notes, *notes))


def _groups(table: LabelTable, names: Sequence[str]) -> NDArray[np.int64]:
    """The number of each group. Raises VaeError where there is one only."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    if len(numbers) < 2:
        raise VaeError(f"{table.path}: all pictures are of one group", "name two groups or more")
    return np.array([numbers[name] for name in names], np.int64)


def _splits(table: LabelTable, names: Sequence[str]) -> NDArray[np.int8]:
    """The split of each file. Without a test split, that for validation is held out."""
    unknown = [name for name in dict.fromkeys(names) if name.lower() not in NAMES]
    if unknown:
        problem = f"{table.path}: {unknown[0]} in the column of splits is none of train, validation and test"
        raise VaeError(problem, "use these names, or rename the column")
    splits = np.array([NAMES[name.lower()] for name in names], np.int8)
    if not (splits == TEST).any():
        splits[splits == VALIDATION] = TEST
    for split, what in ((TRAIN, "train"), (TEST, "test")):
        if not (splits == split).any():
            raise VaeError(f"{table.path}: no picture is of the split {what}", "add some, or rename the column")
    return splits


def split(found: Found, validation: int = 0) -> Dataset:
    """A data set whose test images are held out; without test images a fixed tenth is, at least one.

    `validation` of the training images are cut from them, the same in every run and for every seed; 0: those of the
    data set's own validation split, if it has one. Of groups, whole ones are held out and cut.

    Raises VaeError where there are fewer than two images to split, or no image is left to train on.
    """
    parts, start, division = [], 0, found.division
    for number, array in enumerate(found.parts):
        classes = found.classes and found.classes[start : start + len(array)]
        parts.append(ImageSet(array, classes=classes, names=found.names[number] if found.names else None))
        start += len(array)
    summary = found.summary or summary_of(*parts)
    summary = summary if division is None else division.of(summary)
    rows = np.arange(len(parts[0]))
    if len(parts) == 1:
        (images,) = parts
        if len(images) < 2:
            raise VaeError(f"`source` {found.name}: {ONLY_ONE}", "give a folder or an array of more")
        rows, held = _hold_out(len(images), division)
        parts = [images.rows(rows), images.rows(held)]
    train, held_out = parts
    chosen = _for_validation(rows, found, validation)
    cut = train.rows(chosen) if len(chosen) else None
    train = train if cut is None else train.rows(_complement(len(train), chosen))
    reason = found.no_classes
    notes = (*found.notes, Note(f"no classes: {reason}")) if reason else found.notes
    has_test = len(found.parts) > 1 or (division is not None and division.splits is not None)
    return Dataset(found.name, train, cut, held_out, summary.hash, summary.value_range, notes, reason, has_test)


def _hold_out(n: int, division: Division | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows to train on or for validation, and the rows held out."""
    if division is None:
        return hold_out(n)
    if division.splits is not None:
        return np.flatnonzero(division.splits != TEST), np.flatnonzero(division.splits == TEST)
    assert division.groups is not None, "a division has one of both"
    _, held = hold_out(int(division.groups.max()) + 1)
    chosen = np.isin(division.groups, held)
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _for_validation(rows: NDArray[np.int64], found: Found, validation: int) -> NDArray[np.int64]:
    """Which of the training images are for validation. `rows` are where these are in the data set."""
    n, division = len(rows), found.division
    splits = None if division is None or division.splits is None else division.splits[rows]
    own = np.arange(n - found.validation, n) if splits is None else np.flatnonzero(splits == VALIDATION)
    if validation in (0, len(own)):
        return own
    if splits is not None and len(own):
        problem = f"`validation` {validation}: labels.csv says which {len(own):,} pictures of {found.name} are for it"
        raise VaeError(problem, "leave it out")
    chosen = np.empty(0, np.int64)
    if validation < n:
        if division is not None and division.groups is not None:
            chosen = _whole_groups(division.groups[rows], validation)
        else:
            edges = np.arange(validation + 1) * n // validation
            chosen = _pick_one_per_block(edges[:-1], np.diff(edges))
    if not 0 < len(chosen) < n:
        raise VaeError(
            f"`validation` {validation}: {found.name} has {how_many(n, 'training image')}", "leave some to train on"
        )
    return chosen


def _whole_groups(groups: NDArray[np.int64], least: int) -> NDArray[np.int64]:
    """The rows of groups that a fixed hash picks, until they are at least so many."""
    numbers, sizes = np.unique(groups, return_counts=True)
    (hashes,) = noise.bits(np.zeros(1, np.uint64), len(numbers))
    order = np.argsort(hashes, kind="stable")
    taken = numbers[order[: int(np.searchsorted(np.cumsum(sizes[order]), least)) + 1]]
    return np.flatnonzero(np.isin(groups, taken))


def hold_out(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows to train on and the rows held out, of n images without test images of their own.

    One of every ten successive images is held out. A fixed hash of the ten's number picks which: the same in every
    run and for every seed, spread over a sorted folder, independent of any pattern in it.
    """
    starts = np.arange(max(1, n // HELD_OUT)) * HELD_OUT
    held_out = _pick_one_per_block(starts, min(n, HELD_OUT))
    return _complement(n, held_out), held_out


def _pick_one_per_block(starts: NDArray[np.int64], sizes: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """One row of each block of rows, which a hash of the block's number picks."""
    (hashes,) = noise.bits(np.zeros(1, np.uint64), len(starts))
    within: NDArray[np.int64] = (hashes % np.asarray(sizes, np.uint64)).astype(np.int64)
    return starts + within


def _complement(n: int, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of n that are not chosen."""
    others = np.ones(n, dtype=bool)
    others[chosen] = False
    return np.flatnonzero(others)
