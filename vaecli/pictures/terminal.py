"""Pictures drawn in the terminal with half blocks: a cell shows two square pixels, one above the other.

Own code: textual-image queries the terminal through stdin and stdout, rich-pixels has had no release since 2024-03.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vaecli.errors import UsageError
from vaecli.pictures.arrays import Pixels, to_uint8
from vaecli.pictures.decoding import fit
from vaecli.pictures.grid import Grid, Layout, Series, square_columns

if TYPE_CHECKING:
    from rich.console import Console
    from rich.segment import Segment

MOST = 100  # pictures that are drawn
EASY_TO_SEE = 28  # pixels: the longer side of a small picture once it is enlarged, approximately
LEAST = 16  # pixels: the width that a picture keeps where its row may be broken
UPPER_HALF = "▀"
BLOCKS = " ░▒▓█"
LETTERS = " .:-=+*#%@"  # where the terminal has no block characters


class Drawing:
    """The first MOST pictures of `series`, or the whole rows among them, as a grid that fits the terminal.

    Raises UsageError where `columns` pictures do not fit, even at one pixel each.
    """

    def __init__(self, console: Console, series: Series) -> None:
        channels, height, width = series.image_shape
        room, gap = console.width, min(series.gap, 1)
        groups = series.n // series.stacked
        shown = min(groups, MOST // series.stacked)
        most = (room + gap) // (1 + gap)
        columns = min(series.columns or min(square_columns(shown * series.stacked, series.image_shape), most), groups)
        if series.wraps_rows:
            fitting = max(1, (room + gap) // (min(width, LEAST) + gap))
            columns = math.ceil(columns / math.ceil(columns / fitting))  # rows of about one length
        if columns > most:
            raise UsageError(
                f"`show`: {columns} pictures do not fit into {room} columns of characters", "ask for fewer"
            )
        if shown < groups:
            shown = max(columns, shown - shown % columns)
        widest = (room + gap) // columns - gap
        if widest < width:
            height, width, scale = max(1, round(height * widest / width)), widest, 1
        else:
            scale = min(series.scale or max(1, round(EASY_TO_SEE / max(height, width))), widest // width)
        n = shown * series.stacked
        self._console, self._shape = console, (channels, height, width)
        self._grid = Grid(Layout(n, height, width, columns, scale, series.stacked, gap), channels)
        self.summary = f"the first {n} of {series.n:,} are shown" if n < series.n else ""
        self.facts = {"shown": n}
        self.note = ""

    def write(self, images: NDArray[Any]) -> None:
        """Take the next pictures (b, h, w, c), uint8 or floats in [0, 1]."""
        for image in images[: self._grid.layout.n - self._grid.count]:
            pixels = image if image.dtype == np.uint8 else to_uint8(image)
            self._grid.put(fit(pixels, self._shape)[np.newaxis])

    def show(self) -> None:
        """Print the grid."""
        from rich.segment import Segments

        self._console.print(Segments(segments(self._grid.canvas, self._console)), end="")


def segments(picture: Pixels, console: Console) -> list[Segment]:
    """A picture (h, w, c) as coloured text, two rows of pixels in a line, for `console` to print.

    rich reduces the colours to those of the terminal. Without colours, brighter pixels are fuller characters.
    """
    from rich.color import Color
    from rich.segment import Segment
    from rich.style import Style

    blocks = console.encoding.startswith("utf")
    even = picture if len(picture) % 2 == 0 else np.concatenate([picture, picture[-1:]])
    cells = even.reshape(-1, 2, *picture.shape[1:])  # (lines, 2, columns, c)
    if console.color_system is None or console.no_color:
        ramp = BLOCKS if blocks else LETTERS
        levels = np.rint(cells.mean(axis=(1, 3)) / 255 * (len(ramp) - 1)).astype(int)
        return [Segment("".join(ramp[level] for level in line) + "\n") for line in levels.tolist()]
    if not blocks:
        cells = cells.mean(axis=1, keepdims=True).astype(np.uint8)
    drawn = []
    for upper, lower in np.broadcast_to(cells, (len(cells), 2, picture.shape[1], 3)).tolist():
        for (top, bottom), alike in groupby(zip(upper, lower, strict=True)):
            style = Style(color=Color.from_rgb(*top) if top != bottom else None, bgcolor=Color.from_rgb(*bottom))
            drawn.append(Segment((UPPER_HALF if style.color else " ") * len(list(alike)), style))
        drawn.append(Segment.line())
    return drawn
