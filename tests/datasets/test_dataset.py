"""What training sees: rows of arrays and files, the held-out tenth, and the hash that tells data apart."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.drawing import numbered, values
from tests.notes import texts
from vaecli.datasets import dataset
from vaecli.datasets.dataset import Found, ImageSet, spread, summary_of
from vaecli.datasets.division import hold_out, split
from vaecli.errors import VaeError
from vaecli.events import Note


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything counts as larger than memory."""
    monkeypatch.setattr(dataset, "RESIDENT_BYTES", 100)


def mapped(path: Path, n: int = 200) -> np.memmap:
    np.save(path / "a.npy", numbered(n))
    array = np.load(path / "a.npy", mmap_mode="r")
    assert isinstance(array, np.memmap)
    return array


class TestImageSet:
    def test_rows_are_chosen_by_slice_or_index(self) -> None:
        images = ImageSet(numbered(50), np.array([9, 3, 5, 40]))
        assert len(images) == 4
        assert images.shape == (4, 4, 5, 1)
        assert values(images[1:3]) == [3, 5]
        assert values(images[np.array([3, 0, 3])]) == [40, 9, 40]
        assert values(images.whole()) == [9, 3, 5, 40]

    def test_what_is_chosen_is_a_copy_that_may_be_written_to(self) -> None:
        array = numbered(5)
        ImageSet(array)[:2][:] = 99
        assert values(array) == [0, 1, 2, 3, 4]

    def test_images_in_memory_are_not_copied_as_a_whole(self) -> None:
        array = numbered(5)
        assert np.shares_memory(ImageSet(array).whole(), array)

    def test_a_small_map_is_read_into_memory(self, tmp_path: Path) -> None:
        images = ImageSet(mapped(tmp_path))
        assert images.resident
        assert not isinstance(images.whole(), np.memmap)
        assert values(images.whole()) == values(numbered(200))

    @pytest.mark.usefixtures("large")
    def test_a_large_file_is_gathered_row_by_row(self, tmp_path: Path) -> None:
        array = mapped(tmp_path)
        images = ImageSet(array)
        assert not images.resident
        order = np.random.default_rng(0).permutation(200)
        gathered = images[order]
        assert gathered.flags.writeable
        assert (gathered == array[order]).all()
        assert (images[20:170] == array[20:170]).all()
        assert (images[150:20:-7] == array[150:20:-7]).all()
        assert images[:0].shape == (0, 4, 5, 1)

    @pytest.mark.usefixtures("large")
    @pytest.mark.parametrize("most", [1, 33, 20 * 150])
    def test_more_than_linux_reads_at_once_is_read_in_pieces(
        self, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dataset, "LARGEST_READ", most)
        array, asked = mapped(tmp_path), list[int]()
        whole = os.pread

        def pread(file: int, count: int, at: int) -> bytes:
            asked.append(count)
            return whole(file, count, at)

        monkeypatch.setattr(os, "pread", pread)
        assert (ImageSet(array)[20:170] == array[20:170]).all()
        assert max(asked) <= most

    @pytest.mark.usefixtures("large")
    def test_rows_and_parts_of_a_large_file(self, tmp_path: Path) -> None:
        array = mapped(tmp_path)
        assert values(ImageSet(array, np.array([7, 100, 3]))[1:]) == [100, 3]
        assert values(ImageSet(array[150:])[np.array([0, 3])]) == [150, 153]
        assert values(ImageSet(array[150:180]).whole()) == list(range(150, 180))

    @pytest.mark.usefixtures("large")
    def test_a_large_file_can_be_removed_while_it_is_used(self, tmp_path: Path) -> None:
        images = ImageSet(mapped(tmp_path))
        (tmp_path / "a.npy").unlink()
        assert values(images[np.array([3, 150])]) == [3, 150]

    @pytest.mark.usefixtures("large")
    def test_a_large_file_of_another_layout_is_gathered_all_the_same(self, tmp_path: Path) -> None:
        array = np.asfortranarray(np.random.default_rng(0).integers(0, 256, (9, 4, 5, 1), np.uint8))
        np.save(tmp_path / "f.npy", array)
        loaded = np.load(tmp_path / "f.npy", mmap_mode="r")
        assert (ImageSet(loaded)[np.array([8, 2])] == array[[8, 2]]).all()

    @pytest.mark.usefixtures("large")
    def test_a_file_that_shrinks_meanwhile_is_named(self, tmp_path: Path) -> None:
        images = ImageSet(mapped(tmp_path))
        (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:1000])
        with pytest.raises(VaeError, match=r"a\.npy: has become shorter"):
            images[np.array([199])]

    def test_chunks_are_everything_in_order(self) -> None:
        images = ImageSet(numbered(50))
        chunks = list(images.chunks(size=200))
        assert max(map(len, chunks)) == 10
        assert values(np.concatenate(chunks)) == list(range(50))


