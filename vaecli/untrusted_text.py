"""Text that somebody else wrote: names of files, models, classes and data sets, made safe to print and to store."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "?"  # in the place of a character that is not printed


def printable(text: str) -> str:
    """The text in one line, without characters that control a terminal or turn the direction of writing.

    What is not UTF-8 in a file's name is not printed either.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() or character == "\t" else HIDDEN for character in text)


def storable(text: str) -> str:
    r"""The text with each byte of a file's name that is not UTF-8 written as \xff: JSON and tables must be UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def json_line(value: Any, *, ascii_only: bool = False) -> str:  # noqa: ANN401 - any value of JSON
    """A line of JSON. Characters that control a terminal, or all beyond ASCII, are escaped, which is the same JSON."""
    import msgspec  # help pages do not need it

    try:
        encoded = msgspec.json.encode(value)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_storable(msgspec.to_builtins(value)))
    text = encoded.decode()
    if text.isprintable() and not ascii_only:
        return text
    return re.sub(
        r"[^ -~]",
        lambda match: match[0] if match[0].isprintable() and not ascii_only else _escaped(match[0]),
        text,
    )


def _storable(value: Any) -> Any:  # noqa: ANN401 - any value of JSON
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {_storable(key): _storable(one) for key, one in value.items()}
    return [_storable(one) for one in value] if isinstance(value, list | tuple) else value


def _escaped(character: str) -> str:
    r"""A character as JSON spells it: \u and four digits, twice beyond the first 65,536 characters."""
    units = character.encode("utf-16-be").hex()
    return "".join(rf"\u{units[at : at + 4]}" for at in range(0, len(units), 4))
