"""Pictures packed in shards: WebDataset .tar files, and Parquet files with a column of image bytes.

A shard is read from its beginning to its end, a picture at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import msgspec

from vaecli import limits
from vaecli.errors import VaeError, first_line
from vaecli.extras import require_parquet
from vaecli.pictures import places
from vaecli.pictures.decoding import SUFFIXES as PICTURES

TARS = (".tar", ".tar.gz", ".tgz")
PARQUET = ".parquet"
SUFFIXES = (*TARS, PARQUET)

# Columns of a Parquet file, and the first of them that is there is taken.
IMAGE_COLUMNS = ("image", "img", "picture", "png", "jpg", "jpeg", "webp", "image_bytes", "bytes")
NAME_COLUMNS = ("name", "key", "__key__", "path", "file_name", "filename", "id")
LABEL_COLUMNS = ("label", "cls", "class", "fine_label")
ROWS = 64  # of a Parquet file that are in memory at once, at most
HELD = 2**26  # bytes that they may take, if each has the largest value that is stored
REMEDY = "copy or make it again"
LARGEST_HEADER = 2**16  # bytes of a long name or of other facts about a file in a .tar, and of the name of a class


class Packed(NamedTuple):
    """A picture in a shard: the bytes of its file."""

    name: str  # `digits.tar/0001.png`; in a Parquet file as its column says, else `digits.parquet[17]`
    content: bytes
    label: str | None = None  # its class


def is_shard(place: str) -> bool:
    """Whether a file's name has the ending of a shard."""
    return place.partition("?")[0].lower().endswith(SUFFIXES)


def find_shards(folder: Path) -> list[str]:
    """The shards directly in a folder, in natural order; of a Parquet data set its files."""
    try:
        found = [str(path) for path in folder.iterdir() if is_shard(path.name) and not path.name.startswith((".", "_"))]
    except OSError:  # who reads the folder's pictures says it
        return []
    return sorted((path for path in found if Path(path).is_file()), key=places.natural_key)


def read_shard(shard: str, groups: Sequence[int] | None = None) -> Iterator[Packed]:
    """The pictures in a shard in their order; of a Parquet file those in some of its row groups.

    Raises:
        VaeError: the shard cannot be opened, is damaged, or is a Parquet file without a column of image bytes. Of a
            damaged one the pictures before the damage come first.
    """
    with places.opened(shard) as stream:
        yield from _parquet(stream, shard, groups) if _is_parquet(shard) else _tar(stream, shard)


def row_groups(shard: str) -> list[int]:
    """The number of rows in each row group of a Parquet file; none for a .tar. Raises VaeError."""
    if not _is_parquet(shard):
        return []
    with places.opened(shard) as stream, _reading(shard):
        metadata = _parquet_file(stream, shard).metadata
        return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


def _is_parquet(shard: str) -> bool:
    return shard.partition("?")[0].lower().endswith(PARQUET)


@contextmanager
def _reading(shard: str) -> Iterator[None]:
    """Turn what is raised at a damaged shard into a VaeError that names it: tarfile and pyarrow raise many types."""
    try:
        yield
    except VaeError:
        raise
    except Exception as error:
        raise VaeError(f"{shard}: damaged shard ({first_line(error)})", REMEDY) from error


def _tar(stream: Any, shard: str) -> Iterator[Packed]:  # noqa: ANN401 - a file of Python's or of pyarrow's
    """Files that share a name up to its first dot are a sample: its pictures, and its class in a .cls file.

    See the WebDataset format, https://github.com/webdataset/webdataset.
    """
    pictures = list[tuple[str, bytes]]()  # of a sample, until its label is known
    try:
        yield from _samples(stream, shard, pictures)
    except VaeError:
        yield from (Packed(f"{shard}/{file}", content) for file, content in pictures)
        raise


