"""The page in a real browser: what it computes, and what its visitor can do. Skipped where no Chromium is found."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.explore.browser import Browser, find
from tests.tiny_model import DIGITS, two_gaussians, write_pair, write_prior
from vaecli import Model, load
from vaecli.explore.server import PageServer

PROGRAM = find()
pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium on the PATH, and VAE_BROWSER names none"),
    pytest.mark.slow,
]
LATENT = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Digits' size, three dimensions, a prior of two Gaussians for two classes."""
    folder = write_pair(tmp_path_factory.mktemp("models") / "run", DIGITS, LATENT)
    prior = write_prior(folder, two_gaussians(LATENT, (1, 1)), image_shape=DIGITS, classes=("left", "right"))
    return load(prior.parent, "cpu")


@pytest.fixture(scope="module")
def file(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_bytes(model.page(run=" --run runs/mine"))
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM) as running:
        running.look(1280, 900)
        yield running


@pytest.fixture
def page(browser: Browser, file: Path) -> Iterator[Browser]:
    """The page, opened from its file; it must leave no error and ask for nothing."""
    browser.open(file.as_uri())
    yield browser
    browser.run("new Promise((done) => setTimeout(done, 50))")
    assert browser.problems == []
    assert [address for address in browser.requests if not address.startswith(("data:", "blob:"))] == [
        address for address in browser.requests if address.startswith(file.as_uri())
    ]


def latent(page: Browser) -> np.ndarray:
    return np.array(page.run("[...explore.state.latent]"), np.float32)


def picture(page: Browser, selector: str) -> np.ndarray:
    """The red values of a canvas, (h, w) uint8, once nothing is computed any more."""
    page.run("new Promise((done) => setTimeout(done, 120))")
    address = page.run(f"document.querySelector({selector!r}).toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"))[..., 0]


def assert_drawn(page: Browser, selector: str, expected: np.ndarray) -> None:
    """A canvas has this picture, (h, w) floats in [0, 1]."""
    assert np.abs(picture(page, selector) - 255 * expected).max() <= 0.6


def click(page: Browser, selector: str) -> None:
    page.run(f"document.querySelector({selector!r}).click()")


def test_it_decodes_and_encodes_as_onnx_runtime_does(page: Browser, model: Model) -> None:
    latents = model.encode(model.read("mnist-5k").images[:7])[0]
    decoded = page.run(f"explore.network.decode({latents.tolist()}, null).then((values) => [...values])")
    np.testing.assert_allclose(np.reshape(decoded, (7, 28, 28)), model.decode(latents), atol=1e-4)
    images = model.decode(latents)
    given = f"Float32Array.from({images[3].ravel().tolist()})"
    encoded = page.run(f"explore.network.encode({given}, null).then((values) => [...values])")
    np.testing.assert_allclose(encoded, model.encode(images[3:4])[0][0], atol=1e-4)


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
            server.shutdown()
            thread.join()


def test_a_seed_draws_what_vae_sample_draws(page: Browser, model: Model) -> None:
    page.run("(() => { const f = document.querySelector('#seed'); f.value = '1234567890123456789';"
             " f.dispatchEvent(new Event('change')); })()")  # fmt: skip
    samples = model.sample(24, seed=1234567890123456789)
    for index in (0, 1, 23):
        assert_drawn(page, f"#samples button:nth-child({index + 1}) canvas", samples[index])
    page.run("(() => { const f = document.querySelector('#sample-label'); f.value = '1';"
             " f.dispatchEvent(new Event('change')); })()")  # fmt: skip
    of_class = model.sample(24, seed=1234567890123456789, label="right")
    assert_drawn(page, "#samples button:nth-child(5) canvas", of_class[4])
    click(page, "#samples button:nth-child(5)")
    assert_drawn(page, "#picture", of_class[4])


def test_dragging_through_the_plane(page: Browser, model: Model) -> None:
    page.drag("#plane", (0.5, 0.5), (0.6, 0.4), (0.8, 0.2))
    first = latent(page)
    assert_drawn(page, "#picture", model.decode(first[None])[0])
    page.drag("#plane", (0.5, 0.5), (0.3, 0.6), (0.1, 0.9))
    assert np.abs(latent(page) - first).max() > 0.1
    page.run("document.querySelector('#plane').focus()")
    before = latent(page)
    page.press("ArrowRight")
    right = page.run("explore.contents.axes[0]")
    assert (latent(page) - before) @ np.array(right) > 0.01


def test_a_point_shows_its_picture_and_can_be_chosen(page: Browser, model: Model) -> None:
    page.run("document.querySelector('#plane').focus()")
    page.press("Enter")
    latents = model.encode(model.read("mnist-5k").images)[0]
    assert np.abs(latents - latent(page)).max(axis=1).min() < 1e-5
    side = page.run("document.querySelector('#plane').clientWidth")
    page.run("document.querySelector('#plane').scrollIntoView({ block: 'center' })")
    for share in np.linspace(0.05, 0.95, 40):
        page.hover("#plane", share * side, 0.5 * side)
        if not page.run("document.querySelector('#tip').hidden"):
            break
    assert page.run("document.querySelector('#tip').hidden") is False
    assert page.run("document.querySelector('#tip-text').textContent") in [str(digit) for digit in range(10)]


def test_a_slider_moves_one_dimension(page: Browser, model: Model) -> None:
    before = latent(page)
    page.run("(() => { const r = document.querySelector('.slider input'); r.value = r.max;"
             " r.dispatchEvent(new Event('input')); })()")  # fmt: skip
    dimension = page.run("explore.contents.order[0]")
    assert list(np.flatnonzero(latent(page) != before)) == [dimension]
    assert_drawn(page, "#picture", model.decode(latent(page)[None])[0])
    click(page, "#reset")
    np.testing.assert_allclose(latent(page), page.run("explore.contents.mean"), atol=1e-5)


