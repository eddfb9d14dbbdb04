"""What TAB offers: names, runs and paths; and silence when it is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import PROJECT, heed_interrupts, vae_process


def offered(words: str, folder: Path) -> list[str]:
    environment = {"_VAE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    return vae_process(env=environment, cwd=folder).out.splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("mnist-mine/", "mine.toml", "mnist.npy", "mnist.txt", "runs/a/config.json", "runs/b/", ".hidden/"):
        path = tmp_path / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return tmp_path


def test_names_of_data_sets_and_paths(folder: Path) -> None:
    assert offered("vae train --data mni", folder) == ["mnist-5k", "mnist", "mnist-mine/", "mnist.npy"]
    assert offered("vae evaluate --data kmn", folder) == ["kmnist"]


@pytest.mark.parametrize(
    ("typed", "found"),
    [("my", "filenames|my pictures/|"), ("mnist-m", "filenames|mnist-mine/|"), ("kmn", "kmnist|"), ("none", "")],
)
def test_bash_takes_paths_for_names_of_files(folder: Path, typed: str, found: str) -> None:
    """So that it quotes blanks, and goes on below a folder."""
    (folder / "my pictures").mkdir()
    script = vae_process(env={"_VAE_COMPLETE": "source_bash"}).out
    command = folder / "command"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vaecli\n')
    command.chmod(0o755)
    program = (
        f"{script}\ncompopt() {{ printf '%s|' \"$2\"; }}\n"
        f"COMP_WORDS=(vae train --data {typed}) COMP_CWORD=3\n_vae_completion {command}\n"
        "[[ ! $COMPREPLY ]] || printf '%s|' \"${COMPREPLY[@]}\"\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        ["bash", "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (found, "")


def test_recipes_and_files(folder: Path) -> None:
    assert offered("vae train --config m", folder) == [
        "mnist-5k", "mnist-binarized", "mnist-conv", "mnist-mlp", "mine.toml", "mnist-mine/",
    ]  # fmt: skip


def test_run_folders(folder: Path) -> None:
    assert offered("vae sample --run runs/", folder) == ["runs/a", "runs/b/"]
    assert ".hidden/" not in offered("vae sample --run ", folder)
    assert "".join(offered("vae sample --run no/where", folder)) == ""


def test_commands(folder: Path) -> None:
    assert offered("vae sa", folder) == ["sample"]


def test_other_shells_have_the_line_in_another_variable(folder: Path) -> None:
    environment = {"_VAE_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "vae sample --temp"}
    assert "--temperature" in vae_process(env=environment, cwd=folder).out


def test_ctrl_c_while_it_completes_prints_nothing(folder: Path) -> None:
    code = "import os, signal, sys; sys.argv = ['vae']; import vaecli.__main__ as m; import vaecli;" + (
        "import types, vaecli.cli; fake = types.ModuleType('vaecli.cli.main');"
        "fake.main = lambda: os.kill(os.getpid(), signal.SIGINT);"
        "sys.modules['vaecli.cli.main'] = vaecli.cli.main = fake; m.main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "_VAE_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=False, preexec_fn=heed_interrupts
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")
