"""Text by somebody else, made safe to print and to store."""

from __future__ import annotations

import json

import msgspec
import pytest

from vaecli.untrusted_text import json_line, printable, storable


class Named(msgspec.Struct):
    name: str


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Größe 5 β 日本.png", "Größe 5 β 日本.png"),
        ("a\x1b]0;title\x07b", "a?]0;title?b"),
        ("a\nerror: fake", "a?error: fake"),
        ("\x9b31m\x7f\r", "?31m??"),
        ("gnp.\u202etxe\u2028", "gnp.?txe?"),
        ("\udcff.png", "?.png"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_bytes_that_are_not_utf_8_are_stored_as_digits() -> None:
    assert storable("ä\udcff.png") == r"ä\xff.png"


@pytest.mark.parametrize("text", ["Größe", "\x1b[31m\n", "\x9b\x7f\u202e", "\U000e0001😀"])
def test_json_is_printable_and_the_same(text: str) -> None:
    line = json_line({"a": [Named(text)], text: 1.5})
    assert line.isprintable()
    assert json.loads(line) == {"a": [{"name": text}], text: 1.5}


def test_json_in_ascii() -> None:
    assert json_line({"é": "a😀\n"}, ascii_only=True) == r'{"\u00e9":"a\ud83d\ude00\n"}'


def test_json_of_a_name_that_is_not_utf_8() -> None:
    assert json.loads(json_line({"a": (Named("\udcff"),), "\udcfe": None})) == {
        "a": [{"name": r"\xff"}],
        r"\xfe": None,
    }
