"""How many processors there are to use: what a control group grants, in both versions of the interface."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vaecli import processors


def group(tmp_path: Path, membership: str, files: dict[str, str]) -> float | None:
    for name, content in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(content)
    (tmp_path / "membership").write_text(membership)
    return processors.quota(tmp_path / "cgroup", tmp_path / "membership")


V1 = "4:cpu,cpuacct:/docker/abc\n3:cpuset:/\n"


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "200000 100000\n"}, 2),
        ("0::/a\n", {"a/cpu.max": "max 100000\n"}, None),
        ("0::/of/the/host\n", {"cpu.max": "50000 100000\n"}, 0.5),
        (V1, {"cpu/docker/abc/cpu.cfs_quota_us": "300000", "cpu/docker/abc/cpu.cfs_period_us": "100000"}, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "50000"}, 2),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("0::/\n", {"cpu.max": "what is this\n"}, None),
        ("0::/\n", {}, None),
    ],
)
def test_quota(tmp_path: Path, membership: str, files: dict[str, str], expected: float | None) -> None:
    assert group(tmp_path, membership, files) == expected


def test_no_control_groups_means_no_limit(tmp_path: Path) -> None:
    assert processors.quota(tmp_path, tmp_path / "none") is None


def test_a_quota_is_rounded_up_and_never_exceeds_the_affinity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(processors, "CONTROL_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(processors, "MEMBERSHIP", tmp_path / "membership")
    for share, expected in (("10000", 1), ("150000", 2), ("9900000", 4), ("max", 4)):
        group(tmp_path, "0::/\n", {"cpu.max": f"{share} 100000\n"})
        assert processors.usable() == expected
