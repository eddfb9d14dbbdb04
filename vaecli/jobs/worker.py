"""A worker of a job: opens the model once, then turns blocks into files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from vaecli import parallel, processors
from vaecli.config import DeviceChoice
from vaecli.errors import VaeError
from vaecli.events import BlockDone
from vaecli.inference.pair import Pair, open_pair
from vaecli.jobs import parquet_folder
from vaecli.jobs.blocks import Block, Item, read_block_of_latents, read_pictures
from vaecli.jobs.tasks import Compute, Decode, Task, Values, rows_at_once
from vaecli.pictures.reader import Reader

AHEAD = 2  # batches in memory for each thread, beside the one that is computed


@dataclass(frozen=True)
class Job:
    """All that a worker must know, wherever it runs."""

    run: Path
    task: Task
    output: Path
    of: int  # blocks
    origin: parquet_folder.Origin
    device: DeviceChoice = "auto"
    label: int | None = None  # the place of a class in the model's `classes`
    invert: bool = False
    batch_size: int | None = None


@dataclass
class Worker:
    """Does blocks of a job, one after the other, on all threads that this process may use."""

    job: Job
    pair: Pair | None = field(default=None, repr=False)  # where it is open already

    def __call__(self, number: int, block: Block) -> BlockDone:
        """Compute a block and write its file.

        Raises VaeError where the model or the block's file cannot be read, or the result cannot be written.
        """
        start = time.perf_counter()
        pair, (channels, height, width) = self._opened, self._opened.image_shape
        reader = Reader((height, width), channels)
        if isinstance(self.job.task, Decode):
            chunks = read_block_of_latents(block, pair.latent_dim)
        else:
            chunks = read_pictures(block, reader, pair.image_shape)
        size, threads = rows_at_once(pair, self.job.task, self.job.batch_size), processors.usable()
        kinds = self.job.task.columns(pair)
        with parquet_folder.part_writer(
            self.job.output,
            number,
            self.job.of,
            kinds,
            self.job.origin,
            lambda: reader.done,
            labelled=self.job.task.labelled,
        ) as part:
            ahead = AHEAD * threads if threads > 1 else None
            batches = _batches(map(self._with_classes, chunks), size)
            for batch, columns in parallel.ordered_map(self._computed, batches, threads, ahead):
                errors = [item.found.message if isinstance(item.found, VaeError) else None for item in batch]
                part.write([item.name for item in batch], errors, columns, [item.label for item in batch])
        seconds = time.perf_counter() - start
        return BlockDone(
            number=number,
            rows=part.rows,
            errors=part.errors,
            changes=reader.done,
            seconds=round(seconds, 4),
            first_error=part.first_error,
        )

    @cached_property
    def _opened(self) -> Pair:
        pair = self.pair
        if pair is None:
            pair = open_pair(self.job.run, self.job.device)
            if pair.digest != self.job.origin.model:
                raise VaeError(f"{self.job.run}: the model has changed", "run the whole job with one model")
        return pair if self.job.label is None else pair.given_place(self.job.label)

    @cached_property
    def _compute(self) -> Compute:
        return self.job.task.start(self._opened, self.job.batch_size)

    @cached_property
    def _find(self) -> Callable[[str], str | None]:
        """What finds the class of a picture by its path."""
        from vaecli.datasets.classes import by_path

        classes = self._opened.metadata.classes
        return by_path((), classes) if classes and not isinstance(self.job.task, Decode) else lambda name: None

    def _with_classes(self, items: list[Item]) -> list[Item]:
        """The items with the class that each is taken for; where the model needs one that is not known, why."""
        pair = self._opened
        if pair.label is not None:
            return [item._replace(label=pair.classes[pair.label]) for item in items]
        labelled = [item._replace(label=item.label or self._find(item.name)) for item in items]
        if not pair.needs_labels:
            return labelled
        return [item if item.label in pair.classes else _without_class(item) for item in labelled]

    def _computed(self, batch: list[Item]) -> tuple[list[Item], Mapping[str, Values]]:
        good = [(item.found, item.label) for item in batch if not isinstance(item.found, VaeError)]
        if not good:
            return batch, {}
        rows, classes = np.stack([found for found, _ in good]), self._opened.classes
        labels = None
        if self._opened.needs_labels:
            labels = np.array([classes.index(label or "") for _, label in good], np.int64)
        return batch, self._compute(255 - rows if self.job.invert else rows, labels)


def _without_class(item: Item) -> Item:
    """The same row with an error, as the model needs a class that it knows; or with the error that it has."""
    if isinstance(item.found, VaeError):
        return item
    known = "not known" if item.label is None else f"{item.label}, which the model does not have"
    return item._replace(found=VaeError(f"{item.name}: its class is {known}", "`label` takes all for one class"))


def _batches(chunks: Iterator[list[Item]], size: int) -> Iterator[list[Item]]:
    """The same rows, `size` at a time."""
    waiting: list[Item] = []
    for chunk in chunks:
        waiting += chunk
        while len(waiting) >= size:
            yield waiting[:size]
            del waiting[:size]
    if waiting:
        yield waiting
