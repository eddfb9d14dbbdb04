"""The memory that the runs of a session share: fewer rows, then one run at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.inference.decoders import megabytes_for_each_row, opened, refusal
from vaecli import model_format
from vaecli.inference.memory_budget import MemoryBudget


def test_runs_take_half_the_rows_until_one_is_left() -> None:
    budget = MemoryBudget()
    assert budget.shrink(7, alone=False)
    assert budget.max_rows == 3
    assert budget.shrink(5, alone=False), "of a run that began before"
    assert budget.max_rows == 2
    assert budget.shrink(2, alone=False)
    assert budget.max_rows == 1


def test_one_row_is_tried_again_alone_and_then_no_more() -> None:
    budget = MemoryBudget()
    with budget.running() as alone:
        assert not alone
    assert budget.shrink(1, alone=False)
    with budget.running() as alone:
        assert alone
        began = threading.Event()

        def run() -> None:
            with budget.running():
                began.set()

        other = threading.Thread(target=run)
        other.start()
        assert not began.wait(0.05), "while another one runs"
    assert began.wait(10)
    other.join()
    assert not budget.shrink(1, alone=True)


def test_a_batch_that_asks_for_too_much_is_computed_in_parts(decoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latents = np.random.default_rng(0).standard_normal((64, 2), np.float32)
    (expected,) = opened(decoder).run((model_format.IMAGE,), latents)
    megabytes_for_each_row(decoder, 12)
    monkeypatch.setenv("VAE_MAX_MEGABYTES", "40")
    graph = opened(decoder)
    with ThreadPoolExecutor(4) as threads:  # one row has room, and two have, but not four
        for (images,) in threads.map(lambda _: graph.run((model_format.IMAGE,), latents), range(4)):
            assert np.allclose(images, expected, atol=1e-6)
    monkeypatch.setenv("VAE_MAX_MEGABYTES", "10")
    assert refusal(decoder).message == f"{decoder}: asks for more than 10 MB of memory"
