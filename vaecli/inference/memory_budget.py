"""The memory that the runs of one session share: how many rows a run may have, and how many run at once."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator


class MemoryBudget:
    """How the runs of a session share its memory. Where it is too little, they take fewer rows, at last one by one."""

    def __init__(self) -> None:
        self.max_rows = sys.maxsize  # of a run
        self.quick_rows = 0  # of the largest run that took less than session.QUICK_SECONDS
        self._one_at_a_time = False
        self._running = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def running(self) -> Iterator[bool]:
        """Compute one run within the block. Yields whether no other one can run meanwhile."""
        with self._changed:
            while self._one_at_a_time and self._running:
                self._changed.wait()
            self._running += 1
            alone = self._one_at_a_time
        try:
            yield alone
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def shrink(self, rows: int, *, alone: bool) -> bool:
        """Ask for less after a run of `rows` rows failed for lack of memory. Returns whether to try again.

        `alone` is what `running` gave for that run.
        """
        with self._changed:
            if rows > 1:
                self.max_rows = min(self.max_rows, rows // 2)
            else:
                self._one_at_a_time = True
        return rows > 1 or not alone
