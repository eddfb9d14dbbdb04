"""Data sets by name: files that are there, files that are fetched, and no network. All of it on this machine."""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import hashlib
import http.server
import pickle
import shutil
import socket
import struct
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_line import PROJECT
from tests.datasets.drawing import Recorder, numbered, values
from vaecli.config import DataConfig
from vaecli.datasets import Dataset, labels, load, matlab
from vaecli.datasets.named import NAMED, Idx
from vaecli.errors import VaeError

MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
MATLAB_FILE = PROJECT / "tests" / "assets" / "numbers.mat"  # five coloured ramps, written by SciPy's savemat


def idx(array: np.ndarray) -> bytes:
    kind = {"uint8": 0x08, "int32": 0x0C}[array.dtype.name]
    header = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def mnist_like(folder: Path) -> Path:
    """20 training and 6 test images of 4x5, each of one value, in the files of an MNIST."""
    folder.mkdir(parents=True)
    images = (numbered(20)[..., 0], numbered(6)[..., 0] + 100)
    classes = (np.arange(20, dtype=np.uint8) % 10, np.arange(6, dtype=np.uint8))
    for name, array in zip(MNIST_FILES, (images[0], classes[0], images[1], classes[1]), strict=True):
        (folder / name).write_bytes(idx(array))
    return folder


def loaded(name: str, folder: Path, progress: Recorder | None = None, **settings: Any) -> Dataset:
    return load(DataConfig(source=name, dir=str(folder), **settings), progress or Recorder())


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestFilesThatAreThere:
    def test_are_used_as_they_are(self, tmp_path: Path) -> None:
        mnist_like(tmp_path / "MNIST" / "raw")
        before = tree(tmp_path)
        data = loaded("mnist", tmp_path)
        assert data.name == "mnist"
        assert data.image_shape == (1, 4, 5)
        assert values(data.train.whole()) == list(range(20))
        assert values(data.held_out.whole()) == list(range(100, 106))
        assert data.value_range == (0, 105)
        assert data.notes == ()
        assert tree(tmp_path) == before

    def test_need_no_labels_but_give_them(self, tmp_path: Path) -> None:
        raw = mnist_like(tmp_path / "FashionMNIST" / "raw")
        settings = DataConfig(source="fashion-mnist", dir=str(tmp_path))
        known = labels(settings)
        assert known is not None
        assert known.tolist() == [0, 1, 2, 3, 4, 5]
        (raw / "t10k-labels-idx1-ubyte").unlink()
        assert labels(settings) is None
        assert len(load(settings, Recorder()).train) == 20

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
            (raw / f"emnist-letters-{part}-images-idx3-ubyte").write_bytes(idx(upright.swapaxes(1, 2)))
        data = loaded("emnist-letters", tmp_path)
        assert (data.train.whole()[..., 0] == upright).all()

    def test_qmnist_labels_are_the_first_of_their_columns(self, tmp_path: Path) -> None:
        raw = tmp_path / "QMNIST" / "raw"
        raw.mkdir(parents=True)
        for part in ("train", "test"):
            (raw / f"qmnist-{part}-images-idx3-ubyte").write_bytes(idx(numbered(3)[..., 0]))
        columns = np.array([[7, 0, 1], [300, 0, 1], [9, 5, 5]], np.int32)
        (raw / "qmnist-test-labels-idx2-int").write_bytes(idx(columns))
        known = labels(DataConfig(source="qmnist", dir=str(tmp_path)))
        assert known is not None
        assert known.tolist() == [7, 300, 9]

    def test_are_resized_in_memory_where_they_are_few(self, tmp_path: Path) -> None:
        mnist_like(tmp_path / "MNIST" / "raw")
        before = tree(tmp_path)
        data = loaded("mnist", tmp_path, image_size=8, channels=3)
        assert data.image_shape == (3, 8, 8)
        assert values(data.held_out.whole()) == list(range(100, 106))
        assert tree(tmp_path) == before

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content: content[:-1],
            lambda content: content[:6],
            lambda content: b"",
            lambda content: b"<html>not found</html>" * 30,
            lambda content: content + b"x",
        ],
    )
    def test_damaged_files_are_named(self, tmp_path: Path, damage: Any) -> None:
        path = mnist_like(tmp_path / "MNIST" / "raw") / "t10k-images-idx3-ubyte"
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(VaeError, match=f"{path}: damaged") as error:
            loaded("mnist", tmp_path)
        assert "remove it" in error.value.hint

    def test_a_damaged_gz_is_named(self, tmp_path: Path) -> None:
        path = mnist_like(tmp_path / "MNIST" / "raw") / "t10k-images-idx3-ubyte"
        packed = bytearray(gzip.compress(path.read_bytes()))
        packed[20:30] = bytes(10)
        path.with_name(path.name + ".gz").write_bytes(packed)
        path.unlink()
        with pytest.raises(VaeError, match=f"{path}.gz: damaged"):
            loaded("mnist", tmp_path)

    def test_labels_in_place_of_images_are_refused(self, tmp_path: Path) -> None:
        raw = mnist_like(tmp_path / "MNIST" / "raw")
        shutil.copy(raw / "t10k-labels-idx1-ubyte", raw / "t10k-images-idx3-ubyte")
        with pytest.raises(VaeError, match="t10k-images-idx3-ubyte: no images in it"):
            loaded("mnist", tmp_path)


