"""How many processors there are to use."""

from __future__ import annotations

import math
import os
from functools import partial
from pathlib import Path

import pytest

from vaecli import processors


def group(tmp_path: Path, membership: str, files: dict[str, str]) -> float | None:
    for name, content in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(content)
    (tmp_path / "membership").write_text(membership)
    return processors.quota(tmp_path / "cgroup", tmp_path / "membership")


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "200000 100000\n"}, 2),
        ("0::/a\n", {"a/cpu.max": "max 100000\n"}, None),
        ("0::/of/the/host\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("4:cpu,cpuacct:/docker/abc\n0::/a\n", {"a/cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "what is this\n"}, None),
        ("0::/\n", {"cpu.max": "150000\n"}, None),
        ("0::/\n", {}, None),
    ],
)
def test_quota(tmp_path: Path, membership: str, files: dict[str, str], expected: float | None) -> None:
    assert group(tmp_path, membership, files) == expected


def test_no_control_groups_means_no_limit(tmp_path: Path) -> None:
    assert processors.quota(tmp_path, tmp_path / "none") is None


def test_a_quota_is_rounded_up_and_never_exceeds_the_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(processors, "CONTROL_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(processors, "MEMBERSHIP", tmp_path / "membership")
    for share, expected in (("10000", 1), ("150000", 2), ("9900000", 4), ("max", 4)):
        group(tmp_path, "0::/\n", {"cpu.max": f"{share} 100000\n"})
        processors._quota_of_second.cache_clear()
        assert processors.usable() == expected


def test_the_quota_is_read_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(processors, "CONTROL_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(processors, "MEMBERSHIP", tmp_path / "membership")
    found = []
    for now, share in ((5.0, "100000"), (5.9, "200000"), (6.0, "200000")):
        monkeypatch.setattr("time.monotonic", partial(float, now))
        group(tmp_path, "0::/\n", {"cpu.max": f"{share} 100000\n"})
        found.append(processors.usable())
    assert found == [1, 1, 2]


def test_the_number_of_threads_that_is_asked_for_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    for asked, expected in (("1", 1), ("3,2", 3), ("64", 4), ("0", 1), ("", 4), ("many", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert processors.usable() == min(
            expected, math.ceil(processors.quota(processors.CONTROL_GROUPS, processors.MEMBERSHIP) or 4)
        )
