"""How many processors this process may use: by affinity, control group and OMP_NUM_THREADS."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


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
