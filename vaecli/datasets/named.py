"""Data sets known by name: where their files lie, how they are fetched once, how they are read.

Files lie as torchvision lays them, so a folder that it has filled is used as it is, and never written into.
torchvision is imported only to fetch, or to unpack what is no plain array file.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import math
import shutil
import socket
import struct
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from errno import ENOSPC
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self
from urllib.error import URLError
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from vaecli.datasets import builtin, matlab
from vaecli.datasets.dataset import Progress
from vaecli.errors import VaeError, file_error, missing_package
from vaecli.files import make_folder
from vaecli.pictures.arrays import Pixels

STALLED = 60  # seconds without a byte, after which a download is given up
MEGABYTE = 10**6


@dataclass(frozen=True)
class Idx:
    """Plain IDX files, as MNIST introduced them: a short header, then the values. They are mapped."""

    folder: str
    train: str  # file of the training images
    held_out: str
    labels: str  # of the held-out images
    calls: tuple[dict[str, Any], ...] = ({},)  # what torchvision's class is told, so that it fetches everything
    sideways: bool = False  # rows and columns are swapped in the files

    @property
    def by_hand(self) -> tuple[str, ...]:
        """The files that must be there, seen from the data folder."""
        return f"{self.folder}/{self.train}", f"{self.folder}/{self.held_out}"


@dataclass(frozen=True)
class Unpacked:
    """What torchvision unpacks into arrays, from archives that lie in the data folder itself."""

    by_hand: tuple[str, ...]  # the archives' names


@dataclass(frozen=True)
class Matlab:
    """MATLAB files of images X (h, w, c, n) and labels y, that lie in the data folder itself."""

    train: str
    held_out: str

    @property
    def by_hand(self) -> tuple[str, ...]:
        """The files that must be there, seen from the data folder."""
        return self.train, self.held_out


@dataclass(frozen=True)
class NamedSet:
    """A data set that a name stands for."""

    title: str  # what the pictures are
    train: int  # how many
    held_out: int
    shape: tuple[int, int, int]  # (channels, height, width)
    fetched_by: str  # a class of torchvision.datasets
    files: Idx | Unpacked | Matlab


def _mnist_like(title: str, fetched_by: str) -> NamedSet:
    files = Idx(f"{fetched_by}/raw", "train-images-idx3-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    return NamedSet(title, 60_000, 10_000, (1, 28, 28), fetched_by, files)


def _emnist(split: str, title: str, train: int, held_out: int) -> NamedSet:
    files = Idx(
        "EMNIST/raw",
        f"emnist-{split}-train-images-idx3-ubyte",
        f"emnist-{split}-test-images-idx3-ubyte",
        f"emnist-{split}-test-labels-idx1-ubyte",
        calls=({"split": split},),
        sideways=True,
    )
    return NamedSet(title, train, held_out, (1, 28, 28), "EMNIST", files)


NAMED = {
    "mnist": _mnist_like("handwritten digits", "MNIST"),
    "fashion-mnist": _mnist_like("clothes", "FashionMNIST"),
    "kmnist": _mnist_like("cursive Japanese characters", "KMNIST"),
    "qmnist": NamedSet(
        "handwritten digits, MNIST with all of its test images",
        60_000,
        60_000,
        (1, 28, 28),
        "QMNIST",
        Idx(
            "QMNIST/raw",
            "qmnist-train-images-idx3-ubyte",
            "qmnist-test-images-idx3-ubyte",
            "qmnist-test-labels-idx2-int",
            calls=({"what": "train"}, {"what": "test"}),
        ),
    ),
    "emnist-balanced": _emnist("balanced", "handwritten characters, 47 classes of one size", 112_800, 18_800),
    "emnist-byclass": _emnist("byclass", "handwritten characters, 62 classes", 697_932, 116_323),
    "emnist-bymerge": _emnist("bymerge", "handwritten characters, 47 classes", 697_932, 116_323),
    "emnist-digits": _emnist("digits", "handwritten digits", 240_000, 40_000),
    "emnist-letters": _emnist("letters", "handwritten letters", 124_800, 20_800),
    "emnist-mnist": _emnist("mnist", "handwritten digits, MNIST made anew", 60_000, 10_000),
    "usps": NamedSet("digits on envelopes", 7_291, 2_007, (1, 16, 16), "USPS", Unpacked(("usps.bz2", "usps.t.bz2"))),
    "svhn": NamedSet(
        "house numbers in photographs",
        73_257,
        26_032,
        (3, 32, 32),
        "SVHN",
        Matlab("train_32x32.mat", "test_32x32.mat"),
    ),
    "cifar10": NamedSet(
        "photographs, 10 classes",
        50_000,
        10_000,
        (3, 32, 32),
        "CIFAR10",
        Unpacked(("cifar-10-python.tar.gz",)),
    ),
    "cifar100": NamedSet(
        "photographs, 100 classes",
        50_000,
        10_000,
        (3, 32, 32),
        "CIFAR100",
        Unpacked(("cifar-100-python.tar.gz",)),
    ),
}


def idx_arrays(name: str, files: Idx, root: Path, progress: Progress) -> tuple[Pixels, Pixels, tuple[str, ...]]:
    """Training and held-out images (n, h, w, 1), mapped; notes. Files that are not there are fetched.

    Raises:
        VaeError: they cannot be fetched, or are damaged.
    """
    folder = root / files.folder
    notes: tuple[str, ...] = ()
    if not all(_present(folder / file) for file in (files.train, files.held_out)):
        _fetch_idx(name, files, root, progress)
        notes = (_fetched(name, folder),)
    train, held_out = (_idx_images(folder / file, files) for file in (files.train, files.held_out))
    return train, held_out, notes


def idx_paths(files: Idx, root: Path) -> list[Path]:
    """The files that hold the images, packed or not."""
    return [_present(root / file) or root / file for file in files.by_hand]


def idx_labels(files: Idx, root: Path) -> NDArray[np.int64] | None:
    """The classes of the held-out images, (n,); None where their file is not there."""
    path = root / files.folder / files.labels
    if not _present(path):
        return None
    values = _read_idx(path)
    return (values if values.ndim == 1 else values[:, 0]).astype(np.int64)


def unpacked_arrays(
    name: str, files: Unpacked | Matlab, root: Path, progress: Progress
) -> tuple[Pixels, Pixels, list[int], tuple[str, ...]]:
    """Training and held-out images (n, h, w, c) in memory, the classes of the latter, and notes.

    Fetches what is missing.

    Raises:
        VaeError: they cannot be fetched, or are damaged; torchvision is needed and not installed.
    """
    if isinstance(files, Matlab):
        paths = [root / file for file in files.by_hand]
        missing = not all(path.is_file() for path in paths)
        if missing:
            _fetch_matlab(name, files, root, progress)
        (train, _), (held_out, labels) = (_matlab_images(path) for path in paths)
        return train, held_out, labels, (_fetched(name, root),) if missing else ()
    # torchvision's way to say that a file is not there, or not whole, is a RuntimeError.
    with contextlib.suppress(RuntimeError, FileNotFoundError), _torchvision(name, progress) as datasets:
        return *_torchvision_arrays(datasets, name, root, download=False), ()
    with _fetching(name, root, progress) as (datasets, staging):
        for archive in files.by_hand:  # copied: torchvision would write over one that it finds damaged
            if (root / archive).is_file():
                shutil.copyfile(root / archive, staging / archive)
        arrays = _torchvision_arrays(datasets, name, staging, download=True)
        _keep(staging, root, files.by_hand)
    return *arrays, (_fetched(name, root),)


def _fetched(name: str, folder: Path) -> str:
    return f"fetched {name} into {folder}"


def _torchvision_arrays(
    datasets: Any,  # noqa: ANN401 - torchvision is imported late
    name: str,
    root: Path,
    *,
    download: bool,
) -> tuple[Pixels, Pixels, list[int]]:
    make = getattr(datasets, NAMED[name].fetched_by)
    train, held_out = (make(str(root), train=train, download=download) for train in (True, False))
    labels = [int(label) for label in held_out.targets]
    return _with_channels(np.asarray(train.data)), _with_channels(np.asarray(held_out.data)), labels


def _with_channels(images: Pixels) -> Pixels:
    return images[..., np.newaxis] if images.ndim == 3 else images


def _matlab_images(path: Path) -> tuple[Pixels, list[int]]:
    arrays = matlab.read_arrays(path)
    images, labels = arrays.get("X"), arrays.get("y")
    if images is None or labels is None or images.dtype != np.uint8 or images.ndim != 4:
        raise VaeError(f"{path}: not the file it should be", "remove it; it will be fetched again")
    return images.transpose(3, 0, 1, 2), [int(label) % 10 for label in labels.flat]  # 10 stands for the digit 0


def _present(path: Path) -> Path | None:
    """The file itself, or packed with gzip; None where neither is there."""
    packed = path.with_name(path.name + ".gz")
    return path if path.is_file() else packed if packed.is_file() else None


def _idx_images(path: Path, files: Idx) -> Pixels:
    images = _read_idx(path)
    if images.ndim != 3 or images.dtype != np.uint8:
        raise VaeError(f"{path}: no images in it", "remove it; it will be fetched again")
    return (images.swapaxes(1, 2) if files.sideways else images)[..., np.newaxis]


_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def _read_idx(path: Path) -> NDArray[Any]:
    """An IDX file: two zero bytes, type, number of dimensions, each of them in 4 bytes, values; big-endian.

    Maps the file, or reads it where only its .gz is there.
    """
    found = _present(path) or path
    try:
        packed = gzip.decompress(found.read_bytes()) if found != path else None
        with io.BytesIO(packed) if packed is not None else path.open("rb") as stream:
            zero, kind, dimensions = struct.unpack(">HBB", stream.read(4))
            shape = struct.unpack(f">{dimensions}I", stream.read(4 * dimensions))
            start = stream.tell()
            size = stream.seek(0, io.SEEK_END)
        dtype = np.dtype(_IDX_TYPES[kind])
        if zero or size != start + math.prod(shape) * dtype.itemsize or not math.prod(shape):
            raise ValueError("its size is not what its header says")
    except (struct.error, KeyError, ValueError, EOFError, gzip.BadGzipFile) as error:
        raise VaeError(f"{found}: damaged ({error})", "remove it; it will be fetched again") from error
    except OSError as error:
        raise file_error(found, error) from error
    if packed is not None:
        return np.frombuffer(packed, dtype, offset=start).reshape(shape)
    return np.memmap(path, dtype, "r", start, shape)


def _fetch_idx(name: str, files: Idx, root: Path, progress: Progress) -> None:
    with _fetching(name, root, progress) as (datasets, staging):
        for call in files.calls:
            getattr(datasets, NAMED[name].fetched_by)(str(staging), download=True, **call)
        fetched = [path for path in (staging / files.folder).iterdir() if path.is_file() and path.suffix != ".gz"]
        make_folder(root / files.folder)
        _keep(staging, root, [f"{files.folder}/{path.name}" for path in fetched])


def _fetch_matlab(name: str, files: Matlab, root: Path, progress: Progress) -> None:
    # Not through torchvision's class, which would need SciPy to open what it has fetched.
    with _fetching(name, root, progress) as (datasets, staging):
        for url, file, md5 in (datasets.SVHN.split_list[split] for split in ("train", "test")):
            if not (root / file).is_file():
                datasets.utils.download_url(url, str(staging), file, md5)
        _keep(staging, root, files.by_hand)


def _keep(staging: Path, root: Path, names: Sequence[str]) -> None:
    """Move files to where they belong, but over none that is there."""
    for name in names:
        if (staging / name).is_file() and not (root / name).exists():
            (staging / name).replace(root / name)


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
    except (OSError, RuntimeError, EOFError, HTTPException, BadZipFile, tarfile.TarError) as error:
        if (
            isinstance(error, OSError)
            and not isinstance(error, URLError)
            and (error.filename or error.errno == ENOSPC)
        ):
            raise file_error(error.filename or root, error) from error  # the disk's fault, not the network's
        files = NAMED[name].files
        paths = " and ".join(str(root / file) for file in files.by_hand)
        packed = " (or the same with .gz)" if isinstance(files, Idx) else ""
        raise VaeError(
            f"{name}: cannot fetch {', '.join(Path(file).name for file in files.by_hand)}: {error}",
            f"put {paths} in place by hand{packed}, or use --data {builtin.NAME}, which needs no network",
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


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
