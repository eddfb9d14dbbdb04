"""The files of named data sets, tiny: IDX files, and archives that torchvision reads."""

from __future__ import annotations

import bz2
import dataclasses
import hashlib
import pickle
import struct
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.drawing import Recorder, numbered
from vaecli.config import DataConfig
from vaecli.datasets import Dataset, builtin, catalogue, load
from vaecli.datasets.catalogue import NAMED, IdxFiles, PublishedFiles
from vaecli.events import OnEvent

MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx_bytes(array: np.ndarray) -> bytes:
    """An IDX file of uint8 or int32 values."""
    kind = {"uint8": 0x08, "int32": 0x0C}[array.dtype.name]
    header = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def mnist_like(folder: Path) -> Path:
    """20 training and 6 test images of 4x5, each of one value, in the files of an MNIST."""
    folder.mkdir(parents=True)
    images = (numbered(20)[..., 0], numbered(6)[..., 0] + 100)
    classes = (np.arange(20, dtype=np.uint8) % 10, np.arange(6, dtype=np.uint8))
    for name, array in zip(MNIST_FILES, (images[0], classes[0], images[1], classes[1]), strict=True):
        (folder / name).write_bytes(idx_bytes(array))
    return folder


def little_mnist(folder: Path) -> Path:
    """A data folder whose MNIST is a ninth of the built-in digits: 500 training and 56 test images of 28x28."""
    raw = folder / "MNIST/raw"
    raw.mkdir(parents=True)
    for name, images in zip(("train", "t10k"), builtin.digits(), strict=True):
        (raw / f"{name}-images-idx3-ubyte").write_bytes(idx_bytes(images[::9, :, :, 0]))
    return folder


def little_digits(folder: Path) -> Path:
    """An .npz of a quarter of the built-in digits, with their classes."""
    images = np.concatenate(builtin.digits())[..., 0]
    np.savez(folder / "digits.npz", x=images[::4], y=builtin.classes().labels[::4])
    return folder / "digits.npz"


def write_usps(folder: Path, torchvision: Any, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny USPS, downloaded from `address`: 12 and 3 lines of a class and 256 values from -1 to 1."""
    known = {}
    for part, file, rows in (("train", "usps.bz2", 12), ("test", "usps.t.bz2", 3)):
        lines = [
            " ".join([str(row % 10 + 1), *(f"{place + 1}:{row / 10 - 1:.1f}" for place in range(256))])
            for row in range(rows)
        ]
        (folder / file).write_bytes(bz2.compress("\n".join(lines).encode()))
        known[part] = [address + file, file, md5(folder / file)]
    monkeypatch.setattr(torchvision.USPS, "split_list", known)


def write_cifar(folder: Path, torchvision: Any, address: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny CIFAR-10, downloaded from `address`: one training batch of 4 images, one test batch of 2."""
    cifar = torchvision.CIFAR10
    made = folder.parent / cifar.base_folder
    made.mkdir()
    for name, rows in (("data_batch_1", 4), ("test_batch", 2)):
        images = np.arange(rows, dtype=np.uint8).repeat(3072).reshape(rows, 3072)
        (made / name).write_bytes(pickle.dumps({"data": images, "labels": list(range(rows))}))
    (made / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    archive = folder / str(cifar.filename)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(made, made.name)
    monkeypatch.setattr(cifar, "url", address + archive.name)
    monkeypatch.setattr(cifar, "tgz_md5", md5(archive))
    monkeypatch.setattr(cifar, "train_list", [["data_batch_1", md5(made / "data_batch_1")]])
    monkeypatch.setattr(cifar, "test_list", [["test_batch", md5(made / "test_batch")]])
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": md5(made / "batches.meta")})
    pin("cifar10", [archive], monkeypatch)
    return archive


def pin(name: str, files: Iterable[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `files` be those whose SHA-256 the catalogue has for `name`."""
    known = {path.name: f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files}
    storage = NAMED[name].storage
    assert not isinstance(storage, PublishedFiles)
    checksums: Any = tuple(known.items()) if isinstance(storage, IdxFiles) else tuple(known.values())
    changed = dataclasses.replace(NAMED[name], storage=dataclasses.replace(storage, checksums=checksums))
    monkeypatch.setitem(catalogue.NAMED, name, changed)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def loaded(name: str, folder: Path, on_event: OnEvent | None = None, **settings: Any) -> Dataset:
    """The named data set from the data folder."""
    return load(DataConfig(source=name, dir=str(folder), **settings), on_event or Recorder())


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
