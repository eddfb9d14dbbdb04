"""Folders of pictures: which of their files are read, in which order, and which are left out."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vaecli.errors import VaeError, file_error
from vaecli.events import Note
from vaecli.files import real_path
from vaecli.pictures.decoding import FORMAT_NAMES, SUFFIXES
from vaecli.pictures.places import has_ending, natural_key
from vaecli.pictures.shards import SUFFIXES as SHARDS
from vaecli.pictures.shards import find_shards

ENDINGS = (*SUFFIXES, *SHARDS)  # of the files that are read below an address
# Suffixes of companion files. They are ignored silently, like files without a suffix.
IGNORED_SUFFIXES = frozenset(
    {"", ".txt", ".md", ".csv", ".json", ".jsonl", ".toml", ".xml", ".html", ".ini", ".db", ".py"}
)
LISTED = 3  # endings of files left out that a message names


class EmptyFolderError(VaeError):
    """A folder has no pictures."""


def find_pictures(folder: Path, left_out: list[str] | None = None) -> list[Path]:
    """Every picture file below `folder` in natural order (2 before 10), without hidden files and folders.

    The names of files that a person may take for pictures are added to `left_out`; see `left_out_note`.

    Raises VaeError where the folder or one below it cannot be read, or there is no picture.
    """

    def fail(error: OSError) -> None:
        raise error

    found: list[Path] = []
    others: list[str] = []
    seen: set[Path] = set()  # links may form a cycle
    try:
        for place, folders, names in os.walk(folder, followlinks=True, onerror=fail):
            real = real_path(Path(place))
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))  # of two links, the same is taken
            names = [name for name in names if not name.startswith(".")]
            pictures = [name for name in names if name.lower().endswith(SUFFIXES)]
            others += [name for name in {*names}.difference(pictures) if _ending(name) not in IGNORED_SUFFIXES]
            found += filter(_is_picture_file, (Path(place, name) for name in pictures))
    except OSError as error:
        raise file_error(error.filename, error) from error
    if not found:
        but = f", but {_files(others)}" if others else ""
        raise EmptyFolderError(
            f"{folder}: no picture in this folder{but}",
            f"put {FORMAT_NAMES} files into it, or name another; names must end in {', '.join(SUFFIXES)}",
        )
    if left_out is not None:
        left_out += others
    return sorted(found, key=lambda path: natural_key(str(path.relative_to(folder))))


def _is_picture_file(path: Path) -> bool:
    """Whether it is a file, or a link to one that is not there, which is a picture that cannot be read.

    Pipes, devices and links in a circle are no pictures.
    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def left_out_note(names: Sequence[str]) -> tuple[Note, ...]:
    """On the files that `find_pictures` left out; none where there are none."""
    return (Note(f"left out {_files(names)}"),) if names else ()


def pictures_or_shards(folder: Path, left_out: list[str] | None = None) -> list[Path] | list[str]:
    """The pictures below a folder as paths; where there are none, the shards in it as names.

    `left_out` is as in `find_pictures`. Raises VaeError where there is neither, or the folder cannot be read.
    """
    try:
        return find_pictures(folder, left_out)
    except EmptyFolderError:
        if shards := find_shards(folder):
            return shards
        raise


def is_picture_name(place: str | Path) -> bool:
    """Whether a path or an address has the ending of a picture file and is no folder."""
    return has_ending(str(place), SUFFIXES) and not Path(place).is_dir()


def _files(names: Sequence[str]) -> str:
    endings = [ending for ending, _ in Counter(map(_ending, names)).most_common()]
    more = ", …" if len(endings) > LISTED else ""
    remedy = "; save HEIC as JPEG" if {".heic", ".heif"}.intersection(endings) else ""
    count = f"{len(names)} files with other endings" if len(names) > 1 else "a file with another ending"
    return f"{count} ({', '.join(endings[:LISTED])}{more}){remedy}"


def _ending(name: str) -> str:
    return Path(name).suffix.lower()
