"""What `--data` names: the built-in digits, a data set known by name, shards, a folder of pictures, or an array."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeAlias

from vaecli.config import DataConfig
from vaecli.datasets import builtin, named
from vaecli.datasets.cache import data_folder
from vaecli.datasets.catalogue import NAMED
from vaecli.datasets.dataset import ONLY_ONE
from vaecli.errors import VaeError
from vaecli.files import with_home
from vaecli.pictures import arrays, decoding
from vaecli.pictures.folders import pictures_or_shards
from vaecli.pictures.places import expand, is_address, is_pattern
from vaecli.pictures.shards import SUFFIXES as SHARDS
from vaecli.pictures.shards import find_shards, is_shard

TABLES_OF_PIXELS = (".csv", ".tsv", ".mat", ".h5", ".hdf5", ".pkl")  # that are not read


@dataclass(frozen=True)
class BuiltIn:
    """The digits in the package."""


@dataclass(frozen=True)
class Named:
    """A data set of the catalogue, which is downloaded where it is missing."""

    name: str


@dataclass(frozen=True)
class Shards:
    """Shards, at least one."""

    places: list[str]  # paths or addresses, in the order in which they are read


@dataclass(frozen=True)
class Folder:
    """A folder of pictures. It may be empty."""

    path: Path


@dataclass(frozen=True)
class Array:
    """A .npy or .npz."""

    path: Path


Source: TypeAlias = BuiltIn | Named | Shards | Folder | Array


def classify(source: str) -> Source:
    """What `source` names. A pattern or an address is listed, but no picture is opened.

    Raises VaeError where nothing has that name or path, or what has it is no set of pictures.
    """
    path = with_home(source)
    if source == builtin.NAME:
        return BuiltIn()
    if source in NAMED:
        return Named(source)
    if shards := _shards(source):
        return Shards(shards)
    if path.is_dir():
        _refuse_idx_files(source, path)
        return Folder(path)
    if not (path.exists() and arrays.is_array(source)):
        _refuse(source, path)
    return Array(path)


def located(source: str) -> str:
    """The source as it can be found from any folder: a path becomes absolute, a name stays."""
    return str(with_home(source).absolute()) if _is_path(source) else source


def same(one: str, other: str) -> bool:
    """Whether two sources are the same, perhaps by a link."""
    if located(one) == located(other):
        return True
    return _is_path(one) and _is_path(other) and with_home(one).resolve() == with_home(other).resolve()


def overlap(one: str, other: str) -> bool:
    """Whether two sources are the same, or one is a folder that the other is in."""
    if same(one, other):
        return True
    if not (_is_path(one) and _is_path(other)):
        return False
    first, second = (with_home(source).resolve() for source in (one, other))
    return first in second.parents or second in first.parents


def _is_path(source: str) -> bool:
    """Whether it is a path, and neither the name of a data set nor an address."""
    return source not in (builtin.NAME, *NAMED) and not is_address(source)


def missing_source(data: DataConfig) -> str | None:
    """The one of the sources that cannot be loaded without network; None where both can. Raises as `is_here`."""
    return next((source for source in data.sources if not _is_here(source, data.dir)), None)


def is_here(data: DataConfig) -> bool:
    """Whether the images can be loaded without network.

    Raises VaeError where the data folder is a file, or a pattern or address names no shard.
    """
    return missing_source(data) is None


def _is_here(source: str, directory: str | None) -> bool:
    if source in NAMED:
        return named.is_here(source, data_folder(directory))
    if is_address(source) or is_pattern(source):
        return bool(_shards(source))
    return source == builtin.NAME or with_home(source).exists()


def _shards(source: str) -> list[str]:
    """The shards that a source is: one of them, a pattern or address of some, or a folder. Else none.

    Raises VaeError where a pattern or an address stands for other files, or for none.
    """
    path = with_home(source)
    if path.is_dir():
        if not find_shards(path):  # else every folder of pictures would be walked once more
            return []
        found = pictures_or_shards(path)
        return [str(shard) for shard in found] if isinstance(found[0], str) else []
    if not is_address(source) and not is_pattern(source):
        return [source] if is_shard(source) and path.is_file() else []
    found = expand(source, SHARDS)
    if others := [place for place in found if not is_shard(place)]:
        raise VaeError(f"`source` {source}: {others[0]} is no shard", "name .tar or .parquet files, or a folder")
    return found


def _refuse_idx_files(source: str, path: Path) -> None:
    """Raise VaeError for a folder in which torchvision keeps a data set, with the name of that."""
    for place in (path, path / "raw"):
        if place.name == "raw" and next(place.glob("*-idx?-ubyte*"), None) is not None:
            folder = f"{place.absolute().parent.name}/raw"
            named = [name for name, known in NAMED.items() if getattr(known.storage, "folder", "") == folder]
            meant = (
                f"`source` {named[0]} `dir` {place.absolute().parent.parent}" if named else "vae data lists the names"
            )
            raise VaeError(f"`source` {source}: holds the files of a data set, and no pictures", meant)


def _refuse(source: str, path: Path) -> NoReturn:
    """Raise the VaeError that says why there is nothing to train on."""
    if path.suffix.lower() in TABLES_OF_PIXELS and path.is_file():
        hint = "save its pictures with NumPy: np.savez('pictures.npz', x=pictures, y=classes)"
        raise VaeError(f"`source` {source}: neither a picture nor an array", hint)
    if path.exists():
        decoding.read_picture(path, source)  # raises where it is no picture either
        raise VaeError(f"`source` {source}: {ONLY_ONE}", "name the folder it is in, or an array")
    if "/" in source or "\\" in source or path.suffix:
        raise VaeError(f"`source` {source}: no such file or folder", "check the spelling; vae data lists the names")
    folders = [folder.name for folder in Path().glob("*/")]
    close = difflib.get_close_matches(source, folders, n=1) or difflib.get_close_matches(
        source.lower(), [builtin.NAME, *NAMED], n=3
    )
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise VaeError(f"`source` {source}: no data set, file or folder of this name", f"{hint}vae data lists the names")
