"""Work cut into batches that are computed side by side, in order, with few of them in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Protocol, TypeVar

Batch = TypeVar("Batch")
Result = TypeVar("Result")
Row = TypeVar("Row", covariant=True)

# Numbers (pixels times channels) in a batch. Measured with 784 of them to an image, on two cores: 256 and 512
# images to a batch are fastest, 128 and 1024 cost 3 % more: small batches cost calls, large ones leave the cache.
NUMBERS = 256 * 784
LARGEST = 4096


def default_size(image_shape: tuple[int, int, int]) -> int:
    """How many images of (c, h, w) make a batch."""
    channels, height, width = image_shape
    return max(1, min(LARGEST, NUMBERS // (channels * height * width)))


class Rows(Protocol[Row]):
    """What can be cut: an array, or images of which a stretch is read when it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, chosen: slice, /) -> Row: ...


def cut(rows: Rows[Row], size: int) -> Iterator[Row]:
    """`rows` in order, `size` at a time, the last batch perhaps shorter."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def side_by_side(function: Callable[[Batch], Result], batches: Iterable[Batch], workers: int) -> Iterator[Result]:
    """Apply `function` to each batch on `workers` threads; the results come in the order of the batches.

    At most two batches a worker are under way or waiting, so that memory stays flat however many there are.
    An exception of `function` is raised where its result would have come, and ends the work.
    """
    remaining = iter(batches)
    first = list(islice(remaining, 2))
    if len(first) < 2 or workers < 2:  # threads have nothing to gain
        for batch in chain(first, remaining):
            yield function(batch)
        return

    from collections import deque
    from concurrent.futures import Future, ThreadPoolExecutor

    under_way: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="vae")
    try:
        for batch in chain(first, remaining):
            under_way.append(pool.submit(function, batch))
            if len(under_way) >= 2 * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
