"""The table of named data sets: consistent in itself, and with torchvision."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from vaecli.datasets import builtin
from vaecli.datasets.catalogue import NAMED, Archives, IdxFiles, PublishedFiles
from vaecli.datasets.published import READERS, is_published

NAMES = sorted(NAMED)
MNIST = Path(os.environ.get("VAE_DATA", "")) / "MNIST" / "raw"


@pytest.mark.parametrize("name", NAMES)
def test_names_can_be_typed_and_stand_for_nothing_else(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    assert name != builtin.NAME


def test_no_two_sets_share_a_file() -> None:
    files = [file for known in NAMED.values() for file in known.storage.files]
    assert len(files) == len(set(files))
    assert not any(PurePosixPath(file).is_absolute() for file in files)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_and_shapes_are_possible(name: str) -> None:
    known = NAMED[name]
    channels, height, width = known.shape
    assert known.train >= known.held_out > 0
    assert channels in (1, 3)
    assert (height, width) in ((16, 16), (28, 28), (32, 32))
    if isinstance(known.storage, Archives):
        assert len(known.storage.calls) == 2  # training and held-out images


def test_what_torchvision_does_not_know_has_a_reader_and_checksums() -> None:
    published = {name for name, known in NAMED.items() if known.torchvision_class is None}
    assert published == set(READERS)
    for name in published:
        storage = NAMED[name].storage
        assert isinstance(storage, PublishedFiles)
        for download in storage.downloads:
            assert re.fullmatch("sha256:[0-9a-f]{64}|git:[0-9a-f]{40}", download.checksum)
            assert PurePosixPath(download.url).name == PurePosixPath(download.file).name


def test_checksums_are_of_files_that_are_there() -> None:
    for known in NAMED.values():
        storage = known.storage
        if isinstance(storage, IdxFiles):
            names = (storage.train, storage.held_out, *storage.labels)
            assert {file.removesuffix(".gz") for file, _ in storage.checksums} in (set(), set(names))
            checksums = [checksum for _, checksum in storage.checksums]
        elif isinstance(storage, Archives):
            assert len(storage.checksums) in (0, len(storage.files))
            checksums = list(storage.checksums)
        else:
            continue
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", checksum) for checksum in checksums)
        assert len(checksums) == len(set(checksums))


@pytest.mark.full_mnist
@pytest.mark.skipif(not MNIST.is_dir(), reason="VAE_DATA names no folder with the full MNIST")
def test_the_checksums_of_mnist_are_those_of_the_files() -> None:
    storage = NAMED["mnist"].storage
    assert isinstance(storage, IdxFiles)
    for file, checksum in storage.checksums:
        assert is_published(MNIST / file, checksum)


@pytest.mark.parametrize("name", [name for name in NAMES if NAMED[name].torchvision_class is not None])
def test_torchvision_knows_every_other_data_set(torchvision: Any, name: str, tmp_path: Path) -> None:
    known = NAMED[name]
    assert not isinstance(known.storage, PublishedFiles)
    assert known.torchvision_class is not None
    make = getattr(torchvision, known.torchvision_class)
    for call in known.storage.calls:
        with pytest.raises((RuntimeError, FileNotFoundError), match=r"not found|No such file"):  # not: TypeError
            make(str(tmp_path), download=False, **call)
    if isinstance(known.storage, IdxFiles):
        assert known.storage.folder == f"{known.torchvision_class}/raw"
    elif name in ("svhn", "usps"):
        assert known.storage.files == tuple(make.split_list[split][1] for split in ("train", "test"))
    else:
        assert known.storage.files == (make.filename,)
