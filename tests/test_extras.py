"""The optional packages: what is missing is named with the extra that brings it."""

from __future__ import annotations

import functools
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.machinery import ModuleSpec

import pytest

from tests.command_line import PROJECT
from vaecli import extras
from vaecli.errors import VaeError

REQUIRED = [
    *((extras.require_training, package, "cpu,train") for package in extras.TRAINING),
    (extras.require_runtime, "onnxruntime", "cpu"),
    *((functools.partial(extras.require, extra), package, extra) for extra, package in extras.PACKAGES.items()),
]


@pytest.fixture(autouse=True)
def _all_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every optional package looks installed, whatever this environment has."""
    find_spec = importlib.util.find_spec
    optional = {package for _, package, _ in REQUIRED}

    def found(name: str, package: str | None = None) -> ModuleSpec | None:
        if name in optional and name not in sys.modules:
            return ModuleSpec(name, None)
        return find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", found)


@pytest.mark.parametrize(("require", "package", "extra"), REQUIRED)
def test_a_package_that_is_missing_is_named(
    require: Callable[[str], None], package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("vae train")
    monkeypatch.setitem(sys.modules, package, None)  # blocked
    with pytest.raises(VaeError) as missing:
        require("vae train")
    assert missing.value.message == f"vae train needs {package}, which is not installed"
    assert missing.value.hint == f"pip install 'vaecli[{extra}]'"
    monkeypatch.delitem(sys.modules, package)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else ModuleSpec(name, None))
    with pytest.raises(VaeError, match=package):
        require("vae train")


def test_the_extras_bring_these_packages() -> None:
    brought = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {extra: {re.split(r"[\[<>=~! ]", line)[0] for line in lines} for extra, lines in brought.items()}
    assert set(extras.TRAINING) == names["train"] - {"scipy"}  # which only one data set needs
    assert "onnxruntime" in names["cpu"]
    assert "matplotlib" in names["plot"]


def test_looking_imports_nothing_heavy() -> None:
    script = (
        "import functools, sys; from vaecli import extras\n"
        "for require in (extras.require_training, extras.require_runtime, functools.partial(extras.require, 'plot')):\n"
        "    try: require('a test')\n"
        "    except Exception as error: pass\n"
        "print(*{'torch', 'onnx', 'onnxruntime', 'matplotlib', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert done.stdout.split() == []
