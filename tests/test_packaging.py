"""The wheel that is published: it holds what the program needs beside its code, and runs from where it is unpacked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.command_line import PROJECT
from vaecli import recipes


@pytest.mark.slow
def test_the_wheel_runs_with_its_recipes_and_digits(tmp_path: Path) -> None:
    """Needs the package index, as installing does: the build's own packages come from there."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    shutil.copytree(PROJECT / "vaecli", source / "vaecli", ignore=shutil.ignore_patterns("__pycache__"))
    build: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        tmp_path,
        source,
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("vaecli-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")

    def vae(*args: str | Path) -> str:
        command: list[str | Path] = [sys.executable, "-m", "vaecli", *args]
        env = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
        return subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, text=True).stdout

    listed = vae("data")
    assert all(name in listed for name in recipes.names())
    assert "latent_dim = 20" in vae("train", "--config", "tutorial", "--print-config")
    vae("sample", "--run", PROJECT / "tests/assets/tiny", "-o", "grid.png")
    assert (tmp_path / "grid.png").is_file()
