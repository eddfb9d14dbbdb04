"""Captions: a text to the left of each row of a grid, in a font that has its letters where there is one."""

from __future__ import annotations

import contextlib
import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vaecli.pictures.arrays import Pixels
from vaecli.pictures.grid import BACKGROUND, Layout
from vaecli.untrusted_text import HIDDEN, printable

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

SMALLEST_TEXT, LARGEST_TEXT, TEXT_MARGIN = 10, 28, 6  # in pixels
# After Pillow's own font, which has the letters of English only: files that Pillow finds in the system's folders.
FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "Arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",  # macOS
    "msgothic.ttc",  # Windows
)
NO_CHARACTER = "\uffff"  # no font has it


def draw(texts: Sequence[str], layout: Layout) -> tuple[Pixels, bool]:
    """A strip (H, W, 1) to stand to the left of a grid, with a text for each of its rows; no texts: of no width.

    And whether it is whole. Letters that no font has are drawn as similar ones: Ä as A. Where there are none, as ?.
    """
    if not texts:
        return np.empty((layout.height, 0, 1), np.uint8), True
    from PIL import Image, ImageDraw  # most grids have no text

    tall = layout.scale * layout.picture_height
    texts = [unicodedata.normalize("NFC", printable(text)) for text in texts]
    font, spelling = _font(max(SMALLEST_TEXT, min(LARGEST_TEXT, 0.4 * tall)), texts)
    texts = [text.translate(spelling) for text in texts]
    width = math.ceil(max(font.getlength(text) for text in texts)) + 2 * TEXT_MARGIN
    strip = Image.new("L", (width, layout.height), BACKGROUND)
    pen = ImageDraw.Draw(strip)
    for row, text in enumerate(texts):
        top, _ = layout.corner(row * layout.columns * layout.stacked)
        pen.text((width - TEXT_MARGIN, top + tall / 2), text, fill=255, font=font, anchor="rm")
    return np.asarray(strip)[:, :, np.newaxis], HIDDEN not in spelling.values()


def _font(size: float, texts: Sequence[str]) -> tuple[Font, dict[int, str]]:
    """The first font that has all characters, else the one that lacks the fewest; and what to draw for those."""
    best: tuple[Font, set[str]] | None = None
    for font in _fonts(size):
        missing = _missing(font, "".join(texts))
        if best is None or len(missing) < len(best[1]):
            best = font, missing
        if not missing:
            break
    assert best is not None, "Pillow has a font"
    font, missing = best
    return font, {ord(character): _similar(font, character) for character in missing}


def _fonts(size: float) -> Iterator[Font]:
    from PIL import ImageFont

    yield ImageFont.load_default(size)
    for name in FONTS:
        with contextlib.suppress(OSError):
            yield ImageFont.truetype(name, size)


def _missing(font: Font, characters: Iterable[str]) -> set[str]:
    """Those that the font draws as it does a character that no font has: as a box."""
    box = _drawn(font, NO_CHARACTER)
    return {one for one in {*characters} if not one.isspace() and _drawn(font, one) == box}


def _drawn(font: Font, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


def _similar(font: Font, character: str) -> str:
    """The letters without their marks, where the font has those."""
    letters = [one for one in unicodedata.normalize("NFKD", character) if not unicodedata.combining(one)]
    return "".join(letters) if letters and not _missing(font, letters) else HIDDEN
