"""How the page looks, and how it is used without a mouse: sizes, colours, names, focus."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.explore.browser import Browser
from tests.explore.visitor import latent

CONTROLS = "main button, main input, main select, main canvas[tabindex], summary"
LEAST_CONTRAST = 4.5  # of text: WCAG 2.2, 1.4.3


@pytest.fixture
def window(page: Browser) -> Iterator[Browser]:
    yield page
    page.look(1280, 900)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (820, True), (360, False), (360, True)])
def test_nothing_is_wider_than_the_window(window: Browser, width: int, dark: bool) -> None:
    window.look(width, 740, dark=dark)
    window.settle()
    assert window.run("document.documentElement.scrollWidth") == width
    beyond = window.run(
        f"[...document.querySelectorAll({CONTROLS!r})].filter((e) => e.offsetParent)"
        ".filter((e) => e.getBoundingClientRect().right > innerWidth || e.getBoundingClientRect().left < 0)"
        ".map((e) => e.id)"
    )
    assert beyond == []
    assert window.run("document.querySelector('#plane').clientWidth") > 300


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read(window: Browser, dark: bool) -> None:
    """On its background, in both schemes of colours."""
    window.look(1280, 900, dark=dark)
    colours = window.run(
        "['h2', '.hint', '.slider .number', '.slider output', '#random', '#reset', '#lead', 'footer p', '#toast'].map("
        "(name) => { let e = document.querySelector(name); const ink = getComputedStyle(e).color; let paper;"
        " do paper = getComputedStyle(e).backgroundColor;"
        " while (paper === 'rgba(0, 0, 0, 0)' && (e = e.parentElement)); return [name, ink, paper]; })"
    )
    for name, ink, paper in colours:
        bright, other = sorted((luminance(ink), luminance(paper)), reverse=True)
        assert (bright + 0.05) / (other + 0.05) >= LEAST_CONTRAST, (name, ink, paper)
    paper = window.run("getComputedStyle(document.body).backgroundColor")
    assert (luminance(paper) < 0.1) == dark


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`: WCAG 2.2."""
    channels = np.array([float(part) for part in colour[4:-1].split(",")]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_on_a_phone_the_picture_stays_in_view(window: Browser) -> None:
    """Above what is used, which it does not cover."""
    window.look(360, 740)
    for used in ("#plane", "#sliders .slider:last-child", "#samples", "#sheet", "#strip"):
        _, top, _, height = window.box(used)
        above, below = window.run(
            "(({ top, bottom }) => [top, bottom])(document.querySelector('#picture').getBoundingClientRect())"
        )
        assert 0 <= above < below <= top, used
        assert top + height <= 740, used


def test_every_control_has_a_name(page: Browser) -> None:
    """One that the browser's own tree for assistive technology has."""
    tree = page.send("Accessibility.getFullAXTree")["nodes"]
    controls = {"button", "slider", "combobox", "checkbox", "textbox", "application", "image", "ColorWell",
                "DisclosureTriangle"}  # fmt: skip
    found = [node for node in tree if node.get("role", {}).get("value") in controls and not node["ignored"]]
    assert {"button", "slider", "combobox", "checkbox", "textbox", "application"} <= {n["role"]["value"] for n in found}
    assert [node for node in found if not node.get("name", {}).get("value", "").strip()] == []


def test_tab_reaches_every_control_and_shows_where_it_is(page: Browser) -> None:
    expected = page.run(
        f"[...document.querySelectorAll({CONTROLS!r})].filter((e) => e.checkVisibility() && !e.disabled).length"
    )
    page.run("document.activeElement.blur(); scrollTo(0, 0); getSelection().removeAllRanges()")
    reached = set()
    for _ in range(expected + 3):
        page.press("Tab")
        place, outline = page.run(
            "(() => { const e = document.activeElement;"
            " const at = e === document.body ? null : [...document.querySelectorAll('*')].indexOf(e);"
            " const shown = e.id === 'file' ? e.parentElement : e;"
            " return [at, getComputedStyle(shown).outlineStyle]; })()"
        )
        if place is not None:
            assert outline != "none", page.run("document.activeElement.outerHTML")
            reached.add(place)
    assert len(reached) == expected


def test_a_button_is_pressed_by_keys(page: Browser) -> None:
    before = latent(page)
    page.run("document.querySelector('#random').focus()")
    page.press("Enter")
    assert np.abs(latent(page) - before).max() > 0.01
    page.run("document.querySelector('.slider input').focus()")
    before = latent(page)
    page.press("ArrowRight")
    assert np.count_nonzero(latent(page) != before) == 1
