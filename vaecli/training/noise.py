"""Every random number of a training, from one generator that can be saved and set back."""

from __future__ import annotations

import torch
from torch import Tensor


class Noise:
    """Draws for one device. The same seed, or the same `state`, gives the same numbers again."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = device

    def normal(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """ε ~ N(0, I)."""
        return torch.randn(shape, generator=self.generator, device=self.device, dtype=dtype)

    def uniform(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """Numbers in [0, 1)."""
        return torch.rand(shape, generator=self.generator, device=self.device, dtype=dtype)

    def dropout(self, hidden: Tensor, rate: float) -> Tensor:
        """`hidden` with a share `rate` of its units zeroed and the others scaled by 1 / (1 - rate)."""
        if rate == 0:
            return hidden
        keep = torch.rand(hidden.shape, generator=self.generator, device=self.device) >= rate
        return hidden * (keep.to(hidden.dtype) / (1 - rate))

    def permutation(self, n: int) -> Tensor:
        """A random order of n images."""
        return torch.randperm(n, generator=self.generator, device=self.device)

    def state(self) -> Tensor:
        """Where the generator stands."""
        return self.generator.get_state()

    def restore(self, state: Tensor) -> None:
        """Go back to where `state` was taken."""
        self.generator.set_state(state.cpu())
