"""Atomic writing: the new file whole, or the old one untouched."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from vaecli import files
from vaecli.errors import VaeError


def test_replaces_a_file_and_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o640)
    files.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def _break_off(path: Path, error: BaseException) -> None:
    with files.replacing(path) as stream:
        stream.write(b"half")
        raise error


def test_a_failure_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(VaeError, match="no room left"):
        _break_off(path, OSError(errno.ENOSPC, "No space left on device"))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        _break_off(path, KeyboardInterrupt())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    files.write_bytes(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_no_clobber_refuses(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(VaeError, match="exists already"):
        files.write_bytes(path, b"new", clobber=False)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "reason"), [("none/a", "no such file or folder"), (".", "is a folder"), ("f/a", "")]
)
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(VaeError) as caught:
        files.write_bytes(tmp_path / name, b"x")
    assert str(tmp_path / name) in caught.value.message
    assert reason in caught.value.message


def test_a_device_is_written_straight() -> None:
    with pytest.raises(VaeError, match="/dev/full: no room left"):
        files.write_bytes(Path("/dev/full"), b"x")
    assert Path("/dev/full").is_char_device()
