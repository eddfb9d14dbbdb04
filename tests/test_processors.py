"""How many processors there are to use, and work spread over them in order."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from itertools import count, islice
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from vaecli import processors
from vaecli.processors import ordered_map, products_on_one_thread


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


def thread_name(_: int) -> str:
    return threading.current_thread().name


def test_results_have_the_order_of_the_items() -> None:
    first_may_end = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert first_may_end.wait(10)  # until the second one is done
        else:
            first_may_end.set()
        return item * item

    assert list(ordered_map(work, range(20), workers=2)) == [item * item for item in range(20)]


@pytest.mark.parametrize(("workers", "ahead", "most"), [(2, None, 4), (3, None, 6), (2, 3, 3), (1, 2, 2)])
def test_items_are_taken_only_a_few_ahead(workers: int, ahead: int | None, most: int) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in count():
            taken += 1
            yield item

    results = ordered_map(abs, items(), workers, ahead)
    for received, _ in enumerate(islice(results, 30), 1):
        assert taken - received == most - 1  # the result that was just received is one of `most`


def test_an_exception_is_raised_in_the_place_of_its_result() -> None:
    started = []

    def work(item: int) -> int:
        started.append(item)
        if item == 3:
            raise ValueError("three")
        return item

    results = ordered_map(work, range(1000), workers=2)
    assert list(islice(results, 3)) == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert len(started) < 20
    assert next(results, None) is None


def test_an_exception_of_the_items_comes_through() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(ordered_map(abs, items(), workers=2))


@pytest.mark.parametrize(("n", "workers", "ahead"), [(0, 4, None), (1, 4, None), (1, 4, 2), (5, 1, None)])
def test_where_threads_are_of_no_use_there_is_none(n: int, workers: int, ahead: int | None) -> None:
    assert list(ordered_map(thread_name, range(n), workers, ahead)) == [threading.current_thread().name] * n


def test_one_worker_works_ahead_where_that_is_asked_for() -> None:
    assert all(name.startswith("vae") for name in ordered_map(thread_name, range(5), workers=1, ahead=2))


def test_work_that_nobody_waits_for_is_not_begun() -> None:
    started = []

    def work(item: int) -> None:
        started.append(item)
        time.sleep(0.02)

    results = ordered_map(work, range(100), workers=1, ahead=8)
    next(results)
    results.close()  # type: ignore[attr-defined]  # a generator, said to be an iterator
    assert len(started) < 8


def test_the_threads_end_with_the_work() -> None:
    results = ordered_map(thread_name, range(100), workers=2)
    next(results)
    results.close()  # type: ignore[attr-defined]  # a generator, said to be an iterator
    assert not any(thread.name.startswith("vae_") for thread in threading.enumerate())


def test_an_interruption_does_not_wait_for_what_is_under_way() -> None:
    released, main = threading.Event(), threading.main_thread().ident
    assert main is not None
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def work(item: int) -> None:
        if item == 1:
            signal.pthread_kill(main, signal.SIGINT)
            assert released.wait(60), "the interruption waits for this"

    try:
        with pytest.raises(KeyboardInterrupt):
            list(ordered_map(work, range(100), workers=2))
        assert any(thread.name.startswith("vae_") for thread in threading.enumerate())
    finally:
        signal.signal(signal.SIGINT, before)
        released.set()


def test_products_are_computed_on_one_thread_within_the_block() -> None:
    def threads() -> list[int]:
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before = threads()
    with threadpool_limits(3, user_api="blas"):
        assert set(threads()) == {3}
        with products_on_one_thread:
            assert set(threads()) == {1}
        assert set(threads()) == {3}
    assert threads() == before
