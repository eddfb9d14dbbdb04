"""All random numbers of a training, from one generator whose state can be saved and restored."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LEVELS = 2**16  # a dropout decision takes 16 bits of the generator's output


class Noise:
    """Random numbers on one device. The same seed, or the same `state`, gives the same numbers."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed = seed
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = device
        self._words = torch.empty(0, dtype=torch.int64, device=device)  # reused: new memory costs page faults

    def normal(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """ε ~ N(0, I)."""
        return torch.randn(shape, generator=self.generator, device=self.device, dtype=dtype)

    def antithetic(self, samples: int, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """ε ~ N(0, I) of shape (samples, *shape), in antithetic pairs ε and -ε (Hammersley & Morton 1956)."""
        half = self.normal(torch.Size((samples - samples // 2, *shape)), dtype)
        return torch.cat((half, -half[: samples // 2])) if samples > 1 else half

    def uniform(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """Numbers in [0, 1)."""
        return torch.rand(shape, generator=self.generator, device=self.device, dtype=dtype)

    def dropout(self, hidden: Tensor, rate: float) -> Tensor:
        """`hidden` with each unit zeroed with probability `rate`, the others scaled by 1 / (1 - rate)."""
        if rate == 0:
            return hidden
        (mask,), scale = self.masks(1, [hidden.numel()], rate, hidden.dtype)
        # In this order the scale is not rounded to bfloat16.
        return hidden * mask.view(hidden.shape) * scale

    def masks(self, batch: int, widths: Sequence[int], rate: float, dtype: torch.dtype) -> tuple[list[Tensor], float]:
        """Dropout masks (batch, width), 1 with probability 1 - `rate` and else 0, and the scale of kept units.

        No masks where nothing is dropped. All are cut from one fill of random 64-bit words, 16 bits a unit: a CPU's
        generator is serial, and one draw per unit takes four times as long. The rate is met to within 2**-17; the
        scale is the exact inverse of the probability of keeping a unit.
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

    def state(self) -> Tensor:
        """The generator's state, uint8."""
        return self.generator.get_state()

    def restore(self, state: Tensor, step: int) -> bool:
        """Return to `state`. Where another kind of device took it: seed anew, by seed and step; False."""
        try:
            self.generator.set_state(state.cpu())
        except RuntimeError:
            self.generator.manual_seed((self._seed + step) % 2**63)
            return False
        return True
