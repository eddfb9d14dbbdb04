"""labels.csv in a folder of pictures: the class of each, the split that it belongs to, or the group that it is of."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from vaecli.errors import VaeError, file_error
from vaecli.wording import some_of

LABELS_FILE = "labels.csv"  # a header, then a line for each file
FILE_COLUMNS = ("file", "filename", "file_name", "path", "image", "name")
CLASS_COLUMNS = ("label", "class", "category", "target")  # not y, which is a coordinate in tables of factors
SPLIT_COLUMNS = ("split", "partition")
GROUP_COLUMNS = ("group",)


class LabelTable(NamedTuple):
    """What a labels.csv says of each file, by its path below the folder. None: there is no such column."""

    path: Path
    classes: dict[str, str] | None
    splits: dict[str, str] | None
    groups: dict[str, str] | None

    def of(self, files: Sequence[str], column: dict[str, str], what: str) -> list[str]:
        """The values of a column for these files. Raises VaeError where one is missing; `what` it has is told."""
        missing = [file for file in files if file not in column]
        if missing:
            problem = f"{self.path}: has no {what} for {some_of(missing, 1)}"
            raise VaeError(problem, f"add what is missing, or rename the file: then {LABELS_FILE} tells nothing")
        return [column[file] for file in files]


def exists(folder: Path) -> bool:
    """Whether there is a labels.csv in a folder."""
    return (folder / LABELS_FILE).is_file()


def divides(folder: Path) -> bool:
    """Whether a labels.csv in a folder has a column of splits or groups, from its first line alone.

    Raises VaeError where it cannot be read.
    """
    if not exists(folder):
        return False
    with _reading(folder / LABELS_FILE) as rows:
        return not {*SPLIT_COLUMNS, *GROUP_COLUMNS}.isdisjoint(_header(next(rows, [])))


def read(folder: Path) -> LabelTable | None:
    """The table of a folder; None where there is none.

    Raises:
        VaeError: it cannot be read, says nothing, or says two things of one file.
    """
    if not exists(folder):
        return None
    path = folder / LABELS_FILE
    with _reading(path) as lines:
        rows = [row for row in lines if any(map(str.strip, row))]
    header = _header(rows[0] if rows else [])
    file, *columns = (
        next((header.index(name) for name in names if name in header), None)
        for names in (FILE_COLUMNS, CLASS_COLUMNS, SPLIT_COLUMNS, GROUP_COLUMNS)
    )
    present = [column for column in columns if column is not None]
    if file is None or not present:
        raise VaeError(f"{path}: no columns file and label in its first line", "begin it with the line: file,label")
    short = next((row for row in rows if len(row) <= max(file, *present)), None)
    if short is not None:
        raise VaeError(f"{path}: a line with too few columns: {','.join(short)}", "each line has a file and a label")
    names = [PurePath(row[file].strip()).as_posix() for row in rows[1:]]
    read_columns = [
        None if column is None else _column(path, names, [row[column].strip() for row in rows[1:]], what)
        for column, what in zip(columns, ("class", "split", "group"), strict=True)
    ]
    return LabelTable(path, *read_columns)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Iterator[list[str]]]:
    """The lines of a table. Raises VaeError where it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield csv.reader(stream)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        if isinstance(error, OSError):
            raise file_error(path, error) from error
        raise VaeError(f"{path}: is no CSV in UTF-8 ({error})", "save it again as CSV") from error


def _header(line: Sequence[str]) -> list[str]:
    return [name.strip().lower() for name in line]


def _column(path: Path, names: Sequence[str], values: Sequence[str], what: str) -> dict[str, str]:
    found: dict[str, str] = {}
    kinds = f"{what}es" if what == "class" else f"{what}s"
    for name, value in zip(names, values, strict=True):
        if not value:
            raise VaeError(f"{path}: no {what} for {name}", "write one after the comma, or remove the line")
        if found.setdefault(name, value) != value:
            raise VaeError(f"{path}: two {kinds} for {name}, {found[name]} and {value}", "keep one of the lines")
    return found
