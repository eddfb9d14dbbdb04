"""Changes to the state of the whole process that several threads may need at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType


class SharedChange:
    """A change of global state: the first thread that enters makes it, and the last one that leaves takes it back.

    Otherwise threads whose blocks overlap would restore each other's changes instead of the original state.
    """

    def __init__(self, change: Callable[[], AbstractContextManager[object]]) -> None:
        self._change = change
        self._lock = threading.Lock()
        self._users = 0
        self._made: AbstractContextManager[object] | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._made is None:
                made = self._change()
                made.__enter__()
                self._made = made
            self._users += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._users -= 1
            if not self._users and self._made is not None:
                made, self._made = self._made, None
                made.__exit__(None, None, None)
