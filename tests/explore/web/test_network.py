"""The model in the page computes what it computes in ONNX Runtime's Python package."""

from __future__ import annotations

import threading

import numpy as np

from tests.explore.browser import Browser
from tests.explore.visitor import assert_drawn, latent, text
from vaecli import Model
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


def test_convolutions_of_a_conditional_model(colour_page: Browser, colour_model: Model) -> None:
    latents = np.random.default_rng(0).normal(size=(5, colour_model.latent_dim)).astype(np.float32)
    drawn = []
    for label in (0, 2):
        images = colour_model.given(label).decode(latents)
        found = colour_page.run(f"explore.network.decode({latents.tolist()}, {label}).then((values) => [...values])")
        np.testing.assert_allclose(np.moveaxis(np.reshape(found, (5, 3, 16, 16)), 1, -1), images, atol=CLOSE)
        given = f"Float32Array.from({np.moveaxis(images[1], -1, 0).ravel().tolist()})"
        encoded = colour_page.run(f"explore.network.encode({given}, {label}).then((values) => [...values])")
        np.testing.assert_allclose(encoded, colour_model.given(label).encode(images[1:2])[0][0], atol=CLOSE)
        drawn.append(images)
    assert np.abs(drawn[0] - drawn[1]).max() > 0.1, "the class changes the picture"


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