def test_a_dropped_png_is_encoded(page: Browser, model: Model) -> None:
    digit = model.read("mnist-5k").images[42]
    stream = io.BytesIO()
    Image.fromarray(digit[..., 0]).save(stream, "png")
    address = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
    page.run(
        f"(() => {{ const bytes = Uint8Array.from(atob({address.partition(',')[2]!r}), (c) => c.charCodeAt(0));"
        "const data = new DataTransfer(); data.items.add(new File([bytes], 'a.png', { type: 'image/png' }));"
        "document.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })); })()"
    )
    mean = model.encode(digit[None])[0]
    page.wait_for(f"Math.abs(explore.state.latent[0] - {mean[0, 0]}) < 1e-4", 5)
    np.testing.assert_allclose(latent(page), mean[0], atol=1e-4)
    assert_drawn(page, "#rebuilt", model.decode(mean)[0])
    assert_drawn(page, "#seen", digit[..., 0] / 255)


def test_drawing_by_hand(page: Browser, model: Model) -> None:
    before = latent(page)
    page.drag("#sheet", (0.3, 0.2), (0.35, 0.5), (0.3, 0.8))
    assert np.abs(latent(page) - before).max() > 1e-3
    seen = picture(page, "#seen")
    assert seen.max() > 200
    np.testing.assert_allclose(latent(page), model.encode(seen[None])[0][0], atol=1e-3)
    columns = seen.sum(axis=0) @ np.arange(28) / seen.sum()
    assert columns == pytest.approx(13.5, abs=0.6), "a drawing is centred"


def test_between_and_beyond(page: Browser, model: Model) -> None:
    kept = []
    for name, number in (("a", 1), ("b", 9), ("c", 17)):
        click(page, f"#samples button:nth-child({number})")
        kept.append(latent(page))
        click(page, f"#keep-{name}")
    first, second, third = kept
    assert_drawn(page, "#sum canvas", model.decode((first - second + third)[None])[0])
    click(page, "#sum")
    np.testing.assert_allclose(latent(page), first - second + third, atol=1e-4)
    page.run("(() => { const m = document.querySelector('#method'); m.value = 'slerp';"
             " m.dispatchEvent(new Event('change')); })()")  # fmt: skip
    arc = model.interpolate(first, second, steps=9, method="slerp")
    for step in (0, 4, 8):
        assert_drawn(page, f"#strip canvas:nth-child({step + 1})", arc[step])
    page.run("(() => { const r = document.querySelector('#between'); r.value = '64';"
             " r.dispatchEvent(new Event('input')); })()")  # fmt: skip
    np.testing.assert_allclose(latent(page), second, atol=1e-5)


def test_a_view_is_shared_by_its_address(page: Browser, file: Path) -> None:
    click(page, "#random")
    page.run("new Promise((done) => setTimeout(done, 400))")
    shared, there = page.run("location.hash"), latent(page)
    page.open(f"{file.as_uri()}{shared.replace('seed=1', 'seed=77')}&dims=2,0")
    np.testing.assert_allclose(latent(page), there, rtol=1e-5, atol=1e-5)
    assert page.run("document.querySelector('#seed').value") == "77"
    assert page.run("[document.querySelector('#across').value, document.querySelector('#up').value]") == ["2", "0"]


@pytest.mark.parametrize("hash", ["#z=1,NaN,3", "#z=1,2", "#z=1e99,0,0&seed=-1&class=99&dims=0,0", "#<script>"])
def test_an_address_that_makes_no_sense(page: Browser, file: Path, hash: str) -> None:  # noqa: A002
    page.open(f"{file.as_uri()}{hash}")
    assert np.isfinite(latent(page)).all()
    assert page.run("document.querySelector('#seed').value") == "1"


def test_a_command_draws_the_same(page: Browser, model: Model) -> None:
    page.run("navigator.clipboard.writeText = async (text) => { globalThis.copied = text; }")
    click(page, "#copy-command")
    echo, _, command = page.wait_for("globalThis.copied", 5).partition(" | ")
    assert command == "vae decode - --run runs/mine -o picture.png"
    numbers = np.fromstring(echo.removeprefix("echo '[").removesuffix("]'"), np.float32, sep=",")
    np.testing.assert_allclose(model.decode(numbers[None])[0], model.decode(latent(page)[None])[0], atol=1e-4)
    page.run("globalThis.copied = ''")
    click(page, "#copy-samples")
    assert page.wait_for("globalThis.copied", 5) == (
        "vae sample --run runs/mine --seed 1 --n 24 --columns 6 -o samples.png"
    )


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_nothing_is_wider_than_the_window(page: Browser, width: int, dark: bool) -> None:
    page.look(width, 740, dark=dark)
    try:
        assert page.run("document.documentElement.scrollWidth") == width
        small = page.run(
            "[...document.querySelectorAll('main button, main select, main input, main canvas')]"
            ".filter((e) => e.offsetParent && e.getBoundingClientRect().right > innerWidth).map((e) => e.id)"
        )
        assert small == []
        assert page.run("document.querySelector('#plane').clientWidth") > 300
        unnamed = page.run(
            "[...document.querySelectorAll('main button, main input, main select')].filter((e) =>"
            " !(e.getAttribute('aria-label') || e.labels?.[0]?.textContent.trim() || e.textContent.trim())).length"
        )
        assert unnamed == 0, "every control has a name"
    finally:
        page.look(1280, 900)
