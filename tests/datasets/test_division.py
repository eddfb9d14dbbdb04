"""Which pictures are held out, where labels.csv says it: by splits, and by groups."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.datasets.drawing import draw_folder, values
from vaecli.config import DataConfig
from vaecli.datasets import load
from vaecli.datasets.dataset import Dataset, ImageSet
from vaecli.errors import UsageError, VaeError
from vaecli.events import Note

COUNT = 60


def folder_with(folder: Path, header: str, columns: Sequence[Sequence[object]]) -> Path:
    draw_folder(folder, COUNT)
    with (folder / "labels.csv").open("w", newline="") as stream:
        rows = ((f"{number}.bmp", *column) for number, column in enumerate(columns))
        csv.writer(stream).writerows([header.split(","), *rows])
    return folder


def of(folder: Path, kept: Path, *, validation: int = 0, held_out: Path | None = None) -> Dataset:
    named = None if held_out is None else str(held_out)
    return load(DataConfig(source=str(folder), dir=str(kept), validation=validation, held_out=named))


def numbers(images: ImageSet | None) -> list[int]:
    return [] if images is None else values(images.whole())


def parts(data: Dataset) -> tuple[list[int], list[int], list[int]]:
    return numbers(data.train), numbers(data.validation), numbers(data.held_out)


NAMES = np.array(["train", "Train", "val", "test", "training", "train"] * 10)


class TestSplits:
    def test_each_picture_is_where_its_line_says(self, tmp_path: Path, kept: Path) -> None:
        data = of(folder_with(tmp_path / "a", "file,split", [[name] for name in NAMES]), kept)
        at = np.arange(COUNT)
        expected = [at[np.isin(NAMES, names)].tolist() for names in (["train", "Train", "training"], ["val"], ["test"])]
        assert [*parts(data)] == expected
        assert Note("labels.csv: 40 to train on, 10 for validation, 10 held out") in data.notes
        assert data.has_test_images
        assert data.classes == ()

    def test_classes_may_stand_beside_them(self, tmp_path: Path, kept: Path) -> None:
        rows = [(name, number % 3) for number, name in enumerate(NAMES)]
        data = of(folder_with(tmp_path / "a", "file,split,label", rows), kept)
        assert data.classes == ("0", "1", "2")
        assert data.held_out.classes is not None
        assert data.held_out.classes.labels.tolist() == [number % 3 for number in numbers(data.held_out)]

    def test_another_split_is_another_data_set(self, tmp_path: Path, kept: Path) -> None:
        first = of(folder_with(tmp_path / "a", "file,split", [[name] for name in NAMES]), kept)
        second = of(folder_with(tmp_path / "b", "file,split", [[name] for name in NAMES[::-1]]), kept)
        third = of(folder_with(tmp_path / "c", "file,split", [[name] for name in NAMES]), kept)
        assert first.hash == third.hash != second.hash

    def test_without_a_test_split_that_for_validation_is_held_out(self, tmp_path: Path, kept: Path) -> None:
        names = np.where(NAMES == "test", "train", NAMES)
        data = of(folder_with(tmp_path / "a", "file,split", [[name] for name in names]), kept, validation=7)
        assert numbers(data.held_out) == np.flatnonzero(NAMES == "val").tolist()
        assert len(numbers(data.validation)) == 7
        assert sorted(itertools.chain(*parts(data))) == list(range(COUNT))

    def test_the_number_for_validation_may_be_told_once_more_but_no_other(self, tmp_path: Path, kept: Path) -> None:
        folder = folder_with(tmp_path / "a", "file,split", [[name] for name in NAMES])
        assert parts(of(folder, kept)) == parts(of(folder, kept, validation=10)), "as a run records it"
        with pytest.raises(VaeError, match=r"`validation` 9: labels\.csv says which 10 pictures"):
            of(folder, kept, validation=9)

    @pytest.mark.parametrize(
        ("names", "problem"),
        [
            (["train"] * COUNT, "no picture is of the split test"),
            (["test"] * COUNT, "no picture is of the split train"),
            (["fold1"] * COUNT, "fold1 in the column of splits is none of train, validation and test"),
            (["train"] * 5, r"has no split for 5\.bmp and 54 more"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, names: list[str], problem: str, tmp_path: Path, kept: Path) -> None:
        with pytest.raises(VaeError, match=problem):
            of(folder_with(tmp_path / "a", "file,split", [[name] for name in names]), kept)

    def test_a_folder_is_named_in_any_way(self, tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is prepared is found again by another name of the folder."""
        folder = folder_with(tmp_path / "a", "file,split", [[name] for name in NAMES])
        (tmp_path / "link").symlink_to(folder)
        monkeypatch.chdir(folder)
        places = (".", "./", "../a", str(folder), f"{folder}/", str(tmp_path / "link"))
        found = [of(Path(place), kept) for place in places]
        assert all(parts(data) == parts(found[0]) for data in found)
        for place, data in zip(places, found, strict=True):
            assert all(Path(name).is_file() for name in data.of_split("all").names()), place
        monkeypatch.chdir(tmp_path)
        assert all(Path(name).is_file() for name in of(folder, kept).of_split("all").names())

    def test_a_table_without_a_line_is_no_table_without_the_column(self, tmp_path: Path, kept: Path) -> None:
        folder = draw_folder(tmp_path / "a", COUNT)
        for header in ("file,split", "file,label", "file,group"):
            (folder / "labels.csv").write_text(f"{header}\n\n , \n")
            with pytest.raises(VaeError, match=r"has no (split|class|group) for 0\.bmp"):
                of(folder, kept)

    def test_of_a_folder_that_is_held_out_all_is(self, tmp_path: Path, kept: Path) -> None:
        folder = folder_with(tmp_path / "a", "file,split", [[name] for name in NAMES])
        data = of(draw_folder(tmp_path / "b", 5), kept, held_out=folder)
        assert len(numbers(data.held_out)) == COUNT
        assert not [note for note in data.notes if "labels.csv" in note.text]

    def test_a_folder_that_holds_some_out_takes_no_others(self, tmp_path: Path, kept: Path) -> None:
        folder = folder_with(tmp_path / "a", "file,split", [[name] for name in NAMES])
        with pytest.raises(UsageError, match="has held-out images of its own"):
            of(folder, kept, held_out=draw_folder(tmp_path / "b", 5))


