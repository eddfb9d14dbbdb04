"""A picture of the visitor's: drawn, dropped, pasted or opened."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.explore.browser import SHIFT, Browser
from tests.explore.visitor import assert_drawn, click, latent, picture
from tests.tiny_model import COLOUR
from vaecli import Model


def png(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def assert_encoded(page: Browser, model: Model, pixels: NDArray[np.uint8]) -> None:
    """The network has seen these pixels (h, w, c); the visitor is at their latent, beside their reconstruction."""
    mean = model.encode(pixels[None])[0]
    page.wait_for(f"Math.abs(explore.state.latent[0] - {mean[0, 0]}) < 1e-4", 10)
    np.testing.assert_allclose(latent(page), mean[0], atol=1e-4)
    assert_drawn(page, "#seen", np.squeeze(pixels) / 255)
    drawn = model.decode(mean)[0]
    assert_drawn(page, "#rebuilt", drawn)
    assert_drawn(page, "#picture", drawn)


def seen(page: Browser) -> NDArray[np.uint8]:
    return picture(page, "#seen")[..., :1]


@pytest.mark.parametrize("by", ["drag", "touch"])
def test_drawing(page: Browser, model: Model, by: str) -> None:
    click(page, "#clear")
    getattr(page, by)("#sheet", *[(0.3, 0.2 + 0.1 * step) for step in range(7)])
    drawn = seen(page)
    assert np.count_nonzero(drawn[..., 0].max(axis=1) > 200) > 14, "a line of more than half the sheet"
    assert_encoded(page, model, drawn)
    columns = drawn[..., 0].sum(axis=0) @ np.arange(28) / drawn.sum()
    assert columns == pytest.approx(13.5, abs=0.6), "a drawing is centred"


def test_drawing_with_keys(page: Browser, model: Model) -> None:
    click(page, "#clear")
    assert seen(page).max() == 0
    page.run("document.querySelector('#sheet').focus()")
    page.press("ArrowLeft", "ArrowLeft")
    assert seen(page).max() == 0, "without Shift the pen only moves"
    page.press(*["ArrowRight"] * 8, modifiers=SHIFT)
    drawn = seen(page)
    rows, columns = (np.flatnonzero(drawn[..., 0].sum(axis=axis)) for axis in (1, 0))
    assert len(columns) > 2 * len(rows) > 0, "a line to the right"
    assert_encoded(page, model, drawn)


@pytest.mark.parametrize("way", ["dropped", "pasted", "opened"])
def test_a_picture_file(page: Browser, model: Model, way: str, tmp_path: Path) -> None:
    """One of the model's size is encoded as `vae encode` encodes it."""
    pixels = model.read("mnist-5k").images[{"dropped": 210, "pasted": 70, "opened": 400}[way]]
    content = png(pixels[..., 0])
    if way == "opened":
        (tmp_path / "digit.png").write_bytes(content)
        page.choose_file("label.button", tmp_path / "digit.png")
    else:
        give(page, content, "image/png", way)
    assert_encoded(page, model, pixels)


def as_bytes(content: bytes) -> str:
    """An expression of JavaScript."""
    return f"Uint8Array.from(atob('{base64.b64encode(content).decode()}'), (character) => character.charCodeAt(0))"


def give(page: Browser, content: bytes, kind: str, way: str) -> None:
    """A file among what is dropped on the page, or pasted."""
    event = {
        "dropped": "new DragEvent('drop', { dataTransfer: held,",
        "pasted": "new ClipboardEvent('paste', { clipboardData: held,",
    }
    page.run(
        f"(() => {{ const bytes = {as_bytes(content)}; const held = new DataTransfer();"
        " held.items.add('a word', 'text/plain');"
        f" held.items.add(new File([bytes], 'a', {{ type: '{kind}' }}));"
        f" document.body.dispatchEvent({event[way]} bubbles: true, cancelable: true }})); }})()"
    )


def test_pasting_from_the_clipboard(page: Browser, model: Model) -> None:
    """With the keys, and what the browser's own clipboard holds."""
    page.send("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    pixels = model.read("mnist-5k").images[333]
    page.send("Page.bringToFront")
    page.run(
        f"navigator.clipboard.write([new ClipboardItem({{ 'image/png': new Blob([{as_bytes(png(pixels[..., 0]))}],"
        " { type: 'image/png' }) })])"
    )
    page.press("v", modifiers=2, command="paste")
    assert_encoded(page, model, pixels)


def test_a_picture_of_another_size_is_cropped_to_its_middle(page: Browser, model: Model) -> None:
    digit = model.read("mnist-5k").images[210]
    large = np.kron(digit[..., 0], np.ones((4, 4), np.uint8))
    give(page, png(np.pad(large, ((0, 0), (100, 100)), constant_values=255)), "image/png", "dropped")
    page.wait_for("document.querySelector('#seen').getContext('2d').getImageData(14, 14, 1, 1).data[3] === 255", 5)
    page.settle()
    assert np.abs(seen(page).astype(float) - digit).mean() < 3
    assert_encoded(page, model, seen(page))


def test_inverted(page: Browser, model: Model) -> None:
    digit = model.read("mnist-5k").images[120]
    give(page, png(255 - digit[..., 0]), "image/png", "dropped")
    assert_encoded(page, model, 255 - digit)
    click(page, "#invert")
    assert_encoded(page, model, digit)
    click(page, "#invert")


def test_what_is_no_picture_is_said(page: Browser) -> None:
    before = latent(page)
    give(page, b"<svg onload=alert(1)>", "image/png", "dropped")
    page.wait_for("document.querySelector('#toast').textContent.includes('cannot read')", 5)
    np.testing.assert_array_equal(latent(page), before)


def test_text_is_dropped_where_it_belongs(page: Browser) -> None:
    """The page takes files alone: a seed may be dropped on its field."""
    taken = (
        "(() => { const held = new DataTransfer(); held.setData('text/plain', '12');"
        " return !document.querySelector('#seed').dispatchEvent(new DragEvent('drop', { dataTransfer: held,"
        " bubbles: true, cancelable: true })); })()"
    )
    assert page.run(taken) is False


def test_a_colour_picture_of_a_conditional_model(colour_page: Browser, colour_model: Model) -> None:
    """It is encoded for the class that is chosen."""
    pixels = np.random.default_rng(1).integers(0, 256, (*COLOUR[1:], 3), np.uint8)
    give(colour_page, png(pixels), "image/png", "dropped")
    assert_encoded(colour_page, colour_model.given(1), pixels)
    assert colour_page.run("document.querySelector('#ink-row').hidden") is False
