"""Help pages: examples first, the settings that people turn, the finer ones when asked for; readable at any width."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys

import pytest

from tests.command_line import PROJECT, vae
from tests.terminal import vae_on_terminal
from vaecli import config
from vaecli.cli import main as cli
from vaecli.flags import flag_of


def page(*args: str, columns: int = 80) -> str:
    environment = {**os.environ, "COLUMNS": str(columns), "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "vaecli", *args]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", sorted(cli.NAMES))
def test_examples_come_first_and_are_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = importlib.import_module(f"vaecli.commands.{name}").EXAMPLES
    assert len(examples) >= 2
    shown = vae(name, "--help").out
    parsed: list[object] = []
    monkeypatch.setattr("typer.core.TyperCommand.invoke", lambda self, ctx: parsed.append(ctx))
    for example in examples:
        assert shown.index(example) < shown.index("Usage")
        words = example.partition(" >")[0].split()[1:]
        assert words[0] == name
        assert vae(*words).code == 0, example
    assert len(parsed) == len(examples)


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_a_page_fits_the_terminal(columns: int) -> None:
    for args in (("--help",), ("train", "--help-all"), *((name, "--help") for name in sorted(cli.NAMES))):
        shown = page(*args, columns=columns)
        assert max(map(len, shown.splitlines())) <= columns, args
    choices = "bernoulli|continuous-bernoulli|gaussian|logistic|logistic-mixture"
    assert choices in re.sub(r"\|\s+", "|", page("train", "--help", columns=columns))


def test_types_and_bounds_are_in_words() -> None:
    for name in cli.NAMES:
        shown = vae(name, "--help").out
        assert not re.search(r"<(bool|int|str|float|path)|18446744073709551615|<=x|\[default: \(", shown)


def test_train_shows_what_people_turn_and_all_when_asked() -> None:
    short, whole = vae("train", "--help").out, vae("train", "--help-all").out
    assert len(short.splitlines()) < 80
    for section, key in config.setting_keys():
        assert re.search(rf"^  .*{flag_of(key)}\b", whole, re.MULTILINE), f"{section}.{key}"
    for flag in ("--data", "--epochs", "--latent-dim", "--learning-rate", "--likelihood", "--device", "--seed"):
        assert re.search(rf"^  (-. , )?{flag} ", short, re.MULTILINE), flag
    assert not re.search(r"^  --free-bits", short, re.MULTILINE)
    assert "vae train --help-all explains" in short
    assert "--free-bits" in short.partition("--help-all explains")[2]
    assert "--help-all explains" not in whole


def test_headings_are_bold_on_a_terminal_alone() -> None:
    assert "\x1b" not in vae("sample", "--help").out
    assert "\x1b[1mFlags\x1b[0m" in vae_on_terminal("sample", "--help", piped=False).screen
    assert "\x1b" not in vae_on_terminal("sample", "--help", piped=False, env={"NO_COLOR": "1"}).screen


def test_help_is_shown_whatever_else_is_on_the_line() -> None:
    shown = vae("sample", "--help").out
    assert vae("sample", "--n", "zero", "-h").out == shown
    assert vae("decode", "--", "--help").code == 2, "after -- it is the name of a file"
