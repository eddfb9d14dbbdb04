"""What `-o` may name. The ending of the name decides the format; - is standard output.

Each table below is one kind of result. A new format is a row here, and a writer in the module that writes its kind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vaecli import files, streams
from vaecli.errors import UsageError, file_error, no_folder
from vaecli.streams import STDOUT

FOLDER = "/"  # the ending of a name that stands for a folder
PARQUET = ".parquet"  # the ending of a Parquet file, and of a folder of them

PICTURES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".npy": "npy", FOLDER: "folder"}
ANIMATIONS = {**PICTURES, ".gif": "gif"}
TABLES = {".npy": "npy", ".npz": "npz", ".csv": "csv", ".jsonl": "jsonl"}
PAGES = {".html": "html"}
DIAGRAMS = {".png": "png", ".svg": "svg", ".pdf": "pdf"}


@dataclass(frozen=True)
class Destination:
    """Where a result goes, understood and found to make sense. Nothing is opened yet."""

    name: str  # as it was given
    format: str  # a value of the tables above
    clobber: bool | None = None  # False: nothing is replaced; True: pictures of ours in a folder are removed, too
    flag: str = "output"  # the parameter that named it

    @contextlib.contextmanager
    def open(self, sources: Iterable[str] = ()) -> Iterator[BinaryIO]:
        """Open it for writing. A file gets its name once the block ends well; else nothing changes.

        `sources` are the files that are being read: none of them is replaced.

        Raises:
            UsageError: it is one of `sources`.
            VaeError: it cannot be written, or exists and `clobber` is False.
        """
        if self.name == STDOUT:
            with streams.binary_output() as stream:
                yield stream
            return
        self.refuse([Path(self.name)], sources)
        with files.replacing(Path(self.name), clobber=self.clobber is not False) as stream:
            yield stream

    def refuse(self, targets: Iterable[Path], sources: Iterable[str]) -> None:
        """Raise UsageError where one of `targets` is one of the files that are being read."""
        read = {files.real_path(Path(source)) for source in sources if source != STDOUT}
        for target in targets if read else ():
            if files.real_path(target) in read:
                raise UsageError(f"`{self.flag}`: {target} is one of the files to read", "name another place")


def is_parquet_folder(name: str | None) -> bool:
    """Whether a name stands for a folder of Parquet files: NAME.parquet, with or without a / at its end."""
    return name is not None and Path(name).suffix.lower() == PARQUET


SAME_AS_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def parse(
    name: str,
    formats: Mapping[str, str],
    *,
    on_stdout: str,
    clobber: bool | None = None,
    json: bool = False,
    flag: str = "output",
) -> Destination:
    """Understand a name by its ending. `on_stdout` is the format for -, `json` whether JSON goes to stdout.

    Raises:
        UsageError: no format has that ending, or stdout is not free for the result.
        VaeError: the folder that it would be in does not exist. That is told before the work, not after it.
    """
    if name in SAME_AS_STDOUT:
        name = STDOUT
    if name == STDOUT:
        if json:
            raise UsageError(f"`json` and `{flag}` -: both write to stdout", "write the result to a file")
        if on_stdout not in ("csv", "jsonl") and sys.stdout.isatty():
            raise UsageError(f"`{flag}` -: stdout is a terminal", "pipe it somewhere, or name a file")
        return Destination(name, on_stdout, clobber, flag)
    path = Path(name)
    if FOLDER in formats and (name.endswith((FOLDER, os.sep)) or (name and path.is_dir())):
        _check_folder(path)
        return Destination(name, formats[FOLDER], clobber, flag)
    found = formats.get(path.suffix.lower())
    if found is None and path.exists() and not path.is_file() and not path.is_dir():  # a device or pipe: /dev/null
        found = on_stdout
    if found is None:
        endings = " ".join(ending for ending in formats if ending != FOLDER)
        folder = ", a folder/" if FOLDER in formats else ""
        raise UsageError(f"`{flag}` {name}: no format has this ending", f"name a {endings}{folder}, or - for stdout")
    _check_folder(path)
    if clobber is False and path.is_file():  # told before the work, too
        raise files.exists_already(path)
    return Destination(name, found, clobber, flag)


def _check_folder(path: Path) -> None:
    """Raise VaeError where the folder that `path` would be in does not exist."""
    if not path.parent.exists():
        raise no_folder(path)
    if not path.parent.is_dir():
        raise file_error(path, NotADirectoryError(errno.ENOTDIR, ""))
