"""Words of messages for a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vaecli.config import Split

MOST_LISTED = 30  # names in a message


def how_many(count: int, noun: str) -> str:
    """`1 picture`, `2,000 pictures`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str], most: int = MOST_LISTED) -> str:
    """The first `most` names in a line, and `…` where there are more: `cat, dog, …`."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def some_of(names: Sequence[str], most: int = 3) -> str:
    """The first `most` names in a line, and how many more there are: `cat, dog and 3 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def pictures_of_split(count: int, split: Split) -> str:
    """For a person: `500 held-out pictures`."""
    kinds = {"train": "training ", "all": ""}
    return how_many(count, f"{kinds.get(split, f'{split} ')}picture")
