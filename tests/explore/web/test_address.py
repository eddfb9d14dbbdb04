"""A view as text: the address, and commands to copy."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import vae_process
from tests.explore.browser import Browser
from tests.explore.visitor import assert_drawn, click, copied, enter, follow, latent, picture, value
from vaecli import Model


def test_a_view_is_shared_by_its_address(page: Browser, model: Model) -> None:
    """Copied here, opened in a new tab: the same place, samples and axes."""
    click(page, "#random")
    enter(page, "#seed", "77")
    enter(page, "#temperature", "0.7")
    enter(page, "#sample-label", "1")
    enter(page, "#across", "2")
    enter(page, "#up", "0")
    there, sample = latent(page), picture(page, "#samples canvas")
    address = copied(page, "#copy-link")
    enter(page, "#across", "")
    enter(page, "#sample-label", "")
    page.open(address)
    page.settle()
    np.testing.assert_allclose(latent(page), there, rtol=1e-5, atol=1e-5)
    assert_drawn(page, "#picture", model.decode(latent(page)[None])[0])
    assert [value(page, f"#{name}") for name in ("seed", "temperature", "sample-label", "across", "up")] == [
        "77", "0.7", "1", "2", "0",
    ]  # fmt: skip
    np.testing.assert_array_equal(picture(page, "#samples canvas"), sample)


def test_the_address_follows_the_visitor(page: Browser) -> None:
    click(page, "#random")
    page.wait_for("decodeURIComponent(location.hash).includes(explore.numberText(explore.state.latent[0]))", 5)


def test_the_class_of_a_conditional_model(colour_page: Browser, colour_model: Model) -> None:
    enter(colour_page, "#label", "2")
    enter(colour_page, "#sample-label", "0")
    address = copied(colour_page, "#copy-link")
    colour_page.open(address)
    colour_page.settle()
    assert [value(colour_page, "#label"), value(colour_page, "#sample-label")] == ["2", "0"]
    assert_drawn(colour_page, "#picture", colour_model.given(2).decode(latent(colour_page)[None])[0])


@pytest.mark.parametrize("view", ["z=1,NaN,3", "z=1,2", "z=1e99,0,0&seed=-1&class=99&sampled=9&dims=0,0", "<script>"])
def test_an_address_that_makes_no_sense(page: Browser, view: str) -> None:
    before = latent(page)
    follow(page, view)
    np.testing.assert_array_equal(latent(page), before)
    assert value(page, "#seed") == "1"


def test_a_new_address_is_followed_though_the_page_has_written_its_own_since(page: Browser) -> None:
    """It writes it a moment after each move, which may be between the new address and the news of it."""
    follow(page, "z=1,2,3", at_once="history.replaceState(null, '', '#z=4,5,6');")
    np.testing.assert_array_equal(latent(page), [1, 2, 3])


def test_a_page_opened_with_such_an_address(page: Browser, file: Path) -> None:
    page.open(f"{file.as_uri()}#z=1,NaN,3&seed=many&dims=7,8")
    assert np.isfinite(latent(page)).all()
    assert value(page, "#seed") == "1"


def test_a_command_draws_the_same(colour_page: Browser, colour_model: Model, tmp_path: Path) -> None:
    """By a shell, for which the name of the class has blanks and quotes."""
    enter(colour_page, "#label", "1")
    echo, _, command = copied(colour_page, "#copy-command").partition(" | ")
    assert command.startswith("vae decode - --run runs/mine --label ")
    words = shlex.split(command)[1:]
    words[words.index("runs/mine")] = str(colour_model.folder)
    words[words.index("picture.png")] = str(tmp_path / "picture.npy")
    (latents,) = shlex.split(echo)[1:]
    assert vae_process(*words, stdin=latents.encode()).code == 0
    drawn = np.load(tmp_path / "picture.npy")[0]
    assert np.abs(picture(colour_page, "#picture") - drawn.astype(float)).max() <= 1
