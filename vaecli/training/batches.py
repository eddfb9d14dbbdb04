"""Batches for a device: from images that are held there whole, or gathered from a file ahead of the step."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaecli.config import Binarize
from vaecli.datasets import Images
from vaecli.training.noise import Noise

AHEAD = 4  # batches gathered before they are needed


class Source(Protocol):
    """Where a training's images come from."""

    resident: bool

    def __len__(self) -> int: ...

    def batches(self, size: int, count: int, order: Tensor | None = None) -> Iterator[Tensor]:
        """The first `count` images in `order`, or in their own where it is None, as uint8 (size, c, h, w)."""


def open_source(images: Images, device: torch.device) -> Source:
    """Hold the images on the device where they fit, else stream them."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return Resident(images, device) if images.nbytes <= free // 2 else Streamed(images, device)
    return Resident(images, device) if images.resident else Streamed(images, device)


class Resident:
    """All images as one uint8 tensor on the device."""

    resident = True

    def __init__(self, images: Images, device: torch.device) -> None:
        self.tensor = channels_first(images.whole()).to(device)

    @classmethod
    def of(cls, tensor: Tensor) -> Resident:
        """From a tensor that is there already, uint8 (n, c, h, w)."""
        source = cls.__new__(cls)
        source.tensor = tensor
        return source

    def __len__(self) -> int:
        return len(self.tensor)

    def batches(self, size: int, count: int, order: Tensor | None = None) -> Iterator[Tensor]:
        """See Source."""
        for start in range(0, count, size):
            chosen = slice(start, min(start + size, count))
            yield self.tensor[chosen] if order is None else self.tensor.index_select(0, order[chosen])


class Streamed:
    """Images in a memory map: a thread gathers the next batches while the present one is learnt from."""

    resident = False

    def __init__(self, images: Images, device: torch.device) -> None:
        self.images, self.device = images, device

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, size: int, count: int, order: Tensor | None = None) -> Iterator[Tensor]:
        """See Source."""
        rows = None if order is None else order.cpu().numpy()
        chunks = [slice(start, min(start + size, count)) for start in range(0, count, size)]
        with ThreadPoolExecutor(1) as pool:
            waiting = [pool.submit(self._gather, chunk, rows) for chunk in chunks[:AHEAD]]
            for index in range(len(chunks)):
                batch = waiting.pop(0).result()
                if index + AHEAD < len(chunks):
                    waiting.append(pool.submit(self._gather, chunks[index + AHEAD], rows))
                yield batch.to(self.device, non_blocking=True)

    def _gather(self, chunk: slice, rows: NDArray[np.int64] | None) -> Tensor:
        batch = channels_first(self.images[chunk if rows is None else rows[chunk]])
        return batch.pin_memory() if self.device.type == "cuda" else batch


def channels_first(images: NDArray[np.uint8]) -> Tensor:
    """uint8 (n, h, w, c) as a tensor (n, c, h, w); grey images are not copied."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of arrays that are not to be written: nobody does
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def pixels(images: Tensor, dtype: torch.dtype, binarize: Binarize, noise: Noise) -> Tensor:
    """uint8 pictures as floats in [0, 1]; made 0 or 1 where asked for.

    `threshold` splits at one half; `dynamic` tosses a coin with the grey value as its probability, anew each time,
    as Salakhutdinov & Murray (2008) and Burda et al. (2016) do.
    """
    x = images * torch.tensor(1 / 255, dtype=dtype)  # of no device: on a GPU it is an argument, nothing is sent
    if binarize == "none":
        return x
    return (noise.uniform(x.shape, dtype) < x).to(dtype) if binarize == "dynamic" else (x >= 0.5).to(dtype)
