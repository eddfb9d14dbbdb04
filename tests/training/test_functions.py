"""The functions that a CPU computes faster, beside PyTorch's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaecli.training.functions import cross_entropy, elu, elu_, log_sum_exp

# Units in the last place near 1 that a value may be off.
ROUNDING = {torch.float64: 1e-15, torch.float32: 1e-7, torch.bfloat16: 2e-3}


def numbers(dtype: torch.dtype) -> Tensor:
    """From far below 0 to far above, with more of them near 0."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(2_000, generator=generator) * torch.rand(2_000, generator=generator) * 5
    return torch.cat((drawn, torch.tensor([0.0, -1e-9, 1e-9, -100.0, 100.0, -1e30, 1e30]))).to(dtype)


@pytest.mark.parametrize("dtype", ROUNDING)
def test_elu_and_its_gradient_are_those_of_pytorch(dtype: torch.dtype) -> None:
    x, weight = numbers(dtype), torch.linspace(-1, 1, 2_007).to(dtype)
    found, expected = x.clone().requires_grad_(), x.double().clone().requires_grad_()
    y, exact = elu(found), F.elu(expected)
    y.backward(weight)
    exact.backward(weight.double())
    assert found.grad is not None
    assert expected.grad is not None
    assert y.dtype is dtype
    error = (y.double() - exact).abs() / exact.abs().clamp(min=1)
    assert error.max() <= ROUNDING[dtype]
    assert (found.grad.double() - expected.grad).abs().max() <= 2 * ROUNDING[dtype]
    assert torch.equal(elu_(x.detach().clone()), y.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [0, 1, 1000])
def test_log_sum_exp_is_that_of_pytorch_and_its_gradient_softmax(spread: float, dtype: torch.dtype) -> None:
    """Also where most of the sum is out of the range of float32, or excluded by -inf."""
    generator = torch.Generator().manual_seed(0)
    values = 300 + spread * torch.randn(2, 50, 40, generator=generator, dtype=torch.float64).to(dtype)
    values[:, ::2, ::3] = -math.inf
    x, weight = values.clone().requires_grad_(), torch.linspace(-1, 1, 50).to(dtype)
    y = log_sum_exp(x)
    (y * weight).sum().backward()
    assert y.dtype is dtype
    assert x.grad is not None
    torch.testing.assert_close(y.double(), torch.logsumexp(values.double(), -1), rtol=4 * ROUNDING[dtype], atol=0)
    expected = torch.softmax(values.double(), -1) * weight.double()[:, None]
    torch.testing.assert_close(x.grad.double(), expected, rtol=0, atol=4 * ROUNDING[dtype])


def test_elu_that_is_not_a_number_stays_so() -> None:
    assert elu(torch.tensor([float("nan")])).isnan().all()


def test_an_exported_graph_has_pytorchs_elu() -> None:
    class Layer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return elu(x)

    exported = torch.export.export(Layer(), (torch.zeros(2, 3),), strict=False)
    operators = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
    assert operators == ["aten.elu.default"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("pixels", [1, 97, 98, 99, 784])
def test_cross_entropy_is_that_of_pytorch(pixels: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(pixels)
    logits = 10 * torch.randn(3, 4, pixels, generator=generator, dtype=torch.float64)
    x = torch.rand(4, pixels, generator=generator, dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
    nats, sigmoid = cross_entropy(logits.to(dtype), x.to(dtype))
    tolerance = 1e-14 if dtype is torch.float64 else 2e-6
    torch.testing.assert_close(nats.double(), expected, rtol=tolerance, atol=pixels * tolerance)
    torch.testing.assert_close(sigmoid, torch.sigmoid(logits.to(dtype)))


def test_cross_entropy_of_the_surest_logits_is_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 1e4, -1e4]])
    nats, _ = cross_entropy(logits, torch.tensor([[1.0, 0.0, 0.0, 1.0]]))
    assert nats.tolist() == [2e4]
