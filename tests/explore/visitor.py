"""What a visitor of the page sees and does, for tests of the page."""

from __future__ import annotations

import base64
import io
import itertools
import json
import time

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.explore.browser import Browser

Floats = NDArray[np.float32]
PATIENCE = 5.0  # seconds until the page has drawn what it computed
VISITS = itertools.count(1)


def latent(page: Browser) -> Floats:
    """Where the visitor is: (d,)."""
    return np.array(page.run("[...explore.state.latent]"), np.float32)


def picture(page: Browser, selector: str) -> NDArray[np.uint8]:
    """A canvas once nothing is computed any more: (h, w, 3) uint8."""
    page.settle()
    address = page.run(f"document.querySelector({selector!r}).toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"))


def assert_drawn(page: Browser, selector: str, expected: NDArray[np.floating]) -> None:
    """A canvas has this picture, (h, w) or (h, w, 3) floats in [0, 1], at once or on a busy machine soon."""
    colours = expected[..., np.newaxis] if expected.ndim == 2 else expected
    until = time.monotonic() + PATIENCE
    while True:
        found = picture(page, selector)
        apart = np.abs(found - 255.0 * colours).max() if found.shape[:2] == colours.shape[:2] else np.inf
        if apart <= 0.6 or time.monotonic() > until:
            break
    assert apart <= 0.6


def click(page: Browser, selector: str) -> None:
    """With the mouse, in the middle of an element."""
    page.drag(selector, (0.5, 0.5))
    page.settle()


def enter(page: Browser, selector: str, value: str) -> None:
    """Give a field, a list of choices or a slider a value, as its visitor does."""
    page.run(
        f"(() => {{ const field = document.querySelector({selector!r}); field.value = {json.dumps(value)};"
        " for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind, { bubbles: true })); })()"
    )
    page.settle()


def text(page: Browser, selector: str) -> str:
    """What an element says."""
    return str(page.run(f"document.querySelector({selector!r}).textContent"))


def value(page: Browser, selector: str) -> str:
    """What a field or a list of choices has."""
    return str(page.run(f"document.querySelector({selector!r}).value"))


def follow(page: Browser, view: str, at_once: str = "") -> None:
    """Go where an address says, such as "z=1,2,3", and run `at_once`.

    The browser tells the page of a new address when it has time, after that.
    """
    address = f"{view}&visit={next(VISITS)}"  # another one each time, so that it is always a new one
    page.run(
        "new Promise((done) => { addEventListener('hashchange', () => done(), { once: true });"
        f" location.hash = {address!r}; {at_once} }})"
    )
    page.settle()


def go(page: Browser, place: NDArray[np.floating]) -> None:
    """Go to a latent by the address."""
    follow(page, f"z={','.join(map(str, place.tolist()))}")
    np.testing.assert_allclose(latent(page), place, rtol=1e-5, atol=1e-5)


def on_the_plane(page: Browser, wanted: Floats) -> tuple[float, float]:
    """Where a latent (d,) is on the plane of principal components, as shares of its side. The visitor moves for it."""
    axes, centre = (np.array(page.run(f"explore.contents.{name}")) for name in ("axes", "centre"))
    known = []
    for share in (0.25, 0.75):
        page.drag("#plane", (0.5, 0.4), (share, share))
        known.append(axes @ (latent(page) - centre))
    across, down = 0.25 + 0.5 * (axes @ (wanted - centre) - known[0]) / (known[1] - known[0])
    return float(across), float(down)


def copied(page: Browser, selector: str) -> str:
    """The text that a button puts on the clipboard."""
    page.run("navigator.clipboard.writeText = async (text) => { globalThis.copied = text; }; globalThis.copied = ''")
    click(page, selector)
    return str(page.wait_for("globalThis.copied", 5))
