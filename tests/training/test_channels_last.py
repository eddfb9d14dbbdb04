"""Convolutions with the channels of a position next to each other in memory: when, and that they compute the same."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.training.tiny_learner import random_images, tiny_learner
from vaecli.settings import Flags
from vaecli.training.learner import AUTOGRAD, CHANNELS_LAST, Learner
from vaecli.training.network import ResidualBlock

IMAGES = random_images(8)
CONVOLUTIONS: Flags = {
    ("model", "architecture"): "conv",
    ("model", "width"): 8,
    ("model", "depth"): 1,
    ("model", "map_size"): 2,  # from 6x7 over 3x4: of odd and even sizes
    ("model", "dropout"): 0.2,
    ("training", "ema"): 0.9,
    ("training", "clip_gradient"): 50.0,
}
FORMS: list[Flags] = [{}, {("model", "latent_map"): 2}, {("model", "patch"): 2, ("model", "likelihood"): "logistic"}]


def convolutional(flags: Flags, recorded: str = "") -> Learner:
    return tiny_learner({**CONVOLUTIONS, **flags}, recorded=recorded)


def weights(learner: Learner) -> Tensor:
    return torch.cat([weight.flatten() for weight in learner.weights().values()])


@pytest.mark.parametrize("flags", FORMS, ids=["dense latent", "latent map", "patches"])
def test_the_training_is_the_same_but_for_rounding(flags: Flags) -> None:
    plain, arranged = convolutional(flags, AUTOGRAD), convolutional(flags)
    assert (plain.path, arranged.path) == (AUTOGRAD, CHANNELS_LAST)
    assert torch.equal(weights(arranged), weights(plain))
    for _ in range(4):
        plain.step(IMAGES)
        arranged.step(IMAGES)
        # Not the weights: Adam makes large steps of gradients that are nothing but rounding, which then grows.
        for (name, found), expected in zip(arranged.model.named_parameters(), plain.model.parameters(), strict=True):
            assert found.grad is not None
            assert expected.grad is not None
            apart = (found.grad - expected.grad).norm()
            assert apart <= 1e-3 * plain.parameters.gradients.norm(), name
    assert arranged.take_losses().loss == pytest.approx(plain.take_losses().loss, rel=1e-4)
    torch.testing.assert_close(arranged.reconstruct(IMAGES), plain.reconstruct(IMAGES), atol=1e-3, rtol=0)


@pytest.mark.parametrize("recorded", [AUTOGRAD, ""], ids=["channels first", "channels last"])
def test_residual_blocks_see_maps_and_weights_of_this_arrangement(recorded: str) -> None:
    learner, seen = convolutional({}, recorded), set[bool]()

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        for tensor in (*inputs, layer.weight):
            assert isinstance(tensor, Tensor)
            seen.add(tensor.is_contiguous(memory_format=torch.channels_last))

    for module in learner.model.modules():
        if isinstance(module, ResidualBlock):
            for convolution in module.convolutions:
                convolution.register_forward_pre_hook(look)
    learner.step(IMAGES)
    assert seen == {recorded == ""}


@pytest.mark.parametrize("flags", FORMS, ids=["dense latent", "latent map", "patches"])
def test_restoring_is_exact(flags: Flags) -> None:
    whole, part = convolutional(flags), convolutional(flags)
    whole.step(IMAGES)
    saved = copy.deepcopy((whole.weights(), whole.state()))
    part.restore(*saved)
    for learner in (whole, part):
        learner.step(IMAGES)
    assert torch.equal(weights(part), weights(whole))


def test_bfloat16_and_dense_networks_do_without() -> None:
    assert tiny_learner(CONVOLUTIONS, precision="bfloat16").path == AUTOGRAD
    assert tiny_learner({("model", "likelihood"): "gaussian"}).path == AUTOGRAD
