"""Workers that are processes: killed ones, errors in them, what they print."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.jobs.conftest import MakeShards
from tests.jobs.reading import names_of
from vaecli import load
from vaecli.errors import VaeError
from vaecli.events import BlockDone, Event, Progress
from vaecli.jobs import Encode, run


def children() -> list[int]:
    """The processes that this one has started."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            found += [int(number) for number in (task / "children").read_text().split()]
    return found


def at_first(kind: type, action: Callable[[], object]) -> Callable[[Event], None]:
    """Do something at the first event of a kind."""
    seen: list[Event] = []

    def heard(event: Event) -> None:
        if isinstance(event, kind) and not seen:
            seen.append(event)
            action()

    return heard


def test_a_worker_that_is_killed_is_an_error_and_the_rest_is_done_later(
    grey: Path, make_shards: MakeShards, tmp_path: Path
) -> None:
    make_shards(30, 20)
    model, output, before = load(grey, "cpu"), tmp_path / "o.parquet", set(children())

    def kill() -> None:
        os.kill((set(children()) - before).pop(), signal.SIGKILL)

    with pytest.raises(VaeError, match=r"a worker process was killed by signal 9 \(\d+ of 30 blocks") as caught:
        run(model, Encode(), tmp_path / "shards", output, workers=2, on_event=at_first(BlockDone, kill))
    assert "`resume` with the same command" in caught.value.hint
    assert set(children()) <= before
    assert not list(output.glob(".*"))
    result = run(model, Encode(), tmp_path / "shards", output, workers=2, resume=True)
    assert (result.rows, result.workers) == (600, 2)
    assert 1 <= result.kept < 30
    assert names_of(output) == [f"{row:04}.png" for row in range(600)]


def test_an_error_in_a_worker_is_the_jobs(grey: Path, make_shards: MakeShards, tmp_path: Path) -> None:
    shards = make_shards()
    with pytest.raises(VaeError, match=r"2\.tar: no such file .*of 3 blocks are finished"):
        run(
            load(grey, "cpu"),
            Encode(),
            tmp_path / "shards",
            tmp_path / "o.parquet",
            workers=2,
            on_event=at_first(Progress, shards[2].unlink),
        )
