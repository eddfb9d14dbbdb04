"""Every random number of a training, from one generator that can be saved and set back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LEVELS = 2**16  # a dropout decision is one 16-bit slice of the generator's output


class Noise:
    """Draws for one device. The same seed, or the same `state`, gives the same numbers again."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = device
        self._words = torch.empty(0, dtype=torch.int64, device=device)  # reused: fresh memory costs page faults

    def normal(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """ε ~ N(0, I)."""
        return torch.randn(shape, generator=self.generator, device=self.device, dtype=dtype)

    def opposites(self, samples: int, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """ε ~ N(0, I) of shape (samples, *shape), in pairs ε and -ε, so that the samples' mean is 0 or nearly so."""
        half = self.normal(torch.Size((samples - samples // 2, *shape)), dtype)
        return torch.cat((half, -half[: samples // 2])) if samples > 1 else half

    def uniform(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """Numbers in [0, 1)."""
        return torch.rand(shape, generator=self.generator, device=self.device, dtype=dtype)

    def dropout(self, hidden: Tensor, rate: float) -> Tensor:
        """`hidden` with a share `rate` of its units zeroed and the others scaled so that expectations are kept."""
        if rate == 0:
            return hidden
        (mask,), scale = self.masks(1, [hidden.numel()], rate, hidden.dtype)
        # Multiplied in this order the scale stays exact where the units are bfloat16.
        return hidden * mask.view(hidden.shape) * scale

    def masks(self, batch: int, widths: Sequence[int], rate: float, dtype: torch.dtype) -> tuple[list[Tensor], float]:
        """Masks (batch, width), 1 with probability 1 - `rate` and else 0, and what a kept unit is to be scaled by.

        None where nothing drops. All come from one fill of random 64-bit words, a quarter of a word a decision: a
        CPU's generator is serial, and a draw for each costs four times as much. The rate is met to within 2**-17,
        and the scale is the exact inverse of the rate of keeping.
        """
        kept = round((1 - rate) * LEVELS)
        if kept == LEVELS:
            return [], 1.0
        sizes = [batch * width for width in widths]
        needed = -(-sum(sizes) // 4)
        if len(self._words) < needed:
            self._words = torch.empty(needed, dtype=torch.int64, device=self.device)
        words = self._words[:needed].random_(-(2**63), None, generator=self.generator)
        keep = torch.empty(sum(sizes), dtype=dtype, device=self.device)
        torch.lt(words.view(torch.int16)[: sum(sizes)], kept - LEVELS // 2, out=keep)
        return [mask.view(batch, -1) for mask in keep.split(sizes)], LEVELS / kept

    def permutation(self, n: int) -> Tensor:
        """A random order of n images."""
        return torch.randperm(n, generator=self.generator, device=self.device)

    def renew(self) -> None:
        """Take another generator, to be given a state: one that a recording failed on may not draw any more."""
        self.generator = torch.Generator(self.device)

    def state(self) -> Tensor:
        """Where the generator stands."""
        return self.generator.get_state()

    def restore(self, state: Tensor) -> None:
        """Go back to where `state` was taken."""
        self.generator.set_state(state.cpu())
