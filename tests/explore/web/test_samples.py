"""Samples of the prior: the same for a seed as those of `vae sample`."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import vae
from tests.explore.browser import Browser
from tests.explore.visitor import assert_drawn, click, copied, enter, follow, latent, picture, text, value
from tests.explore.web.conftest import RUN
from tests.tiny_model import DIGITS, FLOW_SHIFT, two_gaussians, write_flow, write_pair, write_prior
from vaecli import Model, load

SEED = 1234567890123456789


def test_a_seed_draws_what_vae_sample_draws(page: Browser, model: Model) -> None:
    enter(page, "#seed", str(SEED))
    samples = model.sample(24, seed=SEED)
    for index in (0, 1, 23):
        assert_drawn(page, f"#samples button:nth-child({index + 1}) canvas", samples[index])
    click(page, "#samples button:nth-child(2)")
    assert_drawn(page, "#picture", samples[1])


def test_a_class_of_the_prior(page: Browser, model: Model) -> None:
    enter(page, "#seed", str(SEED))
    enter(page, "#sample-label", "1")
    assert_drawn(page, "#samples button:nth-child(5) canvas", model.sample(5, seed=SEED, label="right")[4])
    enter(page, "#sample-label", "")
    assert_drawn(page, "#samples button:nth-child(5) canvas", model.sample(5, seed=SEED)[4])


def test_a_class_of_a_conditional_model(colour_page: Browser, colour_model: Model) -> None:
    enter(colour_page, "#seed", "5")
    for label, name in enumerate(colour_model.classes):
        enter(colour_page, "#sample-label", str(label))
        samples = colour_model.sample(24, seed=5, label=name)
        assert_drawn(colour_page, "#samples button:nth-child(7) canvas", samples[6])
    click(colour_page, "#samples button:nth-child(7)")
    assert value(colour_page, "#label") == "2"
    assert_drawn(colour_page, "#picture", samples[6])


@pytest.mark.parametrize("classes", [(), ("left", "right")])
def test_a_flow_draws_what_vae_sample_draws(browser: Browser, classes: tuple[str, ...], tmp_path: Path) -> None:
    """Of any class, of one class, colder; and the place that Random goes to is of the flow, not of N(0, I).

    With classes it has a mixture, too, which the plane is drawn with.
    """
    run = write_pair(tmp_path / "run", DIGITS, 3)
    write_flow(run, 3, image_shape=DIGITS, classes=classes)
    if classes:
        write_prior(run, two_gaussians(3, (1, 1)), image_shape=DIGITS, classes=classes)
    flow_model = load(run, "cpu")
    (tmp_path / "page.html").write_bytes(flow_model.page(run=RUN))
    browser.open(f"{(tmp_path / 'page.html').as_uri()}#seed={SEED}")
    samples = flow_model.sample(24, seed=SEED)
    for index in (0, 1, 23):
        assert_drawn(browser, f"#samples button:nth-child({index + 1}) canvas", samples[index])
    click(browser, "#samples button:nth-child(2)")
    assert_drawn(browser, "#picture", samples[1])
    command = copied(browser, "#copy-samples")
    assert command == f"vae sample --run {RUN} --seed {SEED} --n 24 --columns 6 -o samples.png"
    follow(browser, "seed=7&temperature=0.5&sampled=1")
    colder = flow_model.sample(5, seed=7, temperature=0.5, label="right" if classes else None)
    assert_drawn(browser, "#samples button:nth-child(5) canvas", colder[4])
    far = []
    for _ in range(8):
        click(browser, "#random")
        far.append(latent(browser))
    assert np.mean(far) > FLOW_SHIFT - 1.5
    assert browser.run("explore.network.priorOf(0).components") == 1
    assert browser.run("explore.network.priorOf(null).components") == (2 if classes else 1)
    assert browser.problems == []


def test_temperature(page: Browser, model: Model) -> None:
    enter(page, "#temperature", "0.4")
    assert text(page, "#temperature-text") == "0.40"
    samples = model.sample(24, seed=1, temperature=0.4)
    assert_drawn(page, "#samples button:nth-child(9) canvas", samples[8])


def test_another_seed(page: Browser, model: Model) -> None:
    click(page, "#new-seed")
    seed = int(value(page, "#seed"))
    assert seed != 1
    assert_drawn(page, "#samples button:nth-child(24) canvas", model.sample(24, seed=seed)[23])


def test_what_is_no_seed_is_said(page: Browser) -> None:
    for wrong in ("-1", "many", str(2**64), "1.5"):
        enter(page, "#seed", wrong)
        assert value(page, "#seed") == "1"
        assert "whole number" in text(page, "#toast")


def test_the_command_draws_the_same(colour_page: Browser, colour_model: Model, tmp_path: Path) -> None:
    """The name of this class has blanks and quotes, for the shell."""
    enter(colour_page, "#seed", "3")
    enter(colour_page, "#temperature", "0.5")
    enter(colour_page, "#sample-label", "1")
    command = copied(colour_page, "#copy-samples")
    assert command.startswith("vae sample --run runs/mine --seed 3 --n 24 --columns 6 --temperature 0.5 --label ")
    words = shlex.split(command)[1:]
    words[words.index("runs/mine")] = str(colour_model.folder)
    words[words.index("samples.png")] = str(tmp_path / "samples.npy")
    del words[words.index("--columns") : words.index("--columns") + 2]  # of a picture alone
    assert vae(*words).code == 0
    drawn = np.load(tmp_path / "samples.npy")
    for index in (0, 23):
        shown = picture(colour_page, f"#samples button:nth-child({index + 1}) canvas")
        assert np.abs(shown - drawn[index].astype(float)).max() <= 1
