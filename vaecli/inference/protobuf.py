"""The bytes of a protobuf message: read without a package, because they may be a stranger's.

A message is a series of fields: a key (field number and wire type), then a number, or a length and that many bytes,
which may be a message again (https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

Value: TypeAlias = int | memoryview

_NUMBER, _BYTES = 0, 2  # wire types
_FIXED = {1: 8, 5: 4}  # wire types of a fixed number of bytes


def fields(message: memoryview) -> Iterator[tuple[int, Value, memoryview]]:
    """The number and value of each field, and all of its bytes. Raises ValueError where the message is damaged."""
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        number, wire_type = key >> 3, key & 7
        value: Value
        if wire_type == _NUMBER:
            value, at = _varint(message, at)
        elif wire_type == _BYTES or wire_type in _FIXED:
            length, at = (_FIXED[wire_type], at) if wire_type in _FIXED else _varint(message, at)
            if length > len(message) - at:
                raise ValueError("cut short")
            value, at = message[at : at + length], at + length
        else:
            raise ValueError("unknown wire type")
        if not 0 < number < 2**29:  # some readers drop the upper bits, and would see another field
            raise ValueError("no such field number")
        yield number, value, message[start:at]


def last_fields(message: memoryview) -> dict[int, Value]:
    """The last value of each field, which is the one that counts where only one may be there. Raises ValueError."""
    return {number: value for number, value, _ in fields(message)}


def text(held: Mapping[int, Value], number: int) -> str:
    """The text in a field, empty where the field is not there. Raises ValueError where it is none."""
    value = held.get(number, memoryview(b""))
    if isinstance(value, int):
        raise ValueError("a number where a name should be")
    return str(value, "utf-8")


def integer(held: Mapping[int, Value], number: int) -> int:
    """The number in a field, 0 where the field is not there. Raises ValueError where it is none."""
    value = held.get(number, 0)
    if not isinstance(value, int):
        raise ValueError("bytes where a number should be")
    return value


def field_of_bytes(number: int, content: bytes) -> bytes:
    """The bytes of a field that holds `content`."""
    head, rest = bytearray([number << 3 | _BYTES]), len(content)
    while rest >= 0x80:
        head.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*head, rest]) + content


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("cut short")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("number too long")
