"""Which of two computations is faster, by a clock that the tests turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain, repeat

import pytest
import torch

from vaecli.training import timing
from vaecli.training.timing import TIMED, TURNS, time_ratio


class Clock:
    """A clock that only the computations move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turns = 0

    def __call__(self) -> float:
        return self.now

    def taking(self, seconds: Iterable[float]) -> Callable[[], None]:
        """A computation that takes these times, one after the other."""
        times = iter(seconds)

        def compute() -> None:
            self.now += next(times)
            self.turns += 1

        return compute


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(timing, "perf_counter", made)
    return made


@pytest.mark.parametrize(("one", "other"), [(0.001, 0.004), (0.02, 0.001)])
def test_the_ratio_is_that_of_the_times(clock: Clock, one: float, other: float) -> None:
    assert time_ratio(clock.taking(repeat(one)), clock.taking(repeat(other))) == pytest.approx(one / other)


def test_the_fastest_turn_decides_because_others_may_be_interrupted(clock: Clock) -> None:
    interrupted = chain([0.5] * 7, [0.001], repeat(0.5))
    assert time_ratio(clock.taking(interrupted), clock.taking(repeat(0.002))) == pytest.approx(0.5)


def test_fast_computations_have_more_turns(clock: Clock) -> None:
    time_ratio(clock.taking(repeat(0.05)), clock.taking(repeat(0.05)))
    assert clock.turns == 2 * TURNS
    clock.turns = 0
    time_ratio(clock.taking(repeat(1e-4)), clock.taking(repeat(1e-4)))
    assert clock.turns == pytest.approx(TIMED / 1e-4, abs=4)


def test_one_thread_computes_and_the_number_of_threads_comes_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    seen: set[int] = set()
    try:
        time_ratio(lambda: seen.add(torch.get_num_threads()), int)
        assert seen == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
