"""The networks as layers with weights, without losses.

An architecture is a pair: an encoder from pictures to 2·d numbers, and its mirror image, a decoder from d numbers to
some for each pixel. The model says what these numbers mean. A decoder may return pixels in any order: the loss is a sum
over them. Where a network is conditional, a vector of the class is added to the output of its first layer: the same as
if that layer had the one-hot class as a second input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaecli import config as configs
from vaecli.config import ModelConfig
from vaecli.errors import VaeError
from vaecli.model_format import ImageShape
from vaecli.training.functions import elu
from vaecli.training.noise import Noise

Function = Callable[[Tensor], Tensor]


def identity(x: Tensor) -> Tensor:
    """No activation."""
    return x


# Of the dense layers: away from the latent, and next to it.
ACTIVATIONS: dict[configs.Activation, tuple[Function, Function]] = {
    "elu-tanh": (elu, torch.tanh),
    "elu": (elu, elu),
    "relu": (F.relu, F.relu),
    "linear": (identity, identity),
}

WIDEST = 8  # times the first level's channels


class MLP(nn.Module):
    """Linear layers; after each but the last an activation, and dropout in training."""

    def __init__(self, sizes: Sequence[int], activations: Sequence[Function], dropout: float, classes: int) -> None:
        super().__init__()
        self.of_class = _of_class(classes, sizes[1])
        self.layers = nn.ModuleList(nn.utils.skip_init(nn.Linear, inner, outer) for inner, outer in pairwise(sizes))
        self.activations = tuple(activations)
        self.dropout = dropout

    def forward(self, x: Tensor, noise: Noise | None = None, label: Tensor | None = None) -> Tensor:
        """(batch, sizes[0]) -> (batch, sizes[-1]); `noise` for dropout; None is without dropout."""
        for at, (layer, activation) in enumerate(zip(self.layers, self.activations, strict=False)):
            x = layer(x)
            if at == 0 and self.of_class is not None:
                x = x + self.of_class(label)
            x = activation(x)
            if noise is not None:
                x = noise.dropout(x, self.dropout)
        last: Tensor = self.layers[-1](x)
        return last


class MLPEncoder(nn.Module):
    """Hidden layers of one width: (batch, c, h, w) -> (batch, outputs)."""

    def __init__(self, config: ModelConfig, image_shape: ImageShape, outputs: int, classes: int = 0) -> None:
        super().__init__()
        hidden = [config.hidden] * config.depth
        far, near = ACTIVATIONS[config.activation]
        activations = [far] * (config.depth - 1) + [near]
        self.stack = MLP((math.prod(image_shape), *hidden, outputs), activations, config.dropout, classes)

    def forward(self, image: Tensor, noise: Noise | None = None, label: Tensor | None = None) -> Tensor:
        """`noise` for dropout; None is without dropout. `label` (batch,) where the network is conditional."""
        result: Tensor = self.stack(image.flatten(1), noise, label)
        return result


class MLPDecoder(nn.Module):
    """The mirror image: (batch, d) -> (batch, *shape)."""

    def __init__(self, config: ModelConfig, shape: tuple[int, int, int], classes: int = 0) -> None:
        super().__init__()
        hidden = [config.hidden] * config.depth
        far, near = ACTIVATIONS[config.activation]
        activations = [near] + [far] * (config.depth - 1)
        self.shape = shape
        self.stack = MLP((config.latent_dim, *hidden, math.prod(shape)), activations, config.dropout, classes)

    @property
    def last_layer(self) -> nn.Module:
        """The layer that makes the pixels."""
        return self.stack.layers[-1]

    def forward(self, latent: Tensor, noise: Noise | None = None, label: Tensor | None = None) -> Tensor:
        """As of the encoder."""
        result: Tensor = self.stack(latent, noise, label).unflatten(1, self.shape)
        return result

    def to_picture_order(self, raw: Tensor) -> Tensor:
        """The output of `forward` as pictures (..., R, h, w): it has their order already."""
        return raw

    def to_output_order(self, image: Tensor) -> Tensor:
        """The inverse: pictures in the order of `forward`."""
        return image


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))): pre-activation (He et al. 2016), GroupNorm (Wu & He 2018).

    The second convolution starts at zero, so that a new block passes its input on.
    """

    def __init__(self, level: tuple[int, int, int], dropout: float) -> None:
        """For maps of the shape `level`, (channels, height, width)."""
        super().__init__()
        channels = level[0]
        self.norms = nn.ModuleList(_group_norm(level) for _ in range(2))
        self.convolutions = nn.ModuleList(_convolution(channels, channels) for _ in range(2))
        self.dropout = dropout

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """(batch, channels, h, w) -> the same."""
        hidden = self.convolutions[0](F.silu(self.norms[0](x)))
        if noise is not None:
            hidden = noise.dropout(hidden, self.dropout)
        change: Tensor = self.convolutions[1](F.silu(self.norms[1](hidden)))
        return x + change


