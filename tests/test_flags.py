"""Parameters as flags."""

from __future__ import annotations

import pytest

from vaecli import config
from vaecli.cli import build
from vaecli.flags import flag_of, with_flags


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("`batch_size` 0: too small", "--batch-size 0: too small"),
        ("`source` cats: no such folder", "--data cats: no such folder"),
        ("`dir`, `run`", "--data-dir, --run"),
        ("`clobber=True` replaces it", "leaving out --no-clobber replaces it"),
        ("a `File name.png` stays", "a `File name.png` stays"),
    ],
)
def test_names_of_parameters_become_flags(text: str, shown: str) -> None:
    assert with_flags(text) == shown


def test_every_setting_has_its_flag_in_train() -> None:
    import typer.main

    command = typer.main.get_group(build({"train"})).commands["train"]
    flags = {option for parameter in command.params for option in parameter.opts}
    missing = {flag_of(key) for _, key in config.places()} - flags
    assert not missing, f"vaecli/commands/train.py lacks {missing}"
