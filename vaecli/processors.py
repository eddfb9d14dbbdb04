"""How many processors this process may use: fewer than the machine has, in a container or under taskset."""

from __future__ import annotations

import math
import os
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def usable() -> int:
    """The processors this process may run on at once: its affinity, or its control group's quota if less."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = quota(CONTROL_GROUPS, MEMBERSHIP)
    return max(1, min(allowed, math.ceil(share))) if share is not None else allowed


def quota(control_groups: Path, membership: Path) -> float | None:
    """How many processors' time Linux grants this process's control group; None: no limit.

    The smallest quota on the way from the group up to the root counts, in version 2 (`cpu.max`) and version 1
    (`cpu.cfs_quota_us` over `cpu.cfs_period_us`) of the interface:
    https://docs.kernel.org/admin-guide/cgroup-v2.html and https://docs.kernel.org/scheduler/sched-bwc.html.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None  # not Linux
    shares = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            root = control_groups
        elif "cpu" in controllers.split(","):
            root = control_groups / "cpu"
        else:
            continue
        folder = root / group.lstrip("/")
        # Inside a container the group may be named as the host sees it: then only the root is there.
        for place in (folder, *folder.parents):
            if share := _share(place):
                shares.append(share)
            if place == root:
                break
    return min(shares, default=None)


def _share(group: Path) -> float | None:
    try:
        if (group / "cpu.max").is_file():
            quota_us, period_us = (group / "cpu.max").read_text().split()
        else:
            quota_us = (group / "cpu.cfs_quota_us").read_text().strip()
            period_us = (group / "cpu.cfs_period_us").read_text().strip()
        return int(quota_us) / int(period_us) if int(quota_us) > 0 and int(period_us) > 0 else None
    except (OSError, ValueError):  # no such file, or "max"
        return None
