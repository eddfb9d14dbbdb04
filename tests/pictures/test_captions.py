"""The names beside the rows of a grid: every letter can be read, or it is said that it cannot."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vaecli.pictures import captions
from vaecli.pictures.grid import lay_out


def drawn(*texts: str) -> tuple[NDArray[np.uint8], bool]:
    return captions.draw(texts, lay_out(len(texts), (1, 8, 8), columns=1, scale=8))


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "FONTS", ("there-is-no-such-font.ttf",))


@pytest.mark.usefixtures("no_fonts")
def test_letters_that_no_font_has_are_drawn_as_similar_ones() -> None:
    strip, whole = drawn("Äpfel", "été", "½")
    assert whole
    assert np.array_equal(strip, drawn("Apfel", "ete", "1⁄2")[0])


@pytest.mark.usefixtures("no_fonts")
def test_letters_like_no_others_are_question_marks() -> None:
    strip, whole = drawn("日本", "cat\n")
    assert not whole
    assert np.array_equal(strip, drawn("??", "cat?")[0])


def test_a_font_that_has_the_letters_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="it brings a font")
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    monkeypatch.setattr(captions, "FONTS", (str(font),))
    strip, whole = drawn("Äpfel")
    assert whole
    assert not np.array_equal(strip, drawn("Apfel")[0])
    assert np.array_equal(strip, drawn(unicodedata.normalize("NFD", "Äpfel"))[0]), "as macOS spells it"
    monkeypatch.setattr(captions, "FONTS", ())
    assert strip.shape != drawn("Äpfel")[0].shape
    assert drawn("Apfel")[1]


def test_the_font_that_lacks_the_fewest_letters_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="it brings a font")
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    monkeypatch.setattr(captions, "FONTS", (str(font),))
    strip, whole = drawn("Ä", "日")
    assert not whole
    assert np.array_equal(strip, drawn("Ä", "?")[0])
