"""Parameters as flags."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.command_line import PROJECT
from vaecli import config
from vaecli.cli.main import NAMES, build
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
    missing = {flag_of(key) for _, key in config.setting_keys()} - flags
    assert not missing, f"vaecli/commands/train.py lacks {missing}"


def strings_of_calls(tree: ast.AST) -> Iterator[str]:
    """The texts in the arguments of all calls: messages are made there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                for part in ast.walk(argument):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield part.value


def test_every_name_in_backticks_of_a_message_is_a_flag() -> None:
    import typer.main

    group = typer.main.get_group(build(NAMES))
    flags = {option for command in group.commands.values() for each in command.params for option in each.opts}
    for module in (PROJECT / "vaecli").rglob("*.py"):
        for text in strings_of_calls(ast.parse(module.read_text())):
            for name in re.findall(r"`([a-z][a-z_]*)`", text):
                assert flag_of(name) in flags, f"{module}: `{name}` is no flag, in: {text}"
