"""What is found on a machine: packages, devices, folders, each in the state that it is in, with its remedy."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import vaecli
from tests.conftest import Hide
from tests.tiny_model import write_decoder
from vaecli import machine
from vaecli.datasets.cache import Cache
from vaecli.extras import TRAINING
from vaecli.inference import graph_file, runtime, session
from vaecli.machine import Check, Machine, doctor

TRIAL = Path(vaecli.__file__).parent / "data" / "trial" / "decoder.onnx"


def install(folder: Path, package: str, version: str) -> None:
    """What an installer leaves behind, without the package."""
    information = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """No nvidia-smi can be found, until a test puts a script in its place."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return lambda script: program(tmp_path / "bin" / "nvidia-smi", script)


@pytest.fixture
def torch_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Run a script in the place of Python with torch."""

    def torch_says(script: str) -> None:
        for package in TRAINING:
            install(tmp_path, package, "9.9")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setattr(sys, "executable", str(program(tmp_path / "bin" / "python", script)))

    return torch_says


def test_without_the_packages_of_the_training_side(hide: Hide) -> None:
    hide("torch", "onnx")
    found = doctor(None)
    assert (found.can_use, found.can_train) == (True, False)
    remedy = "pip install 'vaecli[train]'"
    assert found.checks["torch"] == Check(
        "missing",
        "not installed: torch, onnx; train and export need all of torch, torchvision, onnx, onnxscript",
        remedy,
    )
    assert "training_on_cpu" not in found.checks


@pytest.mark.parametrize(
    ("package", "extra", "what"),
    [
        ("matplotlib", "plot", "vae plot needs"),
        ("pyarrow", "parquet", "reading or writing Parquet or addresses needs"),
        ("ray", "ray", "`ray` needs"),
        ("tensorboard", "tensorboard", "`log` tensorboard needs"),
    ],
)
def test_without_an_optional_package(package: str, extra: str, what: str, hide: Hide) -> None:
    hide("torch", package)
    found = doctor(None).checks[package]
    assert found == Check("missing", f"not installed; {what} it", f"pip install 'vaecli[{extra}]'")


def test_scipy_is_not_needed_to_train(hide: Hide, torch_says: Callable[[str], None]) -> None:
    hide("scipy")
    torch_says("""echo '{"cpu": "float32", "no_cuda": "built without CUDA"}'""")
    found = doctor(None)
    assert found.can_train
    remedy = "pip install 'vaecli[train]'"
    assert found.checks["scipy"] == Check("missing", "not installed; the data set svhn or omniglot needs it", remedy)


def test_both_packages_of_the_runtime(hide: Hide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide("torch")
    install(tmp_path, "onnxruntime", "1.23.0")
    install(tmp_path, "onnxruntime-gpu", "1.22.1")
    monkeypatch.syspath_prepend(str(tmp_path))
    check = doctor(None).checks["onnxruntime"]
    assert check.state == "warning"
    assert "onnxruntime 1.23.0 and onnxruntime-gpu 1.22.1" in check.found
    assert str(check.remedy).startswith("pip uninstall onnxruntime onnxruntime-gpu")


def test_without_a_runtime_nothing_can_be_used(hide: Hide, monkeypatch: pytest.MonkeyPatch) -> None:
    hide("torch", "onnxruntime", "onnxruntime-gpu")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = doctor(None)
    assert found.can_use is False
    assert found.checks["onnxruntime"].state == "missing"
    assert "vaecli[gpu]" in str(found.checks["onnxruntime"].remedy)
    assert found.checks["models_on_cpu"].state == "warning"
    assert "vaecli[cpu]" in str(found.checks["models_on_cpu"].remedy)


def test_a_broken_runtime(hide: Hide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What half an uninstallation leaves: a package that is empty."""
    hide("torch")
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").touch()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # to be restored
    del sys.modules["onnxruntime"]
    monkeypatch.syspath_prepend(str(tmp_path))
    found = doctor(None)
    assert found.can_use is False
    assert found.checks["models_on_cpu"].state == "warning"


def test_telemetry_is_off_unless_the_user_says_otherwise(hide: Hide, monkeypatch: pytest.MonkeyPatch) -> None:
    hide("torch")
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    assert doctor(None).checks["telemetry"] == Check("ok", "off (ORT_DISABLE_TELEMETRY=1)")
    # onnxruntime has been imported by now, and does not read this any more.
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    assert doctor(None).checks["telemetry"] == Check("ok", "as set (ORT_DISABLE_TELEMETRY=0)")


QUERY = "--query-gpu=name,driver_version --format=csv,noheader"


@pytest.mark.parametrize(
    ("script", "state", "words"),
    [
        ("echo 'NVIDIA A, 550.54.15'; echo 'NVIDIA B, 550.54.15'", "ok", "550.54.15: NVIDIA A, NVIDIA B"),
        ("echo 'No devices were found'", "none", "no GPU"),
        ("echo 'No devices were found'; exit 6", "none", "no GPU"),
        ("echo 'NVIDIA-SMI has failed.'; exit 9", "warning", "nvidia-smi: NVIDIA-SMI has failed."),
        ("echo 'cannot load libnvidia-ml.so' >&2; exit 12", "warning", "nvidia-smi: cannot load libnvidia-ml.so"),
    ],
)
def test_the_driver(hide: Hide, driver: Callable[[str], Path], script: str, state: str, words: str) -> None:
    hide("torch")
    driver(f'[ "$*" = "{QUERY}" ] || exit 2\n{script}')
    checks = doctor(None).checks
    assert checks["nvidia_driver"].state == state
    assert words in checks["nvidia_driver"].found
    assert (checks["nvidia_driver"].remedy is not None) == (state == "warning")
    if session.CUDA not in session.providers():  # a GPU that cannot be used is worth a warning
        cuda = checks["models_on_cuda"]
        assert cuda.state == ("warning" if state == "ok" else "none")
        assert cuda.found.startswith("the onnxruntime installed here has no CUDA")


