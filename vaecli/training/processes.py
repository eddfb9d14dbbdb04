"""The processes that train one model: a single one, or those that torchrun starts, each with a part of every batch.

All draw the random numbers of the whole batch and keep those of their own rows, and gradients and losses are summed
over the processes. So the result is the same for any number of them, except for rounding.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from vaecli.errors import PeerError

if TYPE_CHECKING:
    from torch import Tensor

Shared = TypeVar("Shared")

# The last sum, kept until the next one. Else a thread of gloo may be the last to hold its tensor, and free it with
# Python's lock: where Python is just ending, the process then aborts.
_last: list[object] = []

ERROR_GRACE_SECONDS = 5  # time for rank 0 to print its error
PATIENCE = timedelta(hours=12)  # the first process may read pictures for long


@dataclass(frozen=True)
class Part:
    """The rows of a batch of `whole` images that a process takes: those from `start` to `stop`.

    A process takes at least one row. With more processes than images some rows are computed twice; `counted` is 0 for
    the copy.
    """

    start: int
    stop: int
    whole: int
    counted: int  # rows that no other process has

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole batch."""
        return self.counted == self.whole

    @property
    def weight(self) -> float:
        """The share of the batch that a mean over these rows stands for."""
        return self.counted / self.whole

    def rows(self, batch: Tensor, dimension: int = 0) -> Tensor:
        """These rows of a tensor of the whole batch."""
        return batch if self.is_whole else batch.narrow(dimension, self.start, self.stop - self.start)


@dataclass(frozen=True)
class Processes:
    """All processes of a training, as one of them sees them. PyTorch is imported where there are several."""

    rank: int = 0  # of this process; 0 is the first, which writes and reports
    count: int = 1
    local_rank: int = 0  # among those of its machine
    restarts: int = 0  # of all processes, by torchrun, after one failed

    @property
    def first(self) -> bool:
        """Whether this process writes the run folder and reports."""
        return self.rank == 0

    def part(self, whole: int) -> Part:
        """What this process takes of a batch of `whole` images."""
        start, stop = (whole * rank // self.count for rank in (self.rank, self.rank + 1))
        return Part(start, max(stop, start + 1), whole, stop - start)

    def sum_(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its sum over all processes. Raises PeerError where one has ended, see `_attended`."""
        if self.count > 1:
            import torch.distributed

            with _attended():
                work = torch.distributed.all_reduce(tensor, async_op=True)
                work.wait()
            _last[:] = [work]
        return tensor

    def share(self, make: Callable[[], Shared]) -> Shared:
        """What the first process makes, for all of them.

        Raises PeerError in the others where it fails.
        """
        if self.count == 1:
            return make()
        import torch.distributed

        content: list[Any] = [None]
        if self.first:
            content = [make()]  # where this fails, the process ends, and the others notice
        with _attended():
            torch.distributed.broadcast_object_list(content, src=0)
        found: Shared = content[0]
        return found

    def one_process_first(self, work: Callable[[], Shared]) -> Shared:
        """Do work that fills a cache: first in one process of each machine, then in the others, which use the cache."""
        if self.count == 1:
            return work()
        import torch.distributed

        if self.local_rank == 0:
            result = work()
        with _attended():
            torch.distributed.barrier()
        return result if self.local_rank == 0 else work()

    def in_words(self, batch: int) -> str:
        """What each process takes of a batch of this many images."""
        fewest, most = batch // self.count, -(-batch // self.count)
        each = f"{most}" if fewest == most else f"{fewest} or {most}"
        return f"{self.count} processes, each of which takes {each} of the {batch} images in a batch"


ALONE = Processes()


def launched() -> Processes:
    """What torchrun says of this process and the others; ALONE without it.

    https://docs.pytorch.org/docs/stable/elastic/run.html lists torchrun's variables.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ALONE
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT")
    return Processes(*(int(os.environ[name]) for name in names))


def connect() -> None:
    """Connect the processes that torchrun started to each other, until they end. Raises PeerError."""
    import torch.distributed

    if torch.distributed.is_initialized():  # a script may train several times: its processes connect once
        return
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    # After a restart on one machine, torchrun's store still has the addresses of the processes before it, so each start
    # has keys of its own. Machines count restarts each for themselves: on several of them that would not agree.
    start = launched().restarts if os.environ["GROUP_WORLD_SIZE"] == "1" else 0
    with _attended():
        store, rank, count = next(rendezvous("env://", timeout=PATIENCE))
        own = PrefixStore(f"start {start}", store)
        torch.distributed.init_process_group(backend, timeout=PATIENCE, store=own, rank=rank, world_size=count)
    atexit.register(torch.distributed.destroy_process_group)


def wait_for_rank_0_error() -> None:
    """Wait before exiting. torchrun kills all processes when one fails; rank 0 must print its error first."""
    with suppress(KeyboardInterrupt):  # SIGTERM is one
        time.sleep(ERROR_GRACE_SECONDS)


@contextmanager
def _attended() -> Iterator[None]:
    """Raise PeerError where another process has ended: gloo reports a closed connection.

    NCCL does not. There torchrun ends the other processes once one has failed.
    """
    try:
        yield
    except RuntimeError as error:
        raise PeerError(
            "another process of this training has ended",
            "its message says why; `resume` continues after the last saved epoch",
        ) from error
