"""The progress bar on the terminal, which has room for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vaecli.untrusted_text import printable

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import ProgressColumn

_live: Any = None  # the rich.progress.Progress that is shown


def start(console: RichConsole, unit: str, what: str, total: int | None) -> None:
    """Start the terminal's progress bar, which fits 60 columns: what, bar, done of total, time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    count = (MofNCompleteColumn(), TextColumn(unit)) if unit else ()
    _start(console, what, total, BarColumn(bar_width=None), *count, TimeRemainingColumn(compact=True))


def start_spinner(console: RichConsole, what: str) -> None:
    """Start a spinner for work of unknown length, where the bar would be."""
    from rich.progress import SpinnerColumn

    _start(console, what, None, SpinnerColumn())


def _start(console: RichConsole, what: str, total: int | None, *columns: ProgressColumn) -> None:
    from rich.progress import Progress, TextColumn

    global _live
    description = TextColumn("{task.description}", markup=False)  # brackets in a name are not markup
    _live = Progress(description, *columns, console=console, transient=True, expand=True)
    _live.add_task(printable(what), total=total)
    _live.start()


def is_shown() -> bool:
    """Whether there is a bar or a spinner on the terminal."""
    return _live is not None


def update(done: int, what: str | None = None) -> None:
    """Move the bar, if there is one, and change the text before it."""
    if _live is not None:
        _live.update(_live.task_ids[0], completed=done, **({} if what is None else {"description": what}))


def stop() -> None:
    """Remove the progress bar from the terminal, if there is one."""
    global _live
    if _live is not None:
        _live.stop()
        _live = None
