"""The place where the visitor is: its picture, what is near it, its numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.explore.browser import Browser
from tests.explore.visitor import assert_drawn, click, enter, go, latent, text, value
from vaecli import Model
from vaecli.evaluation.dimensions import order_dimensions


def test_a_slider_moves_one_dimension(page: Browser, model: Model) -> None:
    before = latent(page)
    first = page.run("explore.contents.order[0]")
    enter(page, ".slider input", page.run("document.querySelector('.slider input').max"))
    assert list(np.flatnonzero(latent(page) != before)) == [first]
    assert_drawn(page, "#picture", model.decode(latent(page)[None])[0])
    assert text(page, ".slider output") == f"{latent(page)[first]:.2f}"


def test_sliders_tell_how_much_they_carry(page: Browser, model: Model) -> None:
    """Those that carry most come first, with their KL in nats."""
    order = order_dimensions(model.pair)
    assert page.run("[...document.querySelectorAll('.slider .number')].map((e) => Number(e.textContent))") == (
        order.dimensions
    )
    names = page.run("[...document.querySelectorAll('.slider input')].map((e) => e.getAttribute('aria-label'))")
    for dimension, name in zip(order.dimensions, names, strict=True):
        said, _, kl = name.partition(", ")
        assert said == f"Dimension {dimension}"
        assert float(kl) == pytest.approx(order.values[dimension], rel=0.01)
    assert "KL in nats on 500 held-out pictures of mnist-5k" in text(page, "#sliders-hint")


def test_random_and_reset(page: Browser, model: Model) -> None:
    before = latent(page)
    click(page, "#random")
    assert np.abs(latent(page) - before).max() > 0.1
    assert_drawn(page, "#picture", model.decode(latent(page)[None])[0])
    click(page, "#reset")
    np.testing.assert_allclose(latent(page), page.run("explore.contents.mean"), atol=1e-5)


def test_the_nearest_encoded_pictures(page: Browser, model: Model) -> None:
    pictures = model.read("mnist-5k").images
    latents = model.encode(pictures)[0]
    go(page, latents[123] + np.float32(1e-3))
    nearest = np.argsort(np.linalg.norm(latents - latent(page), axis=1))[:5]
    captions = page.run("[...document.querySelectorAll('#neighbours figcaption')].map((e) => e.textContent)")
    assert captions == [str(index // 50) for index in nearest], "the built-in data hold out 50 of each digit"
    assert captions[0] in page.run("document.querySelector('#picture').getAttribute('aria-label')")
    click(page, "#neighbours figure:nth-child(2) button")
    np.testing.assert_allclose(latent(page), latents[nearest[1]], atol=1e-4)


def test_saving_a_picture(page: Browser, model: Model, tmp_path: Path) -> None:
    """As a PNG, enlarged by whole pixels."""
    page.downloads_to(tmp_path)
    click(page, "#save")
    saved = tmp_path / "picture.png"
    for _ in range(1500):  # half a minute: other tests keep the browser waiting
        if saved.exists():
            break
        page.run("new Promise((done) => setTimeout(done, 20))")
    with Image.open(saved) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape == (252, 252)
    np.testing.assert_array_equal(pixels, np.kron(pixels[::9, ::9], np.ones((9, 9), np.uint8)))
    assert np.abs(pixels[::9, ::9] - 255 * model.decode(latent(page)[None])[0]).max() <= 0.6


def test_a_class_of_a_conditional_model(colour_page: Browser, colour_model: Model) -> None:
    """Another class draws the same latent in another way; an encoded picture brings its own class."""
    offered = colour_page.run("[...document.querySelector('#label').options].map((o) => o.text)")
    assert offered == list(colour_model.classes) == ["<i>", "a 'b'", "c"]
    there = latent(colour_page)
    for label in (2, 0):
        enter(colour_page, "#label", str(label))
        np.testing.assert_array_equal(latent(colour_page), there)
        assert_drawn(colour_page, "#picture", colour_model.given(label).decode(there[None])[0])
    figure = "#neighbours figure:nth-child(3)"
    named = text(colour_page, f"{figure} figcaption")
    click(colour_page, f"{figure} button")
    assert value(colour_page, "#label") == str(offered.index(named))
    drawn = colour_model.given(named).decode(latent(colour_page)[None])[0]
    assert_drawn(colour_page, "#picture", drawn)


def test_a_model_without_classes_offers_none(page: Browser) -> None:
    assert page.run("document.querySelector('#label-row').hidden") is True
