"""A source to images: the built-in digits, arrays, other sizes, and what is kept for the next time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.drawing import Recorder, draw, draw_folder, numbered, values
from tests.datasets.set_files import little_mnist
from tests.notes import texts
from vaecli.config import DataConfig
from vaecli.datasets import Dataset, builtin, cache, dataset, load, loading
from vaecli.errors import UsageError, VaeError


def loaded(source: object, **settings: Any) -> Dataset:
    return load(DataConfig(source=str(source), **settings), Recorder())


class TestBuiltIn:
    def test_are_what_the_package_holds(self) -> None:
        digits = loaded("mnist-5k")
        train, held_out = builtin.digits()
        assert (digits.train.whole() == train).all()
        assert (digits.held_out.whole() == held_out).all()
        assert digits.image_shape == (1, 28, 28)
        assert digits.value_range == (0, 255)
        assert texts(digits.notes) == ()

    def test_the_hash_is_what_exported_models_have_recorded(self) -> None:
        assert loaded("mnist-5k").hash == "sha256:0241b6e6ff03e71f84b45e0f3da87b5a7de7e2a2e4a5a14492e8e638514063b3"

    def test_in_another_size_and_in_colour(self) -> None:
        digits = loaded("mnist-5k", image_size="20x24", channels=3)
        assert digits.image_shape == (3, 20, 24)
        assert digits.train.shape == (4500, 20, 24, 3)
        assert "20x24x3" in texts(digits.notes)[0]
        assert digits.hash != loaded("mnist-5k").hash

    def test_a_path_of_that_name_is_pointed_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        draw(tmp_path / "mnist-5k" / "a.png", 1)
        digits = loaded("mnist-5k")
        assert len(digits.train) == 4500
        assert "./mnist-5k" in texts(digits.notes)[0]
        with pytest.raises(VaeError, match="only one picture"):
            loaded("./mnist-5k")

    def test_torch_is_not_needed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("torch", "torchvision"):
            monkeypatch.setitem(sys.modules, name, None)
        assert len(loaded("mnist-5k").train) == 4500


class TestArrays:
    def test_a_tenth_is_held_out(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", numbered(100))
        data = loaded(tmp_path / "a.npy")
        assert data.name == "a.npy"
        assert values(data.held_out.whole()) == [5, 10, 29, 34, 47, 50, 63, 70, 89, 90]
        assert sorted(values(data.held_out.whole()) + values(data.train.whole())) == list(range(100))
        assert data.value_range == (0, 99)

    def test_floats_and_npz(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", numbered(20) / 255)
        np.savez(tmp_path / "b.npz", numbered(20))
        one, other = loaded(tmp_path / "a.npy"), loaded(tmp_path / "b.npz")
        assert one.hash == other.hash
        assert values(one.train.whole()) == values(other.train.whole())

    def test_the_same_content_has_the_same_hash_wherever_it_lies(self, tmp_path: Path) -> None:
        for name, array in (("a", numbered(20)), ("b", numbered(20)), ("c", numbered(20)[::-1])):
            np.save(tmp_path / f"{name}.npy", array)
        hashes = [loaded(tmp_path / f"{name}.npy").hash for name in "abc"]
        assert hashes[0] == hashes[1] != hashes[2]

    def test_large_bytes_are_never_read_as_a_whole(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dataset, "RESIDENT_BYTES", 100)
        np.save(tmp_path / "a.npy", numbered(100))
        data = loaded(tmp_path / "a.npy")
        assert not data.train.resident
        assert data.hash.startswith("sha256-sample:")
        assert values(data.train[np.array([3, 0])]) == [3, 0]
        assert list(tmp_path.iterdir()) == [tmp_path / "a.npy"]

    def test_test_images_of_large_floats_are_held_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        train, test = numbered(30) / 255, numbered(7) / 255
        np.savez(tmp_path / "a.npz", x_train=train, x_test=test, y_train=np.arange(30) % 2, y_test=np.arange(7) % 2)
        settings = DataConfig(source=str(tmp_path / "a.npz"), dir=str(tmp_path))
        small = load(settings)
        monkeypatch.setattr(dataset, "RESIDENT_BYTES", 100)
        for _ in range(2):
            large = load(settings)
            assert (len(large.train), len(large.held_out)) == (len(small.train), len(small.held_out)) == (30, 7)
            assert large.labels_hash == small.labels_hash
            assert large.of_split("all").names() == small.of_split("all").names()

    def test_large_floats_are_converted_once_into_the_cache(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dataset, "RESIDENT_BYTES", 100)
        np.save(tmp_path / "a.npy", numbered(100) / 255)
        first, second = Recorder(), Recorder()
        settings = DataConfig(source=str(tmp_path / "a.npy"), dir=str(tmp_path))
        one = load(settings, first)
        other = load(settings, second)
        assert first.begun == [("converting a.npy", 100, "images")]
        assert first.done == 100
        assert second.progress == []
        assert one.hash == other.hash
        assert values(one.train.whole()) == [n for n in range(100) if n not in values(one.held_out.whole())]

    def test_resizing_many_is_kept_for_the_next_time(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loading, "RESIZED_EACH_TIME", 50)
        np.save(tmp_path / "a.npy", numbered(100))
        first, second = Recorder(), Recorder()
        settings = DataConfig(source=str(tmp_path / "a.npy"), dir=str(tmp_path), image_size=2, channels=3)
        one = load(settings, first)
        other = load(settings, second)
        assert first.begun == [("resizing a.npy", 100, "images")]
        assert first.done == 100
        assert second.progress == []
        assert one.image_shape == other.image_shape == (3, 2, 2)
        assert texts(one.notes) == texts(other.notes) == ("all images were cropped, resized or converted to 2x2x3",)
        assert values(one.held_out.whole()) == values(other.held_out.whole()) == [5, 10, 29, 34, 47, 50, 63, 70, 89, 90]
        np.save(tmp_path / "a.npy", numbered(110))
        assert len(load(settings, second).train) == 99

    @pytest.mark.parametrize(
        ("array", "said"),
        [
            (np.full((20, 4, 4), np.nan), "NaN"),
            (np.zeros((20, 16), np.uint8), "wrong shape"),
            (np.zeros((1, 4, 4), np.uint8), "only one picture"),
            (np.zeros((2, 1, 1025), np.uint8), "1x1025 pixels"),
        ],
    )
    def test_what_cannot_be_trained_on_is_refused(self, tmp_path: Path, array: Any, said: str) -> None:
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(VaeError, match=rf"a\.npy: .*{said}"):
            loaded(tmp_path / "a.npy")


def test_a_data_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VaeError, match=r"`dir` .*file: is a file"):
        loaded("mnist", dir=str(tmp_path / "file"))


def test_a_data_folder_for_prepared_pictures_is_made(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    folder = draw_folder(tmp_path / "cats", 4)
    assert len(loaded(folder, dir=str(tmp_path / "new")).train) == 3
    assert (tmp_path / "new/prepared").is_dir()
    with pytest.raises(VaeError, match=r"`dir` .*: is a file"):
        loaded(folder, dir=str(folder / "0.bmp"))


def test_entries_of_another_version_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "RESIZED_EACH_TIME", 5)
    np.save(tmp_path / "a.npy", numbered(10))
    settings = DataConfig(source=str(tmp_path / "a.npy"), dir=str(tmp_path), image_size=2)
    load(settings, Recorder())
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    again = Recorder()
    load(settings, again)
    assert again.done == 10


class TestHeldOut:
    """Images that the user holds out."""

    def test_all_of_another_source_in_the_shape_of_the_first(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=numbered(20), y=np.arange(20) % 2)
        np.savez(tmp_path / "b.npz", x=np.repeat(numbered(7), 2, axis=1), y=np.arange(7) % 2)
        data = loaded(tmp_path / "a.npz", held_out=str(tmp_path / "b.npz"))
        np.testing.assert_array_equal(data.train.whole(), numbered(20))
        np.testing.assert_array_equal(data.held_out.whole()[:, 0, 0, 0], np.arange(7))
        assert data.held_out.shape == (7, *numbered(1).shape[1:])
        assert data.held_out.classes is not None
        np.testing.assert_array_equal(data.held_out.classes.labels, np.arange(7) % 2)
        assert "held out: 7 pictures of b.npz" in texts(data.notes)

    def test_of_a_named_set_its_test_images(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=numbered(20))
        np.savez(tmp_path / "b.npz", x_train=numbered(9), x_test=numbered(3))
        assert len(loaded(tmp_path / "a.npz", held_out=str(tmp_path / "b.npz")).held_out) == 3

    def test_what_cannot_be_meant(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=numbered(20))
        np.savez(tmp_path / "b.npz", x_train=numbered(9), x_test=numbered(3))
        with pytest.raises(UsageError, match="some of these are images to train on"):
            loaded(tmp_path / "a.npz", held_out=str(tmp_path / "a.npz"))
        with pytest.raises(UsageError, match=r"b.npz has held-out images of its own"):
            loaded(tmp_path / "b.npz", held_out=str(tmp_path / "a.npz"))
        with pytest.raises(VaeError, match=r"`held_out` .*gone: no such file"):
            loaded(tmp_path / "a.npz", held_out=str(tmp_path / "gone"))

    def test_another_split_of_the_same_images_is_another_data_set(self, tmp_path: Path) -> None:
        found = set()
        for cut in (8, 12):
            for name, part in (("a", numbered(20)[:cut]), ("b", numbered(20)[cut:])):
                np.save(tmp_path / f"{name}.npy", part)
            np.savez(tmp_path / "c.npz", x_train=numbered(20)[:cut], x_test=numbered(20)[cut:])
            found |= {
                loaded(tmp_path / "a.npy", held_out=str(tmp_path / "b.npy")).hash,
                loaded(tmp_path / "c.npz").hash,
            }
        assert len(found) == 2, "one for each split, however it is stored"

    def test_a_part_of_the_images_to_train_on_is_refused(self, tmp_path: Path) -> None:
        draw_folder(tmp_path / "all" / "a", 5)
        (tmp_path / "link").symlink_to(tmp_path / "all")
        for other in ("all/a", "all/../all", "link"):
            with pytest.raises(UsageError, match="some of these are images to train on"):
                loaded(tmp_path / "all", held_out=str(tmp_path / other), dir=str(tmp_path / "kept"))

    def test_classes_that_cannot_be_used_are_told(self, tmp_path: Path) -> None:
        x, y = numbered(20), np.arange(20) % 2
        np.savez(tmp_path / "a.npz", x=x, y=y)
        np.save(tmp_path / "b.npy", x)
        data = loaded(tmp_path / "a.npz", held_out=str(tmp_path / "b.npy"))
        assert (data.classes, texts(data.notes)[-1]) == ((), "no classes: the held-out images have none")
        np.savez(tmp_path / "c.npz", x_train=x, y_train=y, x_test=x)
        assert texts(loaded(tmp_path / "c.npz").notes) == ("no classes: one of y_train and y_test is missing",)


@pytest.mark.parametrize("place", ["MNIST", "MNIST/raw"])
def test_a_folder_of_torchvision_is_named_as_a_data_set(tmp_path: Path, place: str) -> None:
    little_mnist(tmp_path)
    with pytest.raises(VaeError, match="holds the files of a data set") as refusal:
        loaded(tmp_path / place)
    assert refusal.value.hint == f"`source` mnist `dir` {tmp_path}"
