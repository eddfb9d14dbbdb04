"""What a folder of Parquet files holds, as its users read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of all files, in the order of their names."""
    rows: list[dict[str, Any]] = []
    for file in sorted(folder.glob("*.parquet")):
        rows += pq.read_table(file).to_pylist()
    return rows


def names_of(folder: Path) -> list[str]:
    """The names of all rows, without their folders."""
    return [row["name"].rpartition("/")[2] for row in rows_of(folder)]
