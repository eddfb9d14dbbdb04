"""Small pictures for the tests of data sets, and an event callback that remembers what it was told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vaecli.datasets.dataset import ImageSet
from vaecli.events import Event, Progress
from vaecli.pictures.arrays import Pixels


class Recorder:
    """An `on_event` callback: all Progress events, which work began, and the units done at the end."""

    def __init__(self) -> None:
        self.progress: list[Progress] = []

    def __call__(self, event: Event) -> None:
        assert isinstance(event, Progress)
        self.progress.append(event)

    @property
    def begun(self) -> list[tuple[str, int | None, str]]:
        return [(event.what, event.total, event.unit) for event in self.progress if event.done == 0]

    @property
    def done(self) -> int:
        return self.progress[-1].done if self.progress else 0


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


def class_names(images: ImageSet) -> list[str] | None:
    """The class of each image by its name; None where it is not known."""
    known = images.classes
    return None if known is None else [known.names[label] for label in known.labels]


def values(images: Pixels) -> list[int]:
    """The value of each image's first pixel."""
    return [int(value) for value in images[:, 0, 0, 0]]
