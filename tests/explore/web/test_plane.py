"""The plane: dragging, touch, keys, points, axes."""

from __future__ import annotations

import numpy as np

from tests.explore.browser import SHIFT, Browser
from tests.explore.visitor import assert_drawn, click, enter, go, latent, on_the_plane, picture, text, value
from vaecli import Model


def axes(page: Browser) -> np.ndarray:
    return np.array(page.run("explore.contents.axes"))


def test_dragging_decodes_what_is_there(page: Browser, model: Model) -> None:
    page.drag("#plane", (0.5, 0.5), (0.6, 0.4), (0.8, 0.2))
    first = latent(page)
    assert_drawn(page, "#picture", model.decode(first[None])[0])
    page.drag("#plane", (0.5, 0.5), (0.3, 0.6), (0.1, 0.9))
    moved = axes(page) @ (latent(page) - first)
    assert moved[0] < -0.1, "to the left"
    assert moved[1] < -0.1, "down"


def test_a_finger_drags_as_the_mouse_does(page: Browser, model: Model) -> None:
    """And does not scroll the page meanwhile."""
    page.look(360, 740)
    try:
        way = [(0.5, 0.1 + 0.1 * step) for step in range(9)]
        page.drag("#plane", *way)
        expected = latent(page)
        page.drag("#plane", (0.2, 0.2), (0.3, 0.3))
        before = page.run("scrollY")
        page.touch("#plane", *way)
        np.testing.assert_allclose(latent(page), expected, atol=0.05)
        assert page.run("scrollY") == before
        assert_drawn(page, "#picture", model.decode(latent(page)[None])[0])
    finally:
        page.look(1280, 900)


def test_a_second_finger_changes_nothing(page: Browser) -> None:
    left, top, width, height = page.box("#plane")
    one, other = (
        {"x": left + x * width, "y": top + y * height, "id": n} for n, (x, y) in enumerate([(0.2, 0.3), (0.9, 0.9)])
    )
    page.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[one])
    one["x"] += 30
    page.send("Input.dispatchTouchEvent", type="touchMove", touchPoints=[one])
    there = latent(page)
    page.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[one, other])
    other["x"] -= 60
    page.send("Input.dispatchTouchEvent", type="touchMove", touchPoints=[one, other])
    np.testing.assert_array_equal(latent(page), there)
    page.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])


def test_keys(page: Browser, model: Model) -> None:
    page.run("document.querySelector('#plane').focus()")
    for key, axis, sign in (("ArrowRight", 0, 1), ("ArrowLeft", 0, -1), ("ArrowUp", 1, 1), ("ArrowDown", 1, -1)):
        before = latent(page)
        page.press(key)
        step = sign * (axes(page) @ (latent(page) - before))[axis]
        before = latent(page)
        page.press(key, modifiers=SHIFT)
        assert 0 < step < sign * (axes(page) @ (latent(page) - before))[axis], key
    page.press("Enter")
    latents = model.encode(model.read("mnist-5k").images)[0]
    assert np.abs(latents - latent(page)).max(axis=1).min() < 1e-5, "at an encoded picture"


def test_a_point_shows_its_picture_and_can_be_chosen(page: Browser, model: Model) -> None:
    images = model.read("mnist-5k").images
    latents = model.encode(images)[0]
    across, down = on_the_plane(page, latents[123])
    _, _, side, _ = page.box("#plane")
    page.hover("#plane", across * side, down * side)
    assert page.run("document.querySelector('#tip').hidden") is False
    named = text(page, "#tip-text")
    shown = picture(page, "#tip-picture")[..., :1]
    page.drag("#plane", (across, down))
    away = np.abs(latents - latent(page)).max(axis=1)
    assert away.min() < 1e-5, "at an encoded picture: this one, or one on top of it"
    assert named == str(away.argmin() // 50), "the built-in data hold out 50 of each digit"
    assert np.abs(shown - images[away.argmin()].astype(float)).mean() < 8
    page.hover("#plane", 1, 1)
    assert page.run("document.querySelector('#tip').hidden") is True


def test_dragging_keeps_the_other_coordinates_on_demand(page: Browser) -> None:
    go(page, np.array([3.0, -2.0, 1.0]))
    before = latent(page)
    click(page, "#keep")
    page.drag("#plane", (0.4, 0.4), (0.6, 0.3))
    click(page, "#keep")
    moved = latent(page) - before
    np.testing.assert_allclose(axes(page).T @ (axes(page) @ moved), moved, atol=1e-4)
    page.drag("#plane", (0.4, 0.4), (0.6, 0.3))
    moved = latent(page) - before
    assert np.abs(axes(page).T @ (axes(page) @ moved) - moved).max() > 0.1, "they go where the prior has them"


def test_a_pair_of_dimensions_as_axes(page: Browser) -> None:
    enter(page, "#across", "2")
    enter(page, "#up", "0")
    assert "Dimension 2 grows to the right, dimension 0 upwards" in text(page, "#plane-hint")
    click(page, "#keep")
    page.drag("#plane", (0.4, 0.4), (0.5, 0.5))
    before = latent(page)
    page.drag("#plane", (0.5, 0.5), (0.7, 0.5))
    click(page, "#keep")
    right = latent(page) - before
    assert right[2] > 0.1
    np.testing.assert_allclose(right[:2], 0, atol=1e-4)
    enter(page, "#up", "2")
    assert [value(page, "#across"), value(page, "#up")] == ["0", "2"], "no dimension is on both: they change places"
    enter(page, "#across", "")
    assert "two directions in which the points differ most" in text(page, "#plane-hint")


def test_one_class_alone(page: Browser) -> None:
    pressed = "[...document.querySelectorAll('#legend [aria-pressed=true]')].map((e) => e.textContent)"
    click(page, "#legend button:nth-child(4)")
    assert page.run(pressed) == ["3"]
    click(page, "#legend button:nth-child(6)")
    assert page.run(pressed) == ["5"]
    click(page, "#legend button:nth-child(6)")
    assert page.run(pressed) == []


def test_pictures_behind_the_points(page: Browser) -> None:
    """With them fewer pixels of the plane are without colour."""
    transparent = (
        "(() => { const c = document.querySelector('#plane'); const copy = new OffscreenCanvas(c.width, c.height);"
        " const drawing = copy.getContext('2d', { willReadFrequently: true }); drawing.drawImage(c, 0, 0);"
        " const d = drawing.getImageData(0, 0, c.width, c.height).data;"
        " let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] === 0; return n; })()"
    )
    page.settle()
    assert page.run(transparent) == 0
    click(page, "#backdrop")
    page.wait_for(f"{transparent} > 10000", 5)
    click(page, "#backdrop")
    page.wait_for(f"{transparent} === 0", 10)
