"""Values of flags without pydantic: the same as Typer's own conversion."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tests.command_line import PROJECT
from vaecli.cli.main import NAMES, build
from vaecli.cli.values import NotPlainError, plain

TINY = PROJECT / "tests" / "assets" / "tiny"

VALUES = [
    "", "cat", "all", "cpu", "CPU", "uint8", "model", "7", "+7", "-1", "0", "007", " 7", "7 ", "1_0", "٧", "1e3", "1E3",
    "0.5", ".5", "5.", "-0.0", "inf", "nan", "1e400", "9" * 30, "true", "a\udcffb", 3, 0, 0.5, True, Path("runs"),
]  # fmt: skip


def parameters() -> list[Any]:
    group = typer.main.get_group(build(NAMES))
    commands = [group, *group.commands.values()]
    return [param for command in commands for param in command.get_params(typer.Context(command))]


@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_a_plain_value_is_what_typer_makes_of_it(
    value: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "cat").touch()
    context = typer.Context(typer.main.get_group(build(())))
    for param in parameters():
        descriptor, several = param.type_descriptor, param.multiple or param.nargs == -1
        annotation = descriptor.annotation.__args__[0] if several else descriptor.annotation
        try:
            found = plain(value, annotation, descriptor.parameter_info)
        except NotPlainError:
            continue
        conversion = type(param).get_runtime_param(param)  # that of the class is Typer's
        theirs = conversion.coerce([value] if several else value, param=param, ctx=context)
        assert ([found], type(found)) == (theirs if several else [theirs], type(theirs[0] if several else theirs))


@pytest.mark.parametrize(
    ("value", "annotation"), [("7", int), ("0.5", float), ("1e-3", float), ("cat", str), ("runs", Path)]
)
def test_common_values_are_plain(value: str, annotation: type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert plain(value, annotation, typer.Option()) == annotation(value)


def test_a_command_with_plain_values_does_not_import_pydantic(tmp_path: Path) -> None:
    code = (
        "import sys; from vaecli.cli import main; code = main.run(sys.argv[1:]);"
        "sys.exit(code or 'pydantic' in sys.modules)"
    )
    flags = [
        "--n",
        "2",
        "--temperature",
        "0.8",
        "--prior",
        "normal",
        "--run",
        str(TINY),
        "-o",
        str(tmp_path / "grid.png"),
    ]
    done = subprocess.run([sys.executable, "-c", code, "sample", *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "grid.png").is_file()
