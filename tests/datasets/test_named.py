"""Data sets by name whose files are in the data folder: nothing is downloaded."""

from __future__ import annotations

import gzip
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.drawing import Recorder, class_names, numbered, values
from tests.datasets.set_files import idx_bytes, loaded, mnist_like, tree, write_cifar, write_usps
from tests.notes import texts
from vaecli.datasets import named
from vaecli.errors import VaeError


class TestIdxFiles:
    def test_are_used_as_they_are(self, tmp_path: Path) -> None:
        mnist_like(tmp_path / "MNIST" / "raw")
        before = tree(tmp_path)
        data = loaded("mnist", tmp_path)
        assert data.name == "mnist"
        assert data.image_shape == (1, 4, 5)
        assert values(data.train.whole()) == list(range(20))
        assert values(data.held_out.whole()) == list(range(100, 106))
        assert data.value_range == (0, 105)
        assert texts(data.notes) == ()
        assert tree(tmp_path) == before

    def test_need_no_labels_but_give_them(self, tmp_path: Path) -> None:
        raw = mnist_like(tmp_path / "FashionMNIST" / "raw")
        data = loaded("fashion-mnist", tmp_path)
        assert class_names(data.held_out) == ["t-shirt", "trousers", "pullover", "dress", "coat", "sandal"]
        assert class_names(data.train.rows(np.array([9, 10]))) == ["boot", "t-shirt"]
        (raw / "train-labels-idx1-ubyte").unlink()
        assert class_names(loaded("fashion-mnist", tmp_path).held_out) is None

    def test_labels_of_other_images_are_not_believed(self, tmp_path: Path) -> None:
        raw = mnist_like(tmp_path / "KMNIST" / "raw")
        (raw / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(7, np.uint8)))
        data = loaded("kmnist", tmp_path)
        assert class_names(data.held_out) is None
        assert texts(data.notes) == (f"{raw} does not have as many labels as images: its classes are not known",)

    def test_may_be_packed(self, tmp_path: Path) -> None:
        raw = mnist_like(tmp_path / "KMNIST" / "raw")
        plain = loaded("kmnist", tmp_path)
        for path in list(raw.iterdir()):
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
        before = tree(tmp_path)
        packed = loaded("kmnist", tmp_path)
        assert packed.hash == plain.hash
        assert values(packed.held_out.whole()) == list(range(100, 106))
        assert tree(tmp_path) == before

    def test_emnist_is_turned_upright(self, tmp_path: Path) -> None:
        raw = tmp_path / "EMNIST" / "raw"
        raw.mkdir(parents=True)
        upright = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
        for part in ("train", "test"):
            (raw / f"emnist-letters-{part}-images-idx3-ubyte").write_bytes(idx_bytes(upright.swapaxes(1, 2)))
        data = loaded("emnist-letters", tmp_path)
        assert (data.train.whole()[..., 0] == upright).all()

    def test_qmnist_labels_are_the_first_of_their_columns(self, tmp_path: Path) -> None:
        raw = tmp_path / "QMNIST" / "raw"
        raw.mkdir(parents=True)
        columns = np.array([[7, 1, 2], [300, 4, 5], [9, 7, 8]], dtype=np.int32)
        for part in ("train", "test"):
            (raw / f"qmnist-{part}-images-idx3-ubyte").write_bytes(idx_bytes(numbered(3)[..., 0]))
            (raw / f"qmnist-{part}-labels-idx2-int").write_bytes(idx_bytes(columns))
        assert class_names(loaded("qmnist", tmp_path).held_out) == ["7", "300", "9"]

    def test_are_resized_in_memory_where_they_are_few(self, tmp_path: Path) -> None:
        mnist_like(tmp_path / "MNIST" / "raw")
        before = tree(tmp_path)
        data = loaded("mnist", tmp_path, image_size=8, channels=3)
        assert data.image_shape == (3, 8, 8)
        assert values(data.held_out.whole()) == list(range(100, 106))
        assert tree(tmp_path) == before

    def test_damage_is_named(self, tmp_path: Path) -> None:
        path = mnist_like(tmp_path / "MNIST" / "raw") / "t10k-images-idx3-ubyte"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(VaeError, match=f"{path}: damaged"):
            loaded("mnist", tmp_path)

    def test_labels_in_place_of_images_are_refused(self, tmp_path: Path) -> None:
        raw = mnist_like(tmp_path / "MNIST" / "raw")
        shutil.copy(raw / "t10k-labels-idx1-ubyte", raw / "t10k-images-idx3-ubyte")
        with pytest.raises(VaeError, match="t10k-images-idx3-ubyte: no images in it"):
            loaded("mnist", tmp_path)

    def test_a_path_of_that_name_is_pointed_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        mnist_like(tmp_path / "MNIST" / "raw")
        (tmp_path / "mnist").mkdir()
        monkeypatch.chdir(tmp_path)
        assert texts(loaded("mnist", tmp_path).notes) == (
            "mnist means the data set; write ./mnist for the file or folder",
        )

    def test_are_here_when_both_files_of_images_are(self, tmp_path: Path) -> None:
        raw = mnist_like(tmp_path / "MNIST" / "raw")
        assert named.is_here("mnist", tmp_path)
        assert not named.is_here("kmnist", tmp_path)
        (raw / "t10k-images-idx3-ubyte").rename(raw / "t10k-images-idx3-ubyte.gz")
        assert named.is_here("mnist", tmp_path)
        (raw / "t10k-images-idx3-ubyte.gz").unlink()
        assert not named.is_here("mnist", tmp_path)


