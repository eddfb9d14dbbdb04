"""What `log` tensorboard writes: with a writer that only remembers, and with the package where it is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from numpy.typing import NDArray

import vaecli
from tests.command_line import assert_refused, vae
from tests.training.conftest import Settings
from vaecli.run_folder import RunFolder


class Writer:
    """A SummaryWriter that remembers, by tag: the values of each step, or the shapes of its pictures."""

    opened: list[Writer]

    def __init__(self, place: str, purge_step: int) -> None:
        self.place, self.purge_step = place, purge_step
        self.scalars: dict[str, dict[int, float]] = {}
        self.images: dict[str, dict[int, tuple[int, ...]]] = {}
        self.flushed = 0
        self.closed = False
        self.opened.append(self)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars.setdefault(tag, {})[step] = value

    def add_image(self, tag: str, image: NDArray[Any], step: int, dataformats: str) -> None:
        assert dataformats == "HWC"
        self.images.setdefault(tag, {})[step] = image.shape

    def flush(self) -> None:
        self.flushed += 1

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Writer]:
    """Every writer that a training opens, in place of those of the package."""
    (tmp_path / "packages/tensorboard").mkdir(parents=True)
    (tmp_path / "packages/tensorboard/__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    fake = ModuleType("torch.utils.tensorboard")
    Writer.opened = []
    fake.SummaryWriter = Writer  # type: ignore[attr-defined]  # a module made for this test
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    return Writer.opened


def logging(settings: Settings, **training: Any) -> Settings:
    return {**settings, "training": {**settings["training"], "log": "tensorboard", **training}}


def test_each_epochs_numbers_and_preview(small: Settings, tmp_path: Path, writers: list[Writer]) -> None:
    notes: list[Any] = []
    vaecli.train(logging(small, previews=2), tmp_path / "r", on_event=notes.append)
    (writer,) = writers
    assert writer.place == str(tmp_path / "r/tensorboard")
    epochs = RunFolder(tmp_path / "r").read_metrics()
    assert writer.scalars["loss/training"] == {epoch.epoch: epoch.train.loss for epoch in epochs}
    assert writer.scalars["kl/held-out"] == {epoch.epoch: epoch.held_out.kl for epoch in epochs}
    assert writer.scalars["active_units"] == {epoch.epoch: epoch.active_units for epoch in epochs}
    assert list(writer.images["reconstructions"]) == [2], "a preview every two epochs"
    assert (writer.flushed, writer.closed) == (2, True)
    assert any("tensorboard --logdir" in str(note) for note in notes)


def test_validation_images_have_their_name(small: Settings, tmp_path: Path, writers: list[Writer]) -> None:
    settings = logging({**small, "data": {**small["data"], "validation": 20}})
    vaecli.train(settings, tmp_path / "r")
    assert "loss/validation" in writers[0].scalars


def test_a_resumed_run_goes_on_with_its_curve(small: Settings, tmp_path: Path, writers: list[Writer]) -> None:
    vaecli.train(logging(small), tmp_path / "r")
    vaecli.train({"training": {"epochs": 3}}, tmp_path / "r", resume=True)
    begun, resumed = writers
    assert (begun.purge_step, resumed.purge_step) == (1, 3)
    assert list(begun.scalars["loss/training"]) == [1, 2]
    assert list(resumed.scalars["loss/training"]) == [3], "the run remembers that it is logged"
    vaecli.train({"training": {"epochs": 4, "log": "none"}}, tmp_path / "r", resume=True)
    assert len(writers) == 2


def test_without_the_package(blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    result = vae("train", "--data", blobs, "--log", "tensorboard", "--run", tmp_path / "r")
    assert_refused(result, 1, "--log tensorboard needs tensorboard", "vaecli[tensorboard]")
    assert not (tmp_path / "r").exists()


def test_no_log_without_being_asked(small: Settings, tmp_path: Path) -> None:
    vaecli.train(small, tmp_path / "r")
    assert not (tmp_path / "r/tensorboard").exists()


@pytest.mark.filterwarnings("default")  # what other people's packages warn of is theirs
def test_tensorboard_reads_it(small: Settings, tmp_path: Path) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    vaecli.train(logging(small, epochs=3), tmp_path / "r")
    vaecli.train(logging(small), tmp_path / "r", overwrite=True)
    accumulator = reading.EventAccumulator(str(tmp_path / "r/tensorboard"))
    accumulator.Reload()
    found = [(one.step, one.value) for one in accumulator.Scalars("loss/held-out")]
    epochs = RunFolder(tmp_path / "r").read_metrics()
    assert found == [(epoch.epoch, pytest.approx(epoch.held_out.loss)) for epoch in epochs]
    assert [image.step for image in accumulator.Images("reconstructions")] == [1, 2]
