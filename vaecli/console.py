"""What people see, all of it on stderr; and the one line of JSON on stdout that machines read.

On a terminal rich draws bars and tables; elsewhere every event is one plain line of any length. rich is
imported when something is first drawn, because most commands end before they would need it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import msgspec
    from rich.console import Console as RichConsole

    from vaecli.errors import VaeError
    from vaecli.metrics import EpochMetrics

Advance = Callable[[int], None]  # reports so many more units done

QUICK = 0.4  # seconds of work that need no progress bar


class Console:
    """One command's voice: notes, bars and tables for people, JSON for machines."""

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        self.animated = not quiet and _is_terminal()
        self._rich: RichConsole | None = None

    @property
    def rich(self) -> RichConsole:
        """The rich console on stderr, made when first used."""
        if self._rich is None:
            from rich.console import Console as RichConsole

            self._rich = RichConsole(stderr=True, highlight=False)
        return self._rich

    def note(self, text: str) -> None:
        """Say one line to a person."""
        if self.quiet:
            return
        if self._rich is not None:  # a bar may be alive: rich prints above it
            self._rich.print(text, markup=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is the console

    def warn(self, text: str) -> None:
        """Say what a person should know even when nothing else is said."""
        quiet, self.quiet = self.quiet, False
        self.note(f"warning: {text}")
        self.quiet = quiet

    def emit(self, record: Mapping[str, Any] | msgspec.Struct) -> None:
        """With --json: one line of JSON on stdout. Numbers that are not finite become null."""
        if self.json:
            write_json(record)

    @contextlib.contextmanager
    def progress(self, what: str, total: int | None, unit: str) -> Iterator[Advance]:
        """A bar over `total` units of work, drawn on a terminal once the work proves long."""
        if not self.animated:
            yield lambda _: None
            return
        bar = _Bar(self, what, total, unit)
        try:
            yield bar.advance
        finally:
            bar.close()

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """A spinner for work whose length is not known."""
        if not self.animated:
            yield
            return
        with self.rich.status(what):
            yield

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A small table: drawn on a terminal, elsewhere one tab-free line a row. The first column names the row."""
        if self.quiet:
            return
        if not self.animated:
            for row in rows:
                pairs = (f"{name} {cell}" for name, cell in zip(columns[1:], row[1:], strict=True))
                self.note(f"{title}: {row[0]}: {', '.join(pairs)}")
            return
        from rich import box
        from rich.table import Table

        table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
        for index, name in enumerate(columns):
            table.add_column(name, justify="right" if index else "left", overflow="fold")
        for row in rows:
            table.add_row(*row)
        self.rich.print(table)

    def facts(self, title: str, pairs: Iterable[tuple[str, str]]) -> None:
        """Names and what they stand for, under a title if any: in columns on a terminal, else one line each."""
        if self.quiet:
            return
        if not self.animated:
            for name, fact in pairs:
                self.note(": ".join(filter(None, (title, name, fact))))
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title or None, box=None, show_header=False, title_justify="left", title_style="bold")
        table.add_column(style="dim")
        table.add_column(overflow="fold")
        for name, fact in pairs:
            table.add_row(Text(name), Text(fact))  # not markup: a name may have brackets
        self.rich.print(table)


class _Bar:
    """A rich progress bar that appears only when its work lasts longer than QUICK seconds."""

    def __init__(self, console: Console, what: str, total: int | None, unit: str) -> None:
        self._console, self._what, self._total, self._unit = console, what, total, unit
        self._start = time.monotonic()
        self._done = 0
        self._shown: Any = None  # rich.progress.Progress, once it is drawn

    def advance(self, units: int) -> None:
        self._done += units
        if self._shown is None and time.monotonic() - self._start > QUICK:
            self._shown = progress_bar(self._console.rich, self._unit)
            self._shown.add_task(self._what, total=self._total)
            self._shown.start()
        if self._shown is not None:
            self._shown.update(self._shown.task_ids[0], completed=self._done)

    def close(self) -> None:
        if self._shown is not None:
            self._shown.stop()


def progress_bar(console: RichConsole, unit: str) -> Any:  # noqa: ANN401 - rich.progress.Progress, imported late
    """A transient rich progress bar that fits 60 columns: what, bar, done of total, time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        expand=True,
    )


