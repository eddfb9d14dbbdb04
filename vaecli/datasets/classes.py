"""Classes of pictures: their names, and the class of each picture.

A folder's classes are its subfolders, or a column of its labels.csv. An .npz has them as y. Named data sets bring
their own.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaecli.datasets import label_table
from vaecli.errors import VaeError
from vaecli.model_format import MOST_CLASSES
from vaecli.pictures.places import natural_key
from vaecli.untrusted_text import storable
from vaecli.wording import how_many

if TYPE_CHECKING:
    from vaecli.pictures.inputs import PictureInputs

FOLDERS = 4096  # whose classes are remembered while those of pictures are looked for
MOST = MOST_CLASSES  # subfolders by date or person are more than that


@dataclass(frozen=True)
class Classes:
    """The class of each of n pictures."""

    names: tuple[str, ...]  # at least two
    labels: NDArray[np.int64]  # (n,) indices into `names`

    def followed_by(self, others: Classes) -> Classes | None:
        """These, then those of other pictures, matched by name; None where they are more than MOST together."""
        return of_names([each.names[label] for each in (self, others) for label in each.labels.tolist()])

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Classes:
        """Those of some pictures; the names stay."""
        return Classes(self.names, self.labels[rows])


class KnownClasses(NamedTuple):
    """The classes of pictures, where they are known."""

    classes: Classes | None
    problem: str = ""  # why they are not, where somebody may expect them to be


def of_names(names: Sequence[str]) -> Classes | None:
    """The classes of pictures by the name of each; None where there is only one class, or more than MOST."""
    known = sorted(set(names), key=natural_key)
    if not 2 <= len(known) <= MOST:
        return None
    index = {name: at for at, name in enumerate(known)}
    return Classes(tuple(known), np.array([index[name] for name in names], np.int64))


def of_numbers(values: NDArray[Any], names: Sequence[str] = ()) -> Classes | None:
    """The classes of pictures by the number or text of each, (n,). `names` are those of the numbers 0, 1, ….

    None where there is only one class, or more than MOST, or the values are no numbers or texts.
    """
    if values.dtype.kind not in "iuU" or values.ndim != 1:
        return None
    kinds, labels = np.unique(values, return_inverse=True)
    if not 2 <= len(kinds) <= MOST:
        return None
    if values.dtype.kind != "U":
        known = tuple(names[value] if 0 <= value < len(names) else str(value) for value in kinds.tolist())
        return Classes(known, labels.astype(np.int64))
    return of_names(values.tolist())


def of_folder(folder: Path, files: Sequence[Path]) -> list[str] | None:
    """The class of each of the picture `files` below `folder`: by labels.csv, else by the subfolder they are in.

    None where there is no labels.csv and a picture is in no subfolder.

    Raises:
        VaeError: labels.csv cannot be read, or does not say the class of a picture.
    """
    relative = [file.relative_to(folder) for file in files]
    table = label_table.read(folder)
    if table is None or table.classes is None:
        return [storable(path.parts[0]) for path in relative] if all(len(path.parts) > 1 for path in relative) else None
    return table.of([path.as_posix() for path in relative], table.classes, "class")


def of_inputs(pictures: PictureInputs, known: Sequence[str]) -> tuple[str | None, ...]:
    """The class of each picture that a command was given: None where it is not known.

    That is the label that a shard, an .npz or a data set has for it; else as `by_path` says.

    Raises:
        VaeError: a labels.csv cannot be read.
    """
    find = by_path(pictures.sources, known)
    labels = pictures.labels or (None,) * len(pictures.names)
    return tuple(label or find(name) for label, name in zip(labels, pictures.names, strict=True))


def by_path(sources: Sequence[str], known: Sequence[str]) -> Callable[[str], str | None]:
    """What finds the class of a picture by its path. Folders that were named are among the `sources`.

    It is what labels.csv in such a folder says. Else, of a model that needs one of the `known` classes, it is the
    nearest folder in the path that has the name of one; where none is needed, the subfolder of the folder that was
    named, as in training.

    Raises:
        VaeError: a class is needed, and a labels.csv cannot be read.
    """
    folders = [Path(source) for source in sources if os.path.isdir(source)]  # noqa: PTH112 - of every file
    folders.sort(key=lambda folder: -len(folder.parts))  # of two around a picture, the inner one tells
    tables = list[tuple[Path, dict[str, str]]]()
    for folder in folders:
        # Where no class is needed, a labels.csv of somebody else is none.
        with contextlib.nullcontext() if known else contextlib.suppress(VaeError):
            if (table := label_table.read(folder)) is not None and table.classes is not None:
                tables.append((folder, table.classes))

    @functools.lru_cache(maxsize=FOLDERS)
    def of_folder(folder: str) -> str | None:
        path = Path(folder)
        if not known:
            below = (path.relative_to(named).parts for named in folders if path.is_relative_to(named))
            return next((storable(parts[0]) for parts in below if parts), None)
        path = path.absolute()
        around = (storable(parent.name) for parent in (path, *path.parents))
        return next((name for name in around if name in known), None)

    def find(name: str) -> str | None:
        for folder, table in tables:
            path = Path(name)
            if path.is_relative_to(folder) and (label := table.get(path.relative_to(folder).as_posix())):
                return label
        return of_folder(os.path.dirname(name))  # noqa: PTH120 - a Path takes ten times as long

    return find


def outside_subfolders(folder: Path, files: Sequence[Path]) -> str:
    """What is wrong where a few of the picture `files` below `folder` are in no subfolder, so that none has a class."""
    relative = [file.relative_to(folder) for file in files]
    outside = [path for path in relative if len(path.parts) == 1]
    subfolders = {path.parts[0] for path in relative if len(path.parts) > 1}
    few = 0 < len(outside) <= len(relative) // 2
    if not few or len(subfolders) < 2 or label_table.exists(folder):
        return ""
    return f"{how_many(len(outside), 'picture')} in no subfolder, such as {outside[0]}"
