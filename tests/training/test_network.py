"""The networks: their shapes for every size of picture, and that config and tables name the same things."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from tests.training.tiny_learner import CPU
from vaecli import config
from vaecli.config import LARGEST_SIDE, ModelConfig
from vaecli.errors import VaeError
from vaecli.model_format import ImageShape
from vaecli.training import network
from vaecli.training.functions import elu
from vaecli.training.model import VAE
from vaecli.training.network import (
    ACTIVATIONS,
    ARCHITECTURES,
    ConvDecoder,
    ConvEncoder,
    MLPDecoder,
    MLPEncoder,
    ResidualBlock,
    doubled,
    initialise,
)
from vaecli.training.noise import Noise

NETWORK = "vaecli/training/network.py"


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def missing(names: object, table: dict[str, object]) -> str:
    """Names of config.py that have no row in a table of network.py, or the reverse."""
    return ", ".join(sorted(set(get_args(names)) ^ set(table)))


def test_every_architecture_of_config_has_a_row() -> None:
    odd = missing(config.Architecture, ARCHITECTURES)  # type: ignore[arg-type]  # its keys are literals
    assert not odd, f"config.Architecture and ARCHITECTURES in {NETWORK} differ in: {odd}"


def test_every_activation_of_config_has_a_row() -> None:
    odd = missing(config.Activation, ACTIVATIONS)  # type: ignore[arg-type]  # its keys are literals
    assert not odd, f"config.Activation and ACTIVATIONS in {NETWORK} differ in: {odd}"


SHAPES: dict[config.Architecture, list[ImageShape]] = {
    "mlp": [(1, 1, 1), (1, 28, 28), (3, 5, 9)],
    "conv": [(1, 16, 16), (3, 17, 33), (1, 28, 28), (3, 19, 40), (1, 64, 16)],
}


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name, shapes in SHAPES.items() for shape in shapes])
@pytest.mark.parametrize("depth", [1, 3])
def test_encoder_and_decoder_have_the_shapes_of_pictures_and_latents(
    name: config.Architecture, shape: ImageShape, depth: int
) -> None:
    settings = ModelConfig(architecture=name, hidden=8, width=4, depth=depth, latent_dim=3)
    parts = ARCHITECTURES[name]
    parts.check(name, shape)
    encoder, decoder = parts.encoder(settings, shape, 6), parts.decoder(settings, shape)
    for part in (encoder, decoder):
        initialise(part, generator())
    for batch in (1, 2):
        assert encoder(torch.rand(batch, *shape)).shape == (batch, 6)
        assert decoder(torch.rand(batch, 3)).shape == (batch, *shape)
    assert isinstance(decoder.last_layer.bias, Tensor)
    assert len(decoder.last_layer.bias) == (shape[0] if name == "conv" else math.prod(shape))


def test_a_latent_map_is_of_what_lies_at_each_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_group_norm", lambda level: nn.Identity())  # its statistics are of all positions
    settings, shape = ModelConfig(architecture="conv", width=4, depth=1, latent_map=2), (1, 60, 64)
    size = network.latent_dim(settings, shape)
    assert size == 2 * 8 * 8
    encoder, decoder = ConvEncoder(settings, shape, 2 * size), ConvDecoder(settings, shape)
    for part in (encoder, decoder):
        initialise(part, generator())
    assert encoder(torch.rand(3, *shape, generator=generator())).shape == (3, 2 * size)
    latent = torch.randn(1, size, generator=generator()).requires_grad_()
    drawn = decoder(latent)
    assert drawn.shape == (1, *shape)
    (influence,) = torch.autograd.grad(drawn[0, 0, 0, 0], latent)
    strength = influence.view(2, 8, 8).abs().sum(0)
    assert float(strength[0, 0]) > 0
    assert not strength[4:].any()
    assert not strength[:, 4:].any()


@pytest.mark.parametrize("shape", [(3, 48, 48), (1, 100, 81), (3, 16, 16)])
def test_a_latent_map_suits_pictures_of_any_size(shape: ImageShape) -> None:
    settings = ModelConfig(architecture="conv", width=4, depth=1, latent_map=3, patch=4)
    vae = VAE(settings, shape)
    vae.initialise(generator())
    mean, _ = vae.encode(torch.rand(2, *shape, generator=generator()))
    assert mean.shape == (2, vae.latent_dim)
    assert vae.image(vae.decode(mean)).shape == (2, *shape)


@pytest.mark.parametrize("shape", [(3, 16, 24), (1, 18, 21)])
@pytest.mark.parametrize("patch", [1, 2, 4])
def test_pixels_in_the_decoders_order_have_the_loss_of_the_picture(shape: ImageShape, patch: int) -> None:
    vae = VAE(
        ModelConfig(architecture="conv", width=4, depth=1, latent_dim=3, patch=patch, likelihood="logistic"), shape
    )
    vae.initialise(generator())
    vae.set_scale(0.2)
    x = torch.rand(2, *shape, generator=generator())
    raw = vae.decode(torch.randn(2, 3, generator=generator()))
    ordered = vae.decoder.to_picture_order(raw)
    assert ordered.shape == x.shape
    expected = vae.likelihood.reconstruction(ordered, x, vae.log_scale)
    torch.testing.assert_close(vae.reconstruction(raw, x), expected)
    assert torch.equal(vae.decoder.to_picture_order(vae.decoder.to_output_order(x)), x)


def test_dense_layers_have_no_latent_map() -> None:
    assert network.latent_dim(ModelConfig(latent_dim=7, latent_map=3), (1, 28, 28)) == 7
    assert network.latent_shape(ModelConfig(latent_dim=7, latent_map=3), (1, 28, 28)) == (7,)


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 17, 33), (1, 30, 64)])
@pytest.mark.parametrize("patch", [2, 3, 4])
def test_patches_are_cut_from_pictures_of_any_size_and_put_together(shape: ImageShape, patch: int) -> None:
    settings = ModelConfig(architecture="conv", width=4, depth=1, latent_dim=3, patch=patch)
    encoder, decoder = ConvEncoder(settings, shape, 6), ConvDecoder(settings, (5, *shape[1:]))
    for part in (encoder, decoder):
        initialise(part, generator())
    image = torch.rand(2, *shape, generator=generator())
    assert encoder(image).shape == (2, 6)
    assert decoder.to_picture_order(decoder(torch.rand(2, 3))).shape == (2, 5, *shape[1:])
    assert blocks(encoder)[0].norms[0].num_channels == 4, "patches are the first level"
    changed = image.clone()
    changed[..., -1, -1] += 1
    assert not torch.equal(encoder(changed), encoder(image)), "the last pixel is in a patch, too"
    assert isinstance(decoder.last_layer.bias, Tensor)
    with torch.no_grad():  # the first pixel of each patch alone
        nn.init.zeros_(decoder.last_layer.weight)  # type: ignore[arg-type]  # a layer's tensor
        decoder.last_layer.bias.copy_((torch.arange(5 * patch**2) % patch**2 == 0).float())
    expected = torch.zeros(shape[1:])
    expected[::patch, ::patch] = 1
    assert torch.equal(decoder.to_picture_order(decoder(torch.rand(2, 3)))[1, 2], expected)


@pytest.mark.parametrize(("name", "low", "high"), [("mlp", 1, LARGEST_SIDE), ("conv", 16, 256)], ids=["mlp", "conv"])
def test_pictures_of_other_sizes_are_refused(name: config.Architecture, low: int, high: int) -> None:
    parts = ARCHITECTURES[name]
    for height, width in ((low, low), (low, high), (high, high)):
        parts.check(name, (1, height, width))
    for height, width in ((low - 1, low), (low, low - 1), (high + 1, high), (low, high + 1)):
        with pytest.raises(VaeError, match=f"`architecture` {name}: the pictures are {height}x{width}, not {low} to"):
            parts.check(name, (1, height, width))


def test_a_convolutional_network_halves_to_8_pixels_and_widens_to_8_times_its_width() -> None:
    settings = ModelConfig(architecture="conv", width=4, depth=1, latent_dim=3)
    encoder, decoder = ConvEncoder(settings, (1, 256, 130), 6), ConvDecoder(settings, (1, 256, 130))
    widths = [block.convolutions[0].in_channels for block in blocks(encoder)]
    assert widths == [4, 8, 16, 32, 32, 32]
    assert [block.convolutions[0].in_channels for block in blocks(decoder)] == widths[::-1]
    assert encoder.last.in_features == 32 * 8 * 5
    assert decoder.shapes[0] == (32, 8, 5)


@pytest.mark.parametrize(("map_size", "smallest"), [(64, (64, 33)), (63, (32, 17)), (1, (1, 1))])
def test_halving_ends_at_the_size_that_is_asked_for(map_size: int, smallest: tuple[int, int]) -> None:
    settings = ModelConfig(architecture="conv", width=4, depth=1, latent_map=2, map_size=map_size)
    assert ConvDecoder(settings, (1, 64, 33)).shapes[0][1:] == smallest
    assert network.latent_dim(settings, (1, 64, 33)) == 2 * math.prod(smallest)
    assert network.latent_shape(settings, (1, 64, 33)) == (2, *smallest)


def blocks(network: nn.Module) -> list[ResidualBlock]:
    return [module for module in network.modules() if isinstance(module, ResidualBlock)]


def test_the_activation_next_to_the_latent_is_the_second_of_its_row() -> None:
    settings = ModelConfig(hidden=8, depth=3, activation="elu-tanh", latent_dim=2)
    encoder, decoder = MLPEncoder(settings, (1, 4, 4), 4), MLPDecoder(settings, (1, 4, 4))
    assert encoder.stack.activations == (elu, elu, torch.tanh)
    assert decoder.stack.activations == (torch.tanh, elu, elu)


def test_a_new_residual_block_passes_its_input_on() -> None:
    block, x = ResidualBlock((4, 5, 6), 0.5), torch.rand(2, 4, 5, 6)
    initialise(block, generator())
    assert torch.equal(block(x, Noise(0, CPU)), x)


def test_initial_weights_are_xavier_uniform_from_the_generator_alone() -> None:
    before = torch.get_rng_state()
    layers = [nn.utils.skip_init(nn.Linear, 30, 50) for _ in range(2)]
    for layer in layers:
        initialise(layer, generator())
    weight, bound = layers[0].weight, (6 / (30 + 50)) ** 0.5
    assert torch.equal(weight, layers[1].weight)
    assert float(weight.detach().abs().max()) == pytest.approx(bound, rel=0.01)
    assert float(weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.05)
    assert not layers[0].bias.any()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_dropout_needs_noise(name: config.Architecture) -> None:
    settings = ModelConfig(architecture=name, hidden=16, width=4, depth=1, latent_dim=3, dropout=0.5)
    decoder, latent = ARCHITECTURES[name].decoder(settings, (1, 16, 16)), torch.rand(2, 3)
    for parameter in decoder.parameters():  # also those that start at zero
        nn.init.normal_(parameter, std=0.3, generator=generator())
    noise = Noise(0, CPU)
    assert torch.equal(decoder(latent), decoder(latent))
    assert not torch.equal(decoder(latent, noise), decoder(latent, noise))


@pytest.mark.parametrize("size", [(14, 10), (13, 10), (14, 9), (13, 9)])
def test_a_doubled_map_is_convolved_as_if_its_pixels_were_repeated(size: tuple[int, int]) -> None:
    layer = nn.Conv2d(3, 5, 3, padding=1).double()
    x = torch.randn(2, 3, 7, 5, dtype=torch.float64, generator=generator()).requires_grad_()

    def gradients(y: Tensor) -> list[Tensor]:
        rows = torch.arange(y.numel(), dtype=torch.float64).view_as(y)
        return list(torch.autograd.grad((y * rows).sum(), [x, *layer.parameters()]))

    repeated = x.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, : size[0], : size[1]]
    expected, found = layer(repeated), doubled(x, layer, size)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(found), gradients(expected))


def test_a_map_of_one_position_is_normalised_over_more_than_one_number() -> None:
    """One number less its own mean is 0, whatever the picture is."""
    config = ModelConfig(architecture="conv", width=8, patch=8, depth=1, latent_dim=2, dropout=0.0)
    encoder = ConvEncoder(config, (1, 8, 8), 4)
    initialise(encoder, generator())
    one, other = torch.rand(2, 1, 1, 8, 8, generator=generator())
    assert not torch.allclose(encoder(one), encoder(other))
    with pytest.raises(VaeError, match="`width` 1: the smallest map is a single number"):
        ConvEncoder(ModelConfig(architecture="conv", width=1, patch=8), (1, 8, 8), 4)
