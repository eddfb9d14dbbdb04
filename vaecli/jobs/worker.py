"""A worker of a job: opens the model once, then turns blocks into files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaecli import processors
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
            self.job.output, number, self.job.of, kinds, self.job.origin, lambda: reader.fitted
        ) as part:
            ahead = AHEAD * threads if threads > 1 else None
            for batch, columns in processors.ordered_map(self._computed, _batches(chunks, size), threads, ahead):
                errors = [found.message if isinstance(found, VaeError) else None for _, found in batch]
                part.write([name for name, _ in batch], errors, columns)
        seconds = time.perf_counter() - start
        return BlockDone(
            number=number,
            rows=part.rows,
            errors=part.errors,
            fitted=reader.fitted,
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
        return self.job.task.start(self._opened, self.job.batch_size or self._opened.batch_size)

    def _computed(self, batch: list[Item]) -> tuple[list[Item], Mapping[str, Values]]:
        good: list[NDArray[Any]] = [found for _, found in batch if not isinstance(found, VaeError)]
        if not good:
            return batch, {}
        rows = np.stack(good)
        return batch, self._compute(255 - rows if self.job.invert else rows)


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
