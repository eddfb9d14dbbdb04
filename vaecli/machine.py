"""What this machine has, and what of it works: everything is tried. Nothing is changed or installed."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

import vaecli
from vaecli import processors
from vaecli.datasets.cache import Cache, data_folder
from vaecli.errors import VaeError, first_line
from vaecli.extras import ONE_RUNTIME_REMEDY, PACKAGES, RUNTIME_REMEDY, TRAINING, Extra
from vaecli.inference import graph_file, runtime
from vaecli.model_format import DECODER_FILE, IMAGE

State = Literal["ok", "none", "missing", "warning"]  # none: it is not there, and nothing needs it

WHEELS = ("onnxruntime", "onnxruntime-gpu")  # each overwrites files of the other
IMPORT_SECONDS = 300  # that importing torch may take, from a slow disk


class Check(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that was looked at."""

    state: State
    found: str
    remedy: str | None = None


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found."""

    can_use: bool  # a model runs
    can_train: bool  # all packages of vaecli[train] can be imported
    checks: dict[str, Check]


def doctor(directory: str | None = None) -> Machine:
    """Look at everything; `directory` is the data folder, None the usual one. Takes as long as importing torch does."""
    driver, cpu, cuda = _driver(), _provider("cpu"), _provider("cuda")
    has_gpu = driver.state == "ok"
    if cuda.state == "warning" and not has_gpu:
        cuda = Check("none", cuda.found)
    training = _training(has_gpu=has_gpu)
    # ONNX Runtime was told not to send usage data, unless the user had set this.
    telemetry = os.environ.get("ORT_DISABLE_TELEMETRY", "")
    checks = {
        "python": Check("ok", f"{platform.python_version()}, {sys.executable}"),
        "vaecli": Check("ok", f"{vaecli.__version__}, {Path(vaecli.__file__).parent}"),
        "onnxruntime": _runtime(),
        "telemetry": Check("ok", f"{'off' if telemetry == '1' else 'as set'} (ORT_DISABLE_TELEMETRY={telemetry})"),
        "models_on_cpu": cpu,
        "models_on_cuda": cuda,
        "nvidia_driver": driver,
        **training,
        "processors": Check("ok", f"{processors.usable()} of {os.cpu_count() or 1}, {_processor()}"),
        "data_folder": _data_folder(directory),
        **{PACKAGES[extra]: _package(PACKAGES[extra], extra, purpose) for extra, purpose in OPTIONAL.items()},
    }
    return Machine(can_use="ok" in (cpu.state, cuda.state), can_train=training["torch"].state == "ok", checks=checks)


OPTIONAL: dict[Extra, str] = {
    "plot": "vae plot",
    "parquet": "reading or writing Parquet or addresses",
    "ray": "`ray`",
    "tensorboard": "`log` tensorboard",
}  # what needs the package of an extra


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _package(package: str, extra: str, purpose: str) -> Check:
    if version := _version(package):
        return Check("ok", version)
    return Check("missing", f"not installed; {purpose} needs it", f"pip install 'vaecli[{extra}]'")


def _runtime() -> Check:
    installed = [f"{wheel} {version}" for wheel in WHEELS if (version := _version(wheel))]
    if len(installed) == 1:
        return Check("ok", installed[0])
    if installed:
        found = f"{' and '.join(installed)} are both installed, and one has overwritten files of the other"
        return Check("warning", found, ONE_RUNTIME_REMEDY)
    return Check("missing", "not installed; using a model needs it", RUNTIME_REMEDY)


def _provider(device: Literal["cpu", "cuda"]) -> Check:
    """Whether a model really runs on a device: a tiny one is read, opened and run."""
    try:
        with resources.as_file(resources.files("vaecli") / "data" / "trial" / DECODER_FILE) as path:
            graph = runtime.open_graph(graph_file.read(path), device)
        graph.run((IMAGE,), np.zeros((2, 1), np.float32))
    except VaeError as error:
        return Check("warning", error.message.removeprefix("`device` cuda: "), error.hint)
    return Check("ok", f"{graph.provider} works")


def _driver() -> Check:
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    remedy = "restart, or install the driver again"
    try:
        done = subprocess.run(query, capture_output=True, encoding="utf-8", errors="replace", timeout=60, check=False)
    except FileNotFoundError:
        return Check("none", "nvidia-smi is not here; only an NVIDIA GPU needs it")
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("warning", f"nvidia-smi: {first_line(error)}", remedy)
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    if not lines or "No devices were found" in lines:
        return Check("none", "installed, and finds no GPU")
    if done.returncode:
        return Check("warning", f"nvidia-smi: {lines[0]}", remedy)
    gpus = [line.rpartition(", ") for line in lines]
    return Check("ok", f"{gpus[0][2]}: {', '.join(name for name, _, _ in gpus)}")


def _training(*, has_gpu: bool) -> dict[str, Check]:
    """The packages of vaecli[train], and where a training would run."""
    versions = {package: _version(package) for package in TRAINING}
    lacking = [package for package, version in versions.items() if version is None]
    if lacking:
        found = f"not installed: {', '.join(lacking)}; train and export need all of {', '.join(TRAINING)}"
        return {"torch": Check("missing", found, "pip install 'vaecli[train]'")}
    listed = ", ".join(f"{package} {version}" for package, version in versions.items())
    try:
        torch = _ask_torch()
    except VaeError as error:
        return {"torch": Check("warning", f"{listed}: {error.message}", error.hint)}
    if "cuda" in torch:
        cuda = Check("ok", f"works, on {torch['cuda']}")
    elif has_gpu:
        cuda = Check("warning", torch["no_cuda"], "install a torch for this driver: https://pytorch.org/get-started")
    else:
        cuda = Check("none", torch["no_cuda"])
    return {
        "torch": Check("ok", listed),
        "training_on_cpu": Check("ok", f"works, in {torch['cpu']}"),
        "training_on_cuda": cuda,
        "scipy": _package("scipy", "train", "the data set svhn or omniglot"),
    }


def _ask_torch() -> dict[str, str]:
    """What `vaecli.training.device` reports: cpu, and cuda or no_cuda. Raises VaeError where torch does not work.

    In a process of its own: torch is large, and a broken one may take its process with it.
    """
    command = [sys.executable, "-P", "-m", "vaecli.training.device"]  # -P: a torch.py in this folder is not torch
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    remedy = "install them again: pip install --force-reinstall 'vaecli[train]'"
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise VaeError(f"importing them takes more than {IMPORT_SECONDS} s", remedy) from error
    if done.returncode or not done.stdout:
        complaint = done.stderr.strip().splitlines() or [f"importing them ends with {done.returncode}"]
        raise VaeError(complaint[-1], remedy)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=dict[str, str])


def _processor() -> str:
    with contextlib.suppress(OSError):  # not Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(": ")[2]
    return platform.processor() or platform.machine()


def _data_folder(directory: str | None) -> Check:
    try:
        folder = data_folder(directory)
        prepared = sum(entry.bytes for entry in Cache(folder).entries())
    except VaeError as error:
        return Check("warning", error.message, error.hint)
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        return Check("warning", f"{folder}: cannot be written", "name another folder in VAE_DATA")
    return Check("ok", f"{folder}, {prepared / 1e6:,.1f} MB of prepared pictures")
