"""Workers that are processes: killed ones, errors in them, what they print."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.memory import below
from tests.command_line import PROJECT
from tests.jobs.conftest import MakeShards
from tests.jobs.reading import names_of
from vaecli import files, load
from vaecli.errors import VaeError
from vaecli.events import BlockDone, Event, Progress
from vaecli.jobs import Encode, Score, run
from vaecli.jobs.parquet_folder import held


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
    model, output, before = load(grey, "cpu"), tmp_path / "o.parquet", set(below(os.getpid()))

    def kill() -> None:
        os.kill((set(below(os.getpid())) - before).pop(), signal.SIGKILL)

    with pytest.raises(VaeError, match=r"a worker process was killed by signal 9 \(\d+ of 30 blocks") as caught:
        run(model, Encode(), tmp_path / "shards", output, workers=2, on_event=at_first(BlockDone, kill))
    assert "`resume` with the same command" in caught.value.hint
    assert set(below(os.getpid())) <= before
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


def is_running(pid: int) -> bool:
    """Whether a process computes: one that has ended may wait for its parent."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_worker_whose_parent_was_killed_says_nothing() -> None:
    """Neither where it has an answer that nobody reads, nor where it was sent a part of a block."""
    program = (
        "import os; from vaecli.jobs import processes; processes.Worker = lambda job: lambda number, block: 'answer'; "
        "processes.serve(os.getppid())"
    )
    whole = pickle.dumps((None, 0, None))
    for sent in (whole, whole[:-2]):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=PROJECT, input=sent, stdout=writer, stderr=subprocess.PIPE, check=False
        )
        os.close(writer)
        assert done.stderr == b""


def test_a_job_without_locks(
    grey: Path, make_shards: MakeShards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, which has no flock, opens no folder and lets no process inherit a descriptor."""
    make_shards(2, 4)
    opened, started = os.open, subprocess.Popen.__init__

    def without_folders(path: str | Path, *flags: int) -> int:
        assert not Path(path).is_dir()
        return opened(path, *flags)

    def without_inheriting(process: Any, *command: Any, pass_fds: Sequence[int] = (), **options: Any) -> None:
        assert not pass_fds
        started(process, *command, **options)

    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(os, "open", without_folders)
    monkeypatch.setattr(subprocess.Popen, "__init__", without_inheriting)
    assert run(load(grey, "cpu"), Score(), tmp_path / "shards", tmp_path / "o.parquet", workers=2).rows == 8


def test_workers_of_a_job_that_is_killed_write_nothing_more(
    grey: Path, make_shards: MakeShards, tmp_path: Path
) -> None:
    """They keep the lock for as long as they live, and the next job waits for them."""
    make_shards(2, 500)
    shards, output = tmp_path / "shards", tmp_path / "o.parquet"
    command = ["score", shards, "--run", grey, "-k", "20000", "--workers", "2", "-q", "-o", f"{output}/"]
    with subprocess.Popen(
        [sys.executable, "-m", "vaecli", *map(str, command)], env={**os.environ, "PYTHONPATH": str(PROJECT)}
    ) as job:
        while len(list(output.glob(".part-*"))) < 2:  # until both workers have begun
            assert job.poll() is None
            time.sleep(0.05)
        workers = below(job.pid)
        assert all(map(is_running, workers))
        job.kill()
    with held(output):  # now, or when they have ended
        assert not any(map(is_running, workers))
        assert not list(output.iterdir())
    assert run(load(grey, "cpu"), Score(), shards, output, workers=2).rows == 1000
