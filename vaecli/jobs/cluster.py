"""The workers of a job as actors of a Ray cluster, by Ray Data: https://docs.ray.io/en/latest/data/data.html."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import secrets
import socket
import sys
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from vaecli.errors import VaeError, first_line
from vaecli.events import BlockDone, Note, OnEvent
from vaecli.jobs.blocks import Block
from vaecli.jobs.worker import Job, Worker

PATIENCE = 10  # seconds for a cluster to answer; Ray itself tries for minutes
LOCAL = "local"  # the address of a cluster that is started here, and ends with the job
STORE = 2**27  # bytes of memory for its objects: blocks and results are small, and pictures never among them
BLOCK, ANSWER = "block", "answer"  # columns


class _Actor:
    """A worker as Ray Data calls it: rows of blocks in, rows of answers out.

    The job comes with each block: an actor that is started again may have lost what it was made with.
    """

    def __init__(self) -> None:
        self._worker: Worker | None = None

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        answers = []
        for row in rows[BLOCK]:
            job, number, block = pickle.loads(row)  # noqa: S301 - from the process that started the job
            self._worker = self._worker or Worker(job)
            try:
                answer: BlockDone | Exception = self._worker(number, block)
            except Exception as error:  # Ray would start the actor again and again
                answer = error
            answers.append(pickle.dumps(answer))
        return {ANSWER: answers}


def on_cluster(
    job: Job, todo: Sequence[tuple[int, Block]], workers: int | None, address: str, *, gpu: bool, on_event: OnEvent
) -> Generator[BlockDone]:
    """Do the blocks on `workers` actors. None: one for each processor, or with `gpu` one for each GPU.

    An actor that is killed is started again, and its block done once more. Their results come as they are done.

    Raises VaeError as `Worker`, or where the cluster cannot be reached or fails.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # its new behaviour, without a warning
    if address == LOCAL and "ray" not in sys.modules:  # its ports are open to the network: who connects must know this
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what its C++ code writes to stderr
    import ray
    import ray.data

    with _connected(address), _as_errors():
        resources = ray.cluster_resources()
        most = int(resources.get("GPU" if gpu else "CPU", 0))
        if not most:
            raise VaeError(f"`ray` {address}: the cluster has no {'GPU' if gpu else 'CPU'}", "add a node that has one")
        size = min(workers or most, len(todo))
        on_event(Note(f"{size} actors on {len(ray.nodes())} nodes of a Ray cluster"))
        data = ray.data.from_items(
            [{BLOCK: pickle.dumps((job, *item))} for item in todo], override_num_blocks=min(len(todo), 10_000)
        )
        answers = data.map_batches(
            _Actor,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=size),
            num_cpus=1,
            num_gpus=1 if gpu else 0,
        )
        for row in answers.iter_rows():
            answer = pickle.loads(row[ANSWER])  # noqa: S301 - from an actor of ours
            if isinstance(answer, Exception):
                raise answer
            yield answer


@contextlib.contextmanager
def _connected(address: str) -> Iterator[None]:
    """Use the cluster within the block."""
    import ray

    mine = not ray.is_initialized()
    if mine:
        _check_reachable(address)
        quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
        with _as_errors(RuntimeError, ValueError):  # an old cluster, an address that is none
            if address == LOCAL:
                ray.init(address=LOCAL, include_dashboard=False, object_store_memory=STORE, **quiet)
            else:
                ray.init(address=address, **quiet)
    for handler in logging.getLogger("ray.data").handlers:  # on a terminal and in a file
        handler.setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    try:
        yield
    finally:
        if mine:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise VaeError where nothing answers at HOST:PORT."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdecimal():
        try:
            socket.create_connection((host, int(port)), PATIENCE).close()
        except OSError as error:
            problem = f"`ray` {address}: nothing answers ({error.strerror or error})"
            raise VaeError(problem, "ray start --head starts a cluster, and prints its address") from error


@contextlib.contextmanager
def _as_errors(*more: type[Exception]) -> Iterator[None]:
    """Turn what Ray raises within the block into a VaeError, and `more`."""
    import ray

    try:
        yield
    except (ray.exceptions.RayError, ConnectionError, *more) as error:
        raise VaeError(f"`ray`: {first_line(error)}", "look at the cluster: ray status") from error
