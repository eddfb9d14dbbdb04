"""Downloading and unpacking named data sets by torchvision, in a temporary folder whose files are then moved.

torchvision is imported here alone, and only when something is missing or must be unpacked.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import io
import math
import re
import shutil
import socket
import tarfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.error import URLError

import numpy as np

from vaecli import files
from vaecli.datasets import builtin
from vaecli.datasets.catalogue import NAMED, Archives, IdxFiles, PublishedFiles
from vaecli.datasets.classes import of_numbers
from vaecli.datasets.published import Arrays, is_published
from vaecli.errors import VaeError, file_error, missing_package
from vaecli.events import OnEvent, Progress

STALLED = 60  # seconds without a byte, after which a download is given up
MEGABYTE = 10**6


def fetch_idx(name: str, idx: IdxFiles, root: Path, on_event: OnEvent) -> None:
    """Download the IDX files of a data set into `root`. Raises VaeError where that fails."""
    with _staging(name, root, on_event) as (datasets, staging):
        for call in idx.calls:
            _class(datasets, name)(str(staging), download=True, **call)
        _check((staging / idx.folder / file, checksum) for file, checksum in idx.checksums)
        files.make_folder(root / idx.folder)
        fetched = [path for path in (staging / idx.folder).iterdir() if path.is_file() and path.suffix != ".gz"]
        _move(fetched, root / idx.folder)


def unpack(name: str, archives: Archives, root: Path, on_event: OnEvent) -> Arrays:
    """The arrays of a data set. Downloads missing archives.

    Raises:
        VaeError: torchvision or another package is not installed; a download fails; an archive is damaged.
    """
    if archives.package is not None:  # else it would be missed only after the download
        try:
            importlib.import_module(archives.package)
        except ImportError as error:
            raise missing_package(archives.package, "train", f"reading {name}") from error
    known = dict(zip(archives.files, archives.checksums, strict=False))
    with contextlib.suppress(Exception), _torchvision(name, on_event) as datasets:
        here = ((root / archive, checksum) for archive, checksum in known.items())
        _check((path, checksum) for path, checksum in here if path.exists())  # what is unpacked has sums of its own
        return _read(datasets, name, archives, root, download=False)
    with _staging(name, root, on_event) as (datasets, staging):
        for archive in archives.files:  # copied, since torchvision overwrites one that it finds damaged
            if (root / archive).is_file() and is_published(root / archive, known.get(archive)):
                shutil.copyfile(root / archive, staging / archive)
        arrays = _read(datasets, name, archives, staging, download=True)
        _check((staging / archive, checksum) for archive, checksum in known.items())
        _move([staging / archive for archive in archives.files], root)
    return arrays


def fetch_published(name: str, published: PublishedFiles, root: Path, on_event: OnEvent) -> None:
    """Download the missing files of a data set into `root`. Raises VaeError where that fails, or a file is damaged."""
    missing = [download for download in published.downloads if not (root / download.file).is_file()]
    with _staging(name, root, on_event) as (datasets, staging):
        for download in missing:
            datasets.utils.download_url(download.url, str(staging), Path(download.file).name)
        _check((staging / Path(download.file).name, download.checksum) for download in missing)
        for download in missing:
            files.make_folder((root / download.file).parent)
            _move([staging / Path(download.file).name], (root / download.file).parent)


def _check(fetched: Iterable[tuple[Path, str]]) -> None:
    """Raise ValueError where a file has another checksum than the one that was published."""
    for path, checksum in fetched:
        if not is_published(path, checksum):
            raise ValueError(f"{path.name} has another checksum than the file that was published")


def _class(datasets: ModuleType, name: str) -> Any:  # noqa: ANN401 - torchvision has no types
    """The class of a data set that torchvision knows."""
    known = NAMED[name].torchvision_class
    assert known is not None
    return getattr(datasets, known)


def _read(datasets: ModuleType, name: str, archives: Archives, folder: Path, *, download: bool) -> Arrays:
    make = _class(datasets, name)
    parts = [make(str(folder), download=download, **call) for call in archives.calls]
    arrays = [np.asarray(part.data) for part in parts]
    if archives.channels_first:
        arrays = [array.transpose(0, 2, 3, 1) for array in arrays]
    train, held_out = (array.reshape(*array.shape[:3], -1) for array in arrays)  # grey: (n, h, w) to (n, h, w, 1)
    labels = np.concatenate([np.asarray(getattr(part, archives.labels), np.int64) for part in parts])
    return train, held_out, of_numbers(labels, getattr(parts[0], "classes", ()))


def _move(fetched: Sequence[Path], folder: Path) -> None:
    """Move files into `folder`. A file that exists there stays as it is."""
    for path in fetched:
        if not (folder / path.name).exists():
            path.replace(folder / path.name)


_CHANGING = threading.Lock()  # of what `_torchvision` changes for the whole process


@contextlib.contextmanager
def _torchvision(name: str, on_event: OnEvent) -> Iterator[ModuleType]:
    """torchvision.datasets, its download bar turned into Progress events and its other output suppressed.

    Archives are unpacked with a filter: nothing lands outside the folder, no links, no devices. One thread at a time
    is within the block.
    """
    try:
        from torchvision import datasets  # type: ignore[import-untyped]  # it ships no types
        from torchvision.datasets import utils  # type: ignore[import-untyped]  # likewise
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise missing_package("torchvision", "train", f"fetching {name}") from error
    with _CHANGING:
        tqdm, timeout = utils.tqdm, socket.getdefaulttimeout()
        utils.tqdm = functools.partial(_download_bar, on_event, f"fetching {name}")
        socket.setdefaulttimeout(STALLED)
        extractall = tarfile.TarFile.extractall
        tarfile.TarFile.extractall = _filtered(extractall)  # type: ignore[method-assign]  # torchvision may pass none
        try:
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
                yield datasets
        finally:
            utils.tqdm = tqdm
            tarfile.TarFile.extractall = extractall  # type: ignore[method-assign]
            socket.setdefaulttimeout(timeout)


def _filtered(extractall: Callable[..., None]) -> Callable[..., None]:
    """`TarFile.extractall` with Python's filter for data, or a stricter one of our own in 3.11.0 to 3.11.3: without."""

    def filtered(archive: tarfile.TarFile, path: str = ".", **others: object) -> None:
        if hasattr(tarfile, "data_filter"):
            return extractall(archive, path, **{**others, "filter": "data"})
        for member in archive.getmembers():
            name = PurePath(member.name)
            if name.is_absolute() or ".." in name.parts or not (member.isfile() or member.isdir()):
                raise tarfile.TarError(f"it would unpack {member.name!r} outside its folder, or as a link or device")
        return extractall(archive, path, **others)

    return filtered


