"""How many processors this process may use; work cut into batches and spread over them in order."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Protocol, TypeVar

from vaecli.global_state import SharedChange

CONTROL_GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")

Item = TypeVar("Item")
Result = TypeVar("Result")
Rows = TypeVar("Rows", covariant=True)


def usable() -> int:
    """The processors this process may run on at once.

    Its affinity, or its control group's quota, or the number of threads that OMP_NUM_THREADS asks for, if that is less.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share, asked = _quota_of_second(int(time.monotonic()), CONTROL_GROUPS, MEMBERSHIP), asked_for()
    limits = [math.ceil(share)] if share is not None else []
    limits += [asked] if asked is not None else []
    return max(1, min([allowed, *limits]))


def asked_for() -> int | None:
    """The number of threads that OMP_NUM_THREADS asks for; None where it asks for none."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # a list is for nested regions
    return int(asked) if asked.isdecimal() else None


@functools.lru_cache(maxsize=1)
def _quota_of_second(_: int, control_groups: Path, membership: Path) -> float | None:
    """The `quota`, read once a second: reading it takes as long as a small network."""
    return quota(control_groups, membership)


def quota(control_groups: Path, membership: Path) -> float | None:
    """The processor time that Linux grants this process's control group, in processors; None where it sets no limit.

    The smallest `cpu.max` between the group and the root counts.
    """
    shares = [granted / period for granted, period in control_group_limits("cpu.max", 2, control_groups, membership)]
    return min(shares, default=None)


def control_group_limits(
    name: str, count: int, control_groups: Path = CONTROL_GROUPS, membership: Path = MEMBERSHIP
) -> Iterator[list[int]]:
    """The `count` numbers of each file of this name that sets a limit for this process's control group, up to the root.

    https://docs.kernel.org/admin-guide/cgroup-v2.html has the names. Nothing where this is not Linux.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    group = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")
    folder = control_groups / group.lstrip("/")
    # In a container the group may be named as the host sees it; then only the root exists.
    for place in (folder, *folder.parents):
        with contextlib.suppress(OSError):  # no such file
            words = (place / name).read_text().split()
            if len(words) == count and all(word.isdecimal() for word in words):  # otherwise it is "max"
                yield [int(word) for word in words]
        if place == control_groups:
            break


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
