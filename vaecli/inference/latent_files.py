"""Latents in a .npy, .npz, .csv or .jsonl, told apart by their first bytes, and in Parquet files, told by their name.

Of what `vae encode` writes, the latents are `latent` where there is one, else `mean`, and the names are kept.
Plain arrays, tables of numbers without headings, and lists of numbers, one a line, are read too.
"""

from __future__ import annotations

import csv
import io
import math
import re
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from vaecli import limits
from vaecli.errors import UsageError, VaeError, file_error, without_backticks
from vaecli.events import Note
from vaecli.inference.geometry import Latents
from vaecli.model_format import LATENT, MEAN, STD
from vaecli.outputs import PARQUET
from vaecli.pictures import places
from vaecli.pictures.arrays import NPY_MAGIC, ZIP_MAGIC, reading, unpacked
from vaecli.streams import STDIN
from vaecli.tables import LABEL, MODEL, NAME

AnyLatents: TypeAlias = NDArray[Any]  # (n, d) floats or integers, perhaps a memory map
Rows: TypeAlias = Iterator[tuple[object, object, object]]  # latent, name, class


class Table(NamedTuple):
    """What a file holds."""

    latents: AnyLatents
    names: list[str] | None = None
    labels: list[str] | None = None
    skipped: int = 0  # rows without a latent
    models: frozenset[str] = frozenset()  # that encoded them


ANOTHER_MODEL = Note("another model has encoded these latents: to this one they mean other pictures", warning=True)
FORMATS = "a latent is a row of a .npy, .npz or .csv, or a list in a .jsonl or a .parquet"


@dataclass(frozen=True)
class StoredLatents:
    """Latents as they were stored. A .npy file is mapped, others are in memory."""

    source: str
    rows: AnyLatents  # (n, d)
    names: list[str] | None  # of the pictures, where they are known
    labels: list[str] | None = None  # their classes, where they are known
    skipped: int = 0  # rows of Parquet files that have no latent: of pictures that could not be read
    models: frozenset[str] = frozenset()  # the identities of the models that encoded them, where they are known

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, size: int) -> Iterator[Latents]:
        """(b, d) float32, `size` at a time. Raises VaeError at a number that is not finite."""
        for start in range(0, len(self), size):
            with np.errstate(over="ignore", invalid="ignore"):
                latents = np.asarray(self.rows[start : start + size]).astype(np.float32)
            finite = np.isfinite(latents).all(axis=1)
            if not finite.all():
                row = start + int(finite.argmin())
                raise VaeError(
                    f"{self.source}: latent {row} (from 0) is not all finite numbers", "look for NaN and infinity"
                )
            yield latents


def read_latents(source: str, latent_dim: int) -> StoredLatents:
    """Read the latents at a path or an address, in the Parquet files of a folder or a pattern, or on stdin for `-`.

    Raises:
        VaeError: it is missing, empty, damaged or in another format, or its latents are not `latent_dim` numbers.
        UsageError: `-`, and nothing is piped in.
    """
    try:
        rows, names, labels, skipped, models = _read(source)
    except OSError as error:
        raise file_error(source, error) from error
    if rows.ndim != 2 or rows.dtype.kind not in "fiu" or rows.size == 0:
        raise VaeError(
            f"{source}: holds no latents ({rows.dtype}, shape {rows.shape})", f"wanted: (n, {latent_dim}); {FORMATS}"
        )
    if rows.shape[1] != latent_dim:
        raise VaeError(
            f"{source}: its latents have {rows.shape[1]} dimensions, this model's {latent_dim}",
            "use latents from this model's own encoder; `run` names another model",
        )
    if names is not None and len(names) != len(rows):
        raise VaeError(f"{source}: {len(names)} names for {len(rows)} latents", "encode the pictures again")
    if labels is not None and len(labels) != len(rows):
        raise VaeError(f"{source}: {len(labels)} labels for {len(rows)} latents", "encode the pictures again")
    return StoredLatents(source, rows, names, labels, skipped, models)


