"""The matrix products of dense layers, by the library that suits this machine.

PyTorch has two for float32 on a CPU, oneDNN and a BLAS (MKL on x86). Where we measured, MKL took 0.75 to 1 of oneDNN's
time; on some older AMD processors it takes twice as long. They round differently, so the choice must not depend on the
noise of a measurement: the BLAS is taken unless it is much slower, and a training keeps the library that it was begun
with.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol, cast

import torch
from torch import Tensor

from vaecli.training.timing import time_ratio

# Of the layer that is timed: large enough to measure the products, not the calls.
SIZE, BATCH = 256, 64
SLOWER = 1.4  # times the time of oneDNN: where the BLAS takes longer, oneDNN is used

APPLY = {"tanh": torch.ops.aten.tanh_, "relu": torch.ops.aten.relu_}  # in place


class Products(Protocol):
    """The matrix products of a dense layer."""

    name: str

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor, activation: str | None) -> Tensor:
        """activation(x @ weight.T + bias): (batch, inputs) -> (batch, outputs)."""

    def input_gradient(self, gradient: Tensor, weight: Tensor) -> Tensor:
        """The gradient of the layer's input, gradient @ weight: (batch, outputs) -> (batch, inputs)."""

    def weight_gradient_(self, out: Tensor, gradient: Tensor, x: Tensor) -> None:
        """Write gradient.T @ x, (outputs, inputs), into `out`."""


class OneDNN:
    """oneDNN, on a CPU. Some of its operators are not part of PyTorch's public interface."""

    name = "oneDNN"

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor, activation: str | None) -> Tensor:
        """See Products."""
        return _onednn(x, weight, bias, activation)

    def input_gradient(self, gradient: Tensor, weight: Tensor) -> Tensor:
        """See Products."""
        return _onednn(gradient, weight.t())

    def weight_gradient_(self, out: Tensor, gradient: Tensor, x: Tensor) -> None:
        """See Products."""
        if x.dtype is torch.float32:
            out.copy_(_onednn(gradient.t(), x.t()))  # torch.mm would use the BLAS
        else:
            torch.mm(gradient.t(), x, out=out)


class BLAS:
    """The library behind torch.mm in float32: cuBLAS on a GPU, MKL or another one on a CPU."""

    def __init__(self, device: torch.device) -> None:
        on_cpu = "MKL" if torch.backends.mkl.is_available() else "BLAS"
        self.name = "cuBLAS" if device.type == "cuda" else on_cpu

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor, activation: str | None) -> Tensor:
        """See Products."""
        if activation == "tanh" and x.device.type == "cpu":
            # tanh(y) = 2 σ(2 y) - 1: PyTorch's tanh takes twice as long there.
            return torch.addmm(bias, x, weight.t(), beta=2, alpha=2).sigmoid_().mul_(2).sub_(1)
        y = torch.addmm(bias, x, weight.t())
        return y if activation is None else APPLY[activation](y)

    def input_gradient(self, gradient: Tensor, weight: Tensor) -> Tensor:
        """See Products."""
        return gradient @ weight

    def weight_gradient_(self, out: Tensor, gradient: Tensor, x: Tensor) -> None:
        """See Products."""
        torch.mm(gradient.t(), x, out=out)


def has_onednn() -> bool:
    """Whether this PyTorch has the operators of OneDNN."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def choose_products(device: torch.device, dtype: torch.dtype, recorded: str = "") -> Products:
    """The library for this machine.

    In bfloat16 a CPU has oneDNN only. In float32 it is the one that was `recorded`, by its name, else oneDNN where the
    BLAS is much slower, and the BLAS otherwise.
    """
    onednn, blas = OneDNN(), BLAS(device)
    if device.type == "cuda" or not has_onednn():
        return blas
    if dtype is torch.bfloat16 or recorded == onednn.name:
        return onednn
    return blas if recorded == blas.name or _ratio(blas, onednn) <= SLOWER else onednn


def _ratio(one: Products, other: Products) -> float:
    """The time of `one` as a share of that of `other`, which is 0 where `other` does not run."""
    x, weight, bias = torch.ones(BATCH, SIZE), torch.ones(SIZE, SIZE), torch.ones(SIZE)

    def layer(products: Products) -> None:
        products.linear(x, weight, bias, None)
        products.input_gradient(x, weight)
        products.weight_gradient_(torch.empty_like(weight), x, x)

    try:
        return time_ratio(partial(layer, one), partial(layer, other))
    except (RuntimeError, TypeError, AttributeError):
        return 0


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None) -> Tensor:
    return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation or "none", [], ""))
