"""Batches side by side: in order, few at a time, and an error where it belongs."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from vaecli.inference.batches import default_size, side_by_side


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_order(workers: int) -> None:
    held_up = threading.Event()

    def function(number: int) -> int:
        if number == 0 and workers > 1:  # the first is the last to be done
            assert held_up.wait(10)
        if number == 1:
            held_up.set()
        return number * number

    assert list(side_by_side(function, range(50), workers)) == [number * number for number in range(50)]


def test_work_is_shared_between_threads() -> None:
    meeting = threading.Barrier(3)
    assert list(side_by_side(lambda number: meeting.wait(10) >= 0 and number, range(3), 3)) == [0, 1, 2]


@pytest.mark.parametrize("workers", [1, 3])
def test_only_a_few_batches_are_taken_ahead(workers: int) -> None:
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield number

    for position, _ in enumerate(side_by_side(lambda number: number, source(), workers)):
        assert taken <= position + 2 * workers + 1


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_comes_where_its_result_would_have(workers: int) -> None:
    results = side_by_side(lambda number: 1 // (4 - number), range(1000), workers)
    assert [next(results) for _ in range(4)] == [0, 0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_leaving_early_ends_the_threads() -> None:
    before = threading.active_count()
    results = side_by_side(lambda number: number, range(1000), 3)
    next(results)
    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert threading.active_count() == before


def test_batches_shrink_as_images_grow() -> None:
    sizes = [default_size((3, side, side)) for side in (8, 28, 64, 256, 1024)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1
    assert default_size((1, 1, 1)) <= 4096
