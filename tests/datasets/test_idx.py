"""IDX files: plain or packed, of each type, and damaged ones."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.set_files import idx_bytes
from vaecli.datasets import idx
from vaecli.errors import VaeError

ARRAY = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def test_a_plain_file_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(idx_bytes(ARRAY))
    assert idx.find(path) == path
    assert isinstance(idx.read(path), np.memmap)
    assert (idx.read(path) == ARRAY).all()


def test_a_packed_file_is_read_under_its_plain_name(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert idx.find(path) is None
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx_bytes(ARRAY)))
    assert idx.find(path) == tmp_path / "a.gz"
    assert (idx.read(path) == ARRAY).all()


def test_integers_are_big_endian(tmp_path: Path) -> None:
    array = np.array([[1, 256], [65536, -1]], dtype=np.int32)
    (tmp_path / "a").write_bytes(idx_bytes(array))
    assert idx.read(tmp_path / "a").tolist() == array.tolist()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[:6],
        lambda content: b"",
        lambda content: b"<html>not found</html>" * 30,
        lambda content: content + b"x",
        lambda content: b"\0\0\x08\x64" + 100 * b"\0\0\0\1" + b"x",  # more dimensions than NumPy has
    ],
)
def test_damaged_files_are_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "a"
    path.write_bytes(damage(idx_bytes(ARRAY)))
    with pytest.raises(VaeError, match=f"{path}: damaged") as error:
        idx.read(path)
    assert "remove it" in error.value.hint


def test_a_damaged_gz_is_named(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(idx_bytes(ARRAY)))
    packed[15:25] = bytes(10)
    (tmp_path / "a.gz").write_bytes(packed)
    with pytest.raises(VaeError, match=r"a\.gz: damaged"):
        idx.read(tmp_path / "a")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VaeError, match=f"{tmp_path}/a: no such file"):
        idx.read(tmp_path / "a")
