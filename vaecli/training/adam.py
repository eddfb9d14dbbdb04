"""AdamW, over the flat parameters of a model."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from vaecli.training.flat import FlatParameters

BETAS = (0.9, 0.999)  # decay of the mean and of the mean square of the gradients
EPSILON = 1e-8


class _Group(NamedTuple):
    leaf: nn.Parameter
    mean: Tensor
    square: Tensor
    steps: Tensor
    decay: float


class Adam:
    """AdamW (Loshchilov & Hutter 2019): weight decay for the matrices, and another learning rate for a scale.

    This is PyTorch's function. `torch.optim.AdamW` computes the same to the bit, but its constructor imports PyTorch's
    compiler, which takes almost as long as to import PyTorch.
    """

    def __init__(self, parameters: FlatParameters, weight_decay: float, betas: tuple[float, float] = BETAS) -> None:
        self.mean = torch.zeros_like(parameters.vector)  # of the gradients: (parameters,)
        self.square = torch.zeros_like(parameters.vector)  # the mean of their squares: (parameters,)
        leaves = (parameters.matrices, parameters.others, parameters.scale)
        sizes = [leaf.numel() for leaf in leaves]
        self._scale, self._betas = parameters.scale, betas
        self._groups = [
            _Group(leaf, mean, square, torch.zeros((), device=leaf.device), decay)
            for leaf, mean, square, decay in zip(
                leaves, self.mean.split(sizes), self.square.split(sizes), (weight_decay, 0.0, 0.0), strict=True
            )
            if leaf.numel()
        ]

    @torch.no_grad()
    def step(self, rate: float, scale_rate: float) -> None:
        """Change the parameters by their gradients, at a learning rate, and that of the scale."""
        for group in self._groups:
            assert group.leaf.grad is not None
            adamw(
                [group.leaf],
                [group.leaf.grad],
                [group.mean],
                [group.square],
                [],
                [group.steps],
                fused=True,
                amsgrad=False,
                beta1=self._betas[0],
                beta2=self._betas[1],
                lr=scale_rate if group.leaf is self._scale else rate,
                weight_decay=group.decay,
                eps=EPSILON,
                maximize=False,
            )

    def state(self) -> dict[str, Tensor]:
        """What a training is resumed from, with its number of steps."""
        return {"mean": self.mean, "square": self.square}

    def restore(self, state: dict[str, Tensor], steps: int) -> None:
        """Return to where `state` was taken, after this many steps."""
        self.mean.copy_(state["mean"])
        self.square.copy_(state["square"])
        for group in self._groups:
            group.steps.fill_(steps)
