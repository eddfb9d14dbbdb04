"""Work cut into batches and spread over threads: order, memory, exceptions, the end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from itertools import count, islice

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from vaecli.parallel import ordered_map, products_on_one_thread


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