class EpochView:
    """Training as it is watched: a bar for the epoch that runs, and a table that gains a row with each.

    Off a terminal each epoch is one line. All losses are in nats per image; active are the latent dimensions in use.
    """

    # heading, width, cell
    COLUMNS: ClassVar[tuple[tuple[str, int, Callable[[EpochMetrics], str]], ...]] = (
        ("loss", 8, lambda epoch: f"{epoch.train.loss:.2f}"),
        ("recon.", 8, lambda epoch: f"{epoch.train.reconstruction:.2f}"),
        ("KL", 6, lambda epoch: f"{epoch.train.kl:.2f}"),
        ("held out", 8, lambda epoch: f"{epoch.held_out.loss:.2f}"),
        ("recon.", 8, lambda epoch: f"{epoch.held_out.reconstruction:.2f}"),
        ("KL", 6, lambda epoch: f"{epoch.held_out.kl:.2f}"),
        ("active", 6, lambda epoch: str(epoch.active_units)),
        ("images/s", 9, lambda epoch: f"{epoch.images_per_second:,.0f}"),
    )
    DISPENSABLE = (1, 2, 4)  # columns that a narrow terminal does without
    NARROW = 80  # columns of a terminal that shows the whole table
    REFRESH = 0.1  # seconds between two looks of the bar

    def __init__(self, console: Console, epochs: int, images: int) -> None:
        self._console, self._epochs, self._images = console, epochs, images
        self._bar: Any = None  # rich.progress.Progress, where it is drawn
        self._refreshed = 0.0

    def __enter__(self) -> EpochView:
        if self._console.animated:
            rich = self._console.rich
            narrow = rich.width < self.NARROW
            self._shown = [
                column for index, column in enumerate(self.COLUMNS) if not (narrow and index in self.DISPENSABLE)
            ]
            # The table is printed row by row, so that a long training scrolls like any output.
            headings = "  ".join(f"{heading:>{width}}" for heading, width, _ in self._shown)
            rich.print(f"{'epoch':>{self._epoch_width}}  {headings}", style="bold", markup=False, no_wrap=True)
            self._bar = progress_bar(rich, "images")
            self._bar.add_task("", total=self._images)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def _epoch_width(self) -> int:
        return max(5, 2 * len(str(self._epochs)) + 1)

    def step(self, epoch: int, images: int) -> None:
        """So many images of `epoch` are done."""
        if self._bar is None:
            return
        now = time.monotonic()
        if now - self._refreshed > self.REFRESH:
            self._refreshed = now
            self._bar.update(self._bar.task_ids[0], description=f"epoch {epoch}", completed=images)

    def epoch(self, epoch: EpochMetrics) -> None:
        """An epoch is over."""
        if self._bar is not None:
            cells = "  ".join(f"{cell(epoch):>{width}}" for _, width, cell in self._shown)
            counter = f"{epoch.epoch}/{self._epochs}"
            self._bar.console.print(f"{counter:>{self._epoch_width}}  {cells}", markup=False, no_wrap=True)
            return
        held_out, train = epoch.held_out, epoch.train
        self._console.note(
            f"epoch {epoch.epoch}/{self._epochs}: "
            f"loss {train.loss:.2f} = {train.reconstruction:.2f} reconstruction, {train.kl:.2f} KL; "
            f"held out {held_out.loss:.2f} = {held_out.reconstruction:.2f} + {held_out.kl:.2f}; "
            f"{epoch.active_units} active; "
            f"{epoch.images_per_second:,.0f} images/s"
        )


def show_error(error: VaeError, *, json: bool) -> None:
    """The two lines every error is; with --json an object on stdout as well."""
    message, hint = (" ".join(text.split()) for text in (error.message, error.hint))
    colour = _is_terminal() and "NO_COLOR" not in os.environ
    red, bold, plain = ("\x1b[1;31m", "\x1b[1m", "\x1b[0m") if colour else ("", "", "")
    sys.stderr.write(f"{red}error:{plain} {message}\n{bold}hint:{plain} {hint}\n")
    sys.stderr.flush()
    if json:
        write_json({"error": message, "hint": hint, "exit_code": error.exit_code})


def write_json(record: Mapping[str, Any] | msgspec.Struct) -> None:
    """One line of JSON on stdout."""
    import msgspec  # late, for the help pages' sake

    sys.stdout.write(msgspec.json.encode(record).decode() + "\n")
    sys.stdout.flush()


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