def _read(source: str) -> Table:
    path = Path(source)
    if path.suffix == ".npy" and path.is_file():
        return _arrays(source, path)
    if places.has_ending(source, (PARQUET,)):
        return _parquet(source)
    if places.is_address(source):
        with places.opened(source) as stream:
            content = stream.read()
    elif source != STDIN:
        content = limits.read_file_or_pipe(path)
    elif sys.stdin is None or sys.stdin.isatty():
        raise UsageError(
            "- reads stdin, and nothing is piped into it",
            "for example: vae encode digits/ -o - | vae decode - -o grid.png",
        )
    else:
        content = limits.read_stream(sys.stdin.buffer, source)
    if not content and source == STDIN:
        raise VaeError("-: stdin is empty", FORMATS)
    if content.startswith((NPY_MAGIC, ZIP_MAGIC)):
        return _arrays(source, io.BytesIO(content))
    return _text(source, content)


def parquet_files(place: str) -> list[str]:
    """Those directly in a folder; of a file or an address that alone."""
    from vaecli.pictures.shards import find_shards  # which imports Pillow

    if not Path(place).is_dir():
        return [place]
    return [file for file in find_shards(Path(place)) if places.has_ending(file, (PARQUET,))]


def _parquet(source: str) -> Table:
    """The latents in Parquet files, without the rows that have none, which are counted."""
    from vaecli.pictures.shards import footer  # which imports Pillow

    names, labels, parts, skipped, models = list[str](), list[str](), list[Latents](), 0, set[str]()
    for file in chain.from_iterable(map(parquet_files, places.expand(source, (PARQUET,)))):
        models |= models_in(footer(file))
        for batch in parquet_latents(file, None):
            names += compress(batch.names, batch.present)
            labels += (label or "" for label in compress(batch.labels, batch.present))
            skipped += len(batch.names) - len(batch.latents)
            parts.append(batch.latents)
    sizes = {part.shape[1] for part in parts if len(part)}
    if len(sizes) > 1:
        raise VaeError(f"{source}: latents of {' and '.join(map(str, sizes))} dimensions", FORMATS)
    latents = np.concatenate([part for part in parts if len(part)] or [np.empty((0, 0), np.float32)])
    return Table(latents, names, labels if any(labels) else None, skipped, frozenset(models))


def models_in(metadata: Any) -> set[str]:  # noqa: ANN401 - pyarrow has no types
    """The identity of the model that encoded the latents in a Parquet file, where its `footer` tells."""
    told = (metadata.metadata or {}).get(MODEL.encode())
    return set() if told is None else {told.decode(errors="replace")}


class LatentBatch(NamedTuple):
    """Some rows of a Parquet file."""

    names: list[str]  # (n,)
    present: NDArray[np.bool_]  # (n,) which rows have a latent
    latents: Latents  # (m, d) of these
    labels: list[str | None]  # (n,) their classes, where they are known


def parquet_latents(place: str, latent_dim: int | None, groups: Sequence[int] | None = None) -> Iterator[LatentBatch]:
    """The latents in a Parquet file, or in some of its row groups, in batches.

    Raises VaeError where it cannot be read, has no column `latent` or `mean` of lists of numbers, or they are not of
    `latent_dim` numbers.
    """
    from vaecli.pictures.shards import ReadingShard, parquet_batches  # which imports Pillow

    column = ""

    def choose(schema: Any) -> list[str]:  # noqa: ANN401 - pyarrow has no types
        nonlocal column
        column = next((name for name in (LATENT, MEAN) if name in schema.names), "")
        if not column:
            problem = f"{place}: holds {', '.join(schema.names)}, and neither {LATENT} nor {MEAN}"
            raise VaeError(problem, FORMATS)
        return [column, *(name for name in (NAME, LABEL) if name in schema.names)]

    for first, batch in parquet_batches(place, groups, choose):
        lists = batch.column(column)
        present = np.asarray(lists.is_valid())
        try:
            held = lists.drop_null().to_numpy(zero_copy_only=False)
            with np.errstate(over="ignore", invalid="ignore"):  # whoever reads them says what is not finite
                latents = np.stack(held).astype(np.float32) if len(held) else np.empty((0, latent_dim or 0), np.float32)
        except (TypeError, ValueError) as error:
            raise VaeError(f"{place}: its {column} are no lists of as many numbers each", FORMATS) from error
        if latents.ndim != 2 or latent_dim not in (None, latents.shape[1]):
            problem = f"{place}: its latents are of shape {latents.shape[1:]}, this model's have {latent_dim} numbers"
            raise VaeError(problem, "use latents from this model's own encoder; `run` names another model")
        with ReadingShard(place):  # a text may not be UTF-8
            names, labels = (
                batch.column(text).to_pylist() if text in batch.schema.names else [None] * len(batch)
                for text in (NAME, LABEL)
            )
        shown = [places.row_name(place, row) if name is None else str(name) for row, name in enumerate(names, first)]
        yield LatentBatch(shown, present, latents, [None if label is None else str(label) for label in labels])


