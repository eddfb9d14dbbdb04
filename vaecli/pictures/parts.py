"""The Parquet files that a job writes into a folder: their names, and whether all of them are there."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from vaecli.errors import VaeError

PART = re.compile(r"part-(\d+)-of-(\d+)\.parquet")


def part_name(number: int, of: int) -> str:
    """The name of one of `of` files, counted from 0."""
    return f"part-{number:05}-of-{of:05}.parquet"


def check_finished(files: Iterable[str]) -> None:
    """Check all files of a folder or of several, which may be at addresses.

    Raises VaeError where a folder has nothing but files of one job, and one of them is missing.
    """
    folders = defaultdict[str, list[str]](list)
    for file in files:
        folder, _, name = file.rpartition("/")
        folders[folder or "."].append(name)
    for folder, names in folders.items():
        parts = [PART.fullmatch(name) for name in names]
        numbers = {(int(part[1]), int(part[2])) for part in parts if part}
        totals = {of for _, of in numbers}
        if not all(parts) or len(totals) != 1:
            continue
        (of,) = totals
        missing = next((number for number in range(of) if (number, of) not in numbers), None)
        if missing is not None:
            problem = f"{folder}: the job is not finished: {part_name(missing, of)} is missing"
            raise VaeError(problem, "run the command that wrote it again, with `resume`")
