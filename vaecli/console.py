"""What people see: messages and progress on stderr; a command's result on stdout, as text or as JSON for machines.

On a terminal rich draws bars and tables; elsewhere every event is one plain line of any length. rich is imported when
something is first drawn, because most commands end before they need it.
"""

from __future__ import annotations

import codecs
import contextlib
import itertools
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TextIO, TypeAlias

from vaecli.errors import Ending
from vaecli.flags import run_flag, with_flags
from vaecli.foreign import json_line, printable
from vaecli.wording import how_many

if TYPE_CHECKING:
    import msgspec
    from rich.console import Console as RichConsole
    from rich.console import Group
    from rich.progress import ProgressColumn
    from rich.table import Table
    from rich.text import Text

    from vaecli.events import EpochMetrics, Event, Progress, Step, TrainingDone, TrainingStarted

QUICK = 0.4  # seconds of work that need no progress bar
REFRESH = 0.1  # seconds between two updates of a training's bar
MOST_ROWS = 10  # of a training's table before its head comes again, on a terminal that shows no more

Fact: TypeAlias = tuple[str, str | Sequence[str]]  # a name and its value, in one line or several

_live: Any = None  # the rich.progress.Progress on the terminal, which has room for one


class TextStream:
    """Text for people on stderr or stdout: on a terminal drawn by rich, elsewhere plain lines of any length."""

    def __init__(self, name: Literal["stdout", "stderr"], *, wanted: bool) -> None:
        self.name = name
        self.wanted = wanted
        self._rich: RichConsole | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether somebody looks at it."""
        return _is_terminal(getattr(sys, self.name))

    @property
    def rich(self) -> RichConsole:
        """The rich console on this stream, made when first used."""
        if self._rich is None:
            from rich.console import Console as RichConsole

            zero = self.is_terminal and os.environ.get("COLUMNS") == "0"  # rich would draw nothing
            width = _width(getattr(sys, self.name)) if zero else None  # None: the terminal's, also where that changes
            self._rich = RichConsole(stderr=self.name == "stderr", highlight=False, width=width)
        return self._rich

    def line(self, text: str) -> None:
        """Print one line."""
        if not self.wanted:
            return
        shown = _wrapped(printable(text), getattr(sys, self.name))
        if self._rich is not None:  # rich prints above a bar
            self._rich.print(shown, markup=False, soft_wrap=True)
        else:
            print(shown, file=getattr(sys, self.name), flush=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A small table, whose first column names the row. Off a terminal, on stderr: one line a row.

        Where the terminal is too narrow: each row's name, and its other cells below it.
        """
        if not self.wanted:
            return
        if self.is_terminal:
            self._draw(_bold(title))  # a title in the table is no wider than the table
            table = _rich_table(columns, rows)
            unbounded = self.rich.options.update(max_width=sys.maxsize)
            if self.rich.measure(table, options=unbounded).maximum <= self.rich.width:
                self._draw(table)
            else:
                self._draw(_rich_rows(columns, rows))
        elif self.name == "stdout":
            self._block(title, _aligned([columns, *rows]))
        else:
            for row in rows:
                pairs = (f"{name} {cell}" for name, cell in zip(columns[1:], row[1:], strict=True))
                self.line(f"{title}: {row[0]}: {', '.join(pairs)}")

    def facts(self, title: str, pairs: Iterable[Fact]) -> None:
        """Names and values in two columns, under a title if there is one. A value may have several lines."""
        if not self.wanted:
            return
        if self.is_terminal:
            self._draw(_rich_facts(title, pairs))
        else:
            rows = [(name, "; ".join(_lines(fact))) for name, fact in pairs]
            width = max((len(name) for name, _ in rows), default=0)
            self._block(title, [f"{name:<{width}}  {fact}" for name, fact in rows])

    def _block(self, title: str, lines: Sequence[str]) -> None:
        for text in (*([title] if title else []), *lines, *([""] if title else [])):
            self.line(text.rstrip())

    def _draw(self, renderable: object) -> None:
        self.rich.print(renderable)


