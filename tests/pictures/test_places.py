"""Paths, patterns of paths, and addresses of other file systems."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaecli.errors import VaeError
from vaecli.pictures import places

ENDINGS = (".png", ".tar")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("10.png", "9.png", "notes.txt", "below/1.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_a_path_stands_for_itself(folder: Path) -> None:
    assert places.expand(str(folder), ENDINGS) == [str(folder)]
    assert places.expand("missing.png", ENDINGS) == ["missing.png"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.png", ["9.png", "10.png"]),
        ("**/*.tar", ["below/1.tar"]),
        ("[0-9].png", ["9.png"]),
        ("notes.*", ["notes.txt"]),
    ],
)
def test_a_pattern_stands_for_the_files_that_match(folder: Path, pattern: str, found: list[str]) -> None:
    assert places.expand(f"{folder}/{pattern}", ENDINGS) == [f"{folder}/{name}" for name in found]


@pytest.mark.parametrize(
    ("below", "found"),
    [
        ("", ["9.png", "10.png", "below/1.tar"]),  # those with an ending of pictures and shards
        ("/9.png", ["9.png"]),
        ("/*.png", ["9.png", "10.png"]),
        ("/*/*.tar", ["below/1.tar"]),
    ],
)
@pytest.mark.parametrize("scheme", ["file", "fsspec+file"])
def test_an_address_stands_for_files_there(folder: Path, scheme: str, below: str, found: list[str]) -> None:
    place = f"{scheme}://{folder}"
    assert places.expand(place + below, ENDINGS) == [f"{place}/{name}" for name in found]
    with places.opened(f"{place}/9.png") as stream:
        assert stream.read() == b"9.png"
    _, size, modified = places.version(f"{place}/9.png")
    assert size == 5
    assert modified == pytest.approx((folder / "9.png").stat().st_mtime_ns, abs=1000)  # fsspec rounds it


@pytest.mark.parametrize(
    ("place", "has"),
    [
        ("a.TAR", True),
        ("a.tar/", True),
        ("s3://bucket/a.tar?region=eu-west-1", True),
        ("s3://bucket/a.tar/?region=eu-west-1", True),
        ("s3://bucket/a?name=b.tar", False),
        ("tar", False),
        ("a?.tar", True),  # in a path a ? begins no options
        ("a.tar?", False),
    ],
)
def test_the_options_of_an_address_are_not_its_ending(place: str, has: bool) -> None:
    assert places.has_ending(place, ENDINGS) == has


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder: Path) -> None:
    (folder / "[a].png").touch()
    assert places.expand(str(folder / "[a].png"), ENDINGS) == [str(folder / "[a].png")]


@pytest.mark.parametrize("place", ["*.jpg", "file:///no/such/folder", "file:///tmp/*.none"])
def test_what_stands_for_no_file_is_said(place: str) -> None:
    with pytest.raises(VaeError, match="no file matches"):
        places.expand(place, ENDINGS)


@pytest.mark.parametrize("place", ["nowhere://x/y.tar", "fsspec+nowhere://x", "file://host/x"])
def test_an_address_that_cannot_be_reached_is_named(place: str) -> None:
    with pytest.raises(VaeError, match=r"cannot be reached") as caught:
        places.expand(place, ENDINGS)
    assert place.partition("?")[0] in caught.value.message


def test_what_vanishes_is_said(tmp_path: Path) -> None:
    for place in (str(tmp_path / "gone.png"), f"file://{tmp_path}/gone.png"):
        with pytest.raises(VaeError, match=r"gone\.png"), places.opened(place):
            pass


def test_natural_order() -> None:
    names = ["x10", "x9", "x09", "X1", "x", "x1b", "x01", "10", "9", "a", f"x{10**400}"]
    assert sorted(names, key=places.natural_key) == [
        "9", "10", "a", "x", "X1", "x01", "x1b", "x09", "x9", "x10", f"x{10**400}",
    ]  # fmt: skip
