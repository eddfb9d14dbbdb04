"""ELU, the cross-entropy and logsumexp by way of other functions, which a CPU computes faster.

PyTorch computes the first two with expm1 and log1p. With AVX2 these take 2 ns a number on one thread, exp 0.8 and exp2
0.5. On an AMD EPYC (Zen 4) with AVX-512 they took 9 ns, until certain other functions had run, such as sinh; we do not
know why. There exp takes 0.8 and exp2 0.3. On a GPU PyTorch's own of these two are used.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

LOG2_E = math.log2(math.e)
FACTORS = 98  # of a product of numbers from 0.5 to 1: it stays a normal float32


def elu(x: Tensor) -> Tensor:
    """max(x, exp(min(x, 0)) - 1), of any shape (Clevert et al. 2016). To within 1e-7 of `F.elu` in float32."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():  # an exported graph has an operator for it
        return F.elu(x)
    return cast(Tensor, _Elu.apply(x))


def elu_(x: Tensor) -> Tensor:
    """The same in place, without a gradient."""
    return _elu(x, x) if x.device.type == "cpu" else F.elu_(x)


def elu_gradient(gradient: Tensor, y: Tensor) -> Tensor:
    """The gradient of x, given that of y = elu(x), and y."""
    return cast(Tensor, torch.ops.aten.elu_backward(gradient, 1.0, 1.0, 1.0, True, y))


def _elu(x: Tensor, out: Tensor | None = None) -> Tensor:
    # In float32: near 0 the 8 bits of a bfloat16 would be lost in `- 1`.
    wide = torch.promote_types(x.dtype, torch.float32)
    below = x.clamp(max=0).to(wide).mul_(LOG2_E).exp2_().sub_(1)
    return torch.maximum(x, below.to(x.dtype), out=out)


class _Elu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - autograd's context
        y = _elu(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401 - autograd's context
        (y,) = ctx.saved_tensors
        return elu_gradient(gradient, y)


def log_sum_exp(x: Tensor) -> Tensor:
    """Log Σ exp(x) over the last dimension, as `torch.logsumexp`: (..., k) -> (...).

    With p = softmax(x) it is max x - log max p, and its gradient is p. PyTorch's uses an exponential that takes up to
    a hundred times as long where the result is too small for a float32, as with components far away; softmax has
    another one.
    """
    return cast(Tensor, _LogSumExp.apply(x))


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - autograd's context
        shares = torch.softmax(x, -1)
        ctx.save_for_backward(shares)
        return x.amax(-1) - shares.amax(-1).log()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401 - autograd's context
        (shares,) = ctx.saved_tensors
        return cast(Tensor, gradient[..., None] * shares)


def cross_entropy(logits: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Σ softplus(l) - x·l in nats, without a gradient, and σ(l): logits (..., batch, p), x (batch, p) in [0, 1].

    Returns (..., batch) and (..., batch, p). The gradient by the logits is σ(l) - x.
    """
    sigmoid = torch.sigmoid(logits)
    if logits.device.type != "cpu":
        return F.softplus(logits).addcmul_(logits, x, value=-1).sum(-1), sigmoid
    # softplus(l) is max(l, 0) - log σ(|l|), and one logarithm is enough for a product of many.
    nats = logits.clamp(min=0).addcmul_(logits, x, value=-1).sum(-1)
    larger = (sigmoid - 0.5).abs_().add_(0.5)  # σ(|l|)
    products, rest = divmod(larger.shape[-1], FACTORS)
    whole = larger.shape[-1] - rest
    nats -= larger[..., :whole].unflatten(-1, (products, FACTORS)).prod(-1).log_().sum(-1)
    nats -= larger[..., whole:].prod(-1).log_()
    return nats, sigmoid