def test_no_driver(hide: Hide) -> None:
    hide("torch")
    check = doctor(None).checks["nvidia_driver"]
    assert check == Check("none", "nvidia-smi is not here; only an NVIDIA GPU needs it")


def test_a_driver_that_cannot_be_started(hide: Hide, driver: Callable[[str], Path]) -> None:
    hide("torch")
    driver("").write_bytes(b"\x00 no program")
    check = doctor(None).checks["nvidia_driver"]
    assert check.state == "warning"
    assert check.found.startswith("nvidia-smi: ")


def found_by(torch: str) -> tuple[Machine, Check | None]:
    """What is found where torch says this, and the check of training on CUDA."""
    found = doctor(None)
    assert f"torch {torch}" in found.checks["torch"].found
    return found, found.checks.get("training_on_cuda")


def test_a_torch_that_finds_a_gpu(torch_says: Callable[[str], None]) -> None:
    torch_says("""echo noise; echo '{"cpu": "float32", "cuda": "cuda (NVIDIA A), bfloat16"}'""")
    found, cuda = found_by("9.9")
    assert found.can_train
    assert found.checks["training_on_cpu"] == Check("ok", "works, in float32")
    assert cuda == Check("ok", "works, on cuda (NVIDIA A), bfloat16")


def test_a_torch_that_finds_no_gpu(torch_says: Callable[[str], None], driver: Callable[[str], Path]) -> None:
    torch_says("""echo '{"cpu": "float32", "no_cuda": "built without CUDA"}'""")
    found, cuda = found_by("9.9")
    assert found.can_train
    assert cuda == Check("none", "built without CUDA")
    driver("echo 'NVIDIA A, 550.54.15'")  # there is one
    found, cuda = found_by("9.9")
    assert found.can_train
    assert cuda is not None
    assert (cuda.state, cuda.found) == ("warning", "built without CUDA")
    assert "https://pytorch.org" in str(cuda.remedy)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo Traceback >&2; echo 'ImportError: libcudart.so.99' >&2; exit 1", "ImportError: libcudart.so.99"),
        ("kill -9 $$", "ends with -9"),
        ("exec /bin/sleep 20", "takes more than 1 s"),
        ("exit 0", "ends with 0"),
    ],
)
def test_a_torch_that_cannot_be_imported(
    torch_says: Callable[[str], None], script: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "IMPORT_SECONDS", 1)
    torch_says(script)
    found, cuda = found_by("9.9")
    assert (found.can_use, found.can_train) == (True, False)
    assert found.checks["torch"].state == "warning"
    assert words in found.checks["torch"].found
    assert "pip install --force-reinstall" in str(found.checks["torch"].remedy)
    assert cuda is None


def test_the_torch_asked_is_the_one_that_would_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One on Python's path is, one in the current folder is not."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "torch.py").write_text("raise ImportError('the one on the path')\n")
    (tmp_path / "torch.py").write_text("raise ImportError('the one in the current folder')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    assert "the one on the path" in doctor(None).checks["torch"].found


def test_the_data_folder(hide: Hide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide("torch")
    check = doctor(str(tmp_path / "new" / "folder")).checks["data_folder"]
    assert check == Check("ok", f"{tmp_path / 'new' / 'folder'}, 0.0 MB of prepared pictures")
    (tmp_path / "file").touch()
    check = doctor(str(tmp_path / "file" / "folder")).checks["data_folder"]
    assert (check.state, check.found) == ("warning", f"{tmp_path / 'file' / 'folder'}: cannot be written")
    assert check.remedy
    check = doctor(str(tmp_path / "file")).checks["data_folder"]
    assert (check.state, check.found) == ("warning", f"`dir` {tmp_path / 'file'}: is a file, not a folder")
    Cache(tmp_path).make("a" * 32, "pictures", [np.zeros((10, 100, 100, 1), np.uint8)])
    check = doctor(str(tmp_path)).checks["data_folder"]
    assert check == Check("ok", f"{tmp_path}, 0.1 MB of prepared pictures")
    monkeypatch.setattr(os, "access", lambda place, mode: place != tmp_path)
    check = doctor(str(tmp_path)).checks["data_folder"]
    assert (check.state, check.found) == ("warning", f"{tmp_path}: cannot be written")


def test_the_trial_model_is_the_one_it_is_said_to_be(tmp_path: Path) -> None:
    write_decoder(tmp_path / "decoder.onnx", (1, 2, 2), latent_dim=1, hidden=2)
    latents = np.linspace(-2, 2, 5, dtype=np.float32)[:, np.newaxis]
    again, packaged = (
        runtime.open_graph(graph_file.read(path), "cpu").run(("image",), latents)[0]
        for path in (tmp_path / "decoder.onnx", TRIAL)
    )
    assert np.allclose(again, packaged, atol=1e-6)