def groups_of(*images: list[int], sizes: NDArray[np.int64]) -> list[set[int]]:
    return [{int(sizes[number]) for number in some} for some in images]


class TestGroups:
    groups = np.sort(np.random.default_rng(0).integers(0, 25, COUNT))  # of 1 to 6 pictures

    def folder(self, path: Path) -> Path:
        return folder_with(path, "file,group", [[f"slide {group}"] for group in self.groups])

    @pytest.mark.parametrize("validation", [0, 1, 6, 20])
    def test_no_group_is_on_two_sides(self, validation: int, tmp_path: Path, kept: Path) -> None:
        data = of(self.folder(tmp_path / "a"), kept, validation=validation)
        assert sorted(itertools.chain(*parts(data))) == list(range(COUNT))
        train, cut, held_out = groups_of(*parts(data), sizes=self.groups)
        assert not train & held_out | train & cut | cut & held_out
        assert len(held_out) == 2, "a tenth of the groups"
        assert len(numbers(data.validation)) >= validation
        assert len(numbers(data.validation)) < validation + 7
        again = of(tmp_path / "a", kept, validation=len(numbers(data.validation)))
        assert parts(again) == parts(data), "as a run records the number"

    def test_they_stay_together_beside_pictures_held_out_by_name(self, tmp_path: Path, kept: Path) -> None:
        other = draw_folder(tmp_path / "b", 5)
        data = of(self.folder(tmp_path / "a"), kept, validation=6, held_out=other)
        train, cut, _ = parts(data)
        assert sorted(train + cut) == list(range(COUNT))
        first, second = groups_of(train, cut, sizes=self.groups)
        assert not first & second

    def test_groups_stay_together_in_validation_where_splits_are_given(self, tmp_path: Path, kept: Path) -> None:
        splits = np.where(self.groups % 5 == 0, "test", "train")
        rows = [(f"slide {group}", split) for group, split in zip(self.groups, splits, strict=True)]
        data = of(folder_with(tmp_path / "a", "file,group,split", rows), kept, validation=6)
        assert numbers(data.held_out) == np.flatnonzero(splits == "test").tolist()
        train, cut, held_out = groups_of(*parts(data), sizes=self.groups)
        assert not train & held_out | train & cut | cut & held_out
        assert not [note for note in data.notes if note.warning]

    def test_groups_in_two_splits_are_warned_of(self, tmp_path: Path, kept: Path) -> None:
        rows = [(group, "train" if at % 2 else "test") for at, group in enumerate(np.repeat([1, 2, 3], 20))]
        rows[0], rows[40:] = (1, "val"), [(3, "train")] * 20  # the first is in three
        data = of(folder_with(tmp_path / "a", "file,group,split", rows), kept)
        warning = Note("labels.csv: 2 groups of 3 are in more than one split", warning=True)
        assert warning in data.notes

    def test_one_group_cannot_be_divided(self, tmp_path: Path, kept: Path) -> None:
        with pytest.raises(VaeError, match="all pictures are of one group"):
            of(folder_with(tmp_path / "a", "file,group", [["a"]] * COUNT), kept)

    def test_all_groups_cannot_be_for_validation(self, tmp_path: Path, kept: Path) -> None:
        with pytest.raises(VaeError, match="leave some to train on"):
            of(self.folder(tmp_path / "a"), kept, validation=58)