def _samples(stream: Any, shard: str, pictures: list[tuple[str, bytes]]) -> Iterator[Packed]:  # noqa: ANN401 - as above
    sample, label = "", None
    import tarfile
    from tarfile import EmptyHeaderError, TruncatedHeaderError  # type: ignore[attr-defined] # documented nowhere

    class Member(tarfile.TarInfo):
        """Python's tarfile takes an end within a header, and one without the closing blocks, for the end.

        It reads what stands for a header, as long names do, however long it is.
        """

        @classmethod
        def frombuf(cls, *arguments: Any) -> Any:  # noqa: ANN401 - as Python's
            member = super().frombuf(*arguments)
            if not member.isreg() and member.size > LARGEST_HEADER:
                raise VaeError(f"{shard}: damaged shard (a header of {member.size:,} bytes)", REMEDY)
            return member

        @classmethod
        def fromtarfile(cls, tarfile: Any) -> Any:  # noqa: ANN401 - as Python's
            try:
                return super().fromtarfile(tarfile)
            except (EmptyHeaderError, TruncatedHeaderError) as error:
                raise EOFError("it ends too early") from error

    with _reading(shard):
        archive = tarfile.open(fileobj=stream, mode="r|*", tarinfo=Member)  # noqa: SIM115 - closed below
    with archive:
        while True:
            with _reading(shard):
                member = archive.next()
                archive.members.clear()  # type: ignore[attr-defined] # else a stream keeps every header
            name = member.name if member is not None else ""
            path = PurePosixPath(name)
            key = str(path.with_name(path.name.partition(".")[0] or path.name)) if member is not None else ""
            if key != sample:
                yield from (Packed(f"{shard}/{file}", content, label) for file, content in pictures)
                sample, label = key, None
                pictures.clear()
            if member is None:
                return
            is_picture = path.suffix.lower() in PICTURES
            if not member.isfile() or path.name.startswith(".") or not (is_picture or path.suffix == ".cls"):
                continue
            limits.check_part(member.size + sum(len(content) for _, content in pictures), f"{shard}/{name}")
            if not is_picture and member.size > LARGEST_HEADER:
                raise VaeError(f"{shard}/{name}: too long for the name of a class", REMEDY)
            with _reading(shard):
                file = archive.extractfile(member)
                content = file.read() if file is not None else b""
                if len(content) != member.size:
                    raise EOFError("it ends within a file")
            if is_picture:
                pictures.append((name, content))
            else:
                label = content.decode("utf-8", "replace").strip() or None


def _parquet(stream: Any, shard: str, groups: Sequence[int] | None) -> Iterator[Packed]:  # noqa: ANN401 - as above
    with _reading(shard):
        packed = stream.seek(0, os.SEEK_END)
        file = _parquet_file(stream, shard)
        schema = file.schema_arrow
    image = _image_column(schema, shard)
    named = next((name for name in NAME_COLUMNS if name in schema.names and name != image), None)
    labelled = next((name for name in LABEL_COLUMNS if name in schema.names), None)
    classes = _class_names(schema, labelled)
    columns = [name for name in (image, named, labelled) if name is not None]
    row = sum(file.metadata.row_group(group).num_rows for group in range(groups[0])) if groups else 0
    if file.metadata.num_rows > packed:
        raise VaeError(f"{shard}: {file.metadata.num_rows:,} rows in {packed:,} bytes are no pictures", REMEDY)
    largest = _largest_group(file.metadata, columns)
    limits.check_part(largest, f"{shard}: a row group", packed)
    batches = file.iter_batches(max(1, min(ROWS, HELD // max(1, largest))), row_groups=groups, columns=columns)
    while True:
        with _reading(shard):
            batch = next(batches, None)
        if batch is None:
            return
        for at in range(len(batch)):  # one by one: a copy of each is made
            record = {name: batch.column(name)[at].as_py() for name in columns}
            held = record[image]
            path = held.get("path") if isinstance(held, dict) else None
            content = held.get("bytes") if isinstance(held, dict) else held
            name = record[named] if named is not None and record[named] is not None else path
            label = None if labelled is None or record[labelled] is None else record[labelled]
            if classes and isinstance(label, int) and 0 <= label < len(classes):
                label = classes[label]
            shown = f"{shard}[{row}]" if name is None else str(name)
            yield Packed(shown, content or b"", None if label is None else str(label))
            row += 1


def _parquet_file(stream: Any, shard: str) -> Any:  # noqa: ANN401 - pyarrow has no types
    require_parquet(f"reading {shard}")
    from pyarrow.parquet import ParquetFile

    return ParquetFile(stream)


def _largest_group(metadata: Any, columns: Sequence[str]) -> int:  # noqa: ANN401 - pyarrow has no types
    """The bytes that these columns of a row group unpack to, at most. It stores a value once that many rows have."""
    sizes = [0]
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        parts = map(group.column, range(group.num_columns))
        held = [part.total_uncompressed_size for part in parts if part.path_in_schema.partition(".")[0] in columns]
        sizes.append(sum(held))
    return max(sizes)


def _image_column(schema: Any, shard: str) -> str:  # noqa: ANN401 - pyarrow has no types
    """The column with the bytes of image files, as such or as Hugging Face's {bytes, path}."""
    from pyarrow import types

    def is_bytes(kind: Any) -> bool:  # noqa: ANN401 - pyarrow has no types
        if types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0 and is_bytes(kind.field("bytes").type)
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    held = [field.name for field in schema if is_bytes(field.type)]
    found = next((name for name in IMAGE_COLUMNS if name in held), held[0] if len(held) == 1 else None)
    if found is None:
        there = ", ".join(f"{field.name} ({field.type})" for field in schema)
        problem = f"{shard}: no column of image bytes among {there}"
        raise VaeError(problem, "name the column of PNG or JPEG bytes `image`")
    return found


def _class_names(schema: Any, column: str | None) -> list[str]:  # noqa: ANN401 - pyarrow has no types
    """The names of numbered classes, where Hugging Face's metadata of the file have them."""
    try:
        held = msgspec.json.decode((schema.metadata or {})[b"huggingface"])
        return [str(name) for name in held["info"]["features"][column]["names"]]
    except (KeyError, TypeError, msgspec.DecodeError):
        return []
