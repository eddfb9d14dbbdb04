"""The memory of the processes that a benchmark starts.

Not by getrusage: there, a new process begins with the peak of the process that started it.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path


class Memory:
    """The most bytes that a process below this one has had, by sampling; Ray's own processes are not below it."""

    def __init__(self) -> None:
        self.most = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            for pid in below(os.getpid()):
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                except OSError:  # it has ended
                    continue
                held = status.partition("VmHWM:")[2].split()
                self.most = max(self.most, int(held[0]) * 1024 if held else 0)


def below(pid: int) -> list[int]:
    """The processes that one has started, and that these have started."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(number) for number in children.read_text().split()]
        except OSError:
            continue
    return found + [child for one in found for child in below(one)]
