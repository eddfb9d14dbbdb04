"""Which of two computations is faster."""

from __future__ import annotations

import time
from functools import partial

import torch

from vaecli.training.timing import time_ratio


def test_the_ratio_is_that_of_the_times() -> None:
    assert 0 < time_ratio(partial(time.sleep, 0.001), partial(time.sleep, 0.01)) < 0.5
    assert time_ratio(partial(time.sleep, 0.01), partial(time.sleep, 0.001)) > 2


def test_the_fastest_turn_decides_because_others_may_be_interrupted() -> None:
    turns = iter(range(1_000_000))
    ratio = time_ratio(lambda: time.sleep(0.0005 if next(turns) == 7 else 0.01), partial(time.sleep, 0.01))
    assert ratio < 0.5


def test_one_thread_computes_and_the_number_of_threads_comes_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    seen: set[int] = set()
    try:
        time_ratio(lambda: seen.add(torch.get_num_threads()), partial(int))
        assert seen == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
