"""Between two places, and beyond three."""

from __future__ import annotations

import numpy as np
import pytest

from tests.explore.browser import Browser
from tests.explore.visitor import assert_drawn, click, enter, go, latent
from vaecli import Model

PLACES = np.array([[-4.2, -3.9, -4.0], [4.1, 3.5, 4.4], [0.5, 2.0, -1.0]], np.float32)


def keep(page: Browser) -> None:
    for name, place in zip("abc", PLACES, strict=True):
        go(page, place)
        click(page, f"#keep-{name}")


def test_arithmetic(page: Browser, model: Model) -> None:
    keep(page)
    first, second, third = PLACES
    for name, place in zip("abc", PLACES, strict=True):
        assert_drawn(page, f"#slot-{name} canvas", model.decode(place[None])[0])
    assert_drawn(page, "#sum canvas", model.decode((first - second + third)[None])[0])
    click(page, "#sum")
    np.testing.assert_allclose(latent(page), first - second + third, atol=1e-4)
    click(page, "#slot-b")
    np.testing.assert_allclose(latent(page), second, atol=1e-5)


@pytest.mark.parametrize("method", ["string", "slerp", "lerp"])
def test_interpolation(page: Browser, model: Model, method: str) -> None:
    """The pictures of `vae interpolate`, and the way through them. `string` is through the model's own prior."""
    keep(page)
    enter(page, "#method", method)
    expected = model.interpolate(PLACES[0], PLACES[1], steps=9, method=method)  # type: ignore[arg-type] # a name of it
    for step in range(9):
        assert_drawn(page, f"#strip canvas:nth-child({step + 1})", expected[step])
    enter(page, "#between", "16")
    assert_drawn(page, "#picture", expected[2])
    enter(page, "#between", "64")
    np.testing.assert_allclose(latent(page), PLACES[1], atol=1e-5)


def test_the_way_through_the_prior_is_another_one(model: Model) -> None:
    """So that the comparison above tells the methods apart."""
    string, lerp = (model.interpolate(PLACES[0], PLACES[1], steps=9, method=name) for name in ("string", "lerp"))
    assert np.abs(string[4] - lerp[4]).max() > 0.02


def test_playing(page: Browser) -> None:
    keep(page)
    enter(page, "#between", "0")
    page.run("document.querySelector('#play').click()")
    page.wait_for("Number(document.querySelector('#between').value) > 3", 10)
    assert np.abs(latent(page) - PLACES[0]).max() > 1e-3
    page.run("document.querySelector('#play').click()")
    page.wait_for("document.querySelector('#play').textContent === 'Play'", 5)


def test_everything_is_of_the_class_of_a(colour_page: Browser, colour_model: Model) -> None:
    places = np.random.default_rng(0).normal(size=(3, colour_model.latent_dim)).astype(np.float32)
    for name, label, place in zip("abc", (2, 0, 1), places, strict=True):
        go(colour_page, place)
        enter(colour_page, "#label", str(label))
        click(colour_page, f"#keep-{name}")
    given = colour_model.given(2)
    assert_drawn(colour_page, "#sum canvas", given.decode((places[0] - places[1] + places[2])[None])[0])
    enter(colour_page, "#method", "string")
    expected = given.interpolate(places[0], places[1], steps=9, method="string")
    for step in (0, 3, 8):
        assert_drawn(colour_page, f"#strip canvas:nth-child({step + 1})", expected[step])
    assert_drawn(colour_page, "#slot-b canvas", colour_model.given(0).decode(places[1][None])[0])
