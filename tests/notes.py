"""What notes say."""

from __future__ import annotations

from collections.abc import Sequence

from vaecli.events import Note


def texts(notes: Sequence[Note]) -> tuple[str, ...]:
    """Their sentences."""
    return tuple(note.text for note in notes)