class ConvEncoder(nn.Module):
    """Residual blocks between strided convolutions, each halving the map: (batch, c, h, w) -> (batch, outputs).

    Pictures are cut into patches first: p x p pixels become the channels of one position (Shi et al. 2016).
    """

    def __init__(self, config: ModelConfig, image_shape: ImageShape, outputs: int, classes: int = 0) -> None:
        super().__init__()
        levels = _levels(config, image_shape)
        self.patch = config.patch
        self.memory_format = torch.contiguous_format
        self.of_class = _of_class(classes, levels[0][0])
        self.first = _convolution(image_shape[0] * self.patch**2, levels[0][0])
        self.blocks = nn.ModuleList()
        self.halvings = nn.ModuleList()
        for level, (wider, *_) in zip(levels, [*levels[1:], levels[-1]], strict=True):
            self.blocks.append(nn.ModuleList(ResidualBlock(level, config.dropout) for _ in range(config.depth)))
            self.halvings.append(_convolution(level[0], wider, stride=2))
        del self.halvings[-1]
        self.norm = _group_norm(levels[-1])
        channels, *sides = levels[-1]
        self.latent_map = config.latent_map
        if self.latent_map:
            self.last = _convolution(channels, outputs // math.prod(sides), size=1)  # each position by itself
        else:
            self.last = nn.utils.skip_init(nn.Linear, math.prod(levels[-1]), outputs)

    def forward(self, image: Tensor, noise: Noise | None = None, label: Tensor | None = None) -> Tensor:
        """`noise` for dropout; None is without dropout. `label` (batch,) where the network is conditional."""
        height, width = image.shape[2:]
        whole = F.pad(image * 2 - 1, (0, -width % self.patch, 0, -height % self.patch))  # patches at the edge are whole
        x = self.first(F.pixel_unshuffle(whole, self.patch).to(memory_format=self.memory_format))
        if self.of_class is not None:
            x = x + self.of_class(label)[:, :, None, None]
        for level, blocks in enumerate(self.blocks):
            if level:
                x = self.halvings[level - 1](x)
            for block in blocks:  # type: ignore[attr-defined]  # a ModuleList of ModuleLists
                x = block(x, noise)
        x = F.silu(self.norm(x))
        result: Tensor = self.last(x if self.latent_map else x.flatten(1)).flatten(1)
        return result


class ConvDecoder(nn.Module):
    """The mirror image, each level doubled by repeating pixels: (batch, d) -> (batch, R, pixels).

    The first pixels of all patches come first, then the second ones: (R, p·p·h/p, w/p) for pictures (h, w) of whole
    patches. To bring the R numbers of all pixels into the order of a picture takes a tenth of a training step.
    """

    def __init__(self, config: ModelConfig, shape: tuple[int, int, int], classes: int = 0) -> None:
        super().__init__()
        levels = _levels(config, shape)[::-1]
        self.of_class = _of_class(classes, levels[0][0])
        self.shape, self.shapes, self.patch = shape, levels, config.patch
        self.memory_format = torch.contiguous_format
        # Whether `forward` leaves the pixels in patches: none may be beyond the edge, and a patch of one has no order.
        self.in_patches = config.patch > 1 and not any(side % config.patch for side in shape[1:])
        channels = levels[0][0]
        self.latent_map = config.latent_map
        if self.latent_map:
            self.first = _convolution(config.latent_map, channels, size=1)
        else:
            self.first = nn.utils.skip_init(nn.Linear, config.latent_dim, math.prod(levels[0]))
        self.blocks = nn.ModuleList()
        self.doublings = nn.ModuleList()
        for level, (narrower, *_) in zip(levels, [*levels[1:], levels[-1]], strict=True):
            self.blocks.append(nn.ModuleList(ResidualBlock(level, config.dropout) for _ in range(config.depth)))
            self.doublings.append(_convolution(level[0], narrower))
        del self.doublings[-1]
        self.norm = _group_norm(levels[-1])
        # A patch has its position's channels to itself: neighbours would cost nine times as much.
        self.last = _convolution(levels[-1][0], shape[0] * self.patch**2, size=3 if self.patch == 1 else 1)

    @property
    def last_layer(self) -> nn.Module:
        """The layer that makes the pixels."""
        return self.last

    def forward(self, latent: Tensor, noise: Noise | None = None, label: Tensor | None = None) -> Tensor:
        """As of the encoder; `to_picture_order` brings the result into order."""
        if self.latent_map:
            x = self.first(latent.unflatten(1, (-1, *self.shapes[0][1:])))
        else:
            x = self.first(latent).unflatten(1, self.shapes[0])
        x = x.to(memory_format=self.memory_format)
        if self.of_class is not None:
            x = x + self.of_class(label)[:, :, None, None]
        for level, blocks in enumerate(self.blocks):
            if level:
                x = doubled(x, self.doublings[level - 1], self.shapes[level][1:])  # type: ignore[arg-type]  # a Conv2d
            for block in blocks:  # type: ignore[attr-defined]  # a ModuleList of ModuleLists
                x = block(x, noise)
        patches: Tensor = self.last(F.silu(self.norm(x))).to(memory_format=torch.contiguous_format)
        if self.in_patches:
            pixels: Tensor = patches.unflatten(1, (-1, self.patch**2)).flatten(2, 3)
            return pixels
        return self._in_order(patches)

    def to_picture_order(self, raw: Tensor) -> Tensor:
        """The output of `forward` as pictures (..., R, h, w)."""
        if not self.in_patches:
            return raw
        return self._in_order(raw.unflatten(-2, (self.patch**2, -1)).flatten(-4, -3))

    def to_output_order(self, image: Tensor) -> Tensor:
        """The inverse: the pixels of pictures (batch, c, h, w) in the order of `forward`."""
        if not self.in_patches:
            return image
        pixels: Tensor = F.pixel_unshuffle(image, self.patch).unflatten(1, (-1, self.patch**2))
        return pixels.flatten(2, 3)

    def _in_order(self, patches: Tensor) -> Tensor:
        """(..., R·p·p, rows, columns) -> (..., R, h, w)."""
        _, height, width = self.shape
        return F.pixel_shuffle(patches, self.patch)[..., :height, :width]


def doubled(x: Tensor, convolution: nn.Conv2d, size: tuple[int, int]) -> Tensor:
    """A 3x3 convolution of x with each pixel repeated as 2x2: (batch, c, h, w) -> (batch, c', *size).

    Halving rounds an odd size up: an odd `size` lacks the last doubled row or column.

    Nine weights meet only four different pixels, so a transposed convolution of stride 2 whose 4x4 weights are sums of
    the 3x3 ones gives the same (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?") in
    half the time.
    """
    if any(side % 2 for side in size):
        batch, channels, height, width = x.shape
        repeated = x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)  # interpolate() exports without known sides
        whole = repeated.reshape(batch, channels, 2 * height, 2 * width)
        return cast(Tensor, convolution(whole[:, :, : size[0], : size[1]]))
    weight = convolution.weight.flip(2, 3)  # (c', c, 3, 3)
    weight = F.pad(weight, (0, 1)) + F.pad(weight, (1, 0))
    weight = F.pad(weight, (0, 0, 0, 1)) + F.pad(weight, (0, 0, 1, 0))  # (c', c, 4, 4)
    return F.conv_transpose2d(x, weight.transpose(0, 1), convolution.bias, stride=2, padding=1)


