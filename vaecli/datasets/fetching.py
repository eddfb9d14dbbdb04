"""Fetching named data sets, once, by torchvision: in a folder of their own first, then moved into place.

torchvision is imported here alone, and only when something is missing or must be unpacked.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import math
import shutil
import socket
import tarfile
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self, TypeAlias
from urllib.error import URLError
from zipfile import BadZipFile

import numpy as np

from vaecli.datasets import builtin
from vaecli.datasets.dataset import Progress
from vaecli.datasets.named import NAMED, Idx, Matlab, Unpacked
from vaecli.errors import VaeError, file_error, missing_package
from vaecli.files import make_folder
from vaecli.pictures.arrays import Pixels

STALLED = 60  # seconds without a byte, after which a download is given up
MEGABYTE = 10**6

Arrays: TypeAlias = tuple[Pixels, Pixels, list[int]]  # training and held-out images, classes of the latter


def fetch_idx(name: str, files: Idx, root: Path, progress: Progress) -> None:
    """Fetch the IDX files of a data set into `root`. Raises VaeError where that is not possible."""
    with _fetching(name, root, progress) as (datasets, staging):
        for call in files.calls:
            getattr(datasets, NAMED[name].fetched_by)(str(staging), download=True, **call)
        fetched = [path for path in (staging / files.folder).iterdir() if path.is_file() and path.suffix != ".gz"]
        make_folder(root / files.folder)
        _keep(staging, root, [f"{files.folder}/{path.name}" for path in fetched])


def fetch_matlab(name: str, files: Matlab, root: Path, progress: Progress) -> None:
    """Fetch the MATLAB files of a data set into `root`. Raises VaeError where that is not possible."""
    # Not through torchvision's class, which would need SciPy to open what it has fetched.
    with _fetching(name, root, progress) as (datasets, staging):
        for url, file, md5 in (datasets.SVHN.split_list[split] for split in ("train", "test")):
            if not (root / file).is_file():
                datasets.utils.download_url(url, str(staging), file, md5)
        _keep(staging, root, files.by_hand)


def unpack(name: str, files: Unpacked, root: Path, progress: Progress) -> tuple[Arrays, bool]:
    """What torchvision finds in `root`, or else fetches into it; and whether it had to.

    Raises:
        VaeError: torchvision is not installed; nothing can be fetched; an archive is damaged.
    """
    # Each class has its own way to say that a file is not there, or not whole.
    with contextlib.suppress(*_FAULTS), _torchvision(name, progress) as datasets:
        return _arrays(datasets, name, root, download=False), False
    with _fetching(name, root, progress) as (datasets, staging):
        for archive in files.by_hand:  # copied: torchvision would write over one that it finds damaged
            if (root / archive).is_file():
                shutil.copyfile(root / archive, staging / archive)
        arrays = _arrays(datasets, name, staging, download=True)
        _keep(staging, root, files.by_hand)
    return arrays, True


def _arrays(
    datasets: Any,  # noqa: ANN401 - torchvision is imported late
    name: str,
    root: Path,
    *,
    download: bool,
) -> Arrays:
    make = getattr(datasets, NAMED[name].fetched_by)
    train, held_out = (make(str(root), train=train, download=download) for train in (True, False))
    labels = [int(label) for label in held_out.targets]
    return _with_channels(np.asarray(train.data)), _with_channels(np.asarray(held_out.data)), labels


def _with_channels(images: Pixels) -> Pixels:
    return images[..., np.newaxis] if images.ndim == 3 else images


def _keep(staging: Path, root: Path, names: Sequence[str]) -> None:
    """Move files to where they belong, but over none that is there."""
    for name in names:
        if (staging / name).is_file() and not (root / name).exists():
            (staging / name).replace(root / name)


_FAULTS = (OSError, RuntimeError, EOFError, ValueError, HTTPException, BadZipFile, tarfile.TarError, zlib.error)


@contextlib.contextmanager
def _torchvision(name: str, progress: Progress) -> Iterator[Any]:
    """torchvision.datasets, with its progress turned into ours, and whatever else it says kept quiet.

    Raises:
        VaeError: it is not installed, or not for this torch.
    """
    try:
        from torchvision import datasets  # type: ignore[import-untyped]  # it ships no types
        from torchvision.datasets import utils  # type: ignore[import-untyped]
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise missing_package("torchvision", "train", f"fetching {name}") from error
    theirs, timeout = utils.tqdm, socket.getdefaulttimeout()
    utils.tqdm = functools.partial(_Download, progress, f"fetching {name}")
    socket.setdefaulttimeout(STALLED)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            yield datasets
    finally:
        utils.tqdm = theirs
        socket.setdefaulttimeout(timeout)


@contextlib.contextmanager
def _fetching(name: str, root: Path, progress: Progress) -> Iterator[tuple[Any, Path]]:
    """torchvision.datasets, and a folder in `root` to fetch into; what is left in it is forgotten.

    Raises:
        VaeError: in place of torchvision's many errors: what cannot be fetched, and what helps. Or the
            folder cannot be written.
    """
    make_folder(root)
    try:
        staging = Path(tempfile.mkdtemp(prefix=".fetching-", dir=root))
    except OSError as error:
        raise file_error(root, error) from error
    try:
        with _torchvision(name, progress) as datasets:
            yield datasets, staging
    except _FAULTS as error:
        if isinstance(error, OSError) and _is_of_disk(error):
            raise file_error(error.filename or root, error) from error
        files = NAMED[name].files
        paths = " and ".join(str(root / file) for file in files.by_hand)
        packed = " (or the same with .gz)" if isinstance(files, Idx) else ""
        raise VaeError(
            f"{name}: cannot fetch or unpack {', '.join(Path(file).name for file in files.by_hand)}: {error}",
            f"put {paths} in place by hand{packed}, or use --data {builtin.NAME}, which needs no network",
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _is_of_disk(error: OSError) -> bool:
    """Whether the disk is at fault, not the network, whose errors name no file of ours."""
    if isinstance(error, URLError):
        return False
    return error.filename is not None or error.errno in (errno.ENOSPC, errno.EDQUOT)


class _Download:
    """Stands in for tqdm while torchvision fetches a file: its bytes, on our progress bar in megabytes."""

    def __init__(self, progress: Progress, what: str, *, total: int | None = None, **_: object) -> None:
        self._bar = progress(what, None if total is None else math.ceil(total / MEGABYTE), "MB")
        self._advance: Callable[[int], None] | None = None
        self._bytes = 0

    def __enter__(self) -> Self:
        self._advance = self._bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:  # noqa: ANN401 - handed on as it comes
        self._bar.__exit__(*error)

    def update(self, count: int) -> None:
        """So many bytes more are here."""
        before = self._bytes // MEGABYTE
        self._bytes += count
        if self._advance is not None and (done := self._bytes // MEGABYTE - before):
            self._advance(done)
