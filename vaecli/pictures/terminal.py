"""Pictures drawn in the terminal itself, on stderr: half blocks in as many colours as the terminal has.

A character cell is about twice as high as it is wide, so an upper half block shows two square pixels: its
foreground the upper one, its background the lower. rich knows the terminal (COLORTERM, TERM, NO_COLOR) and
brings colours down to the 256 or 16 it may have; without any, characters that fill more of a cell are brighter.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vaecli.errors import UsageError
from vaecli.pictures.decoding import ImageShape, fit
from vaecli.pictures.grid import Grid, Layout, enlarge
from vaecli.pictures.writing import Form, Output, Writer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.segment import Segment

GAP = 1  # pixels between pictures
MOST = 100  # pictures that are drawn, however many there are
EASY_TO_SEE = 28  # pixels: smaller pictures are enlarged to about that
LEGIBLE = 14  # pixels: smaller, and the screen scrolls instead
LINES_LEFT = 2  # of a screen: what is said before the picture, and the prompt after it

UPPER_HALF = "▀"
BLOCKS = " ░▒▓█"
LETTERS = " .:-=+*#%@"  # where the terminal has no block characters


@dataclass(frozen=True)
class Screen:
    """The terminal that `--show` draws on; the pictures in a row and their scale, where they were asked for."""

    console: Console
    columns: int | None = None
    scale: int | None = None

    def across(self, image_shape: ImageShape) -> int:
        """How many pictures of (c, h, w) have room beside each other and can still be made out; at least 1."""
        height, width = self._full_size(image_shape)
        legible = math.ceil(min(LEGIBLE, height, width, LEGIBLE * width / height))
        return max(1, (self.console.width + GAP) // (legible + GAP))

    def down(self, image_shape: ImageShape, columns: int) -> int:
        """How many rows of so many pictures have room on one screen; at least 1."""
        height = self._layout(image_shape, columns, columns, 1).picture_height
        return max(1, (self._highest + GAP) // (height + GAP))

    def lay_out(self, n: int, image_shape: ImageShape, *, stacked: int = 1, columns: int | None = None) -> Layout:
        """Where pictures of (c, h, w) stand, all as wide as the terminal at most. Of many the first are shown.

        A row holds `columns` if they can be made out. Else as many as make the pictures largest on one screen;
        where even those could not be made out, as many as can be, and the screen scrolls.

        Raises:
            UsageError: there is no room for so many pictures in a row as were asked for.
        """
        groups = min(n, max(stacked, MOST - MOST % stacked)) // stacked
        if self.columns is not None:
            if self.columns * (1 + GAP) - GAP > self.console.width:
                raise UsageError(
                    f"--show: {self.columns} pictures do not fit into {self.console.width} columns of characters",
                    "ask for fewer in a row",
                )
            if n // stacked > groups:  # then at least the rows that are shown are whole
                groups = min(n // stacked, max(self.columns, groups - groups % self.columns))
            return self._layout(image_shape, groups * stacked, min(self.columns, groups), stacked)
        most = min(groups, self.across(image_shape))
        if columns is not None and min(columns, groups) <= most:
            return self._layout(image_shape, groups * stacked, min(columns, groups), stacked)
        choices = [self._layout(image_shape, groups * stacked, count, stacked) for count in range(1, most + 1)]
        on_screen = [self._lowered(layout) for layout in choices]
        best = max(on_screen, key=lambda layout: (layout.picture_height, layout.columns))
        legible = min(LEGIBLE, *self._full_size(image_shape))
        return best if min(best.picture_height, best.picture_width) >= legible else choices[-1]

    @contextmanager
    def open(
        self, n: int, image_shape: ImageShape, *, stacked: int = 1, columns: int | None = None
    ) -> Iterator[Drawing]:
        """Take `n` pictures of (c, h, w), and draw them once the block ends well.

        Raises:
            UsageError: as in `lay_out`.
        """
        drawing = Drawing(n, self.lay_out(n, image_shape, stacked=stacked, columns=columns), image_shape)
        yield drawing
        drawing.show(self.console)

    @property
    def _highest(self) -> int:
        """Pixels on one screen, from top to bottom."""
        return 2 * max(1, self.console.height - LINES_LEFT)

    def _full_size(self, image_shape: ImageShape) -> tuple[int, int]:
        """A picture's height and width in pixels where there is room for all of it."""
        _, height, width = image_shape
        scale = self.scale or max(1, round(EASY_TO_SEE / max(height, width)))
        return scale * height, scale * width

    def _layout(self, image_shape: ImageShape, n: int, columns: int, stacked: int) -> Layout:
        """`n` pictures in so many columns, as large as the width allows."""
        full_height, full_width = self._full_size(image_shape)
        width = max(1, min(full_width, (self.console.width + GAP) // columns - GAP))
        return Layout(n, max(1, round(width * full_height / full_width)), width, columns, 1, stacked, GAP)

    def _lowered(self, layout: Layout) -> Layout:
        """The same, its pictures shrunk until all of them are on one screen."""
        gaps = layout.height - layout.rows * layout.picture_height
        height = max(1, min(layout.picture_height, (self._highest - gaps) // layout.rows))
        width = max(1, round(height * layout.picture_width / layout.picture_height))
        return replace(layout, picture_height=height, picture_width=width)


def screen(console: Console, *, columns: int | None = None, scale: int | None = None) -> Screen:
    """The terminal on stderr, which `console` writes to.

    Raises:
        UsageError: there is none.
    """
    if not sys.stderr.isatty():
        raise UsageError("--show: stderr is not a terminal", "name a file with --output instead")
    return Screen(console, columns, scale)


class Drawing:
    """A grid of pictures, each brought to the size that the screen has for it."""

    def __init__(self, n: int, layout: Layout, image_shape: ImageShape) -> None:
        channels, height, width = image_shape
        self._shape = channels, layout.picture_height, layout.picture_width
        self._enlarged = math.ceil(max(layout.picture_height / height, layout.picture_width / width))
        self._grid = Grid(layout, channels)
        self._n = n
        self.facts: dict[str, Any] = {"shown": layout.n}

    def write(self, images: NDArray[Any]) -> None:
        """Take the next pictures (b, h, w, c), uint8 or floats in [0, 1]; those after the last shown are left."""
        for image in images[: self._grid.layout.n - self._grid.count]:
            pixels = image if image.dtype == np.uint8 else np.rint(255 * image).astype(np.uint8)
            self._grid.put(fit(enlarge(pixels, self._enlarged), self._shape)[np.newaxis])

    def said(self) -> str:
        """What is seen, for a person; nothing where that is all of it."""
        shown = self._grid.layout.n
        return f"the first {shown} of {self._n:,} are shown" if shown < self._n else ""

    def show(self, console: Console) -> None:
        """Draw it."""
        from rich.segment import Segments

        console.print(Segments(segments(self._grid.canvas, console)), end="")


@dataclass(frozen=True)
class Shown:
    """Pictures drawn on the screen, and written as well where `-o` names a place."""

    screen: Screen
    written: Output | None

    @property
    def name(self) -> str | None:
        """What `-o` says."""
        return self.written.name if self.written else None

    @property
    def form(self) -> Form:
        """What it asks for; the screen alone takes a grid."""
        return self.written.form if self.written else "picture"

    @property
    def as_uint8(self) -> bool:
        """Whether images are taken as uint8, not as floats in [0, 1]."""
        return self.written is None or self.written.as_uint8

    def in_rows_of(self, columns: int) -> Shown:
        """The same, with so many pictures in a row of the screen however small they become."""
        return replace(self, screen=replace(self.screen, columns=columns))

    @contextmanager
    def open(
        self,
        n: int,
        image_shape: ImageShape,
        *,
        stacked: int = 1,
        columns: int | None = None,
        names: Sequence[str] | None = None,
        sources: Sequence[str] = (),
    ) -> Iterator[Writer]:
        """Open both for `n` images of (c, h, w): drawn once they are written.

        Raises:
            UsageError, VaeError: as `Output.open` and `Screen.lay_out` do.
        """
        with self.screen.open(n, image_shape, stacked=stacked, columns=columns) as drawing:
            if self.written is None:
                yield drawing
                return
            with self.written.open(
                n, image_shape, stacked=stacked, columns=columns, names=names, sources=sources
            ) as writer:
                yield _Both(writer, drawing)


class _Both:
    """What goes to a file goes to the screen as well."""

    def __init__(self, writer: Writer, drawing: Drawing) -> None:
        self._writer, self._drawing = writer, drawing

    @property
    def facts(self) -> dict[str, Any]:
        return {**self._writer.facts, **self._drawing.facts}

    def write(self, images: NDArray[Any]) -> None:
        self._writer.write(images)
        self._drawing.write(images)

    def said(self) -> str:
        return ", ".join(filter(None, (self._writer.said(), self._drawing.said())))


def segments(picture: NDArray[np.uint8], console: Console) -> list[Segment]:
    """A picture (h, w, c) as text in colours, two rows of pixels to a line, for rich to print on `console`."""
    plain = console.color_system is None or console.no_color
    blocks = console.encoding.startswith("utf")
    pixels = picture if picture.shape[0] % 2 == 0 else np.concatenate([picture, picture[-1:]])
    upper, lower = pixels[::2], pixels[1::2]  # each (lines, columns, c)
    if plain:
        return _shades(upper, lower, BLOCKS if blocks else LETTERS)
    if not blocks:
        upper = lower = ((upper.astype(np.uint16) + lower) // 2).astype(np.uint8)
    return _colours(upper, lower)


def _shades(upper: NDArray[np.uint8], lower: NDArray[np.uint8], ramp: str) -> list[Segment]:
    """Cells as characters, the brighter the fuller."""
    from rich.segment import Segment

    light = (upper.astype(float).mean(axis=2) + lower.astype(float).mean(axis=2)) / 2 / 255  # (lines, columns)
    chosen = np.rint(light * (len(ramp) - 1)).astype(int)
    return [Segment("".join(ramp[index] for index in line) + "\n") for line in chosen.tolist()]


def _colours(upper: NDArray[np.uint8], lower: NDArray[np.uint8]) -> list[Segment]:
    """Cells as half blocks; neighbours of the same two colours are one stretch of text."""
    from rich.segment import Segment

    def cells(rows: NDArray[np.uint8]) -> Any:  # noqa: ANN401 - lists of lists of (r, g, b)
        return [[tuple(pixel) for pixel in row] for row in np.broadcast_to(rows, (*rows.shape[:2], 3)).tolist()]

    drawn = []
    for above, below in zip(cells(upper), cells(lower), strict=True):
        for (top, bottom), alike in groupby(zip(above, below, strict=True)):
            length = len(list(alike))
            drawn.append(Segment((" " if top == bottom else UPPER_HALF) * length, _style(top, bottom)))
        drawn.append(Segment.line())
    return drawn


def _style(top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Any:  # noqa: ANN401 - rich.style.Style
    from rich.color import Color
    from rich.style import Style

    return Style(color=None if top == bottom else Color.from_rgb(*top), bgcolor=Color.from_rgb(*bottom))
