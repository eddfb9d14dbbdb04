"""Grids: many pictures as one, each on its place, enlarged by whole pixels so that they are easy to see."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vaecli.errors import UsageError

EASY_TO_SEE = 560  # pixels: about the longer side of a grid, as near as whole pixels come
LARGEST_SCALE = 64
LARGEST_AREA = 2**26  # pixels of a picture: 67 megapixels; most programs open it, Pillow without a warning
GAP = 2  # pixels between pictures, whatever the scale
GROUP_GAPS = 4  # so many of them between rows of groups
BACKGROUND = 96  # a grey that frames white on black as well as black on white


@dataclass(frozen=True)
class Layout:
    """Where each picture of a grid stands. Sizes are in pixels of the finished grid."""

    n: int
    picture_height: int
    picture_width: int
    columns: int
    scale: int
    stacked: int = 1  # so many pictures in a row stand under each other: an original and what became of it
    gap: int = GAP

    @property
    def rows(self) -> int:
        """Rows of pictures."""
        return math.ceil(self.n / self.stacked / self.columns) * self.stacked

    @property
    def height(self) -> int:
        """Of the whole grid."""
        return self.corner(self.n - 1)[0] + self.scale * self.picture_height

    @property
    def width(self) -> int:
        """Of the whole grid."""
        return self.columns * (self.scale * self.picture_width + self.gap) - self.gap

    def corner(self, index: int) -> tuple[int, int]:
        """The top and left edge of the picture that comes as number `index`, from 0."""
        group, part = divmod(index, self.stacked)
        group_row, column = divmod(group, self.columns)
        row = group_row * self.stacked + part
        top = row * (self.scale * self.picture_height + self.gap)
        if self.stacked > 1:
            top += group_row * (GROUP_GAPS - 1) * self.gap
        return top, column * (self.scale * self.picture_width + self.gap)


def lay_out(
    n: int,
    image_shape: tuple[int, int, int],
    *,
    columns: int | None = None,
    scale: int | None = None,
    stacked: int = 1,
    gap: int = GAP,
) -> Layout:
    """Lay out `n` pictures of (c, h, w), nearly square and easy to see, but for what is given.

    Raises:
        UsageError: the grid would have more than LARGEST_AREA pixels.
    """
    _, height, width = image_shape
    groups = n // stacked
    if columns is None:
        columns = math.ceil(math.sqrt(groups * stacked * height / width))
    columns = min(columns, groups)
    plain = Layout(n, height, width, columns, 1, stacked, gap)
    if scale is None:
        scale = max(1, min(LARGEST_SCALE, round(EASY_TO_SEE / max(plain.height, plain.width))))
    layout = Layout(n, height, width, columns, scale, stacked, gap)
    check_area(layout.height, layout.width, f"{n} pictures in one")
    return layout


def check_area(height: int, width: int, what: str) -> None:
    """Refuse pictures that no other program would open. Raises UsageError."""
    if height * width > LARGEST_AREA:
        raise UsageError(
            f"--output: {what} would be {width}x{height} pixels, more than {LARGEST_AREA / 1e6:.0f} million",
            "an array (.npy) or a folder (name/) holds any number of pictures; or lower --scale",
        )


class Grid:
    """The canvas that pictures are put onto, one after the other."""

    def __init__(self, layout: Layout, channels: int) -> None:
        self.layout = layout
        self.canvas = np.full((layout.height, layout.width, channels), BACKGROUND, np.uint8)  # (H, W, c)
        self.count = 0

    def put(self, images: NDArray[np.uint8]) -> None:
        """Put the next pictures (b, h, w, c) onto their places."""
        for image in images:
            enlarged = enlarge(image, self.layout.scale)
            top, left = self.layout.corner(self.count)
            self.canvas[top : top + enlarged.shape[0], left : left + enlarged.shape[1]] = enlarged
            self.count += 1


def enlarge(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Make each pixel of (h, w, c) a square of `scale` x `scale`."""
    return image.repeat(scale, axis=0).repeat(scale, axis=1) if scale > 1 else image


def in_pairs(originals: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each picture followed by its other: two of (b, h, w, c) as one of (2b, h, w, c)."""
    return np.stack([originals, others], axis=1).reshape(-1, *originals.shape[1:])