@pytest.fixture
def datasets() -> Any:
    pytest.importorskip("torchvision", reason="fetching is torchvision's part")
    from torchvision import datasets  # type: ignore[import-untyped]  # it ships no types

    return datasets


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address on this machine under which its files can be fetched."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Tests say nothing."""

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """torchvision hangs up on its first request, which only asks where an address leads."""

    server = Server(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The data folder."""
    (tmp_path / "kept").mkdir()
    return tmp_path / "kept"


def closed_port() -> str:
    """An address on this machine where nobody answers."""
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/"


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


class TestFetching:
    @pytest.fixture
    def mnist(self, datasets: Any, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
        """A tiny MNIST that torchvision fetches from this machine."""
        folder, address = served
        raw = mnist_like(folder.parent / "original")
        resources = []
        for name in MNIST_FILES:
            packed = folder / f"{name}.gz"
            packed.write_bytes(gzip.compress((raw / name).read_bytes()))
            resources.append((packed.name, md5(packed)))
        monkeypatch.setattr(datasets.MNIST, "mirrors", [address])
        monkeypatch.setattr(datasets.MNIST, "resources", resources)
        return raw

    def test_happens_once_with_progress_and_in_silence(
        self, mnist: Path, kept: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        progress = Recorder()
        data = loaded("mnist", kept, progress)
        assert values(data.train.whole()) == list(range(20))
        assert values(data.held_out.whole()) == list(range(100, 106))
        assert data.notes == (f"fetched mnist into {kept / 'MNIST' / 'raw'}",)
        assert progress.begun == [("fetching mnist", 1, "MB")] * 4
        assert capfd.readouterr() == ("", "")
        assert tree(kept) == {f"MNIST/raw/{path.name}": path.read_bytes() for path in mnist.iterdir()}
        again = Recorder()
        assert loaded("mnist", kept, again).notes == ()
        assert again.begun == []

    @pytest.mark.usefixtures("mnist")
    def test_touches_no_file_that_is_there(self, kept: Path) -> None:
        raw = kept / "MNIST" / "raw"
        raw.mkdir(parents=True)
        own = idx(numbered(7)[..., 0])
        (raw / "train-images-idx3-ubyte").write_bytes(own)
        data = loaded("mnist", kept)
        assert len(data.train) == 7
        assert len(data.held_out) == 6
        assert (raw / "train-images-idx3-ubyte").read_bytes() == own

    def test_a_file_that_came_damaged_is_not_kept(self, mnist: Path, kept: Path, served: tuple[Path, str]) -> None:
        (served[0] / f"{MNIST_FILES[2]}.gz").write_bytes(gzip.compress(b"something else"))
        with pytest.raises(VaeError, match="mnist: cannot fetch"):
            loaded("mnist", kept)
        assert tree(kept) == {}

    def test_without_a_network_the_remedies_are_named(
        self, datasets: Any, kept: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [closed_port()])
        with pytest.raises(VaeError) as error:
            loaded("mnist", kept)
        assert "mnist: cannot fetch" in error.value.message
        assert "train-images-idx3-ubyte" in error.value.message
        for file in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"):
            assert str(kept / "MNIST" / "raw" / file) in error.value.hint
        assert "--data mnist-5k" in error.value.hint
        assert list(kept.iterdir()) == []
        assert capfd.readouterr() == ("", "")

    def test_torchvision_is_left_as_it_was(self, datasets: Any, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [closed_port()])
        tqdm, timeout, stdout = datasets.utils.tqdm, socket.getdefaulttimeout(), sys.stdout
        with pytest.raises(VaeError):
            loaded("mnist", kept)
        assert datasets.utils.tqdm is tqdm
        assert socket.getdefaulttimeout() == timeout
        assert sys.stdout is stdout

    def test_without_torchvision_the_extra_is_named(self, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torchvision", None)
        with pytest.raises(VaeError, match="torchvision, which is not installed") as error:
            loaded("mnist", kept)
        assert "vaecli[train]" in error.value.hint

    @pytest.mark.parametrize("name", sorted(NAMED))
    def test_torchvision_knows_every_data_set(self, datasets: Any, name: str, tmp_path: Path) -> None:
        known = NAMED[name]
        make = getattr(datasets, known.fetched_by)
        for call in known.files.calls if isinstance(known.files, Idx) else ():
            with pytest.raises(RuntimeError, match="not found"):  # and not: unexpected argument
                make(str(tmp_path), download=False, **call)
        if isinstance(known.files, Idx):
            assert known.files.folder == f"{known.fetched_by}/raw"
        elif name == "svhn" or name == "usps":
            assert known.files.by_hand == tuple(make.split_list[split][1] for split in ("train", "test"))
        else:
            assert known.files.by_hand == (make.filename,)


class TestUnpacked:
    @pytest.fixture
    def usps(self, datasets: Any, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
        """A tiny USPS: lines of a class and 256 values from -1 to 1."""
        folder, address = served
        known = {}
        for part, file, rows in (("train", "usps.bz2", 12), ("test", "usps.t.bz2", 3)):
            lines = [
                " ".join([str(row % 10 + 1), *(f"{place + 1}:{row / 10 - 1:.1f}" for place in range(256))])
                for row in range(rows)
            ]
            (folder / file).write_bytes(bz2.compress("\n".join(lines).encode()))
            known[part] = [address + file, file, md5(folder / file)]
        monkeypatch.setattr(datasets.USPS, "split_list", known)
        return folder

    @pytest.mark.usefixtures("usps")
    def test_is_fetched_once_and_unpacked_once(self, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        data = loaded("usps", kept)
        assert data.image_shape == (1, 16, 16)
        assert len(data.train) == 12
        assert values(data.held_out.whole()) == [0, 12, 25]
        assert data.notes == (f"fetched usps into {kept}",)
        assert sorted(path.name for path in kept.iterdir()) == ["prepared", "usps.bz2", "usps.t.bz2"]
        known = labels(DataConfig(source="usps", dir=str(kept)))
        assert known is not None
        assert known.tolist() == [0, 1, 2]
        monkeypatch.setitem(sys.modules, "torchvision", None)  # not needed any more
        again = loaded("usps", kept)
        assert again.hash == data.hash
        assert again.notes == ()
        assert values(again.held_out.whole()) == [0, 12, 25]
        assert loaded("usps", kept, image_size=4).image_shape == (1, 4, 4)

    def test_archives_put_there_by_hand_need_no_network(
        self, datasets: Any, usps: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for file in usps.iterdir():
            shutil.copy(file, kept)
        nowhere = {part: [closed_port(), *rest] for part, (_, *rest) in datasets.USPS.split_list.items()}
        monkeypatch.setattr(datasets.USPS, "split_list", nowhere)
        assert values(loaded("usps", kept).held_out.whole()) == [0, 12, 25]

    def test_where_nothing_can_be_kept_it_still_works(self, usps: Path, kept: Path) -> None:
        for file in usps.iterdir():
            shutil.copy(file, kept)
        (kept / "prepared").write_text("a file in the way")
        data = loaded("usps", kept)
        assert values(data.held_out.whole()) == [0, 12, 25]
        assert "unpacked anew each time" in data.notes[0]

    @pytest.fixture
    def cifar(self, datasets: Any, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
        """A tiny CIFAR-10: one training batch of 4 images, one test batch of 2."""
        folder, address = served
        made = folder.parent / datasets.CIFAR10.base_folder
        made.mkdir()
        for name, rows in (("data_batch_1", 4), ("test_batch", 2)):
            images = np.arange(rows, dtype=np.uint8).repeat(3072).reshape(rows, 3072)
            (made / name).write_bytes(pickle.dumps({"data": images, "labels": list(range(rows))}))
        (made / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
        archive = folder / str(datasets.CIFAR10.filename)
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(made, made.name)
        monkeypatch.setattr(datasets.CIFAR10, "url", address + archive.name)
        monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(archive))
        monkeypatch.setattr(datasets.CIFAR10, "train_list", [["data_batch_1", md5(made / "data_batch_1")]])
        monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", md5(made / "test_batch")]])
        meta = {**datasets.CIFAR10.meta, "md5": md5(made / "batches.meta")}
        monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
        return archive

    def test_cifar_keeps_the_archive(self, cifar: Path, kept: Path) -> None:
        data = loaded("cifar10", kept)
        assert data.train.shape == (4, 32, 32, 3)
        assert values(data.held_out.whole()) == [0, 1]
        assert sorted(path.name for path in kept.iterdir()) == [cifar.name, "prepared"]

    def test_an_archive_put_there_by_hand_is_used_through_a_copy(
        self, datasets: Any, cifar: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(datasets.CIFAR10, "url", closed_port() + cifar.name)
        shutil.copy(cifar, kept)
        assert values(loaded("cifar10", kept).held_out.whole()) == [0, 1]
        shutil.rmtree(kept / "prepared")
        (kept / cifar.name).write_bytes(b"damaged")
        with pytest.raises(VaeError, match="cifar10: cannot fetch or unpack") as error:
            loaded("cifar10", kept)
        assert str(kept / cifar.name) in error.value.hint
        assert (kept / cifar.name).read_bytes() == b"damaged"


class TestMatlab:
    def test_house_numbers_are_read_from_their_files(self, kept: Path) -> None:
        for name in ("train_32x32.mat", "test_32x32.mat"):
            shutil.copy(MATLAB_FILE, kept / name)
        data = loaded("svhn", kept)
        assert data.image_shape == (3, 32, 32)
        images = data.held_out.whole()
        y, x = np.mgrid[:32, :32]
        for k in range(5):
            expected = np.stack([x * (k + 1) % 256, y * (k + 1) % 256, np.full_like(x, k + 1)], axis=-1)
            assert (images[k] == expected).all()
        known = labels(DataConfig(source="svhn", dir=str(kept)))
        assert known is not None
        assert known.tolist() == [1, 0, 3, 4, 9]  # 10 stands for the digit 0

    def test_they_are_fetched(
        self, datasets: Any, served: tuple[Path, str], kept: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder, address = served
        known = {}
        for part in ("train", "test"):
            file = f"{part}_32x32.mat"
            shutil.copy(MATLAB_FILE, folder / file)
            known[part] = [address + file, file, md5(folder / file)]
        monkeypatch.setattr(datasets.SVHN, "split_list", known)
        assert len(loaded("svhn", kept).train) == 5
        assert sorted(path.name for path in kept.glob("*.mat")) == ["test_32x32.mat", "train_32x32.mat"]

    def test_damage_is_an_error(self, tmp_path: Path) -> None:
        whole = MATLAB_FILE.read_bytes()
        path = tmp_path / "a.mat"
        for content in (b"", whole[:100], whole[:200], whole[:-5], whole[:300] + bytes(20) + whole[320:]):
            path.write_bytes(content)
            with pytest.raises(VaeError, match=r"a\.mat: damaged MATLAB file"):
                matlab.read_arrays(path)