class TestHoldOut:
    @pytest.mark.parametrize(("n", "held_out"), [(2, 1), (9, 1), (10, 1), (19, 1), (20, 2), (1000, 100), (1009, 100)])
    def test_a_tenth_and_at_least_one(self, n: int, held_out: int) -> None:
        train, rest = hold_out(n)
        assert len(rest) == held_out
        assert sorted([*train, *rest]) == list(range(n))

    def test_is_spread_over_sorted_images_in_step_with_no_pattern(self) -> None:
        _, held_out = hold_out(100_000)
        assert (held_out // 10 == np.arange(10_000)).all()
        counts = np.bincount(held_out % 10)
        assert counts.min() > 900
        assert counts.max() < 1100

    def test_never_changes(self) -> None:
        assert hold_out(100)[1].tolist() == [5, 10, 29, 34, 47, 50, 63, 70, 89, 90]


class TestSpread:
    def test_rows_are_evenly_spaced_from_the_first(self) -> None:
        assert spread(4, 12).tolist() == [0, 3, 6, 9]
        assert spread(3, 10).tolist() == [0, 3, 6]
        assert spread(5, 5).tolist() == [0, 1, 2, 3, 4]

    def test_there_are_no_more_than_available(self) -> None:
        assert spread(9, 3).tolist() == [0, 1, 2]
        assert spread(0, 3).tolist() == []


class TestValidation:
    @pytest.mark.parametrize("count", [1, 7, 60, 89])
    def test_is_cut_from_the_training_images_and_spread_over_them(self, count: int) -> None:
        whole = split(Found("a", (numbered(100),), 0))
        cut = split(Found("a", (numbered(100),), 0), count)
        assert whole.validation is None
        assert whole.measured is whole.held_out
        assert cut.measured is cut.validation
        assert cut.validation is not None
        assert len(cut.validation) == count
        assert cut.hash == whole.hash, "of all images"
        assert values(cut.held_out.whole()) == values(whole.held_out.whole())
        chosen, rest = values(cut.validation.whole()), values(cut.train.whole())
        assert sorted(chosen + rest) == values(whole.train.whole())
        assert chosen == sorted(chosen)
        of_90 = np.searchsorted(values(whole.train.whole()), chosen)
        starts = np.arange(count) * 90 // count
        assert (np.searchsorted(starts, of_90, side="right") - 1 == np.arange(count)).all(), "one of each stretch"

    def test_never_changes(self) -> None:
        validation = split(Found("a", (numbered(40), numbered(5)), 0), 6).validation
        assert validation is not None
        assert values(validation.whole()) == [1, 7, 15, 24, 28, 35]

    def test_of_the_data_set_itself_is_its_last_training_images(self) -> None:
        found = Found("a", (numbered(20), numbered(5)), 0, validation=4)
        for asked in (0, 4):
            own = split(found, asked)
            assert own.validation is not None
            assert values(own.validation.whole()) == [16, 17, 18, 19]
            assert values(own.train.whole()) == list(range(16))
        other = split(found, 5)
        assert other.validation is not None
        assert len(other.validation) == 5
        assert len(other.train) == 15

    def test_leaves_something_to_train_on(self) -> None:
        with pytest.raises(VaeError, match="`validation` 90: a has 90 training images"):
            split(Found("a", (numbered(100),), 0), 90)

    @pytest.mark.usefixtures("large")
    def test_of_a_large_file_is_read_row_by_row(self, tmp_path: Path) -> None:
        data = split(Found("a", (mapped(tmp_path),), 0), 20)
        assert data.validation is not None
        assert values(data.validation[np.arange(20)]) == values(data.validation.whole())


class TestSplit:
    def test_test_images_are_held_out(self) -> None:
        made = split(Found("two", (numbered(30), numbered(7)), "a version", (Note("a note"),)))
        assert len(made.train) == 30
        assert len(made.held_out) == 7
        assert made.image_shape == (1, 4, 5)
        assert made.value_range == (0, 29)
        assert (made.name, texts(made.notes)) == ("two", ("a note",))

    def test_one_picture_is_too_few(self) -> None:
        with pytest.raises(VaeError, match="`source` one: only one picture"):
            split(Found("one", (numbered(1),), "a version"))
        assert len(split(Found("two", (numbered(2),), "a version")).train) == 1


class TestSummary:
    def test_tells_values_order_shape_and_number_apart(self) -> None:
        one = numbered(20)
        variants = [one, one[::-1], one[:19], one.reshape(20, 5, 4, 1), one.reshape(10, 8, 5, 1), one ^ 1]
        hashes = {summary_of(ImageSet(np.ascontiguousarray(array))).hash for array in variants}
        assert len(hashes) == len(variants)

    def test_is_the_same_however_the_images_lie(self, tmp_path: Path) -> None:
        assert summary_of(ImageSet(mapped(tmp_path))) == summary_of(ImageSet(numbered(200)))
        assert summary_of(ImageSet(numbered(200)[:90]), ImageSet(numbered(200)[90:])) == summary_of(
            ImageSet(numbered(200))
        )

    @pytest.mark.usefixtures("large")
    def test_of_large_data_a_sample_stands_for_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dataset, "SAMPLE_IMAGES", 16)
        images = numbered(200)
        found = summary_of(ImageSet(images))
        assert found.hash.startswith("sha256-sample:")
        assert found.value_range == (0, 199)
        assert summary_of(ImageSet(images[:199])).hash != found.hash
        images[199] = 3
        assert summary_of(ImageSet(images)).hash != found.hash
