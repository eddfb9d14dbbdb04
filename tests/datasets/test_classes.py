"""Classes: read from subfolders, from labels.csv and from .npz files, and kept with their pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.datasets.drawing import class_names, draw, draw_folder, numbered, values
from tests.notes import texts
from vaecli.config import DataConfig
from vaecli.datasets import Dataset, load
from vaecli.datasets.classes import MOST, of_names, of_numbers
from vaecli.datasets.label_table import LABELS_FILE
from vaecli.errors import VaeError


def loaded(source: Path, kept: Path, **settings: Any) -> Dataset:
    return load(DataConfig(source=str(source), dir=str(kept), **settings))


def pets(folder: Path) -> Path:
    """20 cats of even values and 20 dogs of odd ones."""
    for value in range(40):
        draw(folder / ("dog" if value % 2 else "cat") / "young" / f"{value}.bmp", value)
    return folder


def held_with_names(data: Dataset) -> dict[int, str]:
    names = class_names(data.held_out)
    assert names is not None
    return dict(zip(values(data.held_out.whole()), names, strict=True))


class TestFolders:
    def test_subfolders_are_classes_at_once_and_from_the_cache(self, tmp_path: Path, kept: Path) -> None:
        folder = pets(tmp_path / "pets")
        for _ in range(2):
            data = loaded(folder, kept)
            assert data.classes == ("cat", "dog")
            found = held_with_names(data)
            assert len(found) == 4
            assert all(name == ("dog" if value % 2 else "cat") for value, name in found.items())

    def test_pictures_resized_and_for_validation_keep_theirs(self, tmp_path: Path, kept: Path) -> None:
        data = loaded(pets(tmp_path / "pets"), kept, image_size=3, validation=6)
        assert data.validation is not None
        names = class_names(data.validation)
        assert names == ["dog" if value % 2 else "cat" for value in values(data.validation.whole())]

    def test_a_picture_that_is_skipped_shifts_no_class(self, tmp_path: Path, kept: Path) -> None:
        folder = pets(tmp_path / "pets")
        for value in range(100, 200):
            draw(folder / "cat" / f"{value}.bmp", value)
        (folder / "cat" / "150.bmp").write_text("no picture")
        data = loaded(folder, kept)
        names = class_names(data.train)
        assert names == ["dog" if value % 2 and value < 100 else "cat" for value in values(data.train.whole())]

    @pytest.mark.parametrize("extra", ["top.bmp", None])
    def test_without_two_classes_for_all_there_are_none(self, tmp_path: Path, kept: Path, extra: str | None) -> None:
        folder = pets(tmp_path / "pets") if extra else tmp_path / "one"
        draw_folder(folder / "cat", 5)
        if extra:
            draw(folder / extra, 7)
        data = loaded(folder, kept)
        assert data.classes == ()
        assert data.train.classes is None
        told = ("no classes: 1 picture in no subfolder, such as top.bmp",) if extra else ()
        assert tuple(note for note in texts(data.notes) if note.startswith("no classes")) == told


def test_test_images_of_an_npz_are_held_out(tmp_path: Path, kept: Path) -> None:
    x, y = numbered(30), np.arange(30) % 3
    np.savez(tmp_path / "a.npz", x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    data = loaded(tmp_path / "a.npz", kept)
    np.testing.assert_array_equal(data.train.whole(), x[:20])
    np.testing.assert_array_equal(data.held_out.whole(), x[20:])
    assert data.held_out.classes is not None
    np.testing.assert_array_equal(data.held_out.classes.labels, y[20:])
    np.savez(tmp_path / "b.npz", x_train=x[:20, :3], x_test=x[20:])
    with pytest.raises(VaeError, match="its test images have the shape"):
        loaded(tmp_path / "b.npz", kept)


class TestLabelsFile:
    def write(self, folder: Path, text: str) -> Path:
        draw_folder(folder, 10)
        (folder / LABELS_FILE).write_text(text, encoding="utf-8-sig")
        return folder

    def test_gives_the_class_of_each_file(self, tmp_path: Path, kept: Path) -> None:
        lines = [f"{value},./{value}.bmp,{'odd' if value % 2 else 'even'}" for value in range(10)]
        folder = self.write(tmp_path / "a", "\n".join(["id,Filename,Class", *lines, "99,gone.bmp,even"]))
        data = loaded(folder, kept)
        assert class_names(data.train) == ["odd" if value % 2 else "even" for value in values(data.train.whole())]

    @pytest.mark.parametrize(
        ("line", "problem"), [("3.bmp,", "no class for 3.bmp"), ("3.bmp,9", "two classes for 3.bmp, 1 and 9")]
    )
    def test_a_line_without_one_class_is_refused(self, line: str, problem: str, tmp_path: Path, kept: Path) -> None:
        lines = [f"{value}.bmp,{value % 2}" for value in range(10)]
        folder = self.write(tmp_path / "a", "\n".join(["file,label", *lines, line]))
        with pytest.raises(VaeError, match=problem):
            loaded(folder, kept)

    def test_a_change_is_noticed(self, tmp_path: Path, kept: Path) -> None:
        lines = [f"{value}.bmp,{value % 2}" for value in range(10)]
        folder = self.write(tmp_path / "a", "\n".join(["file,label", *lines]))
        assert loaded(folder, kept).classes == ("0", "1")
        (folder / LABELS_FILE).write_text("\n".join(["file,label", *(f"{n}.bmp,{n % 3}" for n in range(10))]))
        assert loaded(folder, kept).classes == ("0", "1", "2")

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("file,label\n0.bmp,cat\n", "has no class for 1.bmp and 8 more"),
            ("0.bmp,cat\n1.bmp,dog\n", "no columns file and label"),
            ("", "no columns file and label"),
            ("file,label\n0.bmp\n", "a line with too few columns: 0.bmp"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, tmp_path: Path, kept: Path, text: str, problem: str) -> None:
        with pytest.raises(VaeError, match=problem) as refusal:
            loaded(self.write(tmp_path / "a", text), kept)
        assert LABELS_FILE in refusal.value.message
        assert not (kept / "prepared").exists() or not list((kept / "prepared").iterdir())

    def test_bytes_that_are_no_text_are_refused(self, tmp_path: Path, kept: Path) -> None:
        folder = draw_folder(tmp_path / "a", 3)
        (folder / LABELS_FILE).write_bytes(b"file,label\n0.bmp,caf\xe9\n")
        with pytest.raises(VaeError, match="no CSV in UTF-8"):
            loaded(folder, kept)


class TestArrays:
    def test_y_is_the_class(self, tmp_path: Path, kept: Path) -> None:
        np.savez(tmp_path / "a.npz", x=numbered(30), y=np.arange(30) % 3 + 7)
        for settings in ({}, {"image_size": 3}):
            data = loaded(tmp_path / "a.npz", kept, **settings)
            assert class_names(data.held_out) == [str(value % 3 + 7) for value in values(data.held_out.whole())]

    @pytest.mark.parametrize(
        "labels",
        [np.arange(29) % 2, np.zeros((30, 2), np.int64), np.linspace(0, 1, 30), np.array([{}] * 30), np.ones(30, int)],
    )
    def test_what_is_no_class_of_each_is_left_alone(self, tmp_path: Path, kept: Path, labels: NDArray[Any]) -> None:
        np.savez(tmp_path / "a.npz", x=numbered(30), y=labels)
        assert loaded(tmp_path / "a.npz", kept).classes == ()


def test_names_are_in_natural_order() -> None:
    found = of_names(["b10", "b2", "b10"])
    assert found is not None
    assert found.names == ("b2", "b10")
    assert found.labels.tolist() == [1, 0, 1]


def test_texts_are_classes_and_too_many_are_not() -> None:
    found = of_numbers(np.array(["dog", "cat"]))
    assert found is not None
    assert found.names == ("cat", "dog")
    assert of_numbers(np.arange(MOST + 1)) is None
    assert of_names([str(number) for number in range(MOST + 1)]) is None


def test_a_table_of_factors_has_no_classes(tmp_path: Path) -> None:
    """Its y is a coordinate."""
    for number in range(4):
        Image.new("L", (4, 4), number).save(tmp_path / f"{number}.png")
    (tmp_path / "labels.csv").write_text("file,x,y\n" + "".join(f"{number}.png,1.5,{number}\n" for number in range(4)))
    with pytest.raises(VaeError, match="no columns file and label"):
        load(DataConfig(source=str(tmp_path)))
