"""The reader: many pictures on all cores, in order, and what is said of those that cannot be read."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from PIL import Image

from tests.notes import texts
from tests.pictures.packing import png
from vaecli.errors import VaeError
from vaecli.pictures.reader import Reader, on_all_cores


def read(folder: Path, files: list[Path], size: tuple[int, int] | None = None) -> tuple[list[str], Reader]:
    """The names of the pictures that can be read, and the reader."""
    reader = Reader(size, None)
    return [entry.name for chunk in reader.folder(folder, files) for entry in chunk], reader


def test_unreadable_pictures_are_listed_and_counted(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png(7))
    good = [tmp_path / "0.png"] * 500
    damaged = [tmp_path / f"a{index}.png" for index in range(5)]
    for path in damaged:
        path.write_text("no picture")
    names, reader = read(tmp_path, [*good[:250], *damaged, *good[250:]])
    assert names == [str(path) for path in good]
    assert reader.skipped == 5
    assert reader.skipped_names == [str(path) for path in damaged]
    listed = "; ".join(f"{path}: not a picture" for path in damaged[:3])
    assert texts(reader.notes()) == (f"skipped 5 of 505 pictures that cannot be read: {listed}; and 2 more",)
    with pytest.raises(VaeError, match=f"{tmp_path}: none of its 5 pictures can be read"):
        read(tmp_path, damaged)
    with pytest.raises(VaeError, match=re.escape(f"{tmp_path}: 5 of 15 pictures cannot be read: {listed}")):
        read(tmp_path, [*good[:10], *damaged])


def test_the_hint_on_too_many_says_what_else_can_be_done(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png(7))
    files = [tmp_path / "0.png", tmp_path / "gone.png"]
    for instead in ("", "; or leave it"):
        with pytest.raises(VaeError) as refused:
            list(Reader(None, None, instead).folder(tmp_path, files))
        assert refused.value.hint == f"remove or replace them; up to one in 100 would be skipped{instead}"


def test_what_was_done_is_said_with_the_goal(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png(7))
    names, reader = read(tmp_path, [tmp_path / "0.png"] * 3, (4, 4))
    assert (len(names), reader.done.fitted) == (3, 3)
    assert texts(reader.notes(" to 4x4")) == ("cropped, resized or converted 3 pictures to 4x4",)


def test_work_on_all_cores_keeps_its_order_and_raises_its_errors() -> None:
    assert list(chain.from_iterable(on_all_cores(lambda n: n * n, range(1000)))) == [n * n for n in range(1000)]

    def refuse(n: int) -> int:
        if n == 500:
            raise VaeError("500", "none")
        return n

    results = on_all_cores(refuse, range(1000))
    with pytest.raises(VaeError, match="500"):
        list(results)


def test_work_on_all_cores_does_not_run_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for n in range(100_000):
            taken.append(n)
            yield n

    results = on_all_cores(lambda n: n, items())
    next(results)
    results.close()
    assert len(taken) < 10_000


def test_work_on_all_cores_is_quiet_about_odd_files() -> None:
    def warn(n: int) -> int:
        warnings.warn_explicit("an odd file", UserWarning, "Image.py", 1, module="PIL.Image")
        return n

    assert list(chain.from_iterable(on_all_cores(warn, range(100)))) == list(range(100))


@pytest.mark.parametrize("ending", ["gif", "tif", "webp", "png"])
def test_that_the_first_of_several_frames_is_taken_is_told(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("L", (4, 4), 60 * number) for number in range(3)]
    frames[1].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[2:])
    frames[1].save(tmp_path / f"b.{ending}")
    reader = Reader((4, 4), None)
    names = [str(tmp_path / f"{name}.{ending}") for name in "ab"]
    (entries,) = reader.folder(tmp_path, names)
    assert [int(entry.pixels[0, 0, 0]) for entry in entries] == pytest.approx([60, 60], abs=3)
    assert texts(reader.notes()) == ("of 1 picture with several frames or pages the first was taken",)
