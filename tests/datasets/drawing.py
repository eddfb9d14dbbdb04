"""Small pictures for the tests of data sets, and a progress that remembers what it was told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from vaecli.pictures.arrays import Pixels


class Recorder:
    """A progress callable: what began, of how many units, and how many were reported done."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int | None, str]] = []
        self.done = 0

    @contextlib.contextmanager
    def __call__(self, what: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
        self.begun.append((what, total, unit))
        yield self._advance

    def _advance(self, units: int) -> None:
        self.done += units


def numbered(n: int, height: int = 4, width: int = 5, channels: int = 1) -> Pixels:
    """n images (n, h, w, c), each of one value: its number, from 0 again after 255."""
    values = np.arange(n, dtype=np.uint8)[:, None, None, None]
    return np.tile(values, (1, height, width, channels))


def draw(path: Path, value: int, size: tuple[int, int] = (5, 4), mode: str = "L") -> Path:
    """A picture file of one value; `size` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, (value,) * len(mode) if len(mode) > 1 else value).save(path)
    return path


def draw_folder(folder: Path, n: int, size: tuple[int, int] = (5, 4), mode: str = "L") -> Path:
    """A folder of n pictures, 0.bmp, 1.bmp, …, each of one value: its number."""
    for index in range(n):
        draw(folder / f"{index}.bmp", index, size, mode)
    return folder


def values(images: Pixels) -> list[int]:
    """The value of each image's first pixel."""
    return [int(value) for value in images[:, 0, 0, 0]]
