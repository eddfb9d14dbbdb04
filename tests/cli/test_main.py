"""The command line as a whole: its help pages, its errors, and what it leaves alone until it is needed."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import vaecli
from tests.command_line import PROJECT, assert_refused, vae, vae_process
from vaecli import errors
from vaecli.cli import main as cli


def test_without_a_command_it_shows_the_help_page() -> None:
    assert vae().out == vae("--help").out
    assert vae("--help").code == 0


def test_help_may_stand_before_the_command() -> None:
    assert vae("--help", "train").out == vae("-h", "train").out == vae("train", "--help").out


def test_the_version() -> None:
    assert vae("--version").out == f"vae {vaecli.__version__}\n"


@pytest.mark.parametrize("name", sorted(cli.NAMES))
def test_a_help_page_begins_with_the_summary_and_goes_on_with_the_docstring(name: str) -> None:
    summary = next(commands[name] for commands in cli.COMMANDS.values() if name in commands)
    function = getattr(importlib.import_module(f"vaecli.commands.{name}"), name)
    page = " ".join(vae(name, "--help").out.split())
    more = " ".join((inspect.getdoc(function) or "").split())
    assert more
    assert page.index(summary) < page.index(more)
    assert summary.split()[0] in vae("--help").out


@pytest.mark.parametrize("name", sorted(cli.NAMES))
def test_a_help_page_imports_nothing_heavy(name: str) -> None:
    code = (
        "import sys; from vaecli.cli import main as cli; code = cli.run(sys.argv[1:]);"
        "heavy = {'torch', 'torchvision', 'numpy', 'onnx', 'onnxruntime', 'PIL', 'matplotlib', 'pydantic'};"
        "heavy &= set(sys.modules);"
        "print(sorted(heavy), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, name, "--help"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == "[]"
    assert f"vae {name}" in done.stdout


@pytest.mark.parametrize("args", [("train",), ("sample", "-o", "a.png", "--json")])
def test_a_current_folder_that_was_removed(
    args: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    result = vae(*args)
    assert (result.code, result.err) == (1, "error: the current folder was removed\nhint: cd to another one\n")
    if "--json" in args:
        assert result.json["exit_code"] == 1


def test_the_page_of_all_imports_no_command() -> None:
    code = "import sys; from vaecli.cli import main as cli; cli.run(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert "vaecli.commands.sample" not in done.stderr.split()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("smaple",), ("smaple: no such command", "vae sample", "vae --help")),
        (("--nonsense",), ("--nonsense", "vae --help")),
        (("sample",), ("--output", "name a file")),
        (("export", "--weights", "worst"), ("--weights", "vae export --help")),
        (("sample", "-o", "a.png", "--n", "0"), ("--n", "vae sample --help")),
        (("--version", "foo"), ("foo: not an argument of vae --version", "alone")),
        (("--help", "--version"), ("--help: not an argument of vae --version",)),
        (("--install-completion", "zsh"), ("zsh: not an argument of vae --install-completion", "in the shell")),
        (("--show-completion", "zsh"), ("zsh: not an argument of vae --show-completion", "in the shell")),
        (("--help", "smaple"), ("smaple: no such command", "vae sample")),
    ],
)
def test_a_command_line_that_cannot_be_parsed_is_two_lines_and_exit_2(
    args: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_refused(vae(*args), 2, *words)


def test_a_fault_of_ours_shows_no_traceback_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(wanted: object) -> None:
        raise ZeroDivisionError("one by none")

    monkeypatch.setattr(cli, "build", fail)
    assert_refused(vae("sample"), 1, "unexpected ZeroDivisionError: one by none", "VAE_TRACEBACK=1")
    monkeypatch.setenv("VAE_TRACEBACK", "1")
    shown = vae("sample").err
    assert "Traceback" in shown
    assert "ZeroDivisionError: one by none\n" in shown


def test_an_interruption_anywhere_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(wanted: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "build", interrupt)
    assert_refused(vae("sample"), errors.Interrupted.exit_code, "interrupted")


def test_python_dash_m_is_the_command() -> None:
    assert vae_process("--version").out == f"vae {vaecli.__version__}\n"


def test_completion_knows_the_flags_of_a_command() -> None:
    done = vae_process(env={"_VAE_COMPLETE": "complete_bash", "COMP_WORDS": "vae sample --temp", "COMP_CWORD": "2"})
    assert "--temperature" in done.out