def _arrays(source: str, file: Path | io.BytesIO) -> Table:
    """A .npy, mapped where it is a path, or the latents and names in a .npz."""
    with reading(source):
        loaded = np.load(file, mmap_mode="r" if isinstance(file, Path) else None, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return Table(loaded)
        held = loaded.files
        found = next((name for name in (LATENT, MEAN) if name in held), held[0] if len(held) == 1 else None)
        if found is None:
            problem = f"holds {', '.join(held) or 'nothing'}, and neither {LATENT} nor {MEAN}"
            raise VaeError(f"{source}: {problem}", FORMATS)
        names, labels = (
            unpacked(loaded, text, source).astype(np.str_).ravel().tolist() if text in held else None
            for text in (NAME, LABEL)
        )
        models = {str(unpacked(loaded, MODEL, source))} if MODEL in held else set[str]()
        return Table(np.asarray(unpacked(loaded, found, source)), names, labels, models=frozenset(models))


def _text(source: str, content: bytes) -> Table:
    """The latents as (n, d) float64, and their names where there are any."""
    numbers = array("d")  # an array for each row would take ten times more
    shape, count, names, labels = (0,), 0, list[str](), list[str]()
    lines = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")
    is_json = content[:64].decode("utf-8-sig", "ignore").lstrip().startswith(("{", "["))
    rows = _json(lines) if is_json else _csv(lines)
    try:
        for row, name, label in rows:
            latent = np.array(row, np.float64)
            shape = shape if count else latent.shape
            if latent.shape != shape:
                raise ValueError(f"{latent.size} numbers, those before it have {math.prod(shape)}")
            if not latent.size:
                break
            numbers.frombytes(latent.tobytes())
            count += 1
            if isinstance(name, str):
                names.append(name)
            if isinstance(label, str):
                labels.append(label)
    except UnicodeDecodeError as error:
        raise VaeError(f"{source}: neither an array nor text", FORMATS) from error
    except (ValueError, csv.Error, msgspec.DecodeError, RecursionError) as error:
        reason = without_backticks(str(error))
        raise VaeError(f"{source}: latent {count} (from 0): {reason}", FORMATS) from error
    return Table(np.array(numbers, np.float64).reshape(count, *shape), names or None, labels or None)


class _Record(msgspec.Struct):
    """A line that `vae encode` writes."""

    latent: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()
    name: Any = None
    label: Any = None


_LINE = msgspec.json.Decoder(_Record | list[float | list[float]])


def _json(lines: Iterable[str]) -> Rows:
    """Objects with `latent` or `mean`, or lists of numbers; a list of such lists may stand on one line."""
    for line in filter(str.strip, lines):
        found = _LINE.decode(line)
        if isinstance(found, _Record):
            yield found.latent or found.mean, found.name, found.label
        else:
            nested = any(isinstance(item, list) for item in found)
            yield from ((latent, None, None) for latent in (found if nested else [found]))


def _csv(lines: Iterable[str]) -> Rows:
    """Columns `latent_0` and so on, or `mean_0`, or all but names and deviations; headings may be missing."""
    rows: Iterator[list[str]] = filter(None, csv.reader(lines, strict=True))
    first = next(rows, [])
    name, label = (first.index(text) if text in first else None for text in (NAME, LABEL))
    if first and _is_number(first[-1]):  # no headings, and perhaps a name in the first column
        name, rows = None if _is_number(first[0]) else 0, chain([first], rows)
    others = {*_numbered(first, STD), name, label}
    rest = [at for at in range(len(first)) if at not in others]
    columns = _numbered(first, LATENT) or _numbered(first, MEAN) or rest
    for row in rows:
        if len(row) != len(first):
            raise ValueError(f"{len(row)} cells, the first line has {len(first)}")
        texts = [None if at is None else row[at] for at in (name, label)]
        yield [row[at] for at in columns], texts[0], texts[1]


def _numbered(headings: Sequence[str], kind: str) -> list[int]:
    """The columns with the headings `kind_0`, `kind_1`, …, in the order of these numbers."""
    matches = ((re.fullmatch(rf"{kind}_([0-9]{{1,9}})", heading), at) for at, heading in enumerate(headings))
    return [at for _, at in sorted((int(match[1]), at) for match, at in matches if match)]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
