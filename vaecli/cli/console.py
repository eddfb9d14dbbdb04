"""What people see: messages and progress on stderr; a command's result on stdout, as text or as JSON for machines.

On a terminal rich draws bars and tables; elsewhere every event is one plain line of any length. rich is imported when
something is first drawn, because most commands end before they need it.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from vaecli.cli import progress_bar
from vaecli.cli.text_stream import TextStream, is_terminal, wrapped
from vaecli.errors import Ending
from vaecli.flags import with_flags
from vaecli.untrusted_text import json_line, printable

if TYPE_CHECKING:
    import msgspec
    from rich.console import Console as RichConsole

    from vaecli.events import Event, Progress

QUICK = 0.4  # seconds of work that need no progress bar


class Console:
    """What one command tells: notes and bars on stderr, its result on stdout, as text or as JSON."""

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        self.messages = TextStream("stderr", wanted=not quiet)
        self.result = TextStream("stdout", wanted=not json)
        self.animated = not quiet and self.messages.is_terminal
        self._work = ""  # what the current progress is about
        self._has_bar = False
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
        self.messages.line(f"warning: {text}", always=True)

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
        """Draw a bar once the work takes longer than QUICK seconds. Until then a spinner stays."""
        if event.what != self._work:
            self._stop_bar()
            self._work, self._since = event.what, time.monotonic()
        if not self._has_bar and time.monotonic() - self._since > QUICK:
            progress_bar.stop()
            progress_bar.start(self.rich, event.unit, event.what, event.total)
            self._has_bar = True
        if self._has_bar:
            progress_bar.update(event.done)
        if event.total is not None and event.done >= event.total:
            self._stop_bar()

    def _stop_bar(self) -> None:
        """Remove the bar of the current work, but no spinner."""
        if self._has_bar:
            progress_bar.stop()
        self._work, self._has_bar = "", False

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Show a spinner during work of unknown length; off a terminal, one line before it."""
        if not self.animated:
            self.note(what)
            yield
            return
        progress_bar.start_spinner(self.rich, what)  # a bar may take its place
        try:
            yield
        finally:
            progress_bar.stop()


def show_error(error: Ending, *, json: bool) -> None:
    """The two lines of an error on stderr; with --json also an object on stdout."""
    progress_bar.stop()
    message, hint = (printable(" ".join(with_flags(text).split())) for text in (error.message, error.hint))
    coloured = is_terminal(sys.stderr) and "NO_COLOR" not in os.environ
    red, bold, plain = ("\x1b[1;31m", "\x1b[1m", "\x1b[0m") if coloured else ("", "", "")
    for colour, label, text in ((red, "error:", message), (bold, "hint:", hint)):
        shown = wrapped(f"{label} {text}", sys.stderr).removeprefix(label)
        sys.stderr.write(f"{colour}{label}{plain}{shown}\n")
    sys.stderr.flush()
    if json:
        write_json({"error": message, "hint": hint, "exit_code": error.exit_code})


def write_json(record: Mapping[str, Any] | msgspec.Struct) -> None:
    """One line of JSON on stdout, in ASCII where stdout is not UTF-8, as JSON is."""
    unicode = codecs.lookup(sys.stdout.encoding).name == "utf-8"
    sys.stdout.write(json_line(record, ascii_only=not unicode) + "\n")
    sys.stdout.flush()
