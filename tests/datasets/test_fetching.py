"""Downloading data sets through torchvision, from a server on this machine, or without a network."""

from __future__ import annotations

import gzip
import shutil
import socket
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_line import PROJECT
from tests.datasets.drawing import Recorder, class_names, numbered, values
from tests.datasets.set_files import (
    MNIST_FILES,
    idx_bytes,
    loaded,
    md5,
    mnist_like,
    pin,
    tree,
    write_cifar,
    write_usps,
)
from tests.notes import texts
from tests.pictures.packing import untar
from vaecli.datasets.catalogue import NAMED
from vaecli.errors import VaeError
from vaecli.events import Event

MATLAB_FILE = PROJECT / "tests" / "assets" / "numbers.mat"  # five coloured ramps, written by SciPy's savemat


def serve_mnist(folder: Path, raw: Path, torchvision: Any, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision download the four files in `raw` as MNIST."""
    resources = []
    for name in MNIST_FILES:
        packed = folder / f"{name}.gz"
        packed.write_bytes(gzip.compress((raw / name).read_bytes()))
        resources.append((packed.name, md5(packed)))
    monkeypatch.setattr(torchvision.MNIST, "mirrors", [address])
    monkeypatch.setattr(torchvision.MNIST, "resources", resources)
    pin("mnist", [raw / name for name in MNIST_FILES], monkeypatch)


@pytest.fixture
def mnist(torchvision: Any, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny MNIST that torchvision downloads from this machine."""
    folder, address = served
    raw = mnist_like(folder.parent / "original")
    serve_mnist(folder, raw, torchvision, address, monkeypatch)
    return raw


class TestIdxFiles:
    def test_are_fetched_once_with_progress_and_in_silence(
        self, mnist: Path, kept: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        recorder = Recorder()
        data = loaded("mnist", kept, recorder)
        assert values(data.train.whole()) == list(range(20))
        assert values(data.held_out.whole()) == list(range(100, 106))
        assert texts(data.notes) == (f"fetched mnist into {kept / 'MNIST' / 'raw'}",)
        assert recorder.begun == [("fetching mnist", 1, "MB")] * 4
        assert capfd.readouterr() == ("", "")
        assert tree(kept) == {f"MNIST/raw/{path.name}": path.read_bytes() for path in mnist.iterdir()}
        again = Recorder()
        assert texts(loaded("mnist", kept, again).notes) == ()
        assert again.progress == []

    def test_the_data_folder_is_made(self, mnist: Path, tmp_path: Path) -> None:
        assert len(loaded("mnist", tmp_path / "a" / "new").train) == 20
        assert (tmp_path / "a" / "new" / "MNIST").is_dir()

    def test_a_data_folder_that_cannot_be_made_is_named_with_its_flag(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(VaeError, match=r"file/new: .*\nhint: .*another folder with `dir`"):
            loaded("mnist", tmp_path / "file" / "new")

    def test_an_interrupted_fetch_leaves_nothing_and_the_next_one_removes_what_a_killed_one_left(
        self, mnist: Path, kept: Path
    ) -> None:
        def interrupt(_: Event) -> None:
            raise KeyboardInterrupt

        (kept / ".fetching.01234567.part" / "MNIST").mkdir(parents=True)
        with pytest.raises(KeyboardInterrupt):
            loaded("mnist", kept, interrupt)
        assert list(kept.iterdir()) == []

    def test_are_reported_megabyte_by_megabyte(
        self, mnist: Path, kept: Path, torchvision: Any, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (24, 320, 320), np.uint8)  # 2.46 MB, packed too
        (mnist / MNIST_FILES[0]).write_bytes(idx_bytes(noise))
        serve_mnist(served[0], mnist, torchvision, served[1], monkeypatch)
        recorder = Recorder()
        loaded("mnist", kept, recorder, image_size=8)
        first = [event.done for event in recorder.progress if event.total == 3]
        assert first == [0, 1, 2, 3]

    @pytest.mark.usefixtures("mnist")
    def test_replace_no_file(self, kept: Path) -> None:
        raw = kept / "MNIST" / "raw"
        raw.mkdir(parents=True)
        own = idx_bytes(numbered(7)[..., 0])
        (raw / "train-images-idx3-ubyte").write_bytes(own)
        data = loaded("mnist", kept)
        assert len(data.train) == 7
        assert len(data.held_out) == 6
        assert (raw / "train-images-idx3-ubyte").read_bytes() == own

    @pytest.mark.usefixtures("mnist")
    def test_damaged_in_transit_are_not_kept(self, kept: Path, served: tuple[Path, str]) -> None:
        (served[0] / f"{MNIST_FILES[2]}.gz").write_bytes(gzip.compress(b"something else"))
        with pytest.raises(VaeError, match="mnist: cannot fetch"):
            loaded("mnist", kept)
        assert tree(kept) == {}

    def test_with_the_right_md5_but_another_sha256_are_refused(
        self, mnist: Path, kept: Path, torchvision: Any, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (mnist / MNIST_FILES[3]).write_bytes(idx_bytes(np.arange(6, dtype=np.uint8)[::-1].copy()))
        known = NAMED["mnist"]
        serve_mnist(served[0], mnist, torchvision, served[1], monkeypatch)
        monkeypatch.setitem(NAMED, "mnist", known)
        with pytest.raises(VaeError, match="t10k-labels-idx1-ubyte has another checksum than the file"):
            loaded("mnist", kept)
        assert tree(kept) == {}


class TestWithoutNetwork:
    def test_the_remedies_are_named(
        self,
        torchvision: Any,
        kept: Path,
        nowhere: str,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(torchvision.MNIST, "mirrors", [nowhere])
        with pytest.raises(VaeError) as error:
            loaded("mnist", kept)
        assert "mnist: cannot fetch" in error.value.message
        assert "no connection (Connection refused)" in error.value.message
        assert "<urlopen" not in error.value.message
        assert "train-images-idx3-ubyte" in error.value.message
        for file in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"):
            assert str(kept / "MNIST" / "raw" / file) in error.value.hint
        assert "`source` mnist-5k" in error.value.hint
        assert list(kept.iterdir()) == []
        assert capfd.readouterr() == ("", "")

    def test_torchvision_is_left_as_it_was(
        self, torchvision: Any, kept: Path, nowhere: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torchvision.MNIST, "mirrors", [nowhere])
        tqdm, timeout, stdout = torchvision.utils.tqdm, socket.getdefaulttimeout(), sys.stdout
        with pytest.raises(VaeError):
            loaded("mnist", kept)
        assert torchvision.utils.tqdm is tqdm
        assert socket.getdefaulttimeout() == timeout
        assert sys.stdout is stdout


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_without_torchvision_the_extra_is_named(name: str, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(VaeError, match="torchvision, which is not installed") as error:
        loaded(name, kept)
    assert "vaecli[train]" in error.value.hint
    assert list(kept.iterdir()) == []


class TestArchives:
    def test_are_fetched_once(
        self, torchvision: Any, served: tuple[Path, str], kept: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder, address = served
        write_usps(folder, torchvision, address, monkeypatch)
        recorder = Recorder()
        data = loaded("usps", kept, recorder)
        assert len(data.train) == 12
        assert values(data.held_out.whole()) == [0, 12, 25]
        assert texts(data.notes) == (f"fetched usps into {kept}",)
        assert recorder.begun == [("fetching usps", 1, "MB")] * 2
        assert sorted(path.name for path in kept.iterdir()) == ["prepared", "usps.bz2", "usps.t.bz2"]
        assert texts(loaded("usps", kept).notes) == ()

    def test_are_kept_packed(
        self, torchvision: Any, served: tuple[Path, str], kept: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder, address = served
        archive = write_cifar(folder, torchvision, address, monkeypatch)
        data = loaded("cifar10", kept)
        assert data.train.shape == (4, 32, 32, 3)
        assert values(data.held_out.whole()) == [0, 1]
        assert sorted(path.name for path in kept.iterdir()) == [archive.name, "prepared"]

    def test_what_torchvision_has_unpacked_needs_no_archive(
        self, torchvision: Any, served: tuple[Path, str], kept: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        archive = write_cifar(served[0], torchvision, served[1], monkeypatch)
        untar(archive, kept)
        archive.unlink()
        assert len(loaded("cifar10", kept).train) == 4

    def test_another_archive_is_not_unpickled(
        self, torchvision: Any, served: tuple[Path, str], kept: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = NAMED["cifar10"]
        archive = write_cifar(served[0], torchvision, served[1], monkeypatch)
        shutil.copy(archive, kept / archive.name)
        monkeypatch.setitem(NAMED, "cifar10", known)
        monkeypatch.setattr(torchvision.CIFAR10, "url", "http://127.0.0.1:9/none.tar.gz")
        with pytest.raises(VaeError, match="cifar10: cannot fetch or unpack"):
            loaded("cifar10", kept)

    @pytest.mark.parametrize("filtered", [True, False])
    def test_nothing_is_unpacked_outside_the_folder(
        self, torchvision: Any, served: tuple[Path, str], kept: Path, filtered: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder, address = served
        archive = write_cifar(folder, torchvision, address, monkeypatch)
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(kept, "../../outside")
        monkeypatch.setattr(torchvision.CIFAR10, "tgz_md5", md5(archive))
        pin("cifar10", [archive], monkeypatch)
        if not filtered:  # as in Python 3.11.0 to 3.11.3
            monkeypatch.delattr(tarfile, "data_filter", raising=False)
        extractall = tarfile.TarFile.extractall
        with pytest.raises(VaeError, match="cifar10: cannot fetch or unpack"):
            loaded("cifar10", kept)
        assert not list(kept.parent.rglob("outside"))
        assert tarfile.TarFile.extractall is extractall


class TestHouseNumbers:
    @pytest.fixture(autouse=True)
    def svhn(self, torchvision: Any, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Any:
        folder, address = served
        known = {}
        for part in ("train", "test"):
            file = f"{part}_32x32.mat"
            shutil.copy(MATLAB_FILE, folder / file)
            known[part] = [address + file, file, md5(folder / file)]
        monkeypatch.setattr(torchvision.SVHN, "split_list", known)
        pin("svhn", [folder / file for _, file, _ in known.values()], monkeypatch)

    def test_are_fetched_and_read(self, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("scipy", reason="torchvision reads SVHN with it")
        data = loaded("svhn", kept)
        assert data.image_shape == (3, 32, 32)
        assert len(data.train) == 5
        images = data.held_out.whole()
        y, x = np.mgrid[:32, :32]
        for k in range(5):
            expected = np.stack([x * (k + 1) % 256, y * (k + 1) % 256, np.full_like(x, k + 1)], axis=-1)
            assert (images[k] == expected).all()
        assert class_names(data.held_out) == ["1", "0", "3", "4", "9"]  # 10 stands for the digit 0
        assert sorted(path.name for path in kept.iterdir()) == ["prepared", "test_32x32.mat", "train_32x32.mat"]
        monkeypatch.setitem(sys.modules, "scipy", None)  # no longer needed
        assert loaded("svhn", kept).hash == data.hash

    def test_without_scipy_the_extra_is_named_before_the_download(
        self, kept: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "scipy", None)
        recorder = Recorder()
        with pytest.raises(VaeError, match="svhn needs scipy, which is not installed") as error:
            loaded("svhn", kept, recorder)
        assert "vaecli[train]" in error.value.hint
        assert recorder.progress == []
        assert list(kept.iterdir()) == []
