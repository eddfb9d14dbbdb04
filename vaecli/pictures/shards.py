"""Pictures packed in shards: WebDataset .tar files, and Parquet files with a column of image bytes.

A shard is read from its beginning to its end, a picture at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec

from vaecli import limits
from vaecli.errors import VaeError, first_line
from vaecli.extras import require
from vaecli.outputs import PARQUET
from vaecli.pictures import places
from vaecli.pictures.decoding import SUFFIXES as PICTURES
from vaecli.pictures.pages import unpacked_size
from vaecli.pictures.parts import check_finished

TARS = (".tar", ".tar.gz", ".tgz")
SUFFIXES = (*TARS, PARQUET)

# Columns of a Parquet file, and the first of them that is there is taken.
IMAGE_COLUMNS = ("image", "img", "picture", "png", "jpg", "jpeg", "webp", "image_bytes", "bytes")
NAME_COLUMNS = ("name", "key", "__key__", "path", "file_name", "filename", "id")
LABEL_COLUMNS = ("label", "cls", "class", "fine_label")
ROWS = 64  # of a Parquet file that are in memory at once, at most
HELD = 2**26  # bytes that they may take, if each has the largest value that is stored
REMEDY = "copy or make it again"
TAR_BLOCK = 512  # bytes: a .tar has a header of one block for each file, and whole blocks of its content
LARGEST_HEADER = 2**16  # bytes of a long name or of other facts about a file in a .tar, and of the name of a class


class DamagedShardError(VaeError):
    """A shard cannot be read from here on, and will not be tomorrow."""


class Packed(NamedTuple):
    """A picture in a shard: the bytes of its file."""

    name: str  # `digits.tar/0001.png`; in a Parquet file as its column says, else `digits.parquet[17]`
    content: bytes
    label: str | None = None  # its class


def no_picture_in(source: str) -> VaeError:
    """The error where shards have no picture."""
    return VaeError(f"{source}: no picture in it", "a .tar has picture files, a .parquet a column of image bytes")


def is_shard(place: str) -> bool:
    """Whether a path or an address has the ending of a shard."""
    return places.has_ending(place, SUFFIXES)


def find_shards(folder: Path) -> list[str]:
    """The shards directly in a folder, in natural order.

    Raises VaeError where they are those of a job that is not finished.
    """
    try:
        found = [str(path) for path in folder.iterdir() if is_shard(path.name) and not path.name.startswith((".", "_"))]
    except OSError:  # who reads the folder's pictures says it
        return []
    files = sorted((path for path in found if Path(path).is_file()), key=places.natural_key)
    check_finished(files)
    return files


def read_shard(shard: str, groups: Sequence[int] | None = None) -> Iterator[Packed]:
    """The pictures in a shard in their order; of a Parquet file those in some of its row groups.

    Raises:
        VaeError: the shard cannot be opened, is damaged, or is a Parquet file without a column of image bytes. Of a
            damaged one the pictures before the damage come first.
    """
    if _is_parquet(shard):
        yield from _parquet(shard, groups)
        return
    with places.opened(shard) as stream:
        yield from _tar(stream, shard)


def row_groups(shard: str) -> list[int]:
    """The number of rows in each row group of a Parquet file; none for a .tar. Raises VaeError."""
    return group_sizes(footer(shard)) if _is_parquet(shard) else []


def footer(file: str) -> Any:  # noqa: ANN401 - pyarrow has no types
    """The metadata in the footer of a Parquet file. Raises VaeError."""
    with places.opened(file) as stream, ReadingShard(file):
        return _parquet_file(stream, file).metadata


def group_sizes(metadata: Any) -> list[int]:  # noqa: ANN401 - as above
    """The number of rows in each row group, by a file's `footer`."""
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


def count_pictures(shard: str, first: int, size: int) -> int:
    """How many pictures a shard has: the rows of a Parquet file. Of a .tar it is estimated from its first ones.

    `size` is the sum of `size_in_tar` over the `first` pictures. Raises VaeError.
    """
    if rows := sum(row_groups(shard)):
        return rows
    return max(first, round(first * places.version(shard)[1] / size))


