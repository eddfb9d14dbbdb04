"""The optional packages that a stage needs, looked for before anything heavy is imported."""

from __future__ import annotations

import importlib.util
from typing import Literal, TypeAlias

from vaecli.errors import missing_package

Extra: TypeAlias = Literal["plot", "tensorboard", "parquet", "ray"]

PACKAGES: dict[Extra, str] = {"plot": "matplotlib", "tensorboard": "tensorboard", "parquet": "pyarrow", "ray": "ray"}
RUNTIME_REMEDY = "pip install 'vaecli[cpu]', or with an NVIDIA GPU: pip install 'vaecli[gpu]'"
ONE_RUNTIME_REMEDY = "pip uninstall onnxruntime onnxruntime-gpu, then install one of vaecli[cpu] and vaecli[gpu]"
TRAINING = ("torch", "torchvision", "onnx", "onnxscript")  # what vaecli[train] brings


def require_training(purpose: str) -> None:
    """Check for the packages of `vaecli[train]`. Raises VaeError where one is missing."""
    for package in TRAINING:
        _require(package, "cpu,train", purpose)


def require_runtime(purpose: str) -> None:
    """Check for ONNX Runtime, which either of two extras brings. Raises VaeError where it is missing."""
    _require("onnxruntime", "cpu", purpose)


def require(extra: Extra, purpose: str) -> None:
    """Check for the package of an extra that brings one. Raises VaeError where it is missing."""
    _require(PACKAGES[extra], extra, purpose)


def _require(package: str, extra: str, purpose: str) -> None:
    try:
        found = importlib.util.find_spec(package) is not None
    except ValueError:  # sys.modules holds None for it: blocked
        found = False
    if not found:
        raise missing_package(package, extra, purpose)
