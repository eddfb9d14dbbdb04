"""Work cut into batches, and spread over threads in order."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Protocol, TypeVar

from vaecli.global_state import SharedChange

Item = TypeVar("Item")
Result = TypeVar("Result")
Rows = TypeVar("Rows", covariant=True)


class Sliceable(Protocol[Rows]):
    """What can be cut into batches: an array, or pictures that are read when a slice is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, chosen: slice, /) -> Rows: ...


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


# Within a block of this, NumPy computes a product on one thread: several threads of Python may be in it at once.
products_on_one_thread = SharedChange(_one_thread)


def cut(rows: Sliceable[Rows], size: int) -> Iterator[Rows]:
    """`rows` in batches of `size`; the last may be smaller."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int | None = None
) -> Iterator[Result]:
    """`map` on threads: the results come in order, and at most `ahead` items (2 a worker) are under way or waiting.

    So memory stays flat for any number of items. An exception of `function` is raised in the place of its result and
    ends the work. With one worker and no `ahead`, or a single item, no thread is started.
    """
    remaining = iter(items)
    first = list(islice(remaining, 2))
    if len(first) < 2 or (workers < 2 and ahead is None):
        yield from map(function, chain(first, remaining))
        return

    from concurrent.futures import Future, ThreadPoolExecutor  # 5 ms that a single batch need not wait for

    under_way: deque[Future[Result]] = deque()
    pool, wait = ThreadPoolExecutor(workers, thread_name_prefix="vae"), True
    try:
        for item in chain(first, remaining):
            under_way.append(pool.submit(function, item))
            if len(under_way) >= (ahead or 2 * workers):
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    except KeyboardInterrupt:
        wait = False  # for what is under way: who pressed Ctrl-C is waiting
        raise
    finally:
        pool.shutdown(wait, cancel_futures=True)
