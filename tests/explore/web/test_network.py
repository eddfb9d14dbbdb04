"""The model in the page computes what it computes in ONNX Runtime's Python package."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import vae
from tests.explore.browser import Browser
from tests.explore.visitor import Floats, assert_drawn, click, latent, text
from tests.tiny_model import DIGITS, write_pair
from vaecli import Model, load
from vaecli.explore.server import PageServer

CLOSE = 1e-4


def test_dense_layers(page: Browser, model: Model) -> None:
    latents = model.encode(model.read("mnist-5k").images[:7])[0]
    images = model.decode(latents)
    decoded = page.run(f"explore.network.decode({latents.tolist()}, null).then((values) => [...values])")
    np.testing.assert_allclose(np.reshape(decoded, images.shape), images, atol=CLOSE)
    given = f"Float32Array.from({images[3].ravel().tolist()})"
    encoded = page.run(f"explore.network.encode({given}, null).then((values) => [...values])")
    np.testing.assert_allclose(encoded, model.encode(images[3:4])[0][0], atol=CLOSE)


@pytest.mark.slow
def test_convolutions_of_a_conditional_model(colour_browser: Browser, tmp_path: Path) -> None:
    """As they are trained and exported: every operator that an export uses is in the page's runtime."""
    labels = np.arange(60) % 3
    shades = np.random.default_rng(0).integers(0, 64, (60, 16, 16, 3)) + 60 * labels[:, None, None, None]
    np.savez(tmp_path / "data.npz", x=shades.astype(np.uint8), y=labels)
    small = ("--architecture", "conv", "--width", "16", "--depth", "1", "--latent-map", "2")
    learned = ("--likelihood", "bernoulli", "--epochs", "40", "--learning-rate", "0.01", "--batch-size", "20")
    settings = ("--conditional", *small, *learned, "--device", "cpu", "--seed", "1")
    assert vae("train", "--data", tmp_path / "data.npz", "--run", tmp_path / "run", *settings).code == 0
    assert vae("export", "--run", tmp_path / "run").code == 0
    model = load(tmp_path / "run", "cpu")
    (tmp_path / "page.html").write_bytes(model.page(str(tmp_path / "data.npz")))
    colour_browser.open((tmp_path / "page.html").as_uri())
    latents = np.random.default_rng(0).normal(size=(5, model.latent_dim)).astype(np.float32)
    drawn = [compare(colour_browser, model.given(label), label, latents) for label in (0, 2)]
    assert np.abs(drawn[0] - drawn[1]).max() > 0.1, "the class changes the picture"
    assert colour_browser.problems == []


def compare(page: Browser, model: Model, label: int, latents: Floats) -> Floats:
    """Decode latents and encode one of the pictures, in both. The pictures."""
    images = model.decode(latents)
    found = page.run(f"explore.network.decode({latents.tolist()}, {label}).then((values) => [...values])")
    shape = len(latents), 3, *images.shape[1:3]
    np.testing.assert_allclose(np.moveaxis(np.reshape(found, shape), 1, -1), images, atol=CLOSE)
    given = f"Float32Array.from({np.moveaxis(images[1], -1, 0).ravel().tolist()})"
    encoded = page.run(f"explore.network.encode({given}, {label}).then((values) => [...values])")
    np.testing.assert_allclose(encoded, model.encode(images[1:2])[0][0], atol=CLOSE)
    return images


@pytest.mark.parametrize("lacking", ["encoder.onnx", "dimensions"])
def test_a_model_that_lacks_something(browser: Browser, tmp_path: Path, lacking: str) -> None:
    """A decoder alone has no points and encodes no picture; one latent dimension has no pair of axes."""
    run = write_pair(tmp_path / "run", DIGITS, 1 if lacking == "dimensions" else 3)
    if lacking != "dimensions":
        (run / lacking).unlink()
    (tmp_path / "page.html").write_bytes(load(run, "cpu").page())
    browser.open((tmp_path / "page.html").as_uri())
    assert browser.run("document.querySelector('#own-card').hidden") == (lacking == "encoder.onnx")
    assert browser.run("document.querySelector('#across').disabled") == (lacking == "dimensions")
    said = text(browser, "#plane-hint")
    assert ("draws of the prior" in said, "one latent dimension" in said) == (
        lacking == "encoder.onnx",
        lacking == "dimensions",
    )
    before = latent(browser)
    browser.drag("#plane", (0.5, 0.5), (0.7, 0.6), (0.9, 0.7))
    assert np.abs(latent(browser) - before).max() > 0.1
    assert_drawn(browser, "#picture", load(run, "cpu").decode(latent(browser)[None])[0])
    for name in ("a", "b"):
        click(browser, f"#keep-{name}")
        click(browser, "#random")
    assert browser.problems == []


def test_the_licences_of_what_the_page_has(page: Browser) -> None:
    """Whoever gets the page gets them."""
    page.run("document.querySelector('#licences').open = true")
    page.wait_for("document.querySelector('#licences-text').textContent", 5)
    said = text(page, "#licences-text")
    page.run("document.querySelector('#licences').open = false")
    assert "Permission is hereby granted, free of charge" in said
    assert "Copyright (c) Microsoft Corporation" in said
    assert "google/flatbuffers" in said


def test_over_http(browser: Browser, model: Model) -> None:
    with PageServer(model.page(), 18800) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            browser.open(server.address)
            assert_drawn(browser, "#picture", model.decode(latent(browser)[None])[0])
            assert browser.problems == []
            assert [address for address in browser.requests if address.startswith("http")] == [server.address]
        finally:
            browser.send("Page.navigate", url="about:blank")
            browser.address = ""
            server.shutdown()
            thread.join()
