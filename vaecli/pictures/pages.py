"""How much the pages of a Parquet file unpack to. Its last bytes say so, too, but Arrow believes the pages.

A column of a row group is a series of pages: a header, then what is packed. A header is a struct in Thrift's compact
protocol (https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md): fields, each with a type
and how much higher its number is than the one before it. What they mean is in
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
"""

from __future__ import annotations

import io
from typing import Any, BinaryIO, TypeAlias

from vaecli.errors import VaeError

Field: TypeAlias = tuple[int, ...]  # its number, after that of the struct that it is in

_INTEGERS, _INT32, _BYTES, _STRUCT = (4, 5, 6), 5, 8, 12  # types of fields; all that are needed are of _INT32
_FIXED = {1: 0, 2: 0, 3: 1, 7: 8}  # types of a fixed number of bytes: true, false, a byte, a double
_KIND, _UNPACKED, _PACKED = (1,), (2,), (3,)
_COUNT: dict[int, Field] = {0: (5, 1), 3: (8, 1)}  # by kind of page, where it has values
_ENCODING: dict[int, Field] = {0: (5, 2), 3: (8, 4)}
_NEEDED = {_KIND, _UNPACKED, _PACKED, *_COUNT.values(), *_ENCODING.values()}

UNLIMITED = {6: "DELTA_LENGTH_BYTE_ARRAY", 7: "DELTA_BYTE_ARRAY"}  # the packed bytes say how much memory they need
NUMBER = 4  # bytes of a value: a page of some bytes can repeat one as often as it likes
READ, LARGEST_HEADER = 2**12, 2**24  # bytes of a header, at first and at most; the second as in Arrow


def unpacked_size(stream: BinaryIO, column: Any, name: str) -> int:  # noqa: ANN401 - pyarrow has no types
    """The bytes that a column of a row group takes, of which `column` is pyarrow's metadata.

    Raises:
        VaeError: it is written in an encoding of UNLIMITED memory.
        ValueError: a header is damaged.
    """
    at = column.data_page_offset
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < at:
        at = column.dictionary_page_offset
    size = values = 0
    while values < column.num_values:  # as Arrow does
        length, fields = _header(stream, at)
        kind, unpacked, packed = (fields.get(field, 0) for field in (_KIND, _UNPACKED, _PACKED))
        if kind in _COUNT:
            values += fields.get(_COUNT[kind], 0)
            encoding = UNLIMITED.get(fields.get(_ENCODING[kind], 0))
            if encoding is not None:
                problem = f"{name}: a column in the encoding {encoding}, whose memory nothing limits"
                raise VaeError(problem, "write it again with pyarrow, with its default encodings")
        size += length + unpacked
        at += length + packed
    return max(size, NUMBER * values)


def _header(stream: BinaryIO, at: int) -> tuple[int, dict[Field, int]]:
    """The length of the header at this place, and the numbers in it that are needed."""
    size = READ
    while True:
        stream.seek(at)
        content = io.BytesIO(stream.read(size))
        fields = dict[Field, int]()
        try:
            _struct(content, fields, ())
        except EOFError:
            if len(content.getbuffer()) < size or size >= LARGEST_HEADER:
                raise ValueError("a header of a page is cut short") from None
            size *= 16
        else:
            return content.tell(), fields


def _struct(content: io.BytesIO, fields: dict[Field, int], path: Field) -> None:
    """Read a struct. As in Arrow, the last one of equal fields counts, and one of another type is another field."""
    number = 0
    while head := _byte(content):
        number = number + (head >> 4) if head >> 4 else _number(content)
        kind, field = head & 15, (*path, number)
        if not 0 < number < 2**15:
            raise ValueError("a header of a page has no such field")
        if kind == _INT32 and field in _NEEDED:
            fields[field] = _number(content)
            if not 0 <= fields[field] < 2**31:
                raise ValueError("a header of a page has a number that cannot be")
        elif kind in _INTEGERS:
            _varint(content)
        elif kind == _STRUCT:
            _struct(content, fields, field)
        elif kind in _FIXED or kind == _BYTES:
            size = _varint(content) if kind == _BYTES else _FIXED[kind]
            if size > len(content.getbuffer()) - content.tell():
                raise EOFError
            content.seek(size, io.SEEK_CUR)
        else:
            raise ValueError("a header of a page has a field of an unknown type")


def _byte(content: io.BytesIO) -> int:
    byte = content.read(1)
    if not byte:
        raise EOFError
    return byte[0]


def _number(content: io.BytesIO) -> int:
    """A signed number n, stored as 2n, or as -2n - 1 where it is negative."""
    value = _varint(content)
    return ~(value >> 1) if value & 1 else value >> 1


def _varint(content: io.BytesIO) -> int:
    """A number of seven bits a byte, the lowest first."""
    value = 0
    for shift in range(0, 70, 7):
        byte = _byte(content)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise ValueError("a header of a page has a number that is too long")
