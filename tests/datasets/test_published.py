"""Binarised MNIST and Omniglot: read from files of their format, downloaded once, refused where they are damaged."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.datasets.drawing import Recorder, class_names
from tests.datasets.set_files import loaded
from tests.notes import texts
from vaecli.datasets import catalogue
from vaecli.datasets.catalogue import NAMED, Download, PublishedFiles
from vaecli.datasets.published import binarized_mnist, omniglot
from vaecli.errors import VaeError

Bits = NDArray[np.uint8]


def digits(n: int, seed: int) -> Bits:
    """(n, 28, 28) of 0 and 1."""
    return np.random.default_rng(seed).integers(0, 2, (n, 28, 28), np.uint8)


def write_amat(path: Path, images: Bits) -> Path:
    """The format of the published files: a digit and a space or an end of line each."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(" ".join(map(str, image)) + "\n" for image in images.reshape(-1, 784)))
    return path


def write_chardata(path: Path, train: NDArray[np.float64], test: NDArray[np.float64], alphabets: list[int]) -> Path:
    """The format of chardata.mat: images as columns, each of them column by column."""
    scipy_io = pytest.importorskip("scipy.io", reason="chardata.mat is a file of MATLAB")
    columns = [images.swapaxes(1, 2).reshape(-1, 784).T for images in (train, test)]
    targets = [np.eye(50)[of_each].T for of_each in (np.arange(len(train)) % 50, alphabets)]
    path.parent.mkdir(exist_ok=True)
    names = ("data", "testdata", "target", "testtarget")
    scipy_io.savemat(path, dict(zip(names, (*columns, *targets), strict=True)))
    return path


@pytest.fixture
def amat(tmp_path: Path) -> list[Path]:
    """The three files, with 6, 4 and 3 images."""
    parts = ("train", "valid", "test")
    return [
        write_amat(tmp_path / f"binarized_mnist_{part}.amat", digits(n, n))
        for part, n in zip(parts, (6, 4, 3), strict=True)
    ]


def publish(
    name: str, files: list[Path], address: str, monkeypatch: pytest.MonkeyPatch, validation: int = 0
) -> PublishedFiles:
    """Let `name` be downloaded from the files that are served at `address`."""
    downloads = tuple(
        Download(old.file, address + file.name, f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}")
        for old, file in zip(NAMED[name].storage.downloads, files, strict=True)  # type: ignore[union-attr]
    )
    storage = PublishedFiles(downloads)
    changed = dataclasses.replace(NAMED[name], storage=storage, validation=validation)
    monkeypatch.setitem(catalogue.NAMED, name, changed)
    return storage