def _bold(text: str) -> Text:
    from rich.text import Text

    return Text(printable(text), style="bold")


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))  # as Text, brackets in a name are not markup
    return table


def _rich_rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Group:
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    shown: list[Text | Padding] = []
    for name, *cells in rows:
        pairs = ", ".join(f"{column} {cell}" for column, cell in zip(columns[1:], cells, strict=True) if cell)
        shown += [Text(printable(name), overflow="fold"), Padding(Text(printable(pairs)), (0, 0, 0, 2))]
    return Group(*shown)


def _lines(fact: str | Sequence[str]) -> Sequence[str]:
    return [fact] if isinstance(fact, str) else fact


def _rich_facts(title: str, pairs: Iterable[Fact]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, box=None, show_header=False, title_justify="left", title_style="bold")
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, fact in pairs:
        table.add_row(Text(printable(name)), Text("\n".join(map(printable, _lines(fact)))))
    return table


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


class Console:
    """What one command tells: notes and bars on stderr, its result on stdout, as text or as JSON."""

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        self.messages = TextStream("stderr", wanted=not quiet)
        self.result = TextStream("stdout", wanted=not json)
        self.animated = not quiet and self.messages.is_terminal
        self._work = ""  # what the current bar is about
        self._since = 0.0

    @property
    def rich(self) -> RichConsole:
        """The rich console on stderr, made when first used."""
        return self.messages.rich

    def note(self, text: str) -> None:
        """Print one line for a person."""
        if text:
            self.messages.line(text)

    def warn(self, text: str) -> None:
        """Print a warning, also where notes are not wanted."""
        wanted, self.messages.wanted = self.messages.wanted, True
        self.note(f"warning: {text}")
        self.messages.wanted = wanted

    def emit(self, record: Mapping[str, Any] | msgspec.Struct) -> None:
        """With --json: one line of JSON on stdout. Numbers that are not finite become null."""
        if self.json:
            write_json(record)

    def report(self, event: Event) -> None:
        """Show a note or progress of a stage: the `on_event` of every command but `train`."""
        from vaecli.events import Note, Progress  # here, because help pages do not need it

        if isinstance(event, Note):
            (self.warn if event.warning else self.note)(with_flags(event.text))
        elif isinstance(event, Progress) and self.animated:
            self._show_progress(event)

    def _show_progress(self, event: Progress) -> None:
        """Draw a bar once the work takes longer than QUICK seconds."""
        if event.what != self._work:
            stop()
            self._work, self._since = event.what, time.monotonic()
        if _live is None and time.monotonic() - self._since > QUICK:
            start_bar(self.rich, event.unit, event.what, event.total)
        if _live is not None:
            _live.update(_live.task_ids[0], completed=event.done)
        if event.total is not None and event.done >= event.total:
            stop()
            self._work = ""

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Show a spinner during work of unknown length; off a terminal, one line before it."""
        if not self.animated:
            self.note(what)
            yield
            return
        start_spinner(self.rich, what)  # a bar may take its place
        try:
            yield
        finally:
            stop()


def start_bar(console: RichConsole, unit: str, what: str, total: int | None) -> None:
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


def stop() -> None:
    """Remove the progress bar from the terminal, if there is one."""
    global _live
    if _live is not None:
        _live.stop()
        _live = None


class TrainingView:
    """The `on_event` of a training: a bar for all of it, and a table that gains a row with each epoch.

    Off a terminal each epoch is one line. All losses are in nats per image; active are the latent dimensions in use.
    """

    # of which images (None: those that each epoch is measured on), heading, width, cell
    COLUMNS: ClassVar[tuple[tuple[str | None, str, int, Callable[[EpochMetrics], str]], ...]] = (
        ("training", "loss", 8, lambda epoch: f"{epoch.train.loss:.2f}"),
        ("training", "recon.", 8, lambda epoch: f"{epoch.train.reconstruction:.2f}"),
        ("training", "KL", 6, lambda epoch: f"{epoch.train.kl:.2f}"),
        (None, "loss", 8, lambda epoch: f"{epoch.held_out.loss:.2f}"),
        (None, "recon.", 8, lambda epoch: f"{epoch.held_out.reconstruction:.2f}"),
        (None, "KL", 6, lambda epoch: f"{epoch.held_out.kl:.2f}"),
        ("", "active", 6, lambda epoch: str(epoch.active_units)),
        ("", "images/s", 9, lambda epoch: f"{epoch.images_per_second:,.0f}"),
    )
    DISPENSABLE = (1, 2, 4)  # columns that are left out, in this order, until a row fits the terminal
    PREPARING = "reading pictures, importing PyTorch"

    def __init__(self, console: Console) -> None:
        self._console = console
        self._epochs = self._images = self._rows = 0
        self._measured = ""  # what the images that each epoch is measured on are called
        self._loss = ""
        self._refreshed = 0.0
        self._preparing = True
        self._headed = False
        self._prepare()

    def _prepare(self) -> None:
        """A sign of life before anything slow is imported."""
        if self._console.animated:
            start_spinner(self._console.rich, self.PREPARING)
        else:
            self._console.note(self.PREPARING)

    def __call__(self, event: Event) -> None:
        """Show one event."""
        from vaecli.events import EpochMetrics, Step, TrainingDone, TrainingStarted

        if isinstance(event, Step):
            self._step(event)
        elif isinstance(event, EpochMetrics):
            self._epoch(event)
            self._console.emit(event)
        elif isinstance(event, TrainingStarted):
            self._started(event)
        elif isinstance(event, TrainingDone):
            self._done(event)
            self._console.emit(event)
        else:
            self._console.report(event)
            if self._preparing and self._console.animated and _live is None:  # the bar of a Progress is gone
                self._prepare()

    def _started(self, event: TrainingStarted) -> None:
        stop()
        self._preparing = False
        note = self._console.note
        channels, height, width = event.image_shape
        low, high = event.value_range
        sets = [f"{how_many(event.train, 'image')} to train on", f"{event.held_out:,} held out"]
        if event.validation:
            sets.insert(1, f"{event.validation:,} for validation")
        note(f"data: {event.data}, {', '.join(sets)}, {height}x{width}x{channels}, values {low} to {high}")
        count, kind = (event.validation, "validation") if event.validation else (event.held_out, "held-out")
        images = how_many(count, f"{kind} image")
        note(f"kept: the epoch with the lowest loss on the {images}, after any KL warm-up")
        note(f"model: {event.parameters:,} parameters, {event.latent_dim} latent dimensions")
        note(f"training: {event.device}, {event.precision}, {event.path}, seed {event.seed}")
        if event.resumed_after:
            note(f"resuming after epoch {event.resumed_after} of {event.epochs}")
        self._epochs, self._images = event.epochs, event.images_in_epoch
        self._measured = "validation" if event.validation else "held out"
        if self._console.animated:
            rich = self._console.rich
            self._shown = list(self.COLUMNS)
            for index in self.DISPENSABLE:
                if self._epoch_width + sum(2 + width for _, _, width, _ in self._shown) > rich.width:
                    self._shown.remove(self.COLUMNS[index])
            start_bar(rich, "", self._progress(event.resumed_after + 1), event.epochs * event.images_in_epoch)
            _live.update(_live.task_ids[0], completed=event.resumed_after * event.images_in_epoch)

    def _head(self) -> None:
        """Two lines above the columns: which images, and what of them.

        The table is printed row by row, so a long training scrolls like any output.
        """
        groups = [
            (name, list(columns)) for name, columns in itertools.groupby(self._shown, key=lambda column: column[0])
        ]
        above = []
        for name, columns in groups:
            width = sum(width for _, _, width, _ in columns) + 2 * (len(columns) - 1)
            title = self._measured if name is None else name
            above.append(f" {title} ".center(width, "-") if title and len(columns) > 1 else f"{title:>{width}}")
        below = [f"{heading:>{width}}" for _, heading, width, _ in self._shown]
        for first, cells in (("", above), ("epoch", below)):
            line = "  ".join([f"{first:>{self._epoch_width}}", *cells])
            self._console.rich.print(line, style="bold", markup=False, no_wrap=True)

    def _progress(self, epoch: int) -> str:
        """What stands before the bar."""
        return f"epoch {min(epoch, self._epochs)}/{self._epochs}{self._loss}"

    @property
    def _epoch_width(self) -> int:
        return max(5, 2 * len(str(self._epochs)) + 1)

    def _step(self, event: Step) -> None:
        now = time.monotonic()
        if not self._headed and self._console.animated:  # what there is to note has been noted
            self._headed = True
            self._head()
        if _live is not None and now - self._refreshed > REFRESH:
            self._refreshed = now
            done = (event.epoch - 1) * self._images + event.images
            _live.update(_live.task_ids[0], description=self._progress(event.epoch), completed=done)

    def _epoch(self, epoch: EpochMetrics) -> None:
        if self._console.animated:
            if self._rows and self._rows % max(MOST_ROWS, self._console.rich.height - 4) == 0:
                self._head()
            self._rows += 1
            self._loss = f", loss {epoch.held_out.loss:.2f}"
            cells = "  ".join(f"{cell(epoch):>{width}}" for _, _, width, cell in self._shown)
            counter = f"{epoch.epoch}/{self._epochs}"
            self._console.rich.print(f"{counter:>{self._epoch_width}}  {cells}", markup=False, no_wrap=True)
            return
        held_out, train = epoch.held_out, epoch.train
        self._console.note(
            f"epoch {epoch.epoch}/{self._epochs}: "
            f"loss {train.loss:.2f} ({train.reconstruction:.2f} reconstruction, {train.kl:.2f} KL); "
            f"{self._measured} {held_out.loss:.2f} ({held_out.reconstruction:.2f} + {held_out.kl:.2f}); "
            f"{epoch.active_units} active; "
            f"{epoch.images_per_second:,.0f} images/s"
        )

    def _done(self, event: TrainingDone) -> None:
        stop()
        self._console.note(
            f"done: best epoch {event.best_epoch}, chosen by the {event.chosen_by} images: "
            f"{event.best_loss:.2f} nats per image on them"
        )
        self._console.note(f"next: vae export{run_flag(event.run)}")


def _wrapped(text: str, stream: TextIO | None) -> str:
    """On a terminal: broken between words, and nowhere else, so that a path or flag can be copied."""
    if not _is_terminal(stream):
        return text
    assert stream is not None
    width = _width(stream)
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False) if len(text) > width else text


def _width(terminal: TextIO) -> int:
    """The columns of a terminal: those that the user has set, or its own. One that was never told its size has 0."""
    given = os.environ.get("COLUMNS", "")
    return int(given if given.isdecimal() else 0) or os.get_terminal_size(terminal.fileno()).columns or 80


def show_error(error: Ending, *, json: bool) -> None:
    """The two lines of an error on stderr; with --json also an object on stdout."""
    stop()
    message, hint = (printable(" ".join(with_flags(text).split())) for text in (error.message, error.hint))
    coloured = _is_terminal(sys.stderr) and "NO_COLOR" not in os.environ
    red, bold, plain = ("\x1b[1;31m", "\x1b[1m", "\x1b[0m") if coloured else ("", "", "")
    for colour, label, text in ((red, "error:", message), (bold, "hint:", hint)):
        shown = _wrapped(f"{label} {text}", sys.stderr).removeprefix(label)
        sys.stderr.write(f"{colour}{label}{plain}{shown}\n")
    sys.stderr.flush()
    if json:
        write_json({"error": message, "hint": hint, "exit_code": error.exit_code})


def write_json(record: Mapping[str, Any] | msgspec.Struct) -> None:
    """One line of JSON on stdout, in ASCII where stdout is not UTF-8, as JSON is."""
    unicode = codecs.lookup(sys.stdout.encoding).name == "utf-8"
    sys.stdout.write(json_line(record, ascii_only=not unicode) + "\n")
    sys.stdout.flush()


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
