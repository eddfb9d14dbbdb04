"""Latents that a command is given: .npy, .npz, .csv or .jsonl, told apart by their first bytes.

What `vae encode` writes is read as it was meant: `latent` where there is one, else `mean`, with the names of the
pictures. Plain arrays, tables of numbers without headings and lists of numbers a line are understood, too.
"""

from __future__ import annotations

import array
import contextlib
import csv
import io
import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from vaecli import tables
from vaecli.errors import UsageError, VaeError, file_error
from vaecli.inference.latents import Latents
from vaecli.model_format import LATENT, MEAN, STD
from vaecli.pictures.arrays import NPY_MAGIC, ZIP_MAGIC

AnyLatents: TypeAlias = NDArray[Any]  # (n, d) floats or integers, perhaps a memory map
Table: TypeAlias = tuple[AnyLatents, list[str] | None]

SNIFFED = 64  # bytes at the beginning that tell a form
WAYS = "a latent is a row: of a .npy, of an .npz, of a .csv, or a list in a .jsonl"


@dataclass(frozen=True)
class StoredLatents:
    """Latents as they were stored. A .npy file is mapped, others are in memory."""

    source: str
    rows: AnyLatents  # (n, d)
    names: list[str] | None  # of the pictures, where they are known

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, size: int) -> Iterator[Latents]:
        """(b, d) float32, `size` at a time. Raises VaeError at a number that is not finite."""
        for start in range(0, len(self), size):
            batch = np.array(self.rows[start : start + size], np.float64)
            with np.errstate(over="ignore"):
                latents = batch.astype(np.float32)
            if not np.isfinite(latents).all():
                row = start + int(np.flatnonzero(~np.isfinite(latents).all(axis=1))[0])
                raise VaeError(
                    f"{self.source}: latent {row} (from 0) is not all finite numbers", "look for NaN and infinity"
                )
            yield latents


def read_latents(source: str, latent_dim: int) -> StoredLatents:
    """Read a file of latents, or stdin where `source` is `-`.

    Raises:
        VaeError: it is missing, empty, damaged or of no such form, or its latents are not `latent_dim` numbers.
        UsageError: `-`, and nothing is piped in.
    """
    rows, names = _read(source)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise VaeError(
            f"{source}: holds {_described(rows)}, not latents", f"this model's are (n, {latent_dim}); {WAYS}"
        )
    if len(rows) == 0:
        raise VaeError(f"{source}: holds no latents", WAYS)
    if rows.shape[1] != latent_dim:
        raise VaeError(
            f"{source}: its latents have {rows.shape[1]} dimensions, this model's {latent_dim}",
            "use latents from this model's own encoder; --run names another model",
        )
    if names is not None and len(names) != len(rows):
        raise VaeError(f"{source}: {len(names)} names for {len(rows)} latents", "encode the pictures again")
    return StoredLatents(source, rows, names)


def _described(rows: AnyLatents) -> str:
    return f"an array of {rows.dtype} of shape ({', '.join(map(str, rows.shape))})"


def _read(source: str) -> Table:
    path = Path(source)
    try:
        with contextlib.ExitStack() as stack:
            stream: BinaryIO
            if source != tables.STDOUT and path.is_file():
                stream = stack.enter_context(path.open("rb"))
            else:  # a pipe cannot be looked into and then read from its beginning
                stream = io.BytesIO(_stdin() if source == tables.STDOUT else path.read_bytes())
            start = stream.read(SNIFFED)
            stream.seek(0)
            if start.startswith(NPY_MAGIC):
                return _array(source, stream if isinstance(stream, io.BytesIO) else path), None
            if start.startswith(ZIP_MAGIC):
                return _archive(source, stream)
            text = io.TextIOWrapper(stream, "utf-8-sig", newline="")
            opening = start.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n")[:1]
            return _json_lines(source, text) if opening in ("{", "[") else _csv(source, text)
    except UnicodeDecodeError as error:
        raise VaeError(f"{source}: neither an array nor text", WAYS) from error
    except OSError as error:
        raise file_error(source, error) from error


def _stdin() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(
            "- reads stdin, and nothing is piped into it",
            "as in: vae encode digits/ -o - | vae decode - -o grid.png",
        )
    return sys.stdin.buffer.read()