def use_channels_last(network: nn.Module) -> None:
    """Keep the channels of a position next to each other in memory, in maps and weights of convolutions.

    oneDNN then convolves float32 maps without arranging them anew each time. Of the recipe `pictures` a step takes 0.86
    of the time with AVX-512, and 0.98 with AVX2. In bfloat16 convolutions would take up to twice as long.
    """
    assert isinstance(network, ConvEncoder | ConvDecoder)
    network.memory_format = torch.channels_last
    network.to(memory_format=torch.channels_last)


def _levels(config: ModelConfig, shape: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """(channels, height, width) of each level of a convolutional encoder, that of the patches first."""
    _, height, width = (-(-side // config.patch) for side in shape)
    levels = [(config.width, height, width)]
    while max(height, width) > config.map_size:
        height, width = -(-height // 2), -(-width // 2)
        levels.append((config.width * min(2 ** len(levels), WIDEST), height, width))
    return levels


def _of_class(classes: int, size: int) -> nn.Embedding | None:
    """(batch,) int64 -> (batch, size): a vector for each class; None where there are none."""
    return nn.Embedding(classes, size) if classes else None


def _convolution(inner: int, outer: int, stride: int = 1, size: int = 3) -> nn.Module:
    layer: nn.Module = nn.utils.skip_init(nn.Conv2d, inner, outer, size, stride=stride, padding=size // 2)
    return layer


def _group_norm(level: tuple[int, int, int]) -> nn.Module:
    """Of a map (channels, height, width): up to 8 groups of channels; one where these would be of one number each.

    Raises VaeError for a map of one number.
    """
    channels, groups = level[0], math.gcd(level[0], 8)
    if math.prod(level) == 1:
        raise VaeError("`width` 1: the smallest map is a single number", "use a larger `width` or `map_size`")
    return nn.GroupNorm(groups if math.prod(level) > groups else 1, channels)


@dataclass(frozen=True)
class ArchitectureParts:
    """The two networks of an architecture, and the pictures they take."""

    encoder: type[MLPEncoder | ConvEncoder]
    decoder: type[MLPDecoder | ConvDecoder]
    sides: tuple[int, int] = (1, configs.LARGEST_SIDE)  # smallest and largest height and width in pixels

    def check(self, name: str, image_shape: ImageShape) -> None:
        """Raise VaeError where the pictures are too small or too large for it."""
        (low, high), (_, height, width) = self.sides, image_shape
        if not all(low <= side <= high for side in (height, width)):
            raise VaeError(
                f"`architecture` {name}: the pictures are {height}x{width}, not {low} to {high} pixels a side",
                "choose another `architecture`, or resize them with `image_size`",
            )


# A new architecture is a row here and a name in config.Architecture.
ARCHITECTURES: dict[configs.Architecture, ArchitectureParts] = {
    "mlp": ArchitectureParts(MLPEncoder, MLPDecoder),
    "conv": ArchitectureParts(ConvEncoder, ConvDecoder, sides=configs.CONVOLVED_SIDES),
}


def latent_shape(config: ModelConfig, image_shape: ImageShape) -> tuple[int, ...]:
    """The sizes of the latent: (d,), or (channels, height, width) of a map, which is flattened to d numbers."""
    if config.architecture != "conv" or not config.latent_map:
        return (config.latent_dim,)
    return config.latent_map, *_levels(config, image_shape)[-1][1:]


def latent_dim(config: ModelConfig, image_shape: ImageShape) -> int:
    """How many numbers the latent has."""
    return math.prod(latent_shape(config, image_shape))


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Xavier-uniform weights (Glorot & Bengio 2010), zero biases, residual blocks that start as identities."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.convolutions[1].weight)  # type: ignore[arg-type]  # a Conv2d's tensor
        elif isinstance(module, nn.Embedding):
            nn.init.zeros_(module.weight)