class TestArchives:
    @pytest.fixture
    def usps(self, torchvision: Any, kept: Path, nowhere: str, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A data folder with the archives of a tiny USPS in it, and no network."""
        write_usps(kept, torchvision, nowhere, monkeypatch)
        return kept

    def test_are_unpacked_once(self, usps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = loaded("usps", usps)
        assert first.image_shape == (1, 16, 16)
        assert len(first.train) == 12
        assert values(first.held_out.whole()) == [0, 12, 25]
        assert texts(first.notes) == ()
        monkeypatch.setitem(sys.modules, "torchvision", None)  # no longer needed
        recorder = Recorder()
        again = loaded("usps", usps, recorder)
        assert again.hash == first.hash
        assert values(again.held_out.whole()) == [0, 12, 25]
        assert recorder.progress == []
        assert loaded("usps", usps, image_size=4).image_shape == (1, 4, 4)

    def test_give_labels_from_the_cache_too(self, usps: Path) -> None:
        for _ in range(2):
            data = loaded("usps", usps)
            assert class_names(data.held_out) == ["0", "1", "2"]
            assert class_names(data.train) == [*"0123456789", "0", "1"]
        assert class_names(loaded("usps", usps, image_size=4).held_out) == ["0", "1", "2"]

    def test_are_here_packed_or_unpacked(self, usps: Path) -> None:
        assert named.is_here("usps", usps)
        loaded("usps", usps)
        (usps / "usps.bz2").unlink()
        assert named.is_here("usps", usps)
        shutil.rmtree(usps / "prepared")
        assert not named.is_here("usps", usps)

    def test_where_nothing_can_be_cached_it_still_works(self, usps: Path) -> None:
        (usps / "prepared").write_text("a file in the way")
        data = loaded("usps", usps)
        assert values(data.held_out.whole()) == [0, 12, 25]
        assert "unpacked anew each time" in texts(data.notes)[0]

    def test_are_unpacked_from_a_copy(
        self, torchvision: Any, kept: Path, nowhere: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        archive = write_cifar(kept, torchvision, nowhere, monkeypatch)
        data = loaded("cifar10", kept)
        assert data.train.shape == (4, 32, 32, 3)
        assert values(data.held_out.whole()) == [0, 1]
        assert texts(data.notes) == ()
        assert sorted(path.name for path in kept.iterdir()) == [archive.name, "prepared"]

    def test_a_damaged_one_is_named_and_kept(
        self, torchvision: Any, kept: Path, nowhere: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        archive = write_cifar(kept, torchvision, nowhere, monkeypatch)
        archive.write_bytes(b"damaged")
        with pytest.raises(VaeError, match="cifar10: cannot fetch or unpack") as error:
            loaded("cifar10", kept)
        assert str(archive) in error.value.hint
        assert archive.read_bytes() == b"damaged"
        assert list(kept.iterdir()) == [archive]
