"""All parameters of a network as views of one vector, so that one operation updates, casts or averages all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class FlatParameters:
    """A vector (parameters,) that all parameters of a module are views of, and one for their gradients.

    The vector begins with the weight matrices and ends with the scale of the likelihood, because an optimiser treats
    the three groups differently: weight decay is for matrices alone, and a scale has a learning rate of its own.

    The module works as before: its parameters share the vector's memory, and autograd adds to the gradients'. With a
    `copy_dtype`, a second pair of vectors holds weights and gradients in that precision, for products computed in it;
    `value` and `gradient` are views of that pair.
    """

    def __init__(self, module: nn.Module, copy_dtype: torch.dtype | None = None) -> None:
        scale = getattr(module, "log_scale", None)
        groups: tuple[list[nn.Parameter], ...] = ([], [], [])  # matrices; biases and norms; the scale
        for member in module.parameters():
            groups[2 if member is scale else 0 if member.ndim > 1 else 1].append(member)
        members = [member for group in groups for member in group]
        self.vector = torch.cat([_in_memory_order(member.detach()).reshape(-1) for member in members])
        self.gradients = torch.zeros_like(self.vector)
        self._places: dict[Tensor, slice] = {}
        start = 0
        for member in members:
            self._places[member] = slice(start, start + member.numel())
            member.data = self._view(self.vector, member)
            member.grad = self._view(self.gradients, member)
            start += member.numel()
        self.matrices, self.others, self.scale = self._leaves(groups)
        self._copied = copy_dtype is not None and copy_dtype != self.vector.dtype
        self._copy = self.vector.to(copy_dtype) if self._copied else self.vector
        self._copy_gradient = torch.zeros_like(self._copy) if self._copied else self.gradients

    def _leaves(self, groups: tuple[list[nn.Parameter], ...]) -> Iterator[nn.Parameter]:
        """Each group's part of the vector, as a parameter that an optimiser takes."""
        start = 0
        for group in groups:
            stop = start + sum(member.numel() for member in group)
            leaf = nn.Parameter(self.vector[start:stop])
            leaf.grad = self.gradients[start:stop]
            yield leaf
            start = stop

    def _view(self, vector: Tensor, parameter: Tensor) -> Tensor:
        shape = _in_memory_order(parameter).shape
        part = vector[self._places[parameter]].view(shape)
        return part if parameter.is_contiguous() else part.permute(0, 3, 1, 2)

    def value(self, parameter: Tensor) -> Tensor:
        """The parameter, in its own shape and the copy's precision, as of the last `refresh`."""
        return self._view(self._copy, parameter)

    def gradient(self, parameter: Tensor) -> Tensor:
        """The parameter's gradient, in the same shape and precision, for a backward pass to write to."""
        return self._view(self._copy_gradient, parameter)

    def collect(self) -> None:
        """Copy the gradients of the copy to `gradients`; call it between the backward pass and the optimiser's step."""
        if self._copied:
            self.gradients.copy_(self._copy_gradient)

    @torch.no_grad()
    def refresh(self) -> None:
        """Update the copy; call it after the vector has changed."""
        if self._copied:
            self._copy.copy_(self.vector)

    @contextmanager
    def replaced(self, other: Tensor) -> Iterator[None]:
        """Let the module use the values of `other` (parameters,) within the block."""
        kept = self.vector.clone()
        self.vector.copy_(other)
        self.refresh()
        try:
            yield
        finally:
            self.vector.copy_(kept)
            self.refresh()


def _in_memory_order(parameter: Tensor) -> Tensor:
    """A parameter, or where it is stored with the channels last, its view (outputs, h, w, inputs)."""
    return parameter if parameter.is_contiguous() else parameter.permute(0, 2, 3, 1)