def size_in_tar(picture: Packed) -> int:
    """The bytes that a picture and its class take in a .tar."""
    sizes = [len(picture.content), *([1] if picture.label is not None else [])]  # the .cls file is short
    return sum(TAR_BLOCK + -(-size // TAR_BLOCK) * TAR_BLOCK for size in sizes)


def _is_parquet(shard: str) -> bool:
    return places.has_ending(shard, (PARQUET,))


class ReadingShard:
    """Turns what is raised at a damaged shard into a VaeError that names it: tarfile and pyarrow raise many types."""

    def __init__(self, shard: str) -> None:
        self._shard = shard

    def __enter__(self) -> None:
        """Begin: a class, because it is entered twice for each file."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise DamagedShardError for any other Exception."""
        if isinstance(error, Exception) and not isinstance(error, VaeError):
            raise DamagedShardError(f"{self._shard}: damaged shard ({first_line(error)})", REMEDY) from error


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

        def _sparse(self, *_: object) -> NoReturn:
            raise VaeError(f"{shard}: has a sparse file, whose list of parts has no end", "pack it without --sparse")

        _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _sparse  # Python's, of 4 formats

    with ReadingShard(shard):
        archive = tarfile.open(fileobj=stream, mode="r|*", tarinfo=Member)  # noqa: SIM115 - closed below
    with archive:
        while True:
            with ReadingShard(shard):
                member = archive.next()
                archive.members.clear()  # type: ignore[attr-defined] # else a stream keeps every header
                archive.pax_headers.clear()  # type: ignore[attr-defined] # nor what holds for all files after it
            name = member.name if member is not None else ""
            file_name = name[name.rfind("/") + 1 :]
            key = name.removesuffix(file_name) + (file_name.partition(".")[0] or file_name)
            if key != sample:
                yield from (Packed(f"{shard}/{file}", content, label) for file, content in pictures)
                sample, label = key, None
                pictures.clear()
            if member is None:
                return
            is_picture = file_name.lower().endswith(PICTURES)
            if not member.isfile() or file_name.startswith(".") or not (is_picture or file_name.endswith(".cls")):
                continue
            limits.check_part(member.size + sum(len(content) for _, content in pictures), f"{shard}/{name}")
            if not is_picture and member.size > LARGEST_HEADER:
                raise VaeError(f"{shard}/{name}: too long for the name of a class", REMEDY)
            with ReadingShard(shard):
                file = archive.extractfile(member)
                content = file.read() if file is not None else b""
                if len(content) != member.size:
                    raise EOFError("it ends within a file")
            if is_picture:
                pictures.append((name, content))
            else:
                label = content.decode("utf-8", "replace").strip() or None


def _parquet(shard: str, groups: Sequence[int] | None) -> Iterator[Packed]:
    image, named, labelled, classes = "", None, None, list[str]()

    def choose(schema: Any) -> list[str]:  # noqa: ANN401 - pyarrow has no types
        nonlocal image, named, labelled, classes
        image = _image_column(schema, shard)
        named = next((name for name in NAME_COLUMNS if name in schema.names and name != image), None)
        labelled = next((name for name in LABEL_COLUMNS if name in schema.names), None)
        classes = _class_names(schema, labelled)
        return [name for name in (image, named, labelled) if name is not None]

    for first, batch in parquet_batches(shard, groups, choose):
        for at in range(len(batch)):  # one by one: a copy of each is made
            row = first + at
            with ReadingShard(shard):  # a name may not be UTF-8
                record = {name: batch.column(name)[at].as_py() for name in batch.schema.names}
            held = record[image]
            path = held.get("path") if isinstance(held, dict) else None
            content = held.get("bytes") if isinstance(held, dict) else held
            name = record[named] if named is not None and record[named] is not None else path
            label = None if labelled is None or record[labelled] is None else record[labelled]
            if classes and isinstance(label, int) and 0 <= label < len(classes):
                label = classes[label]
            shown = places.row_name(shard, row) if name is None else str(name)
            yield Packed(shown, content or b"", None if label is None else str(label))


def parquet_batches(
    place: str, groups: Sequence[int] | None, choose: Callable[[Any], list[str]]
) -> Iterator[tuple[int, Any]]:
    """Batches of a Parquet file, or of some of its row groups, each with the number of its first row.

    `choose` has the names of the columns that are read, of a schema. Raises VaeError as `read_shard`.
    """
    with places.opened(place) as stream:
        with ReadingShard(place):
            packed = stream.seek(0, os.SEEK_END)
            file = _parquet_file(stream, place)
            columns = choose(file.schema_arrow)
            metadata = file.metadata
            if metadata.num_rows > packed:
                raise VaeError(f"{place}: {metadata.num_rows:,} rows in {packed:,} bytes are too many", REMEDY)
            chosen = range(metadata.num_row_groups) if groups is None else groups
            row = sum(metadata.row_group(group).num_rows for group in range(chosen[0])) if chosen else 0
            for group in chosen:  # before the first one is read
                stated = sum(part.total_uncompressed_size for part in _parts(metadata, group, columns))
                _check_group(stated, place, packed)
        for group in chosen:
            with ReadingShard(place):
                # A value that many rows have is stored once, so that the rows may be far larger than the file.
                largest = sum(unpacked_size(stream, part, place) for part in _parts(metadata, group, columns))
                _check_group(largest, place, packed)
                size = max(1, min(ROWS, HELD // max(1, largest)))
                batches = file.iter_batches(size, row_groups=[group], columns=columns)
            while True:
                with ReadingShard(place):
                    batch = next(batches, None)
                if batch is None:
                    break
                yield row, batch
                row += len(batch)


def _check_group(size: int, place: str, packed: int) -> None:
    limits.check_part(size, f"{place}: a row group", packed)


def _parts(metadata: Any, group: int, columns: Sequence[str]) -> list[Any]:  # noqa: ANN401 - pyarrow has no types
    """The parts of a row group that these columns need."""
    held = metadata.row_group(group)
    parts = map(held.column, range(held.num_columns))
    beginnings = tuple(f"{name}." for name in columns)
    return [part for part in parts if f"{part.path_in_schema}.".startswith(beginnings)]


def _parquet_file(stream: Any, shard: str) -> Any:  # noqa: ANN401 - pyarrow has no types
    require("parquet", f"reading {shard}")
    from pyarrow.parquet import ParquetFile

    return ParquetFile(stream)


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
        raise VaeError(problem, "the column of PNG or JPEG bytes must have the name image")
    return found


def _class_names(schema: Any, column: str | None) -> list[str]:  # noqa: ANN401 - pyarrow has no types
    """The names of numbered classes, where Hugging Face's metadata of the file have them."""
    try:
        held = msgspec.json.decode((schema.metadata or {})[b"huggingface"])
        return [str(name) for name in held["info"]["features"][column]["names"]]
    except (KeyError, TypeError, msgspec.DecodeError):
        return []
