"""Changes to global state that overlap: the original state comes back when the last one ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vaecli.global_state import SharedChange


def test_the_original_state_comes_back_when_the_last_of_them_leaves() -> None:
    state = ["original"]

    @contextmanager
    def change() -> Iterator[None]:
        before, state[:] = state[:], ["changed"]
        yield
        state[:] = before

    shared = SharedChange(change)
    shared.__enter__()
    shared.__enter__()
    shared.__exit__(None, None, None)  # the first that came, or the second: they need not leave in order
    assert state == ["changed"]
    shared.__exit__(None, None, None)
    assert state == ["original"]
    with shared:
        assert state == ["changed"]
    assert state == ["original"]


def test_a_change_that_fails_is_tried_again_by_the_next() -> None:
    results = iter([OSError("not now"), None])

    @contextmanager
    def change() -> Iterator[None]:
        if error := next(results):
            raise error
        yield

    shared = SharedChange(change)
    with pytest.raises(OSError, match="not now"), shared:
        pytest.fail("the change was not made")
    with shared:
        pass
    assert next(results, "none left") == "none left"
