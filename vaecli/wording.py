"""Words of messages for a person."""

from __future__ import annotations


def how_many(count: int, noun: str) -> str:
    """`1 picture`, `2,000 pictures`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