def _array(source: str, file: Path | BinaryIO) -> AnyLatents:
    try:
        rows: AnyLatents = np.load(file, mmap_mode="r" if isinstance(file, Path) else None, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise _damaged(source, error) from error
    return rows


def _archive(source: str, stream: BinaryIO) -> Table:
    """What matters of an .npz."""
    try:
        with np.load(stream, allow_pickle=False) as arrays:
            found = next((name for name in (LATENT, MEAN) if name in arrays), None)
            if found is None and len(arrays.files) == 1:
                (found,) = arrays.files
            if found is None:
                raise VaeError(
                    f"{source}: holds {', '.join(arrays.files) or 'nothing'}, and neither {LATENT} nor {MEAN}",
                    f"save the latents alone, or under the name {LATENT}",
                )
            names = arrays[tables.NAME].astype(np.str_).ravel().tolist() if tables.NAME in arrays else None
            return np.asarray(arrays[found]), names
    except (VaeError, OSError):
        raise
    except Exception as error:  # NumPy, zipfile and zlib each have their own way to refuse a damaged file
        raise _damaged(source, error) from error


def _damaged(source: str, error: Exception) -> VaeError:
    return VaeError(f"{source}: damaged array file ({error})", "encode the pictures again")


class _Rows:
    """Rows of numbers from text, all of one length, eight bytes a number."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._numbers = array.array("d")
        self._length: int | None = None
        self._count = 0

    def add(self, row: Sequence[float], line: int) -> None:
        """Take in the row that stands in a line."""
        if self._length not in (None, len(row)):
            raise VaeError(
                f"{self._source}: line {line} has {len(row)} numbers, those before it {self._length}", WAYS
            )
        try:
            self._numbers.extend(row)
        except OverflowError as error:  # an integer of hundreds of digits
            raise VaeError(f"{self._source}: line {line}: {error}", WAYS) from error
        self._length = len(row)
        self._count += 1

    def result(self) -> AnyLatents:
        """(n, d) float64."""
        return np.frombuffer(self._numbers or b"", np.float64).reshape(self._count, self._length or 0)


def _json_lines(source: str, lines: Iterable[str]) -> Table:
    """Objects with `latent` or `mean`, or lists of numbers; a list of such lists may stand on one line."""
    rows, names = _Rows(source), list[str]()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            raise VaeError(f"{source}: line {number} is not JSON ({error})", WAYS) from error
        found = record
        if isinstance(record, dict):
            found = record.get(LATENT, record.get(MEAN))
            if isinstance(name := record.get(tables.NAME), str):
                names.append(name)
        for row in found if isinstance(found, list) and found and isinstance(found[0], list) else [found]:
            if not isinstance(row, list) or not all(type(item) in (int, float) for item in row):
                raise VaeError(f"{source}: line {number} has no {LATENT} or {MEAN} that is a list of numbers", WAYS)
            rows.add(row, number)
    return rows.result(), names or None


def _csv(source: str, text: TextIO) -> Table:
    """Columns `latent_0` and so on, or `mean_0`, or all but names and deviations; headings may be missing."""
    reader = csv.reader(text, strict=True)
    rows, names = _Rows(source), list[str]()
    name: int | None = None
    table: Iterable[list[str]] = reader
    try:
        first = next((row for row in reader if row), [])
        if first and _is_headings(first):
            columns = _columns(first)
            name = first.index(tables.NAME) if tables.NAME in first else None
        else:
            name = 0 if first and not _is_number(first[0]) else None
            columns = list(range(0 if name is None else 1, len(first)))
            table = itertools.chain([first], reader)
        for row in table:
            if not row:
                continue
            if len(row) != len(first):
                raise VaeError(
                    f"{source}: line {reader.line_num} has {len(row)} cells, the first one {len(first)}", WAYS
                )
            rows.add([float(row[column]) for column in columns], reader.line_num)
            if name is not None:
                names.append(row[name])
    except csv.Error as error:
        raise VaeError(f"{source}: line {reader.line_num} is not of a table ({error})", WAYS) from error
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        raise VaeError(f"{source}: line {reader.line_num}: {error}", WAYS) from error
    return rows.result(), names if name is not None else None


def _is_headings(first: Sequence[str]) -> bool:
    """Whether a first line holds no latent: there is one where all cells, but perhaps a name, are numbers."""
    numbers = first[1:] or first
    return not all(map(_is_number, numbers))


def _columns(headings: Sequence[str]) -> list[int]:
    """Which columns are the latent's numbers, in their order."""
    for kind in (LATENT, MEAN):
        if found := sorted(_numbered(headings, kind)):
            return [at for _, at in found]
    deviations = {at for _, at in _numbered(headings, STD)}
    return [at for at, heading in enumerate(headings) if heading != tables.NAME and at not in deviations]


def _numbered(headings: Sequence[str], kind: str) -> list[tuple[int, int]]:
    """(number, column) of the headings `kind_0`, `kind_1`, and so on."""
    matches = ((re.fullmatch(rf"{kind}_(\d{{1,9}})", heading, re.ASCII), at) for at, heading in enumerate(headings))
    return [(int(match[1]), at) for match, at in matches if match]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
