"""The workers of a job as processes of this machine.

Each is a Python of its own that takes a block from its stdin and answers on its stdout. Python's own pools would import
the caller's script into each, and wait for a process that was killed, or leave the others.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import vaecli
from vaecli.errors import VaeError
from vaecli.events import BlockDone
from vaecli.jobs.blocks import Block
from vaecli.jobs.worker import Job, Worker

PROGRAM = "from vaecli.jobs.processes import serve; serve({})"
WATCHED = 0.2  # seconds between two looks at whether the job's process is there


def on_processes(
    job: Job, todo: Sequence[tuple[int, Block]], workers: int, threads: int, lock: int | None
) -> Generator[BlockDone]:
    """Do the blocks on `workers` processes of this many threads each. Their results come as they are done.

    A process has one block at a time, so memory does not grow with the job. All inherit the descriptor `lock`, so that
    the output is locked for as long as one of them could write to it, and end when this process is killed.

    Raises VaeError as `Worker`, or where a process is killed. All others are ended then.
    """
    waiting, results = queue.SimpleQueue[tuple[int, Block]](), queue.SimpleQueue[BlockDone | Exception]()
    for item in todo:
        waiting.put(item)

    def tend(process: _Process) -> None:
        with contextlib.suppress(queue.Empty):  # all blocks are given
            while True:
                number, block = waiting.get_nowait()
                try:
                    results.put(process.do(number, block))
                except Exception as error:
                    results.put(error)
                    return

    with contextlib.ExitStack() as ending:
        for _ in range(workers):
            process = _Process(job, threads, lock)
            ending.callback(process.end)
            threading.Thread(target=tend, args=(process,), daemon=True).start()
        for _ in todo:
            result = results.get()
            if isinstance(result, Exception):
                raise result
            yield result


class _Process:
    """One worker process."""

    def __init__(self, job: Job, threads: int, lock: int | None) -> None:
        paths = [str(Path(vaecli.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
        # BLAS reads the number of threads when it is loaded, and `processors.usable` later.
        settings = {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM.format(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **settings},
            pass_fds=() if lock is None else (lock,),
            start_new_session=True,  # Ctrl-C is for the process that started it, which ends it
        )
        self._job: Job | None = job  # until it is sent

    def do(self, number: int, block: Block) -> BlockDone:
        """Have a block done. Raises what the worker raised, and VaeError where it was killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump((self._job, number, block), self._process.stdin)
            self._process.stdin.flush()
            self._job = None
            answer = pickle.load(self._process.stdout)  # noqa: S301 - from a process of ours
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            code = self._process.wait()
            problem = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            remedy = "look at the machine's memory: fewer `workers` need less"
            raise VaeError(f"a worker process {problem}", remedy) from error
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, BlockDone)
        return answer

    def end(self) -> None:
        """End it, whatever it does: what it has finished is on the disk."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # a block that was not sent whole
                pipe.close()


def serve(parent: int) -> None:
    """In a worker process: do block after block, until there are no more, or its `parent` has ended."""
    if os.name != "nt":  # on Windows the number of the parent stays when it has ended
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else prints
    worker = None
    while True:
        try:
            job, number, block = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
        except (EOFError, pickle.UnpicklingError):  # no more blocks, or a part of one by a process that was killed
            return
        worker = worker or Worker(job)
        answer: BlockDone | Exception
        try:
            answer = worker(number, block)
        except Exception as error:
            answer = error
        try:
            pickle.dump(answer, answers)
            answers.flush()
        except BrokenPipeError:  # its parent was killed
            os._exit(1)


def _end_with(parent: int) -> None:
    """End this process when its parent has ended: nobody waits for its block, and others may want to write there."""
    while os.getppid() == parent:
        time.sleep(WATCHED)
    os._exit(1)
