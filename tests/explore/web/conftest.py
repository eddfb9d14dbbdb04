"""One page of each of two models, in a browser of its own, for all tests. Skipped where no Chromium is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.explore.browser import Browser, find
from tests.explore.visitor import follow
from tests.tiny_model import COLOUR, DIGITS, make_conditional, two_gaussians, write_pair, write_prior
from vaecli import Model, load
from vaecli.inference.mixture import Mixture

LATENT = 3
RUN = "runs/mine"
CLASSES = ("<i>", "a 'b'", "c")


def started() -> Iterator[Browser]:
    program = find()
    if program is None:
        pytest.skip("no Chromium on the PATH, and VAE_BROWSER names none")
    with Browser(program) as running:
        running.look(1280, 900)
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    yield from started()


@pytest.fixture(scope="session")
def colour_browser() -> Iterator[Browser]:
    yield from started()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Digits' size, three dimensions, a prior of two Gaussians for two classes."""
    folder = write_pair(tmp_path_factory.mktemp("models") / "run", DIGITS, LATENT)
    prior = write_prior(folder, two_gaussians(LATENT, (1, 1)), image_shape=DIGITS, classes=("left", "right"))
    return load(prior.parent, "cpu")


@pytest.fixture(scope="session")
def file(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_bytes(model.page(run=RUN))
    return path


@pytest.fixture
def page(browser: Browser, file: Path) -> Iterator[Browser]:
    """The page of `model`, at a place that the test before did not choose; see `visited`."""
    yield from visited(browser, file, "z=0.5,-0.25,1&seed=1&temperature=1")


@pytest.fixture(scope="session")
def colour_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Of colour pictures and conditional: three classes with awkward names, and a prior of one Gaussian for each."""
    folder = write_pair(tmp_path_factory.mktemp("models") / "run", COLOUR, 4)
    means = np.array([[0, 1, 0, 1], [2, 0, 0, 0], [-1, -1, 0, 0]], np.float32)
    factors = np.stack([scale * np.eye(4, dtype=np.float32) for scale in (1, 0.5, 0.8)])
    mixture = Mixture(np.log(np.full(3, 1 / 3, np.float32)), means, factors, (1, 1, 1))
    write_prior(folder, mixture, image_shape=COLOUR, classes=CLASSES)
    make_conditional(folder, CLASSES)
    return load(folder, "cpu")


@pytest.fixture(scope="session")
def colour_file(colour_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its page, with a tenth of 120 pictures as points."""
    folder = tmp_path_factory.mktemp("page")
    labels = np.arange(120) % 3
    pictures = np.random.default_rng(0).integers(0, 256, (120, *COLOUR[1:], 3), np.uint8)
    np.savez(folder / "data.npz", x=pictures, y=np.array(CLASSES)[labels])
    (folder / "colour.html").write_bytes(colour_model.page(str(folder / "data.npz"), run=RUN))
    return folder / "colour.html"


@pytest.fixture
def colour_page(colour_browser: Browser, colour_file: Path) -> Iterator[Browser]:
    """The page of `colour_model`, in the same way."""
    yield from visited(colour_browser, colour_file, "z=0.5,-0.25,1,0&class=1&seed=1&temperature=1&sampled=1")


def visited(browser: Browser, path: Path, view: str) -> Iterator[Browser]:
    """A page that is opened from its file where it is not open yet; it must leave no error and ask for nothing."""
    if browser.address != path.as_uri():
        browser.open(path.as_uri())
    follow(browser, view)
    yield browser
    browser.settle()
    problems, requests = browser.problems.copy(), browser.requests.copy()
    browser.problems.clear()
    browser.requests.clear()
    assert problems == []
    assert {address.partition("#")[0] for address in requests if not address.startswith(("data:", "blob:"))} <= {
        path.as_uri()
    }
