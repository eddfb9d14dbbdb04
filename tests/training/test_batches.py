"""Batches of images that are held in memory, and of images that are read from a file: the same ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.training.tiny_learner import CPU
from vaecli.datasets import dataset
from vaecli.datasets.dataset import ImageSet
from vaecli.training import batches
from vaecli.training.batches import AHEAD, Resident, Source, Streamed, channels_first, open_source, pixels
from vaecli.training.noise import Noise

ORDER = torch.randperm(23, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (23, 4, 5, 3), dtype=np.uint8)


@pytest.fixture(params=["held", "streamed", "streamed from a file", "some rows of a file"])
def source(
    request: pytest.FixtureRequest,
    pictures: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Source:
    """The same 23 images in each of the ways that a training may find them."""
    if request.param == "held":
        return Resident(ImageSet(pictures), CPU)
    if request.param == "streamed":
        return Streamed(ImageSet(pictures), CPU)
    monkeypatch.setattr(dataset, "RESIDENT_BYTES", 100)
    if request.param == "streamed from a file":
        np.save(tmp_path / "a.npy", pictures)
        return Streamed(ImageSet(np.load(tmp_path / "a.npy", mmap_mode="r")), CPU)
    np.save(tmp_path / "a.npy", np.repeat(pictures, 2, 0))
    return Streamed(ImageSet(np.load(tmp_path / "a.npy", mmap_mode="r"), np.arange(0, 46, 2)), CPU)


@pytest.mark.parametrize("order", [None, ORDER], ids=["their own order", "random order"])
@pytest.mark.parametrize(("size", "count"), [(8, 23), (8, 16), (8, 20), (50, 23), (1, 3)])
def test_every_source_gives_the_same_batches(
    source: Source, pictures: NDArray[np.uint8], order: torch.Tensor | None, size: int, count: int
) -> None:
    assert len(source) == 23
    rows = np.arange(count) if order is None else order[:count].numpy()
    expected = torch.from_numpy(pictures[rows]).permute(0, 3, 1, 2)
    found, labels, _ = zip(*source.batches(size, count, order), strict=True)
    assert not any(label is not None for label in labels)
    assert [len(batch) for batch in found] == [min(size, count - start) for start in range(0, count, size)]
    assert torch.equal(torch.cat(found), expected)
    assert all(batch.dtype is torch.uint8 and batch.is_contiguous() for batch in found)


def test_few_images_are_held_and_many_are_streamed(
    pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(open_source(ImageSet(pictures), CPU), Resident)
    monkeypatch.setattr(dataset, "RESIDENT_BYTES", pictures.nbytes - 1)
    assert isinstance(open_source(ImageSet(pictures), CPU), Streamed)


@pytest.mark.parametrize(("free", "kind"), [(2 * 1380, "held"), (2 * 1380 - 2, "streamed")])
def test_a_gpu_holds_images_that_take_half_of_its_free_memory_at_most(
    pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, free: int, kind: object
) -> None:
    assert pictures.nbytes == 1380
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    monkeypatch.setattr(batches, "Resident", lambda *_: "held")
    monkeypatch.setattr(batches, "Streamed", lambda *_: "streamed")
    assert open_source(ImageSet(pictures), torch.device("cuda")) == kind


def test_images_are_copied_to_a_gpu_in_parts(pictures: NDArray[np.uint8]) -> None:
    parts = list[int]()

    class Parted(ImageSet):
        def chunks(self, _: int = 0) -> Iterator[NDArray[np.uint8]]:
            for chunk in super().chunks(300):
                parts.append(len(chunk))
                yield chunk

        def whole(self) -> NDArray[np.uint8]:
            raise AssertionError("the host need not hold all of them")

    assert torch.equal(batches._on_gpu(Parted(pictures), CPU), channels_first(pictures))
    assert len(parts) > 1


def test_only_a_few_batches_are_read_ahead(pictures: NDArray[np.uint8]) -> None:
    read = []

    class Counted(ImageSet):
        def __getitem__(self, chosen: slice | NDArray[np.integer]) -> NDArray[np.uint8]:
            read.append(chosen)
            return super().__getitem__(chosen)

    stream = Streamed(Counted(pictures), CPU).batches(1, 23)
    next(stream)
    time.sleep(0.05)  # for a reader that does not stop
    assert len(read) <= AHEAD
    assert len(list(stream)) == 22


def test_grey_images_are_not_copied() -> None:
    grey = np.zeros((3, 4, 5, 1), np.uint8)
    tensor = channels_first(grey)
    assert tensor.shape == (3, 1, 4, 5)
    assert tensor.data_ptr() == grey.ctypes.data


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pixels_lie_between_0_and_1(dtype: torch.dtype) -> None:
    x = pixels(torch.arange(256, dtype=torch.uint8), dtype, "none", Noise(0, CPU))
    assert x.dtype is dtype
    torch.testing.assert_close(x, torch.arange(256, dtype=dtype) / 255)
    assert (float(x[0]), float(x[-1])) == (0, 1)


def test_a_threshold_splits_at_a_half() -> None:
    x = pixels(torch.tensor([0, 127, 128, 255], dtype=torch.uint8), torch.float32, "threshold", Noise(0, CPU))
    assert x.tolist() == [0, 0, 1, 1]


def test_dynamic_binarization_draws_anew_with_the_grey_value_as_probability() -> None:
    noise, grey = Noise(0, CPU), torch.tensor([0, 51, 204, 255], dtype=torch.uint8).expand(20_000, 4)
    first, second = (pixels(grey, torch.float32, "dynamic", noise) for _ in range(2))
    assert set(first.unique().tolist()) == {0, 1}
    black, *greys, white = first.mean(0).tolist()
    assert (black, white) == (0, 1)
    assert greys == pytest.approx([0.2, 0.8], abs=0.015)
    assert not torch.equal(first, second)
