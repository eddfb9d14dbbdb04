"""One browser, and one page of each model, for all tests of the page. Skipped where no Chromium is found."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import vae
from tests.explore.browser import Browser, find
from tests.tiny_model import DIGITS, two_gaussians, write_pair, write_prior
from vaecli import Model, load

LATENT = 3
RUN = " --run runs/mine"
VISITS = itertools.count(1)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = find()
    if program is None:
        pytest.skip("no Chromium on the PATH, and VAE_BROWSER names none")
    with Browser(program) as running:
        running.look(1280, 900)
        yield running


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
    yield from visited(browser, file, "#z=0.5,-0.25,1&seed=1&temperature=1")


@pytest.fixture(scope="session")
def colour_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Convolutions, trained for a moment on colour pictures of three classes, which it is given."""
    folder = tmp_path_factory.mktemp("conditional")
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 3
    pictures = generator.integers(0, 64, (60, 16, 16, 3)) + 60 * labels[:, np.newaxis, np.newaxis, np.newaxis]
    np.savez(folder / "data.npz", x=pictures.astype(np.uint8), y=np.array(["a 'b'", "<i>", "c"])[labels])
    small = ("--architecture", "conv", "--width", "16", "--depth", "1", "--latent-map", "2", "--latent-dim", "4")
    learned = ("--likelihood", "bernoulli", "--epochs", "40", "--learning-rate", "0.01", "--batch-size", "20")
    settings = ("--conditional", *learned, "--device", "cpu", "--seed", "1", *small)
    assert vae("train", "--data", folder / "data.npz", "--run", folder / "run", *settings).code == 0
    assert vae("export", "--run", folder / "run").code == 0
    return load(folder / "run", "cpu")


@pytest.fixture(scope="session")
def colour_file(colour_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "colour.html"
    data = colour_model.folder.parent / "data.npz"
    path.write_bytes(colour_model.page(str(data), run=RUN))
    return path


@pytest.fixture
def colour_page(browser: Browser, colour_model: Model, colour_file: Path) -> Iterator[Browser]:
    place = ",".join(["0.5", "-0.25"] * (colour_model.latent_dim // 2))
    yield from visited(browser, colour_file, f"#z={place}&class=1&seed=1&temperature=1&sampled=1")


def visited(browser: Browser, path: Path, hash: str) -> Iterator[Browser]:  # noqa: A002 - the field's word
    """A page that is opened from its file where it is not open yet; it must leave no error and ask for nothing."""
    if browser.address != path.as_uri():
        browser.open(path.as_uri())
    browser.run(f"location.hash = '{hash}&visit={next(VISITS)}'")  # another one each time, so that the page reads it
    browser.settle()
    yield browser
    browser.settle()
    problems, requests = browser.problems.copy(), browser.requests.copy()
    browser.problems.clear()
    browser.requests.clear()
    assert problems == []
    assert {address.partition("#")[0] for address in requests if not address.startswith(("data:", "blob:"))} <= {
        path.as_uri()
    }
