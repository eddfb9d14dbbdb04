"""What a job reads, cut into blocks: each is one task of a worker, and one file of the result.

The same inputs are cut the same way on every machine and for any number of workers.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaecli.config import DataConfig, Split
from vaecli.datasets import label_table
from vaecli.datasets.classes import by_path
from vaecli.errors import UsageError, VaeError, file_error
from vaecli.events import OnEvent, ignore
from vaecli.inference.latent_files import StoredLatents, models_in, parquet_files, parquet_latents, read_latents
from vaecli.model_format import ImageShape
from vaecli.outputs import PARQUET
from vaecli.parallel import cut
from vaecli.pictures import places
from vaecli.pictures.arrays import Pixels, array_notes, byte_chunks, open_array, read_labels
from vaecli.pictures.decoding import fit
from vaecli.pictures.folders import ENDINGS, is_picture_name, left_out_note, pictures_or_shards
from vaecli.pictures.inputs import NO_INPUT_HINT, kind_of
from vaecli.pictures.reader import Reader, Source, source_of
from vaecli.pictures.shards import DamagedShardError, footer, group_sizes, read_shard, row_groups
from vaecli.streams import STDIN

if TYPE_CHECKING:
    from vaecli.datasets import Dataset
    from vaecli.datasets.dataset import Pictures
    from vaecli.inference.pair import Pair

# Rows of a block: many enough that opening a file costs little beside them, and few enough that all workers have some.
LEAST, MOST, PARTS = 64, 4096, 32


class Item(NamedTuple):
    """A row of a job."""

    name: str
    found: NDArray[Any] | VaeError  # a picture (h, w, c) or a latent (d,); or why there is none
    label: str | None = None  # its class, where it is known


@dataclass(frozen=True)
class Files:
    """Picture files."""

    names: tuple[str, ...]
    labels: tuple[str | None, ...] = ()  # their classes, where one of the inputs has a labels.csv


@dataclass(frozen=True)
class Shard:
    """A .tar, or row groups of a Parquet file of pictures."""

    place: str
    groups: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Rows:
    """Rows of an array of pictures."""

    place: str
    start: int
    stop: int


@dataclass(frozen=True)
class SplitRows:
    """Pictures of a split of a data set."""

    data: DataConfig
    split: Split
    start: int
    stop: int
    hash: str  # of the data set


@dataclass(frozen=True)
class LatentRows:
    """Latents of a file that is not Parquet."""

    place: str
    start: int
    stop: int


@dataclass(frozen=True)
class LatentGroups:
    """Latents in row groups of a Parquet file."""

    place: str
    groups: tuple[int, ...]


Block: TypeAlias = Files | Shard | Rows | SplitRows | LatentRows | LatentGroups


@dataclass(frozen=True)
class Plan:
    """All blocks of a job, in the order of its inputs."""

    blocks: list[Block]
    digest: str  # of the blocks and the files in them: their names, sizes and times
    models: frozenset[str] = frozenset()  # that encoded the latents of it, where they are known


def plan_pictures(
    inputs: Sequence[str],
    image_shape: ImageShape,
    *,
    listed: Sequence[str] = (),
    classes: Sequence[str] = (),
    data_dir: str | None = None,
    on_event: OnEvent = ignore,
) -> Plan:
    """The INPUTs of a command and those `listed`, as `pictures.inputs.read_inputs` takes them, except stdin.

    `classes` are those of a conditional model.

    Raises:
        VaeError: an INPUT is missing or empty, or an array or Parquet file cannot be opened.
        UsageError: no INPUT; or -.
    """
    if not inputs and not listed:
        raise UsageError("no INPUT", NO_INPUT_HINT)
    given = [place for text in inputs for place in ([text] if text == STDIN else places.expand(text, ENDINGS))]
    # Workers find the class of a conditional model in the path alone.
    folders = [place for place in (*given, *listed) if Path(place).is_dir()]
    tells = folders if not classes else any(label_table.exists(Path(folder)) for folder in folders)
    find = by_path(folders, classes) if tells else None
    cutter = _Cutter(image_shape, data_dir, find, on_event)
    for place in given:
        cutter.add(place, must_exist=True)
    for name in listed:
        cutter.add(name, must_exist=not is_picture_name(name))
    blocks = cutter.finish()
    return Plan(blocks, _digest(blocks))


class _Cutter:
    """Cuts INPUTs into blocks, one after the other. Its methods raise as `plan_pictures`."""

    def __init__(
        self, image_shape: ImageShape, data_dir: str | None, find: Callable[[str], str | None] | None, on_event: OnEvent
    ) -> None:
        """`find` is what finds the class of a picture file, where workers cannot."""
        self._image_shape, self._data_dir, self._find, self._on_event = image_shape, data_dir, find, on_event
        self._blocks: list[Block] = []
        self._files: list[str] = []  # that are not in a block yet

    def add(self, place: str, *, must_exist: bool) -> None:
        """Add an INPUT that is no pattern. A picture file that need not exist gets a row that says so."""
        if place == STDIN:
            raise UsageError("-: several processes cannot read stdin", "name files, folders or shards")
        kind = kind_of(place)
        if kind == "folder":
            self._add_folder(Path(place))
        elif kind == "picture" or (kind == "missing" and not must_exist):
            self._files.append(place)
        else:
            self._cut_files()
            blocks_of = {"shard": self._of_shard, "array": self._of_array, "missing": self._of_data_set}[kind]
            self._blocks += blocks_of(place)

    def finish(self) -> list[Block]:
        """All blocks of what was added."""
        self._cut_files()
        return self._blocks

    def _cut_files(self) -> None:
        for start, stop in _spans(len(self._files)):
            names = tuple(self._files[start:stop])
            labels = () if self._find is None else tuple(map(self._find, names))
            self._blocks.append(Files(names, labels if any(labels) else ()))
        self._files.clear()

    def _add_folder(self, folder: Path) -> None:
        others: list[str] = []
        found = pictures_or_shards(folder, others)
        for note in left_out_note(others):
            self._on_event(note)
        if isinstance(found[0], Path):
            self._files.extend(map(str, found))
        else:
            for shard in found:
                self.add(str(shard), must_exist=True)

    def _of_shard(self, place: str) -> list[Block]:
        places.version(place)  # that it is there
        groups = _groups(row_groups(place))  # none of a .tar
        return [Shard(place, some) for some in groups] or [Shard(place)]

    def _of_array(self, place: str) -> list[Block]:
        count = len(_array(place))
        if not places.is_address(place):
            for note in array_notes(Path(place), place, count):
                self._on_event(note)
        # A packed array is unpacked whole.
        spans = _spans(count) if places.has_ending(place, (".npy",)) else [(0, count)]
        return [Rows(place, *span) for span in spans]

    def _of_data_set(self, name: str) -> list[Block]:
        from vaecli.datasets import load  # most inputs are files
        from vaecli.datasets.splits import named

        data = named(name, self._image_shape, self._data_dir)
        if data is None:
            raise file_error(name, FileNotFoundError(2, ""))
        return _split_blocks(data, load(data, self._on_event), "held-out", self._on_event)


def plan_split(pair: Pair, data: DataConfig, split: Split, on_event: OnEvent = ignore) -> Plan:
    """The pictures of a split of a data set.

    Raises:
        VaeError: it cannot be loaded, or is that of the training and has changed since.
        UsageError: there is no such `split`.
    """
    from vaecli.inference.training_data import load_split  # most jobs name their inputs

    blocks = _split_blocks(*load_split(pair, data, split, on_event), split, on_event)
    return Plan(blocks, _digest(blocks))


def _split_blocks(data: DataConfig, dataset: Dataset, split: Split, on_event: OnEvent) -> list[Block]:
    from vaecli.datasets.splits import split_notes  # as above

    count = len(dataset.of_split(split))
    for note in split_notes(dataset, split, count):
        on_event(note)
    return [SplitRows(data, split, *span, dataset.hash) for span in _spans(count)]


def plan_latents(source: str, latent_dim: int) -> Plan:
    """The latents at a path or an address, or in the Parquet files of a folder or a pattern.

    Raises:
        VaeError: there is none, or it cannot be read.
        UsageError: - or a named pipe.
    """
    if source == STDIN or Path(source).is_fifo():
        what = "stdin" if source == STDIN else "a pipe"
        raise UsageError(f"{source}: several processes cannot read {what}", "name a file")
    blocks, models = list[Block](), set[str]()
    for place in places.expand(source, (PARQUET,)):
        if places.has_ending(place, (PARQUET,)):
            for file in parquet_files(place):
                held = footer(file)
                models |= models_in(held)
                blocks.extend(LatentGroups(file, groups) for groups in _groups(group_sizes(held)))
        else:
            stored = _stored(place, latent_dim)
            models |= stored.models
            blocks.extend(LatentRows(place, *span) for span in _spans(len(stored)))
    if not blocks:
        raise VaeError(f"{source}: no latents in it", "vae encode writes them")
    return Plan(blocks, _digest(blocks), frozenset(models))


def read_pictures(block: Block, reader: Reader, image_shape: ImageShape) -> Iterator[list[Item]]:
    """The pictures of a block in order, (h, w, c) uint8, in chunks. `reader` counts what was done to them.

    Raises VaeError where a file cannot be opened any more. A damaged picture is its own error, and damage within a
    shard is one after the pictures before it.
    """
    if isinstance(block, Files):
        yield from ([Item(*row) for row in chunk] for chunk in reader.attempts(_files(block)))
    elif isinstance(block, Shard):
        yield from ([Item(*row) for row in chunk] for chunk in reader.attempts(_packed(block)))
    elif isinstance(block, SplitRows):
        pictures = _opened(block.data, block.split, block.hash)
        for start in range(block.start, block.stop, LEAST):
            rows = slice(start, min(start + LEAST, block.stop))
            found = zip(pictures.names(rows), pictures[rows], pictures.labels(rows), strict=True)
            yield list(itertools.starmap(Item, found))
    elif isinstance(block, Rows):
        array, row = _array(block.place), block.start
        labels = None if places.is_address(block.place) else read_labels(Path(block.place), len(array)).values
        for part in cut(array[block.start : block.stop], LEAST):
            channels, height, width = image_shape
            changes = part.shape[1:] != (height, width, channels)
            items = list[Item]()
            for at, pixels in enumerate(_as_bytes(part, block.place, row), row):
                reader.done.fitted += changes and not isinstance(pixels, VaeError)
                picture = pixels if isinstance(pixels, VaeError) else fit(pixels, image_shape)
                name, label = places.row_name(block.place, at), None if labels is None else str(labels[at])
                items.append(Item(name, picture, label))
            yield items
            row += len(part)
    else:
        raise TypeError(block)


def _as_bytes(rows: NDArray[Any], place: str, start: int) -> Iterator[Pixels | VaeError]:
    """Pictures (n, h, w, c) of an array one by one as 8-bit values; of one with NaN, why there is none.

    `start` is the number of the first row. Raises VaeError where a value is outside [0, 1]: all rows have one scale.
    """
    if rows.dtype == np.uint8:
        yield from rows
        return
    damaged = np.isnan(rows).any(axis=(1, 2, 3)) if rows.dtype.kind == "f" else np.zeros(len(rows), bool)
    good = itertools.chain.from_iterable(byte_chunks(rows[~damaged], place) if not damaged.all() else ())
    for at, none in enumerate(damaged.tolist(), start):
        yield VaeError(f"{places.row_name(place, at)}: has values that are NaN", "clean it") if none else next(good)


def read_block_of_latents(block: Block, latent_dim: int) -> Iterator[list[Item]]:
    """The latents of a block in order, (d,) float32, in chunks; where one is missing or not finite, why.

    Raises VaeError where a file cannot be opened any more.
    """
    if isinstance(block, LatentRows):
        stored = _stored(block.place, latent_dim)
        with np.errstate(over="ignore", invalid="ignore"):
            latents = np.asarray(stored.rows[block.start : block.stop]).astype(np.float32)
        rows = range(block.start, block.stop)
        numbered = [places.row_name(block.place, row) for row in rows]
        names = stored.names[block.start : block.stop] if stored.names else numbered
        labels = stored.labels[block.start : block.stop] if stored.labels else [None] * len(names)
        yield [_checked(name, *row) for name, *row in zip(names, latents, labels, strict=True)]
    elif isinstance(block, LatentGroups):
        for batch in parquet_latents(block.place, latent_dim, block.groups):
            remaining = iter(batch.latents)
            yield [
                _checked(name, next(remaining), label)
                if there
                else Item(name, VaeError(f"{name}: no latent in {block.place}", "encode the picture again"), label)
                for name, there, label in zip(batch.names, batch.present, batch.labels, strict=True)
            ]
    else:
        raise TypeError(block)


def _checked(name: str, latent: NDArray[np.float32], label: str | None) -> Item:
    if not np.isfinite(latent).all():
        return Item(name, VaeError(f"{name}: not all finite numbers", "look for NaN and infinity"), label)
    return Item(name, latent, label)


def _size(count: int) -> int:
    """Of `count` rows those in a block."""
    return max(LEAST, min(MOST, math.ceil(count / PARTS)))


def _spans(count: int) -> list[tuple[int, int]]:
    """Where the blocks of `count` rows begin and end."""
    size = _size(count)
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def _groups(rows: Sequence[int]) -> list[tuple[int, ...]]:
    """Row groups of these sizes, those of a block together."""
    size, found, held, count = _size(sum(rows)), list[tuple[int, ...]](), list[int](), 0
    for group, more in enumerate(rows):
        held.append(group)
        count += more
        if count >= size or group == len(rows) - 1:
            found.append(tuple(held))
            held, count = [], 0
    return found


def _files(block: Files) -> Iterator[tuple[str, Source, str | None]]:
    labels = block.labels or (None,) * len(block.names)
    yield from ((name, source_of(name), label) for name, label in zip(block.names, labels, strict=True))


def _packed(block: Shard) -> Iterator[tuple[str, Source, str | None]]:
    try:
        for picture in read_shard(block.place, block.groups):
            yield picture.name, picture.content, picture.label
    except DamagedShardError as error:
        yield block.place, error, None


def _array(place: str) -> NDArray[Any]:
    """The pictures in a .npy or .npz, (n, h, w, c), as stored; those at an address stay in memory."""
    if not places.is_address(place):
        return open_array(Path(place), place)
    return _array_version(place, places.version(place))


@functools.lru_cache(maxsize=1)
def _array_version(place: str, _: tuple[str, int, int]) -> NDArray[Any]:
    with places.opened(place) as stream:
        return open_array(stream, place)


def _stored(place: str, latent_dim: int) -> StoredLatents:
    """The latents in a file, which stay in memory for the next block. Raises VaeError."""
    return _stored_version(place, latent_dim, places.version(place))


@functools.lru_cache(maxsize=1)
def _stored_version(place: str, latent_dim: int, _: tuple[str, int, int]) -> StoredLatents:
    return read_latents(place, latent_dim)


def close() -> None:
    """Release what is held in memory for the next block: there is none."""
    for held in (_opened, _array_version, _stored_version):
        held.cache_clear()


@functools.lru_cache(maxsize=1)
def _opened(data: DataConfig, split: Split, known: str) -> Pictures:
    """The pictures of a split, which stay open for the next block. Raises VaeError where their hash is not `known`."""
    from vaecli.datasets import load  # most inputs are files

    dataset = load(data)
    if dataset.hash != known:
        raise VaeError(f"{data.source}: has changed since the job began", "begin the job anew in another folder")
    return dataset.of_split(split)


def _digest(blocks: Sequence[Block]) -> str:
    """A hash of all that the content of the blocks depends on."""
    digest, known = hashlib.sha256(), dict[str, object]()
    for block in blocks:
        digest.update(repr(block).encode("utf-8", "surrogatepass"))
        if isinstance(block, SplitRows):  # it has the hash of its pictures
            continue
        for place in block.names if isinstance(block, Files) else (block.place,):
            if place not in known:
                if not isinstance(block, Files):
                    known.clear()  # the blocks of a file come one after the other
                known[place] = _version(place)
            digest.update(repr(known[place]).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _version(place: str) -> object:
    """What tells whether a file changed; nothing where it is missing, which its row says."""
    try:
        return places.version(place)[1:]
    except VaeError:
        return None
