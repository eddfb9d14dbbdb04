"""The options that commands share: names, help and defaults come from the config."""

from __future__ import annotations

import pytest

from tests.command_line import vae
from vaecli import config
from vaecli.commands import options


def test_a_setting_has_the_help_of_the_config_and_no_default_that_a_recipe_changes() -> None:
    option = options.setting("model", "latent_dim")
    assert (option.help, option.show_default) == (config.field("model", "latent_dim").help, False)
    default = config.field("data", "source").default
    assert options.setting("data", "source").show_default == f"that of the recipe; without --config {default}"


def test_given_settings_are_told_apart_by_their_flags() -> None:
    given = options.given_settings({"data": "cats", "data_dir": "d", "latent_dim": 3, "quiet": True})
    assert {place: value for place, value in given.items() if value is not None} == {
        ("data", "source"): "cats",
        ("data", "dir"): "d",
        ("model", "latent_dim"): 3,
    }
    assert set(given) == set(config.setting_keys())


@pytest.mark.parametrize("command", ["sample", "reconstruct", "interpolate", "traverse", "manifold", "decode"])
def test_every_drawing_command_has_the_same_options(command: str) -> None:
    page = vae(command, "--help").out
    for flag in ("--output", "--show", "--scale", "--dtype", "--device", "--run", "--no-clobber", "--json", "--quiet"):
        assert flag in page