class TestBinarizedMnist:
    def test_files_are_read_as_black_and_white(self, amat: list[Path]) -> None:
        train, test, classes = binarized_mnist(amat)
        assert (train.shape, test.shape, classes) == ((10, 28, 28, 1), (3, 28, 28, 1), None)
        assert np.array_equal(train[..., 0], 255 * np.concatenate((digits(6, 6), digits(4, 4))))
        assert np.array_equal(test[..., 0], 255 * digits(3, 3))

    @pytest.mark.parametrize("content", ["", "0 1 0\n", "2 " * 784, "- " * 784, "! " * 784])
    def test_damage_is_named(self, amat: list[Path], content: str) -> None:
        amat[1].write_text(content)
        with pytest.raises(VaeError, match=r"binarized_mnist_valid.amat: damaged \(not lines of 784"):
            binarized_mnist(amat)

    def test_is_fetched_once_and_has_its_own_validation_split(
        self,
        torchvision: object,
        served: tuple[Path, str],
        kept: Path,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        folder, address = served
        files = [
            write_amat(folder / f"{part}.amat", digits(n, n)) for part, n in (("train", 6), ("valid", 4), ("test", 3))
        ]
        publish("binarized-mnist", files, address, monkeypatch, validation=4)
        first = loaded("binarized-mnist", kept)
        assert texts(first.notes) == (f"fetched binarized-mnist into {kept}",)
        assert capfd.readouterr() == ("", "")
        assert first.validation is not None
        assert (len(first.train), len(first.held_out)) == (6, 3)
        assert np.array_equal(first.validation.whole()[..., 0], 255 * digits(4, 4))
        assert class_names(first.held_out) is None
        for file in files:
            file.unlink()
        again = Recorder()
        second = loaded("binarized-mnist", kept, again)
        assert (second.hash, texts(second.notes), again.progress) == (first.hash, (), [])
        assert second.validation is not None
        resized = loaded("binarized-mnist", kept, image_size=14)
        assert resized.validation is not None
        assert (len(resized.train), len(resized.validation)) == (6, 4)

    def test_what_is_not_what_was_published_is_not_kept(
        self, torchvision: object, served: tuple[Path, str], kept: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder, address = served
        files = [write_amat(folder / f"{part}.amat", digits(2, 1)) for part in ("train", "valid", "test")]
        publish("binarized-mnist", files, address, monkeypatch)
        write_amat(files[2], digits(2, 2))
        with pytest.raises(VaeError, match=r"test\.amat has another checksum") as refusal:
            loaded("binarized-mnist", kept)
        assert str(kept / "binarized-mnist" / "binarized_mnist_test.amat") in refusal.value.hint
        assert list(kept.iterdir()) == []


class TestOmniglot:
    def test_a_file_is_read_upright_with_its_alphabets(self, tmp_path: Path) -> None:
        train, test = (np.random.default_rng(n).random((n, 28, 28)) for n in (5, 3))
        file = write_chardata(tmp_path / "chardata.mat", train, test, [7, 0, 49])
        found, held_out, classes = omniglot([file])
        assert np.array_equal(found[..., 0], np.rint(255 * train))
        assert np.array_equal(held_out[..., 0], np.rint(255 * test))
        assert classes is not None
        assert [classes.names[label] for label in classes.labels] == ["0", "1", "2", "3", "4", "7", "0", "49"]

    def test_values_outside_0_and_1_are_damage(self, tmp_path: Path) -> None:
        file = write_chardata(tmp_path / "chardata.mat", np.full((2, 28, 28), 2.0), np.zeros((1, 28, 28)), [1])
        with pytest.raises(VaeError, match=r"chardata.mat: damaged \(its values are not in"):
            omniglot([file])

    def test_a_text_is_damage(self, tmp_path: Path) -> None:
        pytest.importorskip("scipy")
        (tmp_path / "chardata.mat").write_text("<html>moved</html>")
        with pytest.raises(VaeError, match=r"chardata.mat: damaged"):
            omniglot([tmp_path / "chardata.mat"])

    def test_a_file_in_the_data_folder_needs_no_download(self, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        place = kept / "omniglot" / "chardata.mat"
        file = write_chardata(place, np.zeros((20, 28, 28)), np.ones((4, 28, 28)), [1, 2, 3, 4])
        with pytest.raises(VaeError, match=r"chardata\.mat: is not the file that was published"):
            loaded("omniglot", kept)
        publish("omniglot", [file], "nowhere", monkeypatch)
        data = loaded("omniglot", kept)
        assert (len(data.train), len(data.held_out), data.validation, texts(data.notes)) == (20, 4, None, ())
        assert class_names(data.held_out) == ["1", "2", "3", "4"]

    @pytest.mark.parametrize("whole", [True, False])
    def test_a_download_is_checked_by_the_name_of_its_blob_in_git(
        self, torchvision: object, served: tuple[Path, str], kept: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
    ) -> None:
        folder, address = served
        file = write_chardata(folder / "chardata.mat", np.zeros((20, 28, 28)), np.ones((4, 28, 28)), [1, 2, 3, 4])
        content = file.read_bytes()
        blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()
        (download,) = publish("omniglot", [file], address, monkeypatch).downloads
        checked = dataclasses.replace(download, checksum=f"git:{blob if whole else '0' * 40}")
        changed = dataclasses.replace(NAMED["omniglot"], storage=PublishedFiles((checked,)))
        monkeypatch.setitem(catalogue.NAMED, "omniglot", changed)
        if whole:
            assert len(loaded("omniglot", kept).train) == 20
        else:
            with pytest.raises(VaeError, match=r"chardata\.mat has another checksum"):
                loaded("omniglot", kept)
            assert list(kept.iterdir()) == []
