"""Batches on a device: from images that are held there, or read from a file ahead of the step."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaecli.config import Binarize
from vaecli.datasets.dataset import ImageSet
from vaecli.model_format import LEVELS
from vaecli.processors import ordered_map
from vaecli.training.noise import Noise

AHEAD = 4  # batches that are read before they are needed


Batch: TypeAlias = tuple[Tensor, Tensor | None]  # images and classes


class Source(Protocol):
    """The images of a training."""

    def __len__(self) -> int: ...

    def batches(self, size: int, count: int, order: Tensor | None = None) -> Iterator[Batch]:
        """The first `count` images in `order` (n,), or in their own where it is None, as uint8 (size, c, h, w).

        With the class of each, int64 (size,), where it is known.
        """


def open_source(images: ImageSet, device: torch.device) -> Source:
    """Hold the images on the device where they fit, else read them batch by batch."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return Resident(images, device) if images.nbytes <= free // 2 else Streamed(images, device)
    return Resident(images, device) if images.resident else Streamed(images, device)


class Resident:
    """All images as one uint8 tensor on the device."""

    def __init__(self, images: ImageSet, device: torch.device) -> None:
        self.tensor = channels_first(images.whole()).to(device)  # (n, c, h, w)
        self.labels = _labels(images, device)

    def __len__(self) -> int:
        return len(self.tensor)

    def batches(self, size: int, count: int, order: Tensor | None = None) -> Iterator[Batch]:
        """See Source."""
        for start in range(0, count, size):
            chosen = slice(start, min(start + size, count))
            images = self.tensor[chosen] if order is None else self.tensor.index_select(0, order[chosen])
            yield images, _chosen(self.labels, chosen, order)


class Streamed:
    """Images in a file: a thread reads the next batches during the present step."""

    def __init__(self, images: ImageSet, device: torch.device) -> None:
        self.images, self.device = images, device
        self.labels = _labels(images, device)

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, size: int, count: int, order: Tensor | None = None) -> Iterator[Batch]:
        """See Source."""
        rows = None if order is None else order.cpu().numpy()

        def read(start: int) -> Tensor:
            chunk = slice(start, min(start + size, count))
            batch = channels_first(self.images[chunk if rows is None else rows[chunk]])
            return batch.pin_memory() if self.device.type == "cuda" else batch

        starts = range(0, count, size)
        for start, batch in zip(starts, ordered_map(read, starts, workers=1, ahead=AHEAD), strict=True):
            chosen = slice(start, min(start + size, count))
            yield batch.to(self.device, non_blocking=True), _chosen(self.labels, chosen, order)


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
    x = images * torch.tensor(1 / LEVELS, dtype=dtype)  # a tensor without a device: a GPU needs no copy of it
    if binarize == "none":
        return x
    return (noise.uniform(x.shape, dtype) < x).to(dtype) if binarize == "dynamic" else (x >= 0.5).to(dtype)
