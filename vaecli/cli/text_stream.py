"""Text for people on stdout or stderr: on a terminal drawn by rich, elsewhere plain lines of any length.

rich is imported when something is first drawn, because most commands end before they need it.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, TextIO, TypeAlias

from vaecli.untrusted_text import printable

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

Fact: TypeAlias = tuple[str, str | Sequence[str]]  # a name and its value, in one line or several


class TextStream:
    """Text for people on stderr or stdout: on a terminal drawn by rich, elsewhere plain lines of any length."""

    def __init__(self, name: Literal["stdout", "stderr"], *, wanted: bool) -> None:
        self.name = name
        self.wanted = wanted
        self._rich: RichConsole | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether it is a terminal."""
        return is_terminal(getattr(sys, self.name))

    @property
    def rich(self) -> RichConsole:
        """The rich console on this stream, made when first used."""
        if self._rich is None:
            from rich.console import Console as RichConsole

            zero = self.is_terminal and os.environ.get("COLUMNS") == "0"  # rich would draw nothing
            width = _width(getattr(sys, self.name)) if zero else None  # None: the terminal's, also where that changes
            self._rich = RichConsole(stderr=self.name == "stderr", highlight=False, emoji=False, width=width)
        return self._rich

    def line(self, text: str, *, always: bool = False) -> None:
        """Print one line. `always`: also where the text is not wanted."""
        if not (self.wanted or always):
            return
        shown = wrapped(printable(text), getattr(sys, self.name))
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


def wrapped(text: str, stream: TextIO | None) -> str:
    """On a terminal: broken between words, and nowhere else, so that a path or flag can be copied."""
    if not is_terminal(stream):
        return text
    assert stream is not None
    width = _width(stream)
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False) if len(text) > width else text


def _width(terminal: TextIO) -> int:
    """The columns of a terminal: those that the user has set, or its own. One that was never told its size has 0."""
    given = os.environ.get("COLUMNS", "")
    return int(given if given.isdecimal() else 0) or os.get_terminal_size(terminal.fileno()).columns or 80


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal that can draw."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