@contextlib.contextmanager
def _download_bar(on_event: OnEvent, what: str, *, total: int | None = None, **_: object) -> Iterator[SimpleNamespace]:
    """Replaces tqdm while torchvision downloads a file: a Progress event for each megabyte that begins."""
    done, size = 0, None if total is None else math.ceil(total / MEGABYTE)

    def update(count: int) -> None:
        nonlocal done
        before, done = done, done + count
        if math.ceil(done / MEGABYTE) > math.ceil(before / MEGABYTE):
            on_event(Progress(what, math.ceil(done / MEGABYTE), size, "MB"))

    on_event(Progress(what, 0, size, "MB"))
    yield SimpleNamespace(update=update)


def _reason(error: Exception) -> str:
    """What went wrong, in words: errors of the network wrap others, as does torchvision."""
    wrapped = re.search(r"<urlopen error (?:\[Errno -?\d+\] )?(.*?)>", str(error))
    return f"no connection ({wrapped[1]})" if wrapped else str(error) or type(error).__name__


@contextlib.contextmanager
def _staging(name: str, root: Path, on_event: OnEvent) -> Iterator[tuple[ModuleType, Path]]:
    """torchvision.datasets, and a temporary folder in `root` to download into, which is removed at the end."""
    try:
        files.make_folder(root)
    except VaeError as error:
        raise VaeError(error.message, "data sets are downloaded there: name another folder with `dir`") from error
    try:
        with (
            files.temporary_beside(root / "fetching", folder=True) as staging,
            _torchvision(name, on_event) as datasets,
        ):
            yield datasets, staging
    except VaeError:
        raise
    except Exception as error:  # each class of torchvision raises others
        if (
            isinstance(error, OSError)
            and not isinstance(error, URLError)  # of the network
            and (error.filename is not None or error.errno in (errno.ENOSPC, errno.EDQUOT))
        ):
            raise file_error(error.filename or root, error) from error
        storage = NAMED[name].storage
        paths = " and ".join(str(root / file) for file in storage.files)
        packed = " (or the same with .gz)" if isinstance(storage, IdxFiles) else ""
        raise VaeError(
            f"{name}: cannot fetch or unpack {', '.join(Path(file).name for file in storage.files)}: {_reason(error)}",
            f"get {paths}{packed} in another way, or use `source` {builtin.NAME}, which needs no network",
        ) from error
