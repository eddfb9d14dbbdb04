"""Small shards for tests: WebDataset .tar files and Parquet files of grey pictures."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def png(value: int, side: int = 6) -> bytes:
    """A PNG of one grey value."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((side, side), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def tar(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    """A .tar of these files, in their order."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def untar(path: Path, folder: Path) -> None:
    """Unpack a .tar, with Python's filter for data where there is one: not in 3.11.0 to 3.11.3."""
    with tarfile.open(path) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:
            archive.extractall(folder)  # noqa: S202 - the tests' own files


def parquet(path: Path, metadata: Mapping[str, str] | None = None, **columns: Iterable[Any]) -> Path:
    """A Parquet file of these columns, in row groups of 4."""
    table = pa.table({name: list(values) for name, values in columns.items()})
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=4)
    return path
