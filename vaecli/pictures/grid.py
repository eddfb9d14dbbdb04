"""Grids: many pictures in one, enlarged by whole pixels so that they are easy to see."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vaecli.errors import UsageError
from vaecli.model_format import ImageShape

EASY_TO_SEE = 560  # pixels: the longer side of a grid, approximately, because the scale is a whole number
LARGEST_SCALE = 64
LARGEST_AREA = 2**26  # pixels of a picture: 67 megapixels; Pillow opens it without a warning
GAP = 2  # pixels between pictures, at any scale
GROUP_GAPS = 4  # gaps between rows of groups
BACKGROUND = 96  # a grey seen beside both black and white


@dataclass(frozen=True)
class Series:
    """Images to be written or drawn, and how they are laid out."""

    n: int
    image_shape: ImageShape
    stacked: int = 1  # images that stand under each other
    columns: int | None = None  # images in a row; None: a square grid
    scale: int | None = None  # by which each pixel is enlarged; None: so that it is easy to see
    gap: int = GAP  # pixels between images
    dtype: str = "uint8"
    names: Sequence[str] | None = None  # the inputs of the images, which name the files in a folder
    sources: Sequence[str] = ()  # the files that were read: none of them is replaced
    wraps_rows: bool = False  # rows wider than the terminal go on in the next line
    captions: Sequence[str] = ()  # a text for each row of a grid that is written, to its left


@dataclass(frozen=True)
class Layout:
    """The place of each picture in a grid. A group is `stacked` pictures that stand under each other."""

    n: int
    picture_height: int
    picture_width: int
    columns: int
    scale: int
    stacked: int = 1
    gap: int = GAP

    @property
    def rows(self) -> int:
        """Rows of pictures."""
        return math.ceil(self.n / self.stacked / self.columns) * self.stacked

    @property
    def height(self) -> int:
        """Pixels of the whole grid."""
        return self.corner(self.n - 1)[0] + self.scale * self.picture_height

    @property
    def width(self) -> int:
        """Pixels of the whole grid."""
        return self.columns * (self.scale * self.picture_width + self.gap) - self.gap

    def corner(self, index: int) -> tuple[int, int]:
        """The top and left edge in pixels of picture `index`, from 0."""
        group, part = divmod(index, self.stacked)
        group_row, column = divmod(group, self.columns)
        row = group_row * self.stacked + part
        top = row * (self.scale * self.picture_height + self.gap)
        if self.stacked > 1:
            top += group_row * (GROUP_GAPS - 1) * self.gap
        return top, column * (self.scale * self.picture_width + self.gap)


def square_columns(n: int, image_shape: ImageShape) -> int:
    """The columns that make a grid of `n` pictures (c, h, w) nearly square."""
    _, height, width = image_shape
    return math.ceil(math.sqrt(n * height / width))


def lay_out(
    n: int,
    image_shape: ImageShape,
    *,
    columns: int | None = None,
    scale: int | None = None,
    stacked: int = 1,
    gap: int = GAP,
) -> Layout:
    """Lay out `n` pictures of (c, h, w). By default the grid is nearly square and easy to see.

    Raises UsageError where the grid would have more than LARGEST_AREA pixels.
    """
    _, height, width = image_shape
    groups = n // stacked
    rows = math.ceil(groups / square_columns(n, image_shape))
    columns = min(columns or math.ceil(groups / rows), groups)  # rows of equal length, as far as possible
    layout = Layout(n, height, width, columns, scale or 1, stacked, gap)
    if scale is None:
        enlarged = round(EASY_TO_SEE / max(layout.height, layout.width))
        layout = replace(layout, scale=max(1, min(LARGEST_SCALE, enlarged)))
    check_area(layout.height, layout.width, f"{n} pictures in one")
    return layout


def check_area(height: int, width: int, what: str) -> None:
    """Raise UsageError for a picture of more than LARGEST_AREA pixels, which many programs do not open."""
    if height * width > LARGEST_AREA:
        raise UsageError(
            f"`output`: {what} would be {width}x{height} pixels, more than {LARGEST_AREA / 1e6:.0f} million",
            "an array (.npy) or a folder (name/) holds any number of pictures; or lower `scale`",
        )


class Grid:
    """The canvas of a layout, filled picture by picture."""

    def __init__(self, layout: Layout, channels: int) -> None:
        self.layout = layout
        self.canvas = np.full((layout.height, layout.width, channels), BACKGROUND, np.uint8)  # (H, W, c)
        self.count = 0

    def put(self, images: NDArray[np.uint8]) -> None:
        """Put the next pictures (b, h, w, c) in their places."""
        for image in images:
            enlarged = enlarge(image, self.layout.scale)
            top, left = self.layout.corner(self.count)
            self.canvas[top : top + enlarged.shape[0], left : left + enlarged.shape[1]] = enlarged
            self.count += 1


def frames(moments: Iterable[NDArray[np.uint8]], layout: Layout, channels: int) -> Iterator[NDArray[np.uint8]]:
    """The frames (1, H, W, c) of an animation: each batch of pictures (b, h, w, c) as a grid."""
    for images in moments:
        grid = Grid(layout, channels)
        grid.put(images)
        yield grid.canvas[None]


def enlarge(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Make each pixel of (h, w, c) a square of `scale` x `scale`."""
    return image.repeat(scale, axis=0).repeat(scale, axis=1) if scale > 1 else image


def in_pairs(originals: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Two (b, h, w, c) as one (2b, h, w, c): each original, of one channel or c, followed by its other picture."""
    return np.stack([np.broadcast_to(originals, others.shape), others], axis=1).reshape(-1, *others.shape[1:])
