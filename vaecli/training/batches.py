"""Batches on a device: from images that are held there, or read from a file ahead of the step."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaecli.config import Binarize
from vaecli.datasets.dataset import ImageSet
from vaecli.model_format import MAX_PIXEL
from vaecli.parallel import ordered_map
from vaecli.training.noise import Noise
from vaecli.training.processes import ALONE, Part, Processes

AHEAD = 4  # batches that are read before they are needed


class Batch(NamedTuple):
    """A process's part of a batch: uint8 images (rows, c, h, w), and their classes (rows,) where they are known."""

    images: Tensor
    labels: Tensor | None
    part: Part


class Source(Protocol):
    """The images of a training."""

    def __len__(self) -> int: ...

    def batches(self, size: int, count: int, order: Tensor | None = None) -> Iterator[Batch]:
        """The first `count` images in `order` (n,), or in their own where it is None, in batches of `size`."""


def open_source(images: ImageSet, device: torch.device, processes: Processes = ALONE) -> Source:
    """Hold the images on the device where they fit, else read them batch by batch."""
    fits = images.resident
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        fits = images.nbytes <= free // 2
    return (Resident if fits else Streamed)(images, device, processes)


class Resident:
    """All images as one uint8 tensor on the device."""

    def __init__(self, images: ImageSet, device: torch.device, processes: Processes = ALONE) -> None:
        self.processes = processes
        self.tensor = _on_gpu(images, device) if device.type == "cuda" else channels_first(images.whole())
        self.labels = _labels(images, device)

    def __len__(self) -> int:
        return len(self.tensor)

    def batches(self, size: int, count: int, order: Tensor | None = None) -> Iterator[Batch]:
        """See Source."""
        for part, chosen in _parts(self.processes, size, count):
            images = self.tensor[chosen] if order is None else self.tensor.index_select(0, order[chosen])
            yield Batch(images, _chosen(self.labels, chosen, order), part)


class Streamed:
    """Images in a file: a thread reads the next batches during the present step."""

    def __init__(self, images: ImageSet, device: torch.device, processes: Processes = ALONE) -> None:
        self.images, self.device, self.processes = images, device, processes
        self.labels = _labels(images, device)

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, size: int, count: int, order: Tensor | None = None) -> Iterator[Batch]:
        """See Source."""
        rows = None if order is None else order.cpu().numpy()

        def read(place: tuple[Part, slice]) -> Tensor:
            _, chosen = place
            batch = channels_first(self.images[chosen if rows is None else rows[chosen]])
            return batch.pin_memory() if self.device.type == "cuda" else batch

        places = list(_parts(self.processes, size, count))
        for (part, chosen), batch in zip(places, ordered_map(read, places, workers=1, ahead=AHEAD), strict=True):
            yield Batch(batch.to(self.device, non_blocking=True), _chosen(self.labels, chosen, order), part)


def _on_gpu(images: ImageSet, device: torch.device) -> Tensor:
    """All images on a GPU, (n, c, h, w): copied in parts, since the host may have less memory."""
    n, h, w, c = images.shape
    tensor = torch.empty((n, c, h, w), dtype=torch.uint8, device=device)
    start = 0
    for chunk in images.chunks():
        tensor[start : start + len(chunk)] = channels_first(chunk)
        start += len(chunk)
    return tensor


def _parts(processes: Processes, size: int, count: int) -> Iterator[tuple[Part, slice]]:
    """Of each batch of `size` images, what this process takes, and where it lies among all `count` images."""
    for start in range(0, count, size):
        part = processes.part(min(size, count - start))
        yield part, slice(start + part.start, start + part.stop)


def _labels(images: ImageSet, device: torch.device) -> Tensor | None:
    """(n,) on the device."""
    known = images.classes
    return None if known is None else torch.from_numpy(known.labels).to(device)


def _chosen(labels: Tensor | None, chosen: slice, order: Tensor | None) -> Tensor | None:
    if labels is None:
        return None
    return labels[chosen] if order is None else labels.index_select(0, order[chosen])


def channels_first(images: NDArray[np.uint8]) -> Tensor:
    """uint8 (n, h, w, c) as a tensor (n, c, h, w); grey images are not copied."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about arrays that are read-only: nothing writes to them
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def pixels(images: Tensor, dtype: torch.dtype, binarize: Binarize, noise: Noise) -> Tensor:
    """uint8 pictures as floats in [0, 1], (batch, c, h, w), made 0 or 1 where `binarize` says so.

    `threshold` splits at 0.5; `dynamic` draws each pixel with the grey value as its probability, anew each time, as
    Salakhutdinov & Murray (2008) and Burda et al. (2016) do.
    """
    if binarize == "dynamic":
        return noise.binary(images, dtype)
    x = images * torch.tensor(1 / MAX_PIXEL, dtype=dtype)  # a tensor without a device: a GPU needs no copy of it
    return x if binarize == "none" else (x >= 0.5).to(dtype)
