"""Which of two computations is faster on this machine."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import torch

TIMED = 0.1  # seconds for which both are timed together, at least
TURNS = 30  # of each, at least: the first ones load a library, and another program may interrupt some


def time_ratio(one: Callable[[], object], other: Callable[[], object]) -> float:
    """The time of `one` as a share of that of `other`.

    Each has its fastest turn of many, with one thread: then the result is the same beside another busy program. What is
    timed should take a third of a millisecond: when it took 2.4 ms, sometimes every turn was interrupted.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fastest = [float("inf")] * 2
    end = perf_counter() + TIMED
    try:
        turns = 0
        while turns < TURNS or perf_counter() < end:
            turns += 1
            for index, compute in enumerate((one, other)):
                start = perf_counter()
                compute()
                fastest[index] = min(fastest[index], perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return fastest[0] / fastest[1]
