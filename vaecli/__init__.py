"""Pictures to a portable generative model: train a VAE in PyTorch, use it through ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaecli.inference.model import Model, load

__version__ = "1.0.0"
__all__ = ["Model", "__version__", "load"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the attribute decides its type
    """Import `load` and `Model` when they are first asked for, so that `vae --help` need not."""
    if name in ("Model", "load"):
        from vaecli.inference import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
