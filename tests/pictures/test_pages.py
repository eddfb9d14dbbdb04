"""How much a Parquet file unpacks to: by its pages, whatever its last bytes say."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pictures.packing import png
from vaecli.errors import VaeError
from vaecli.inference.latent_files import parquet_latents
from vaecli.pictures.pages import unpacked_size
from vaecli.pictures.shards import read_shard


def sizes(path: Path) -> list[tuple[int, int]]:
    """Of each column of each row group: what we find, and what its last bytes say."""
    metadata = pq.ParquetFile(path).metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    with path.open("rb") as stream:
        columns = [group.column(number) for group in groups for number in range(group.num_columns)]
        return [(unpacked_size(stream, one, "a.parquet"), one.total_uncompressed_size) for one in columns]


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "none"},
        {"compression": "zstd", "use_dictionary": False, "data_page_size": 1000, "write_batch_size": 16},
        {"compression": "gzip", "data_page_version": "2.0", "write_page_checksum": True},
        {"column_encoding": {"number": "DELTA_BINARY_PACKED"}, "use_dictionary": False},
        {"write_page_index": True, "data_page_size": 500, "row_group_size": 100},
    ],
)
def test_it_is_what_an_honest_file_says(options: dict[str, Any], tmp_path: Path) -> None:
    table = pa.table(
        {
            "image": [{"bytes": png(row % 7), "path": f"{row}.png"} for row in range(300)],
            "latent": [[float(row), 2.5] for row in range(300)],
            "number": range(300),
            "text": [None if row % 3 else "x" * 5000 for row in range(300)],  # in the statistics of a page, too
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", **options)
    found = sizes(tmp_path / "a.parquet")
    assert len(found) >= 5
    for ours, stated in found:
        assert stated <= ours <= max(stated, 4 * 600)


def varint(number: int, width: int = 1) -> bytes:
    """A signed number as Thrift stores it, in `width` bytes or more."""
    value, parts = 2 * number, bytearray()
    while value or len(parts) < width:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts[:-1], parts[-1] & 0x7F])


def lying(path: Path) -> None:
    """What its last bytes say becomes 5,000 bytes."""
    pq.write_table(pa.table({"image": [png(1) + bytes(2_000_000)]}), path, compression="zstd", use_dictionary=False)
    stated = varint(pq.ParquetFile(path).metadata.row_group(0).column(0).total_uncompressed_size)
    content = path.read_bytes()
    assert content.count(stated) == 2  # of the column and of the row group
    path.write_bytes(content.replace(stated, varint(5000, len(stated))))


def dotted(path: Path) -> None:
    """The same, and the column has a dot in its name, as the fields of a struct have."""
    lying(path)
    path.write_bytes(path.read_bytes().replace(b"image", b"im.ge"))


@pytest.mark.parametrize("write", [lying, dotted])
def test_what_a_file_says_of_its_sizes_is_not_believed(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAE_MAX_MEGABYTES", "1")
    write(tmp_path / "a.parquet")
    with pytest.raises(VaeError, match=r"a\.parquet: a row group: 2 MB are too many"):
        next(read_shard(str(tmp_path / "a.parquet")))


def test_a_value_that_is_repeated_counts_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of 40 bytes stands for a latent of a million numbers."""
    path, count = tmp_path / "a.parquet", 1_000_000
    pq.write_table(pa.table({"latent": [[1.0, 2.0, 2.0] * 1000]}), path, compression="none", write_statistics=False)
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    content, end = path.read_bytes(), column.dictionary_page_offset + column.total_compressed_size

    def run(
        length: int, value: bytes
    ) -> bytes:  # as in https://parquet.apache.org/docs/file-format/data-pages/encodings
        return varint(length) + value

    levels = [run(1, b"\0") + run(count - 1, b"\1"), run(count, b"\3")]  # of repetition, of definition
    body = b"".join(struct.pack("<I", len(part)) + part for part in levels) + b"\0" + run(count, b"")
    page = b"\x15\0\x15%b\x15%b\x2c\x15%b\x15\x10\x15\x06\x15\x06\0\0" % (
        varint(len(body)),
        varint(len(body)),
        varint(count),
    )
    footer = content[end:-8].replace(varint(3000), varint(count))
    pages = (content[: column.data_page_offset] + page + body).ljust(end, b"\0")
    path.write_bytes(pages + footer + struct.pack("<I", len(footer)) + b"PAR1")
    ((_, _, latents, _),) = parquet_latents(str(path), None)
    assert latents.shape == (1, count)
    assert sizes(path)[0][0] == 4 * count
    monkeypatch.setenv("VAE_MAX_MEGABYTES", "8")
    with pytest.raises(VaeError, match=r"a\.parquet: a row group: 4 MB are too many"):
        next(parquet_latents(str(path), None))


@pytest.mark.parametrize("encoding", ["DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"])
def test_an_encoding_that_nothing_limits_is_refused(encoding: str, tmp_path: Path) -> None:
    """A page of 20 bytes in it takes 8 GB."""
    table = pa.table({"image": [png(1)], "mean": [[1.0]], "name": ["a"]})
    for column in ("image", "name"):
        pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False, column_encoding={column: encoding})
        with pytest.raises(VaeError, match=rf"a\.parquet: a column in the encoding {encoding}"):
            next(read_shard(str(tmp_path / "a.parquet")))
    with pytest.raises(VaeError, match="whose memory nothing limits"):
        next(parquet_latents(str(tmp_path / "a.parquet"), 1))


class Column:
    """What pyarrow says of a column of one value, which begins with the file."""

    data_page_offset, has_dictionary_page, num_values = 0, False, 1


NUMBERS = b"\x15\x00\x15\x02\x15\x02"  # kind 0, and both sizes 1
VALUES = b"\x2c\x15\x02\x00\x00"  # the fifth field: a struct with one value


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"", "cut short"),
        (NUMBERS + VALUES[:-1], "cut short"),
        (NUMBERS + b"\x18\xff\xff\xff\xff\x0f", "cut short"),  # text of 4 GB
        (b"\x15\x00\x15\x01\x15\x02" + VALUES, "a number that cannot be"),  # a size of -1
        (b"\x15\x00\x15\xfe\xff\xff\xff\xff\x01\x15\x02" + VALUES, "a number that cannot be"),
        (b"\x15" + b"\xff" * 11, "too long"),
        (b"\x19\x00" + NUMBERS + VALUES, "an unknown type"),  # a list
        (b"\x05\x01" + NUMBERS + VALUES, "no such field"),
    ],
)
def test_a_damaged_header_is_refused(header: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        unpacked_size(io.BytesIO(header), Column, "a.parquet")


def test_of_a_field_that_is_there_twice_the_last_one_counts_as_in_arrow() -> None:
    again = b"\x05\x04\xc8\x01"  # the second field: 100
    assert unpacked_size(io.BytesIO(NUMBERS + again + b"\x3c" + VALUES[1:]), Column, "a.parquet") == 115
    of_64_bits = b"\x06\x04\xc8\x01"  # which is another field to Thrift
    assert unpacked_size(io.BytesIO(NUMBERS + of_64_bits + b"\x3c" + VALUES[1:]), Column, "a.parquet") == 16
