"""The result of a job: a folder of Parquet files, one for each block.

The name of a file says which block it is, and of how many. Its footer says what it was made from, so that the folder
holds nothing else: every program that reads Parquet reads it whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from vaecli import files
from vaecli.errors import VaeError, file_error, first_line, no_folder
from vaecli.events import Changes
from vaecli.extras import require
from vaecli.jobs.tasks import Kind, Values
from vaecli.pictures.parts import PART, part_name
from vaecli.tables import MODEL, text_columns
from vaecli.untrusted_text import storable

ERROR = "error"  # the column that says why a row has nothing else
RECORD = b"vaecli"  # the key in a file's footer
PATIENCE = 2.0  # seconds to wait for the workers of a job that was killed, which end when they see it
BUFFER = 2**25  # bytes of rows that wait to be written together: a row group


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What the files are made from."""

    task: str  # what is computed, with its settings, as JSON
    model: str  # a hash of the model's files
    inputs: str  # a hash of the inputs' names, sizes and times
    pair: str = ""  # the identity of the model's weights


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """The record in a file's footer."""

    origin: Origin
    number: int  # of the block, from 0
    of: int  # blocks
    rows: int
    errors: int
    changes: Changes
    first_error: str | None = None


def part_path(folder: Path, number: int, of: int) -> Path:
    """The file of a block."""
    return folder / part_name(number, of)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[int | None]:
    """Make the folder where it is missing, and lock it within the block. What killed workers left is removed.

    Yields the descriptor of the lock: a process that inherits it keeps the lock, too. None where there are no locks.
    Raises VaeError where it cannot be made, or another job writes to it.
    """
    if folder.exists() and not folder.is_dir():
        raise VaeError(f"{folder}: is a file, not a folder", "name another one")
    if not folder.absolute().parent.exists():
        raise no_folder(folder)
    made = not folder.exists()
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(exist_ok=True)
            descriptor = stack.enter_context(files.opened_folder(folder))
        except OSError as error:
            raise file_error(folder, error) from error
        if not files.lock_within(PATIENCE, descriptor):
            raise VaeError(f"{folder}: another job writes to it", "wait for its end, or name another folder")
        _tidy(folder)
        try:
            yield descriptor
        finally:
            _tidy(folder)
            if made:
                with contextlib.suppress(OSError):  # it is not empty
                    folder.rmdir()


def _tidy(folder: Path) -> None:
    files.remove_leftovers(*files.unfinished_in(folder, rf"\.{PART.pattern}\."))


def finished(folder: Path, origin: Origin, of: int, *, resume: bool) -> dict[int, Part]:
    """The blocks that are there already, by number.

    Raises VaeError where there are some and `resume` is false, or they are not of this origin.
    """
    parts = dict[int, Part]()
    for path in sorted(folder.glob("*.parquet")):
        if not resume:
            raise VaeError(f"{folder}: holds Parquet files", "`resume` completes it; or name another folder")
        part = read_part(path)
        different = "" if part is None else _difference(part, origin, of)
        if part is None and PART.fullmatch(path.name):
            raise VaeError(f"{path}: damaged", "remove it: `resume` then computes its rows again")
        if part is None or different or part_path(folder, part.number, of) != path:
            problem = f"{path}: {different or 'is no file of this job'}"
            raise VaeError(problem, "bring back what it was made from, or name another folder")
        parts[part.number] = part
    return parts


def recorded_seed(folder: Path) -> int | None:
    """The seed that the files of a folder were made with, if any. Raises VaeError where pyarrow is missing."""
    require("parquet", f"reading {folder}")
    part = next(map(read_part, folder.glob("*.parquet")), None)
    return None if part is None else msgspec.json.decode(part.origin.task)["task"].get("seed")


