"""Tables of numbers, one row a picture, written as .npy, .npz, .csv or .jsonl while the rows come.

A column holds a number, or a vector which becomes columns `mean_0`, `mean_1`, … of a .csv. Each row has the
name of its picture, but for a .npy, which holds one array and nothing else.
"""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from vaecli import files
from vaecli.errors import UsageError

Form: TypeAlias = Literal["npy", "npz", "csv", "jsonl"]
Columns: TypeAlias = Mapping[str, int | None]  # the length of each vector; None: a number
Values: TypeAlias = NDArray[np.floating[Any]]  # (b,) numbers or (b, length) vectors

STDOUT = "-"
NAME = "name"  # the column of names
FORMS: dict[str, Form] = {".npy": "npy", ".npz": "npz", ".csv": "csv", ".jsonl": "jsonl"}


@dataclass(frozen=True)
class Output:
    """What `-o` asks for, found to make sense. Nothing is opened yet."""

    name: str
    form: Form
    columns: Columns
    clobber: bool

    @contextlib.contextmanager
    def open(self, n: int) -> Iterator[Writer]:
        """Open it for `n` rows. The file is there once the block ends well, else nothing changed.

        Raises:
            VaeError: it cannot be written, or is there already and was not to be replaced.
        """
        with contextlib.ExitStack() as stack:
            if self.name == STDOUT:
                stream = stack.enter_context(files.standard_output())
            else:
                stream = stack.enter_context(files.replacing(Path(self.name), clobber=self.clobber))
            writer = stack.enter_context(contextlib.closing(_WRITERS[self.form](stream, n, self.columns)))
            yield writer
            writer.finish()


def output(
    name: str,
    columns: Columns,
    *,
    on_stdout: Form,
    clobber: bool = True,
    json: bool = False,
    sources: Sequence[str] = (),
) -> Output:
    """Understand `-o` for a table of these columns; `on_stdout` is the form that `-` has, `sources` what is read.

    Raises:
        UsageError: the name is of no form, or of one that cannot hold the columns; `-` is a bad idea here.
    """
    if name == STDOUT:
        files.check_standard_output(json=json, binary=on_stdout in ("npy", "npz"), instead="write to a file")
        return Output(name, on_stdout, columns, clobber)
    form = FORMS.get(Path(name).suffix.lower())
    if form is None:
        raise UsageError(f"--output {name}: no form of table has that name", "name a .npy, .npz, .csv or .jsonl")
    if form == "npy" and len(columns) > 1:
        raise UsageError(
            f"--output {name}: a .npy holds one array, and this is {', '.join(columns)}",
            "name a .npz, .csv or .jsonl",
        )
    if any(Path(source).resolve() == Path(name).resolve() for source in sources if source != STDOUT):
        raise UsageError(f"--output {name}: is one of the files to read", "name another file")
    return Output(name, form, columns, clobber)


class Writer(Protocol):
    """Takes rows until all are there."""

    def write(self, names: Sequence[str], values: Sequence[Values]) -> None:
        """Take the next rows: their names, and for each column its values."""

    def finish(self) -> None:
        """Write what comes after the last row."""

    def close(self) -> None:
        """Let go of whatever was opened."""


class _Array:
    """A .npy: its header is written first, because the number of rows is known."""

    def __init__(self, stream: BinaryIO, n: int, columns: Columns) -> None:
        (length,) = columns.values()
        self._stream = stream
        stream.write(_header(np.dtype(np.float32), (n,) if length is None else (n, length)))

    def write(self, names: Sequence[str], values: Sequence[Values]) -> None:
        (column,) = values
        self._stream.write(np.ascontiguousarray(column, np.float32).data)

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass


class _Archive:
    """A .npz: columns come side by side and lie one after the other, so each waits in a file of its own."""

    def __init__(self, stream: BinaryIO, n: int, columns: Columns) -> None:
        self._stream, self._n, self._columns = stream, n, columns
        self._parts = {name: tempfile.TemporaryFile() for name in columns}  # noqa: SIM115 - closed in close
        self._names: list[str] = []

    def write(self, names: Sequence[str], values: Sequence[Values]) -> None:
        self._names += map(_text, names)
        for part, column in zip(self._parts.values(), values, strict=True):
            part.write(np.ascontiguousarray(column, np.float32).data)

    def finish(self) -> None:
        with zipfile.ZipFile(self._stream, "w", zipfile.ZIP_STORED) as archive:
            names = io.BytesIO()
            np.save(names, np.array(self._names, np.str_))
            archive.writestr(f"{NAME}.npy", names.getvalue())
            for name, length in self._columns.items():
                part = self._parts[name]
                part.seek(0)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    member.write(_header(np.dtype(np.float32), (self._n,) if length is None else (self._n, length)))
                    shutil.copyfileobj(part, member)

    def close(self) -> None:
        for part in self._parts.values():
            part.close()


class _Csv:
    """A .csv with a line of headings."""

    def __init__(self, stream: BinaryIO, n: int, columns: Columns) -> None:
        self._text = io.TextIOWrapper(stream, "utf-8", newline="")
        self._rows = csv.writer(self._text, lineterminator="\n")
        self._rows.writerow([NAME, *headings(columns)])

    def write(self, names: Sequence[str], values: Sequence[Values]) -> None:
        numbers = [column.reshape(len(names), -1).astype(np.str_).tolist() for column in values]
        for name, *cells in zip(map(_text, names), *numbers, strict=True):
            self._rows.writerow([name, *(cell for column in cells for cell in column)])

    def finish(self) -> None:
        self._text.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # where the disk is full, that was said already
            self._text.detach()


class _JsonLines:
    """A .jsonl: an object a row, vectors as lists."""

    def __init__(self, stream: BinaryIO, n: int, columns: Columns) -> None:
        self._stream, self._columns = stream, columns

    def write(self, names: Sequence[str], values: Sequence[Values]) -> None:
        numbers = [
            _numbers(column, vector=length is not None)
            for column, length in zip(values, self._columns.values(), strict=True)
        ]
        lines = []
        for name, *cells in zip(names, *numbers, strict=True):
            pairs = ", ".join(f'"{column}": {cell}' for column, cell in zip(self._columns, cells, strict=True))
            lines.append(f'{{"{NAME}": {msgspec.json.encode(_text(name)).decode()}, {pairs}}}\n')
        self._stream.write("".join(lines).encode())

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass


_WRITERS: dict[Form, type[_Array | _Archive | _Csv | _JsonLines]] = {
    "npy": _Array,
    "npz": _Archive,
    "csv": _Csv,
    "jsonl": _JsonLines,
}


def headings(columns: Columns) -> Iterable[str]:
    """The columns of a .csv but for the names: a vector's numbers each have one."""
    for name, length in columns.items():
        yield from [name] if length is None else [f"{name}_{index}" for index in range(length)]


def _numbers(column: Values, *, vector: bool) -> list[str]:
    """Each row as JSON. NumPy writes as few digits as tell a number from its neighbours, float32 or float64."""
    if not vector:
        return [str(cell) for cell in column.astype(np.str_).tolist()]
    return [f"[{', '.join(row)}]" for row in column.astype(np.str_).tolist()]


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, description)
    return header.getvalue()


def _text(name: str) -> str:
    """A file's name as text that every program can read, also where it is not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
