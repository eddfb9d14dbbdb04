"""All parameters of a network as views of one vector, so that one operation updates, casts or averages them all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class FlatParameters:
    """A float vector that the parameters of a module are views of, with a like vector of gradients.

    The module goes on working: its parameters share the vector's memory, and autograd adds into the gradient's.
    With a `copy_dtype` there is a second vector in that precision, and one for its gradients, for products that are
    computed in it: `value` and `gradient` give the views of these.
    """

    def __init__(self, module: nn.Module, copy_dtype: torch.dtype | None = None) -> None:
        members = list(module.parameters())
        self.vector = nn.Parameter(torch.cat([member.detach().reshape(-1) for member in members]))
        self.vector.grad = torch.zeros_like(self.vector)
        self._places: dict[Tensor, slice] = {}
        start = 0
        for member in members:
            self._places[member] = slice(start, start + member.numel())
            member.data = self._view(self.vector.detach(), member)
            member.grad = self._view(self.vector.grad, member)
            start += member.numel()
        self._copied = copy_dtype is not None and copy_dtype != self.vector.dtype
        self._copy = self.vector.detach().to(copy_dtype) if self._copied else self.vector.detach()
        self._copy_gradient = torch.zeros_like(self._copy) if self._copied else self.vector.grad

    def _view(self, vector: Tensor, parameter: Tensor) -> Tensor:
        return vector[self._places[parameter]].view(parameter.shape)

    def value(self, parameter: Tensor) -> Tensor:
        """The parameter in the copy's precision, as of the last `refresh`."""
        return self._view(self._copy, parameter)

    def gradient(self, parameter: Tensor) -> Tensor:
        """Where a backward pass that is written by hand puts the parameter's gradient, in the copy's precision."""
        return self._view(self._copy_gradient, parameter)

    @property
    def gradients(self) -> Tensor:
        """All gradients, as the optimiser will read them."""
        assert self.vector.grad is not None
        return self.vector.grad

    def collect(self) -> None:
        """Bring the copy's gradients to the vector's; call between the backward pass and the optimiser's step."""
        if self._copied:
            self.gradients.copy_(self._copy_gradient)

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring the copy up to date; call after the vector has changed."""
        if self._copied:
            self._copy.copy_(self.vector)

    @contextmanager
    def replaced(self, other: Tensor) -> Iterator[None]:
        """Let the module use the values of `other` for a while."""
        with torch.no_grad():
            kept = self.vector.clone()
            self.vector.copy_(other)
            self.refresh()
            try:
                yield
            finally:
                self.vector.copy_(kept)
                self.refresh()