def read_part(path: Path) -> Part | None:
    """The record of a file; None where it has none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return msgspec.json.decode((pq.read_metadata(path).metadata or {})[RECORD], type=Part)
    except (KeyError, ValueError, OSError, pa.ArrowException):
        return None


def _difference(part: Part, origin: Origin, of: int) -> str:
    """How the origin of a file is another one."""
    if part.origin.model != origin.model:
        return "was made with another model"
    if part.origin.task != origin.task:
        return _changed(part.origin.task, origin.task)
    if part.origin.inputs != origin.inputs or part.of != of:
        return "was made from other inputs, or these have changed"
    return ""


def _changed(before: str, now: str) -> str:
    """Which settings of a job are others: `was made with `std` false, not true`."""
    settings = [msgspec.json.decode(text, type=dict[str, Any]) for text in (before, now)]
    theirs, ours = ({**one.pop("task"), **one} for one in settings)
    if theirs["type"] != ours["type"]:
        return f"was made by vae {theirs['type']}, not vae {ours['type']}"
    words = [
        f"`{name}` {msgspec.json.encode(theirs.get(name)).decode()}, not {msgspec.json.encode(value).decode()}"
        for name, value in ours.items()
        if theirs.get(name) != value
    ]
    return f"was made with {' and '.join(words)}"


class PartWriter:
    """Writes the rows of one block as they come."""

    def __init__(
        self,
        writer: Any,  # noqa: ANN401 - pyarrow's
        schema: Any,  # noqa: ANN401 - pyarrow's
        kinds: Mapping[str, Kind],
        *,
        labelled: bool,
    ) -> None:
        self._writer, self._schema, self._kinds, self._labelled = writer, schema, kinds, labelled
        self._waiting: list[Any] = []
        self._bytes = 0  # that wait
        self.rows = self.errors = 0
        self.first_error: str | None = None

    def write(
        self,
        names: Sequence[str],
        errors: Sequence[str | None],
        columns: Mapping[str, Values],
        labels: Sequence[str | None] = (),
    ) -> None:
        """The next rows; of a folder with classes, with their `labels`. `columns` have those without an error."""
        import pyarrow as pa

        bad = np.array([error is not None for error in errors], np.bool_)
        arrays = [_texts(names), *([_texts(labels)] if self._labelled else [])]
        arrays += [_array(kind, bad, columns.get(name)) for name, kind in self._kinds.items()]
        arrays.append(_texts(errors))
        self._waiting.append(pa.record_batch(arrays, schema=self._schema))
        self._bytes += self._waiting[-1].nbytes
        self.rows += len(names)
        self.errors += int(bad.sum())
        self.first_error = self.first_error or next(filter(None, errors), None)
        if self._bytes >= BUFFER:
            self.flush()

    def flush(self) -> None:
        """Write what waits as a row group."""
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting))
            self._waiting.clear()
            self._bytes = 0


@contextlib.contextmanager
def part_writer(
    folder: Path,
    number: int,
    of: int,
    kinds: Mapping[str, Kind],
    origin: Origin,
    changes: Callable[[], Changes],
    *,
    labelled: bool = False,
) -> Iterator[PartWriter]:
    """Write the file of a block. It is there, on the disk, once the block of code ends well; else nothing is.

    `changes` is called at the end. A file that is `labelled` has a column of classes. Raises VaeError where it cannot
    be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"vector": pa.list_(pa.float32()), "number": pa.float64(), "picture": pa.binary()}
    texts = text_columns(labelled=labelled)
    computed = [(name, types[kind]) for name, kind in kinds.items()]
    schema = pa.schema([*((name, pa.string()) for name in texts), *computed, (ERROR, pa.string())])
    path = part_path(folder, number, of)
    try:
        with (
            files.replacing(path, durable=True, tidy=False) as stream,
            pq.ParquetWriter(stream, schema, use_dictionary=False) as writer,
        ):
            part = PartWriter(writer, schema, kinds, labelled=labelled)
            yield part
            part.flush()
            record = Part(
                origin=origin,
                number=number,
                of=of,
                rows=part.rows,
                errors=part.errors,
                changes=changes(),
                first_error=part.first_error,
            )
            told = {RECORD.decode(): msgspec.json.encode(record).decode(), MODEL: origin.pair}
            writer.add_key_value_metadata(told)
    except pa.ArrowException as error:
        raise VaeError(f"{path}: cannot be written ({first_line(error)})", "check the disk it is on") from error


def _texts(values: Sequence[str | None]) -> Any:  # noqa: ANN401 - pyarrow's
    import pyarrow as pa

    return pa.array([None if value is None else storable(value) for value in values], pa.string())


def _array(kind: Kind, bad: Any, values: Values | None) -> Any:  # noqa: ANN401 - pyarrow's
    """A column with nothing in the rows that are `bad`."""
    import pyarrow as pa

    if kind == "picture":
        pictures = iter(values if values is not None else ())
        return pa.array([None if missing else next(pictures) for missing in bad], pa.binary())
    found = np.asarray(values) if values is not None else np.empty((0, 0))
    if kind == "number":
        numbers = np.zeros(len(bad))
        numbers[~bad] = found.ravel()
        return pa.array(numbers, mask=bad)
    lengths = np.where(bad, 0, found.shape[1])
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int32)
    content = pa.array(np.ascontiguousarray(found, np.float32).ravel())
    return pa.ListArray.from_arrays(pa.array(offsets), content, mask=pa.array(bad))
