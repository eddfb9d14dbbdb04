"""Tables of numbers, one row a picture, written as .npy, .npz, .csv or .jsonl.

A column holds one number a row, or one vector a row; a .csv spreads a vector over columns `mean_0`, `mean_1`, …
Each row also has the name of its picture, and its class where classes are known, except in a .npy, which holds one
array and nothing else.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from vaecli import outputs
from vaecli.errors import UsageError
from vaecli.pictures.arrays import npy_header
from vaecli.streams import STDOUT
from vaecli.untrusted_text import printable, storable

Columns: TypeAlias = Mapping[str, int | None]  # the length of each column's vectors; None for numbers
Values: TypeAlias = NDArray[np.floating[Any]]  # (b,) numbers or (b, length) vectors
Write: TypeAlias = Callable[[Sequence[Sequence[str]], Sequence[Values]], object]

NAME = "name"  # the column of names
LABEL = "label"  # the column of classes; empty where one is not known
MODEL = "model"  # in a .npz, the identity of the model: `pair` in its metadata


def text_columns(*, labelled: bool) -> tuple[str, ...]:
    """The columns of text that come first in a table: the names, and the classes of a `labelled` one."""
    return (NAME, LABEL) if labelled else (NAME,)


@dataclass(frozen=True)
class TableWriter:
    """Writes the rows of an open table."""

    _write: Write
    labelled: bool
    _clean: Callable[[str], str] = storable

    def write(self, names: Sequence[str], values: Sequence[Values], labels: Sequence[str | None] | None = None) -> None:
        """Write the next rows: their names, the values of each column, and in a table with classes their `labels`."""
        known = [label or "" for label in labels or [None] * len(names)]
        texts = (names, known) if self.labelled else (names,)
        self._write([list(map(self._clean, text)) for text in texts], values)


@dataclass(frozen=True)
class TableOutput:
    """Where a table goes, and its columns. Nothing is opened yet."""

    destination: outputs.Destination
    columns: Columns
    labelled: bool = False  # whether it has a column of classes
    model: str = ""  # the identity of the model that computes it, which a .npz records

    @property
    def format(self) -> str:
        """npy, npz, csv or jsonl."""
        return self.destination.format

    def having(
        self, columns: Iterable[str], length: int | None = None, *, labelled: bool = False, model: str = ""
    ) -> TableOutput:
        """The same place for these columns, once they are known: of vectors of a `length`, or of numbers.

        If `labelled`, it has a column of classes, too. `model` is the identity of the model that computes it.
        """
        return replace(self, columns=dict.fromkeys(columns, length), labelled=labelled, model=model)

    @property
    def written(self) -> list[str]:
        """The names of all columns that are written; a .csv spreads a vector over several of that name."""
        texts = () if self.format == "npy" else text_columns(labelled=self.labelled)
        return [*texts, *self.columns]

    @contextlib.contextmanager
    def open(self, n: int, sources: Iterable[str] = ()) -> Iterator[TableWriter]:
        """Open it for `n` rows. A file gets its name once the block ends well; else nothing changes.

        Numbers are written as they arrive: of a .npz only the names are kept in memory. `sources` are the files that
        were read: none of them is replaced.

        Raises:
            UsageError: it is one of `sources`.
            VaeError: it cannot be written, or exists and is not to be replaced.
        """
        texts = text_columns(labelled=self.labelled)
        with self.destination.open(sources) as stream, self._writer(stream, n, texts) as write:
            seen = self.destination.name == STDOUT and sys.stdout.isatty()
            yield TableWriter(write, self.labelled, printable if seen else storable)

    def _writer(self, stream: BinaryIO, n: int, texts: Sequence[str]) -> AbstractContextManager[Write]:
        if self.format == "npz":
            return _npz(stream, n, self.columns, texts, self.model)
        return _WRITERS[self.format](stream, n, self.columns, texts)


def table_output(
    name: str,
    columns: Columns,
    *,
    on_stdout: str,
    clobber: bool | None = None,
    json: bool = False,
    sources: Sequence[str] = (),
) -> TableOutput:
    """Understand the name of a table with these columns: `on_stdout` is the format for -, `sources` what is read.

    Raises:
        UsageError: no format has that ending, or it cannot hold the columns; stdout is not free; the file is one
            of `sources`.
        VaeError: its folder does not exist.
    """
    destination = outputs.parse(name, outputs.TABLES, on_stdout=on_stdout, clobber=clobber, json=json)
    if destination.format == "npy" and len(columns) > 1:
        raise UsageError(
            f"`output` {name}: a .npy holds one array, not {', '.join(columns)}", "name a .npz, .csv or .jsonl"
        )
    if name != STDOUT:
        destination.refuse([Path(name)], sources)
    return TableOutput(destination, columns)


@contextlib.contextmanager
def _npy(stream: BinaryIO, n: int, columns: Columns, _: Sequence[str] = ()) -> Iterator[Write]:
    (length,) = columns.values()
    stream.write(npy_header((n,) if length is None else (n, length), np.float32))
    yield lambda _, values: stream.write(np.ascontiguousarray(values[0], np.float32).data)


@contextlib.contextmanager
def _npz(stream: BinaryIO, n: int, columns: Columns, texts: Sequence[str], model: str = "") -> Iterator[Write]:
    """The columns arrive side by side and are stored one after the other, so each waits in a temporary file."""
    all_texts = [list[str]() for _ in texts]
    with contextlib.ExitStack() as stack:
        waiting = {name: stack.enter_context(tempfile.TemporaryFile()) for name in columns}
        writes = [stack.enter_context(_npy(waiting[name], n, {name: length})) for name, length in columns.items()]

        def write(some: Sequence[Sequence[str]], values: Sequence[Values]) -> None:
            for held, text in zip(all_texts, some, strict=True):
                held.extend(text)
            for write_column, column in zip(writes, values, strict=True):
                write_column(some, [column])

        yield write
        with zipfile.ZipFile(stream, "w") as archive:
            for name, held in zip(texts, all_texts, strict=True):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.save(member, np.array(held, np.str_))
            if model:
                with archive.open(f"{MODEL}.npy", "w") as member:
                    np.save(member, np.array(model))
            for name, column in waiting.items():
                column.seek(0)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    shutil.copyfileobj(column, member)


@contextlib.contextmanager
def _csv(stream: BinaryIO, n: int, columns: Columns, texts: Sequence[str]) -> Iterator[Write]:
    text = codecs.getwriter("utf-8")(stream)
    # Python quotes a cell for the line ends that it is told to write alone, and a reader takes "\r" for one as well.
    unix = SimpleNamespace(write=lambda row: text.write(row.removesuffix("\r\n") + "\n"))
    writer = csv.writer(unix, lineterminator="\r\n")
    headings = [*texts]
    for name, length in columns.items():
        headings += [name] if length is None else [f"{name}_{index}" for index in range(length)]
    writer.writerow(headings)

    def write(some: Sequence[Sequence[str]], values: Sequence[Values]) -> None:
        cells = [_shortest(column.reshape(len(some[0]), -1)).tolist() for column in values]
        writer.writerows([*text, *chain(*row)] for text, *row in zip(zip(*some, strict=True), *cells, strict=True))

    yield write


@contextlib.contextmanager
def _jsonl(stream: BinaryIO, n: int, columns: Columns, texts: Sequence[str]) -> Iterator[Write]:
    def write(some: Sequence[Sequence[str]], values: Sequence[Values]) -> None:
        cells = [_shortest(column).astype(np.float64).tolist() for column in values]
        rows = (dict(zip((*texts, *columns), row, strict=True)) for row in zip(*some, *cells, strict=True))
        stream.write(msgspec.json.Encoder().encode_lines(rows))

    yield write


_WRITERS: dict[str, Callable[[BinaryIO, int, Columns, Sequence[str]], AbstractContextManager[Write]]] = {
    "npy": _npy,
    "csv": _csv,
    "jsonl": _jsonl,
}


def _shortest(column: Values) -> NDArray[np.str_]:
    """Each number with as few digits as tell it from its neighbours, float32 or float64."""
    return column.astype(np.str_)
