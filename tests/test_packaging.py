"""What is published: the sdist holds the project, and the wheel made from it runs alone, without PyTorch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.command_line import PROJECT
from tests.pictures.packing import untar
from vaecli import recipes

NOT_FOUND = "No matching distribution found", "Could not find a version", "connection", "Temporary failure"


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """The stdout of a command that must succeed, without this environment's packages."""
    words = [str(word) for word in command]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=cwd, env={**clean, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def environment(folder: Path) -> Path:
    """The Python of a new, empty environment: even pip is not in it."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    return folder / "bin/python"


def install(python: Path, *packages: str) -> None:
    """Install packages from the index, or skip the test where it cannot be reached."""
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "--retries", "1"]
    command = [*pip, "install", "--quiet", "--no-compile", *packages]
    done = subprocess.run(command, cwd=python.parent, capture_output=True, text=True, check=False)
    if done.returncode and any(words in done.stderr for words in NOT_FOUND):
        pytest.skip(f"the package index cannot be reached: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_sdist_and_the_wheel(tmp_path: Path) -> None:
    """Built as for the package index; installed with the extra `cpu` alone into an empty environment."""
    builder = environment(tmp_path / "builder")
    install(builder, *tomllib.loads((PROJECT / "pyproject.toml").read_text())["build-system"]["requires"])
    run(builder, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path, cwd=PROJECT)
    (sdist,) = tmp_path.glob("vaecli-*.tar.gz")
    untar(sdist, tmp_path)
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    for name in ("README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "docs", "examples", "tests", "pyproject.toml"):
        there, here = files_below(unpacked / name), files_below(PROJECT / name)
        assert there == here, f"{name}: the sdist lacks {here - there} or adds {there - here}"

    run(builder, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=unpacked)
    (wheel,) = tmp_path.glob("vaecli-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        page = archive.read(metadata).decode()
    assert re.findall(r"\]\((?!https?:|#)[^)]*\)", (PROJECT / "README.md").read_text())
    assert re.findall(r"\]\((?!https?:|#)[^)]*\)", page) == [], "on a package index they lead nowhere"
    assert set(re.findall(r"^#+ .+$", (PROJECT / "README.md").read_text(), re.MULTILINE)) <= set(page.splitlines())
    assert names == {f"vaecli/{name}" for name in files_below(PROJECT / "vaecli")}

    user = environment(tmp_path / "user")
    install(user, f"{wheel}[cpu]")
    shutil.copytree(PROJECT / "tests/assets/tiny", tmp_path / "copied")
    vae = user.with_name("vae")
    listed = run(vae, "data", cwd=tmp_path)
    assert all(name in listed for name in recipes.names())
    assert "latent_dim = 20" in run(vae, "train", "--config", "tutorial", "--print-config", cwd=tmp_path)
    run(vae, "sample", "--run", "copied", "-o", "grid.png", cwd=tmp_path)
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
    run(vae, "explore", "--run", "copied", "-o", "page.html", cwd=tmp_path)
    assert (tmp_path / "page.html").read_bytes().startswith(b"<!doctype html>")
    run(user, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is not None)", cwd=tmp_path)


def files_below(path: Path) -> set[str]:
    """The files below a folder, or the file, without what Python leaves beside its modules."""
    found = [path] if path.is_file() else path.rglob("*")
    return {str(file.relative_to(path)) for file in found if file.is_file() and "__pycache__" not in file.parts}
