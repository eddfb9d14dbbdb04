"""`vae doctor` through its command line: what works here, what does not, and what to do about it."""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vaecli
from tests.command_line import vae
from tests.terminal import vae_on_terminal
from tests.tiny_model import write_decoder
from vaecli.inference import header, runtime

TRIAL = Path(vaecli.__file__).parent / "data" / "trial" / "decoder.onnx"

Hide = Callable[..., None]


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Hide:
    """Make packages look as if they were not installed."""

    def hide(*packages: str) -> None:
        known = importlib.metadata.version

        def version(name: str) -> str:
            if name in packages:
                raise importlib.metadata.PackageNotFoundError(name)
            return known(name)

        monkeypatch.setattr(importlib.metadata, "version", version)

    return hide


def install(folder: Path, package: str, version: str) -> None:
    """What an installer leaves behind, but for the package."""
    information = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")


def test_a_machine_on_which_everything_works() -> None:
    record = vae("doctor", "--json").json
    checks = record["checks"]
    assert (record["can_use"], record["can_train"]) == (True, True)
    for name in ("python", "vaecli", "models_on_cpu", "torch", "training_on_cpu", "processors", "data_folder"):
        assert checks[name]["state"] == "ok", checks[name]
    assert vaecli.__version__ in checks["vaecli"]["found"]
    assert importlib.metadata.version("torch") in checks["torch"]["found"]
    assert checks["training_on_cpu"]["found"] in ("works, in bfloat16", "works, in float32")


def test_people_read_a_line_for_each(hide: Hide) -> None:
    hide("torch", "matplotlib")
    result = vae("doctor")
    assert result.code == 0
    assert result.stdout == b""
    lines = result.err.splitlines()
    assert any(line.startswith("models on CPU: ok: CPUExecutionProvider works") for line in lines)
    assert "torch: missing: torch not installed; train and export need it; pip install 'vaecli[train]'" in lines
    assert "matplotlib: missing: not installed; vae plot needs it; pip install 'vaecli[plot]'" in lines
    assert lines[-1] == "models can be used here"


def test_both_wheels(hide: Hide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide("torch")
    install(tmp_path, "onnxruntime", "1.23.0")
    install(tmp_path, "onnxruntime-gpu", "1.22.1")
    monkeypatch.syspath_prepend(str(tmp_path))
    result = vae("doctor", "--json")
    assert result.code == 0
    check = result.json["checks"]["onnxruntime"]
    assert check["state"] == "warning"
    assert "onnxruntime 1.23.0 and onnxruntime-gpu 1.22.1" in check["found"]
    assert check["remedy"].startswith("pip uninstall onnxruntime onnxruntime-gpu")


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


def test_a_broken_runtime(hide: Hide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What half an uninstallation leaves: a package that is empty."""
    hide("torch")
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    result = vae("doctor", "--json")
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    assert result.code == 1
    assert result.json["checks"]["models_on_cpu"]["state"] == "warning"


def test_a_torch_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.99: cannot open')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    result = vae("doctor", "--json")
    assert result.code == 0
    assert result.json["can_train"] is False
    check = result.json["checks"]["torch"]
    assert check["state"] == "warning"
    assert "libcudart.so.99: cannot open" in check["found"]
    assert "pip install" in check["remedy"]


class Driver:
    """An NVIDIA driver as ctypes sees it."""

    def __init__(self, code: int, names: tuple[str, ...] = ()) -> None:
        self.code, self.names = code, names

    def cuInit(self, flags: int) -> int:  # noqa: N802 - its name in the driver
        return self.code

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 13010
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.names)
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: int) -> int:  # noqa: N802
        name.value = self.names[device].encode()
        return 0


@pytest.mark.parametrize(
    ("driver", "state", "words"),
    [
        (Driver(0, ("NVIDIA A", "NVIDIA B")), "ok", "for CUDA 13.1: NVIDIA A, NVIDIA B"),
        (Driver(100), "none", "no GPU"),
        (Driver(803), "warning", "error 803"),
    ],
)
def test_the_driver(hide: Hide, monkeypatch: pytest.MonkeyPatch, driver: Driver, state: str, words: str) -> None:
    hide("torch")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    checks = vae("doctor", "--json").json["checks"]
    assert checks["nvidia_driver"]["state"] == state
    assert words in checks["nvidia_driver"]["found"]
    if "CUDAExecutionProvider" not in runtime.providers():  # a GPU that is not made use of is worth a warning
        assert checks["models_on_cuda"]["state"] == ("warning" if state == "ok" else "none")
        assert "vaecli[gpu]" in json.dumps(checks["models_on_cuda"])


def test_no_driver(hide: Hide, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    hide("torch")
    monkeypatch.setattr(ctypes, "CDLL", missing)
    check = vae("doctor", "--json").json["checks"]["nvidia_driver"]
    assert check["state"] == "none"
    assert "remedy" not in check


def test_a_data_folder_that_is_not_there(hide: Hide, tmp_path: Path) -> None:
    hide("torch")
    result = vae("doctor", "--data-dir", tmp_path / "none", "--json")
    assert result.code == 0
    check = result.json["checks"]["data_folder"]
    assert check["state"] == "warning"
    assert "no such folder" in check["found"]


def test_a_terminal_shows_it_side_by_side() -> None:
    seen = vae_on_terminal("doctor", columns=60)
    assert seen.code == 0
    assert seen.stdout == ""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.screen)
    assert max(map(len, re.split(r"[\r\n]", text))) <= 60  # a carriage return: the spinner turns
    assert "models can be used here, and trained and exported" in text


def test_the_trial_model_is_the_one_it_is_said_to_be(tmp_path: Path) -> None:
    write_decoder(tmp_path / "decoder.onnx", (1, 2, 2), latent_dim=1, hidden=2)
    latents = np.linspace(-2, 2, 5, dtype=np.float32)[:, np.newaxis]
    again, packaged = (
        runtime.open_graph(header.read(path), "cpu").run(("image",), latents)[0]
        for path in (tmp_path / "decoder.onnx", TRIAL)
    )
    assert np.allclose(again, packaged, atol=1e-6)
