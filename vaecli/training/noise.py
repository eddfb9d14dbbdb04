"""All random numbers of a training, from generators whose state can be saved and restored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vaecli.training.processes import Part

BIT_VALUES = 2**16  # a dropout decision takes 16 bits of the generator's output


class Noise:
    """Random numbers on one device. The same seed, or the same `state`, gives the same numbers.

    Where a process has a `part` of the batch only, the numbers are drawn for the whole batch, and cut.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed = seed
        self.device = device
        self.part: Part | None = None  # of the present batch; None: all of it
        self._begin(seed)

    def _begin(self, seed: int) -> None:
        self.generator = torch.Generator(self.device).manual_seed(seed)
        # The source of raw bits on a CPU: it takes half the time of PyTorch's Mersenne Twister.
        self._raw = np.random.SFC64(seed) if self.device.type == "cpu" else None

    def normal(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """ε ~ N(0, I) of shape (…, batch, d)."""
        drawn = torch.randn(self._whole(shape, -2), generator=self.generator, device=self.device, dtype=dtype)
        return self._own(drawn, -2)

    def antithetic(self, samples: int, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """ε ~ N(0, I) of shape (samples, *shape), in antithetic pairs ε and -ε (Hammersley & Morton 1956)."""
        half = self.normal(torch.Size((samples - samples // 2, *shape)), dtype)
        return torch.cat((half, -half[: samples // 2])) if samples > 1 else half

    def binary(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Pixels that are 1 with probability value / 255, to within 2**-16, else 0: uint8 (batch, …) -> (batch, …)."""
        whole = self._whole(images.shape, 0)
        drawn = self._own(self._bits(whole.numel()).view(whole), 0)
        # For 0 it is -2**15, and no number is below it; for 255 it is 2**15 - 1, and all are below it once clamped.
        threshold = images.to(torch.int16) * 257 - BIT_VALUES // 2
        return torch.lt(drawn.clamp_(max=BIT_VALUES // 2 - 2), threshold, out=torch.empty_like(images, dtype=dtype))

    def _whole(self, shape: torch.Size, dimension: int) -> torch.Size:
        """The shape for the whole batch, given that of this process's part."""
        if self.part is None or self.part.is_whole:
            return shape
        sizes = list(shape)
        sizes[dimension] = self.part.whole
        return torch.Size(sizes)

    def _own(self, drawn: Tensor, dimension: int) -> Tensor:
        """The rows of this process."""
        return drawn if self.part is None else self.part.rows(drawn, dimension).contiguous()

    def dropout(self, hidden: Tensor, rate: float) -> Tensor:
        """`hidden` (samples · batch, …) with each unit zeroed with probability `rate`, the others · 1 / (1 - rate)."""
        if rate == 0:
            return hidden
        batch = len(hidden) if self.part is None else self.part.stop - self.part.start
        (mask,), scale = self.masks(batch, [(len(hidden) // batch, hidden[0].numel())], rate, hidden.dtype)
        # In this order the scale is not rounded to bfloat16.
        return hidden * mask.view(hidden.shape) * scale

    def masks(
        self, batch: int, layers: Sequence[tuple[int, int]], rate: float, dtype: torch.dtype
    ) -> tuple[list[Tensor], float]:
        """Dropout masks, 1 with probability 1 - `rate` and else 0, and the scale of kept units.

        `layers` are (samples, width) each, and a mask is (samples · batch, width). There are no masks where nothing is
        dropped. All are cut from one fill of random 64-bit words, 16 bits a unit: a CPU's generator is serial. The rate
        is met to within 2**-17; the scale is the exact inverse of the probability of keeping a unit.
        """
        kept = round((1 - rate) * BIT_VALUES)
        if kept == BIT_VALUES:
            return [], 1.0
        (batch,) = self._whole(torch.Size((batch,)), 0)
        sizes = [samples * batch * width for samples, width in layers]
        limit = kept - BIT_VALUES // 2
        # 1 where bits < limit, else 0. A comparison of random numbers takes up to five times as long on a CPU.
        keep = torch.rsub(self._bits(sum(sizes)).clamp_(limit - 1, limit), limit).to(dtype)
        masks = [
            self._own(mask.view(samples, batch, width), 1).flatten(0, 1)
            for mask, (samples, width) in zip(keep.split(sizes), layers, strict=True)
        ]
        return masks, BIT_VALUES / kept

    def _bits(self, n: int) -> Tensor:
        """Uniform int16 numbers (n,), from -2**15 to 2**15 - 1."""
        words = -(-n // 4)
        if self._raw is not None:
            return torch.from_numpy(self._raw.random_raw(words).view(np.int16)[:n])
        drawn = torch.empty(words, dtype=torch.int64, device=self.device)
        return drawn.random_(-(2**63), None, generator=self.generator).view(torch.int16)[:n]

    def permutation(self, n: int) -> Tensor:
        """A random order of n images."""
        return torch.randperm(n, generator=self.generator, device=self.device)

    def state(self) -> Tensor:
        """The state of the generators, uint8."""
        state = self.generator.get_state()
        if self._raw is None:
            return state
        raw = self._raw.state["state"]["state"]  # uint64 (4,)
        return torch.cat((state, torch.from_numpy(raw.view(np.uint8).copy())))

    def restore(self, state: Tensor, step: int) -> bool:
        """Return to `state`. Where it is of another kind of device or version: seed anew, by seed and step; False."""
        own, size = len(self.generator.get_state()), len(self.state())
        try:
            if len(state) != size:
                raise ValueError("a state of another size")
            self.generator.set_state(state[:own].cpu())
            if self._raw is not None:
                raw = np.frombuffer(state[own:].numpy(), np.uint64)  # (4,)
                self._raw.state = {**self._raw.state, "state": {"state": raw}}
        except (RuntimeError, ValueError):
            self._begin((self._seed + step) % 2**63)
            return False
        return True
