"""Where pictures are: paths, patterns of paths, and addresses of other file systems, which pyarrow opens."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO, cast

from vaecli import limits
from vaecli.errors import VaeError, file_error, first_line
from vaecli.extras import require
from vaecli.files import with_home
from vaecli.pictures.parts import check_finished

ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://([^?]*)(\?.*)?$", re.IGNORECASE)  # s3://bucket/folder?region=eu-west-1
_PATTERN = re.compile(r"[*?[]")
ACCESS = "check the address, the network and your keys: pyarrow reads them as its documentation on file systems says"


def is_address(place: str) -> bool:
    """Whether it is an address with a scheme, as s3://bucket/folder, and no path."""
    return ADDRESS.match(place) is not None


def has_ending(place: str, endings: Collection[str]) -> bool:
    """Whether the name of a file or folder has one of these endings, in any case.

    The options of an address and a / at the end do not count.
    """
    address = ADDRESS.match(place)
    path = address[2] if address else place
    return path.rstrip("/").lower().endswith(tuple(endings))


def is_pattern(place: str) -> bool:
    """Whether it has one of the wildcards * ? [ and no file of this very name is there.

    In an address a ? is no wildcard: options follow it.
    """
    return _PATTERN.search(place) is not None and (is_address(place) or not Path(place).exists())


def expand(place: str, endings: Sequence[str]) -> list[str]:
    """The files that a pattern or an address stands for; `[place]` where it is a path.

    An address of a folder stands for all files below it with one of the `endings`.

    Raises VaeError where there is no such file, the address cannot be reached, or a folder there has the files of a job
    that is not finished.
    """
    if is_address(place):
        found = _expand_address(place, endings)
    elif is_pattern(place):
        found = glob.glob(str(with_home(place)), recursive=True)  # noqa: PTH207 - ** and absolute patterns
    else:
        return [place]
    if not found:
        raise VaeError(f"{place}: no file matches it", "check the spelling; quote a pattern for vae itself to expand")
    return sorted(found, key=natural_key)


@contextmanager
def opened(place: str) -> Iterator[BinaryIO]:
    """Open a file for reading, at a path or an address, with seeking.

    Raises VaeError where it cannot be opened, or reading it fails within the block.
    """
    if is_address(place):
        system, path = file_system(place)
        with reaching(place), system.open_input_file(path) as stream:
            yield cast(BinaryIO, stream)
        return
    try:
        limits.check_file(Path(place))
        with Path(place).open("rb") as file:
            yield file
    except OSError as error:
        raise file_error(place, error) from error


def version(place: str) -> tuple[str, int, int]:
    """What tells whether a file changed: its name, bytes, and nanoseconds since 1970. Raises VaeError."""
    if is_address(place):
        system, path = file_system(place)
        with reaching(place):
            (status,) = system.get_file_info([path])
            return place, status.size or 0, status.mtime_ns or 0
    try:
        held = Path(place).stat()
    except OSError as error:
        raise file_error(place, error) from error
    name = os.fsencode(Path(place).absolute()).decode("utf-8", "backslashreplace")  # the file's need not be UTF-8
    return name, held.st_size, held.st_mtime_ns


def file_system(address: str) -> tuple[Any, str]:
    """The pyarrow file system of an address, and the path there. Raises VaeError."""
    require("parquet", address)
    from pyarrow.fs import FileSystem

    with reaching(address):
        system, path = FileSystem.from_uri(address)
        return system, str(path)


@contextmanager
def reaching(address: str) -> Iterator[None]:
    """Turn what pyarrow raises within the block into a VaeError that names the address."""
    try:
        yield
    except VaeError:
        raise
    except (OSError, ValueError, ImportError, NotImplementedError) as error:
        raise VaeError(f"{address}: cannot be reached ({first_line(error)})", ACCESS) from error


def natural_key(text: str) -> tuple[list[tuple[int, str]], str]:
    """A sort key for names: 2 before 10, case ignored."""
    parts = re.split(r"(\d+)", text.casefold())
    # Numbers compare by length, then by digits: int() refuses more than 4300 digits.
    return [(len(part.lstrip("0")) if part.isdigit() else -1, part.lstrip("0") or part) for part in parts], text


def _expand_address(address: str, endings: Sequence[str]) -> list[str]:
    from posixpath import dirname  # of paths within a file system

    parts = ADDRESS.match(address)
    assert parts is not None
    scheme, below, query = parts[1], parts[2], parts[3] or ""
    wildcard = _PATTERN.search(below)
    start = dirname(below[: wildcard.start()]) if wildcard else below
    system, root = file_system(f"{scheme}://{start}{query}")

    def found() -> Iterator[str]:
        from pyarrow.fs import FileSelector, FileType

        (status,) = system.get_file_info([root])
        if status.type == FileType.File:
            yield root
        elif status.type == FileType.Directory:
            deep = not wildcard or "/" in below[len(start) :].strip("/")
            yield from (file.path for file in system.get_file_info(FileSelector(root, recursive=deep)) if file.is_file)

    with reaching(address):
        paths = list(found())
    if wildcard:
        pattern = (root.rstrip("/") + below[len(start) :]).split("/")
        paths = [path for path in paths if _matches(path.split("/"), pattern)]
    elif paths != [root]:
        paths = [path for path in paths if has_ending(path, endings)]
        check_finished(f"{scheme}://{path}" for path in paths)
    return [f"{scheme}://{path}{query}" for path in paths]


def _matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    return len(path) == len(pattern) and all(map(fnmatchcase, path, pattern))


def row_name(place: str, row: int) -> str:
    """The name of a picture or latent in a file of many: `digits.npy[17]`."""
    return f"{place}[{row}]"


def split_row_name(name: str) -> tuple[str, int | None]:
    """The place and the row of such a name; of another one the name and None."""
    found = re.fullmatch(r"(.*)\[(\d+)\]", name)
    return (found[1], int(found[2])) if found else (name, None)
