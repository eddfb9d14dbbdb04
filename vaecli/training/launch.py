"""What torchrun tells a process that it starts: which one of how many it is. PyTorch is not imported."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """One process of a training. https://docs.pytorch.org/docs/stable/elastic/run.html lists torchrun's variables."""

    rank: int = 0  # 0 is the first, which writes and reports
    count: int = 1
    local_rank: int = 0  # on its machine
    restarts: int = 0  # of all processes, by torchrun, after one failed

    @property
    def first(self) -> bool:
        """Whether this process writes the run folder and reports."""
        return self.rank == 0


def launched() -> Launch:
    """What torchrun says of this process. Without torchrun it is the only one."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Launch()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT")
    return Launch(*(int(os.environ[name]) for name in names))
