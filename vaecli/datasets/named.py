"""Data sets known by name: what they are, where their files lie, how they are read.

Files lie as torchvision lays them, so a folder that it has filled is used as it is, and never written into.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaecli.datasets import idx, matlab
from vaecli.datasets.dataset import Progress
from vaecli.errors import VaeError
from vaecli.pictures.arrays import Pixels


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


def is_here(files: Idx | Unpacked | Matlab, root: Path) -> bool:
    """Whether the files lie in the data folder."""
    return all(idx.present(root / file) for file in files.by_hand)


def idx_arrays(name: str, files: Idx, root: Path, progress: Progress) -> tuple[Pixels, Pixels, tuple[str, ...]]:
    """Training and held-out images (n, h, w, 1), mapped; notes. Files that are not there are fetched.

    Raises:
        VaeError: they cannot be fetched, or are damaged.
    """
    folder = root / files.folder
    notes: tuple[str, ...] = ()
    if not is_here(files, root):
        from vaecli.datasets import fetching  # most runs fetch nothing: spare them the network's modules

        fetching.fetch_idx(name, files, root, progress)
        notes = (_fetched(name, folder),)
    train, held_out = (_idx_images(folder / file, files) for file in (files.train, files.held_out))
    return train, held_out, notes


def idx_paths(files: Idx, root: Path) -> list[Path]:
    """The files that hold the images, packed or not."""
    return [idx.present(root / file) or root / file for file in files.by_hand]


def idx_labels(files: Idx, root: Path) -> NDArray[np.int64] | None:
    """The classes of the held-out images, (n,); None where their file is not there."""
    path = root / files.folder / files.labels
    if not idx.present(path):
        return None
    values = idx.read(path)
    return (values if values.ndim == 1 else values[:, 0]).astype(np.int64)


def unpacked_arrays(
    name: str, files: Unpacked | Matlab, root: Path, progress: Progress
) -> tuple[Pixels, Pixels, list[int], tuple[str, ...]]:
    """Training and held-out images (n, h, w, c) in memory, the classes of the latter, and notes.

    Fetches what is missing.

    Raises:
        VaeError: they cannot be fetched, or are damaged; torchvision is needed and not installed.
    """
    from vaecli.datasets import fetching

    if isinstance(files, Matlab):
        paths = [root / file for file in files.by_hand]
        missing = not is_here(files, root)
        if missing:
            fetching.fetch_matlab(name, files, root, progress)
        (train, _), (held_out, labels) = (_matlab_images(path) for path in paths)
        return train, held_out, labels, (_fetched(name, root),) if missing else ()
    arrays, fetched = fetching.unpack(name, files, root, progress)
    return *arrays, (_fetched(name, root),) if fetched else ()


def _fetched(name: str, folder: Path) -> str:
    return f"fetched {name} into {folder}"


def _idx_images(path: Path, files: Idx) -> Pixels:
    images = idx.read(path)
    if images.ndim != 3 or images.dtype != np.uint8:
        raise VaeError(f"{path}: no images in it", "remove it; it will be fetched again")
    return (images.swapaxes(1, 2) if files.sideways else images)[..., np.newaxis]


def _matlab_images(path: Path) -> tuple[Pixels, list[int]]:
    arrays = matlab.read_arrays(path)
    images, labels = arrays.get("X"), arrays.get("y")
    if images is None or labels is None or images.dtype != np.uint8 or images.ndim != 4:
        raise VaeError(f"{path}: not the file it should be", "remove it; it will be fetched again")
    return images.transpose(3, 0, 1, 2), [int(label) % 10 for label in labels.flat]  # 10 stands for the digit 0
