"""What this machine has and what of it works: examined, not believed. Nothing is changed or installed."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import os
import platform
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

import vaecli
from vaecli import processors
from vaecli.errors import VaeError
from vaecli.model_format import DECODER_FILE

State = Literal["ok", "none", "missing", "warning"]  # none: is not there, and nothing is the worse for it

WHEELS = ("onnxruntime", "onnxruntime-gpu")  # each overwrites the other's files
TRAINING = ("torch", "torchvision", "onnx", "onnxscript")
LONGEST = 300  # seconds that importing torch may take, from a slow disk


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was looked at."""

    state: State
    found: str
    remedy: str | None = None


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found."""

    can_use: bool  # a model runs
    can_train: bool  # torch and all that goes with it can be imported
    checks: dict[str, Check]


def examine(data_folder: str | None) -> Machine:
    """Look at everything. Takes as long as importing torch does, in a process of its own."""
    driver, gpus = _driver()
    cpu, cuda = _provider("cpu"), _provider("cuda")
    if cuda.state == "warning" and not gpus:
        cuda = Check(state="none", found=cuda.found)
    torch, can_train = _torch(gpus)
    checks = {
        "python": Check(state="ok", found=f"{platform.python_version()}, {sys.executable}"),
        "vaecli": Check(state="ok", found=f"{vaecli.__version__}, {Path(vaecli.__file__).parent}"),
        "onnxruntime": _wheels(),
        "models_on_cpu": cpu,
        "models_on_cuda": cuda,
        "nvidia_driver": driver,
        **torch,
        "processors": Check(state="ok", found=f"{processors.usable()} of {os.cpu_count() or 1}, {_processor()}"),
        "data_folder": _data_folder(data_folder),
        "matplotlib": _package("matplotlib", "plot", "vae plot"),
    }
    return Machine(can_use="ok" in (cpu.state, cuda.state), can_train=can_train, checks=checks)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _package(package: str, extra: str, purpose: str) -> Check:
    version = _version(package)
    if version is None:
        return Check(
            state="missing", found=f"not installed; {purpose} needs it", remedy=f"pip install 'vaecli[{extra}]'"
        )
    return Check(state="ok", found=version)


def _wheels() -> Check:
    """Which of the two packages of ONNX Runtime is installed."""
    installed = [f"{wheel} {version}" for wheel in WHEELS if (version := _version(wheel))]
    if len(installed) == 2:
        return Check(
            state="warning",
            found=f"{' and '.join(installed)} are both installed, and one has overwritten files of the other",
            remedy="pip uninstall onnxruntime onnxruntime-gpu, then install one of vaecli[cpu] and vaecli[gpu]",
        )
    if not installed:
        return Check(
            state="missing",
            found="not installed; using a model needs it",
            remedy="pip install 'vaecli[cpu]', or with an NVIDIA GPU: pip install 'vaecli[gpu]'",
        )
    return Check(state="ok", found=installed[0])


def _provider(device: Literal["cpu", "cuda"]) -> Check:
    """Whether a model really runs on a device: the smallest one does, from reading its file to its pictures."""
    try:
        import numpy as np

        from vaecli.inference import header, runtime

        trial = resources.files("vaecli") / "data" / "trial" / DECODER_FILE
        with resources.as_file(trial) as path:
            graph = runtime.open_graph(header.read(path), device)
        graph.run(("image",), np.zeros((2, 1), np.float32))
        others = [name for name in runtime.providers() if name != graph.provider]
    except VaeError as error:
        return Check(state="warning", found=error.message.removeprefix("--device cuda: "), remedy=error.hint)
    listed = f"; it also lists {', '.join(others)}" if others else ""
    return Check(state="ok", found=f"{graph.provider} works{listed}")


NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE


def _driver() -> tuple[Check, int]:
    """The NVIDIA driver with its GPUs, and how many these are (https://docs.nvidia.com/cuda/cuda-driver-api/)."""
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return Check(state="none", found="not installed; only an NVIDIA GPU needs it"), 0
    version, count = ctypes.c_int(), ctypes.c_int()
    code = cuda.cuInit(0)
    if code in (0, NO_DEVICE):
        cuda.cuDriverGetVersion(ctypes.byref(version))
        code = code or cuda.cuDeviceGetCount(ctypes.byref(count))
    if code == NO_DEVICE:
        return Check(state="none", found="installed, and finds no GPU"), 0
    if code:
        found = f"installed, and does not start (error {code})"
        return Check(
            state="warning", found=found, remedy="nvidia-smi says more; restart, or install the driver again"
        ), 0
    names = []
    for device in range(count.value):
        name = ctypes.create_string_buffer(100)
        cuda.cuDeviceGetName(name, len(name), device)
        names.append(name.value.decode(errors="replace"))
    major, minor = version.value // 1000, version.value % 1000 // 10
    return Check(state="ok", found=f"for CUDA {major}.{minor}: {', '.join(names)}"), count.value


# Runs in a process of its own: torch is large, and a broken one may take its process with it.
_ASK_TORCH = """
import json, warnings
warnings.simplefilter("ignore")
import torch, torchvision, onnx, onnxscript
from vaecli.errors import DeviceError
from vaecli.training.device import choose_device, choose_precision, device_name
answer = {"cpu": choose_precision("auto", torch.device("cpu")), "built for": torch.version.cuda}
try:
    device = choose_device("cuda")
    answer["cuda"] = f"{device_name(device)}, {choose_precision('auto', device)}"
except DeviceError as error:
    answer["no cuda"] = error.message.removeprefix("--device cuda: ")
print(json.dumps(answer))
"""


def _torch(gpus: int) -> tuple[dict[str, Check], bool]:
    """The packages of vaecli[train], and where a training would run; and whether it can at all."""
    versions = {package: _version(package) for package in TRAINING}
    lacking = [package for package, version in versions.items() if version is None]
    if lacking:
        found = f"{', '.join(lacking)} not installed; train and export need {'them' if len(lacking) > 1 else 'it'}"
        return {"torch": Check(state="missing", found=found, remedy="pip install 'vaecli[train]'")}, False
    listed = ", ".join(f"{package} {version}" for package, version in versions.items())
    answer, failure = _ask_torch()
    if failure:
        remedy = "install them again: pip install --force-reinstall 'vaecli[train]'"
        return {"torch": Check(state="warning", found=f"{listed}: {failure}", remedy=remedy)}, False
    checks = {
        "torch": Check(state="ok", found=listed),
        "training_on_cpu": Check(state="ok", found=f"works, in {answer['cpu']}"),
    }
    if "cuda" in answer:
        checks["training_on_cuda"] = Check(state="ok", found=f"works, on {answer['cuda']}")
    elif gpus:
        remedy = "install a torch for this driver: https://pytorch.org/get-started"
        checks["training_on_cuda"] = Check(state="warning", found=answer["no cuda"], remedy=remedy)
    else:
        checks["training_on_cuda"] = Check(state="none", found=answer["no cuda"])
    return checks, True


def _ask_torch() -> tuple[dict[str, str], str]:
    """What torch answers, or what went wrong while it was asked."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK_TORCH],
            env=environment,
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {}, f"importing them takes more than {LONGEST} s"
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines:
        return msgspec.json.decode(lines[-1], type=dict[str, str]), ""
    complaint = done.stderr.strip().splitlines()
    return {}, complaint[-1] if complaint else f"importing them ends with {done.returncode}"


def _processor() -> str:
    """The processor's name, and whether it computes in bfloat16, where the system tells."""
    facts: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    name = facts.get("model name") or platform.processor() or platform.machine()
    if "flags" not in facts:
        return name
    has = {"avx512_bf16", "amx_bf16"} & set(facts["flags"].split())
    return f"{name}, {'with' if has else 'without'} bfloat16 instructions"


def _data_folder(directory: str | None) -> Check:
    """Where data sets and prepared pictures are kept."""
    from vaecli.datasets import data_folder
    from vaecli.datasets.cache import Cache

    remedy = "name another with --data-dir or VAE_DATA"
    try:
        folder = data_folder(directory)
        prepared = sum(entry.bytes for entry in Cache(folder).entries())
    except VaeError as error:
        return Check(state="warning", found=error.message, remedy=error.hint)
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not os.access(existing, os.W_OK):
        return Check(state="warning", found=f"{folder}: cannot be written", remedy=remedy)
    return Check(state="ok", found=f"{folder}, {prepared / 1e6:,.1f} MB of prepared pictures")
