"""Which optional packages a command needs, asked before anything heavy is imported."""

from __future__ import annotations

from vaecli.errors import missing_package


def require_training(command: str) -> None:
    """Refuse to go on without the packages of `vaecli[train]`. Raises VaeError."""
    for package in ("torch", "torchvision", "onnx", "onnxscript"):
        if not _installed(package):
            raise missing_package(package, "cpu,train", command)


def require_runtime(command: str) -> None:
    """Refuse to go on without ONNX Runtime, which either of two extras brings. Raises VaeError."""
    if not _installed("onnxruntime"):
        raise missing_package("onnxruntime", "cpu", command)


def require_plotting(command: str) -> None:
    """Refuse to go on without the package of `vaecli[plot]`. Raises VaeError."""
    if not _installed("matplotlib"):
        raise missing_package("matplotlib", "plot", command)


def _installed(package: str) -> bool:
    import importlib.util

    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # blocked: sys.modules holds None for it
        return False
