"""The optional packages that a stage needs, looked for before anything heavy is imported."""

from __future__ import annotations

import importlib.util

from vaecli.errors import missing_package

TRAINING = ("torch", "torchvision", "onnx", "onnxscript")  # what vaecli[train] brings


def require_training(purpose: str) -> None:
    """Check for the packages of `vaecli[train]`. Raises VaeError where one is missing."""
    for package in TRAINING:
        _require(package, "cpu,train", purpose)


def require_runtime(purpose: str) -> None:
    """Check for ONNX Runtime, which either of two extras brings. Raises VaeError where it is missing."""
    _require("onnxruntime", "cpu", purpose)


def require_plotting(purpose: str) -> None:
    """Check for the package of `vaecli[plot]`. Raises VaeError where it is missing."""
    _require("matplotlib", "plot", purpose)


def require_tensorboard(purpose: str) -> None:
    """Check for the package of `vaecli[tensorboard]`. Raises VaeError where it is missing."""
    _require("tensorboard", "tensorboard", purpose)


def require_parquet(purpose: str) -> None:
    """Check for the package of `vaecli[parquet]`. Raises VaeError where it is missing."""
    _require("pyarrow", "parquet", purpose)


def require_ray(purpose: str) -> None:
    """Check for the package of `vaecli[ray]`. Raises VaeError where it is missing."""
    _require("ray", "ray", purpose)


def _require(package: str, extra: str, purpose: str) -> None:
    try:
        found = importlib.util.find_spec(package) is not None
    except ValueError:  # sys.modules holds None for it: blocked
        found = False
    if not found:
        raise missing_package(package, extra, purpose)
