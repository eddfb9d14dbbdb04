"""`vae doctor` through its command line: the report for people, the JSON, the exit code. See also test_machine.py."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path

import pytest

import vaecli
from tests.command_line import vae
from tests.conftest import Hide
from tests.terminal import vae_on_terminal
from vaecli.extras import TRAINING


def test_a_machine_on_which_everything_works() -> None:
    record = vae("doctor", "--json").json
    checks = record["checks"]
    assert (record["can_use"], record["can_train"]) == (True, True)
    for name in (
        "python",
        "vaecli",
        "onnxruntime",
        "telemetry",
        "models_on_cpu",
        "torch",
        "training_on_cpu",
        "processors",
        "data_folder",
    ):
        assert checks[name]["state"] == "ok", checks[name]
        assert "remedy" not in checks[name]
    assert vaecli.__version__ in checks["vaecli"]["found"]
    assert checks["models_on_cpu"]["found"].startswith("CPUExecutionProvider works")
    for package in TRAINING:
        assert f"{package} {importlib.metadata.version(package)}" in checks["torch"]["found"]
    assert checks["training_on_cpu"]["found"] in ("works, in bfloat16", "works, in float32")
    assert checks["training_on_cuda"]["state"] in ("ok", "none")


def test_people_read_a_line_for_each(hide: Hide) -> None:
    hide("torch", "matplotlib")
    result = vae("doctor")
    assert result.code == 0
    assert result.err == "examining this machine\n"
    lines = result.out.splitlines()
    facts = dict(re.split("  +", line, maxsplit=1) for line in lines[:-1])
    assert facts["models on CPU"].startswith("ok: CPUExecutionProvider works")
    assert facts["torch"].startswith("missing: not installed: torch; train and export need")
    assert facts["matplotlib"] == "missing: not installed; vae plot needs it; pip install 'vaecli[plot]'"
    assert lines[-1] == "models can be used here"


def test_a_problem_with_a_flag_names_the_flag(hide: Hide, tmp_path: Path) -> None:
    hide("torch")
    (tmp_path / "file").touch()
    assert f"warning: --data-dir {tmp_path}/file" in vae("doctor", "--data-dir", tmp_path / "file").out


def test_without_a_runtime_nothing_can_be_used(hide: Hide, monkeypatch: pytest.MonkeyPatch) -> None:
    hide("torch", "onnxruntime", "onnxruntime-gpu")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = vae("doctor", "--json")
    assert result.code == 1
    record = result.json  # one object, the report and the error
    assert (record["can_use"], record["exit_code"]) == (False, 1)
    assert record["checks"]["onnxruntime"]["state"] == "missing"
    error, hint = result.err.splitlines()[-2:]
    assert error == f"error: {record['error']}"
    assert hint == f"hint: {record['hint']}"
    assert "vaecli[cpu]" in hint
    assert "vaecli[gpu]" in hint


def test_a_terminal_shows_it_side_by_side() -> None:
    seen = vae_on_terminal("doctor", columns=60, piped=False)
    assert seen.code == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.screen)
    assert max(map(len, re.split(r"[\r\n]", text))) <= 60  # a carriage return: the spinner turns
    assert "models can be used here, and trained and exported" in text
