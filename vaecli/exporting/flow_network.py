"""The network of a flow: the velocity at which latents move from noise to where those of pictures are.

A latent that is a map of positions gets a U-Net (Ronneberger et al., U-Net, 2015), another one residual dense layers.
Time, and the class where there are classes, scale and shift the channels of each block: "adaptive group normalisation"
(Dhariwal and Nichol, Diffusion models beat GANs on image synthesis, 2021, section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaecli.training.network import doubled

WAVES = 32  # of each phase, that time is embedded by
SLOWEST, FASTEST = 1.0, 100.0  # their frequencies, in radians from noise to latent
WIDEST, NARROWEST = 128, 64  # channels of the smallest map, and at least of any
SMALLEST_SIDE = 4  # maps are halved down to this side
HIDDEN = 256  # of dense layers
DENSE_BLOCKS = 4


class Velocity(nn.Module):
    """dx/dt at x and t: (batch, d), (batch,) in [0, 1], and `label` (batch,) where there are classes -> (batch, d).

    x are standardised latents: each dimension less its `mean`, over its `std`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: Sequence[int], mean: Tensor, std: Tensor, classes: int = 0) -> None:
        """For latents of this `shape`: (d,), or (channels, height, width) for maps. `mean` and `std` are (d,)."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.body: nn.Module = _UNet(shape) if len(shape) == 3 else _Dense(shape[0])
        size = self.body.condition
        self.of_time = nn.Sequential(nn.Linear(2 * WAVES, size), nn.SiLU(), nn.Linear(size, size))
        self.of_class = nn.Embedding(classes, size) if classes else None
        for last in self.modules():
            if isinstance(last, _Block | _UNet | _Dense):
                last.start_as_nothing()

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """The velocity, in standard deviations of each dimension."""
        exponents = torch.linspace(math.log(SLOWEST), math.log(FASTEST), WAVES, device=x.device)
        phases = time[:, None] * exponents.exp()
        condition = self.of_time(torch.cat([phases.cos(), phases.sin()], dim=1))
        if self.of_class is not None:
            condition = condition + self.of_class(label)
        velocity: Tensor = self.body(x, F.silu(condition))
        return velocity

    def latent(self, x: Tensor) -> Tensor:
        """The latents that standardised ones stand for: (batch, d) -> (batch, d)."""
        return self.mean + self.std * x


class _Block(nn.Module):
    """x + f(x), where time and class scale and shift the channels inside f."""

    def __init__(self, norms: Sequence[nn.Module], layers: Sequence[nn.Module], channels: int, condition: int) -> None:
        super().__init__()
        self.norms, self.layers = nn.ModuleList(norms), nn.ModuleList(layers)
        self.modulation = nn.Linear(condition, 2 * channels)

    def start_as_nothing(self) -> None:
        """Let f be 0 at first."""
        _zero(self.layers[1])

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        hidden = self.norms[1](self.layers[0](F.silu(self.norms[0](x))))
        scale, shift = self.modulation(condition).unflatten(1, (-1, *[1] * (x.dim() - 2))).chunk(2, dim=1)
        change: Tensor = self.layers[1](F.silu(hidden * (1 + scale) + shift))
        return x + change


class _UNet(nn.Module):
    """Of maps (channels, height, width), flat on the way in and out: one block a map on each way, one at the bottom."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        channels, *sides = shape
        self.shape, self.sides = tuple(shape), [tuple(sides)]
        while max(self.sides[-1]) > SMALLEST_SIDE:
            self.sides.append(tuple(-(-side // 2) for side in self.sides[-1]))
        halvings = len(self.sides) - 1
        widths = [min(WIDEST, max(NARROWEST, WIDEST >> (halvings - level))) for level in range(halvings + 1)]
        self.condition = 256
        self.first = _convolution(channels, widths[0])
        self.down = nn.ModuleList(_convolutional_block(width, self.condition) for width in widths)
        self.halvings = nn.ModuleList(_convolution(*pair, stride=2) for pair in pairwise(widths))
        self.bottom = _convolutional_block(widths[-1], self.condition)
        self.up = nn.ModuleList(_convolutional_block(width, self.condition) for width in widths)
        self.doublings = nn.ModuleList(_convolution(*pair[::-1]) for pair in pairwise(widths))
        self.norm = _norm(widths[0])
        self.last = _convolution(widths[0], channels)

    def start_as_nothing(self) -> None:
        """Let the velocity be 0 at first."""
        _zero(self.last)

    def forward(self, flat: Tensor, condition: Tensor) -> Tensor:
        x = self.first(flat.unflatten(1, self.shape))
        passed = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.halvings[level - 1](x), condition)
            passed.append(x)
        x = self.bottom(x, condition)
        for level in reversed(range(len(self.up))):
            if level < len(self.up) - 1:
                x = doubled(x, self.doublings[level], self.sides[level])  # type: ignore[arg-type]  # a Conv2d, two sides
            x = self.up[level](x + passed[level], condition)
        velocity: Tensor = self.last(F.silu(self.norm(x))).flatten(1)
        return velocity


class _Dense(nn.Module):
    """Residual dense layers: (batch, d) -> (batch, d)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.condition = HIDDEN
        self.first = nn.Linear(size, HIDDEN)
        self.blocks = nn.ModuleList(
            _Block(
                [nn.LayerNorm(HIDDEN) for _ in range(2)],
                [nn.Linear(HIDDEN, HIDDEN) for _ in range(2)],
                HIDDEN,
                self.condition,
            )
            for _ in range(DENSE_BLOCKS)
        )
        self.norm = nn.LayerNorm(HIDDEN)
        self.last = nn.Linear(HIDDEN, size)

    def start_as_nothing(self) -> None:
        """Let the velocity be 0 at first."""
        _zero(self.last)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x, condition)
        velocity: Tensor = self.last(F.silu(self.norm(x)))
        return velocity


def _convolutional_block(channels: int, condition: int) -> _Block:
    return _Block(
        [_norm(channels) for _ in range(2)], [_convolution(channels, channels) for _ in range(2)], channels, condition
    )


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(8, channels)


def _convolution(inner: int, outer: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(inner, outer, 3, stride=stride, padding=1)


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
