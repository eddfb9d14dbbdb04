"""Parameters as views of one vector: the module, autograd and the optimiser all see the same memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vaecli.training.flat import FlatParameters


class Network(nn.Module):
    """2 layers with 3·4 + 4 + 4·2 + 2 = 26 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(torch.tanh(self.first(x)))
        return result


@pytest.fixture
def module() -> Network:
    return Network()


def test_the_vector_begins_with_the_matrices_and_ends_with_the_scale(module: Network) -> None:
    module.log_scale = nn.Parameter(torch.tensor(0.5))
    ordered = (module.first.weight, module.last.weight, module.first.bias, module.last.bias, module.log_scale)
    expected = torch.cat([parameter.detach().flatten() for parameter in ordered])
    flat = FlatParameters(module)
    assert flat.vector.shape == (27,)
    assert torch.equal(flat.vector, expected)
    assert (flat.matrices.numel(), flat.others.numel(), flat.scale.numel()) == (20, 6, 1)
    flat.vector.mul_(2)
    assert torch.equal(torch.cat([flat.matrices, flat.others, flat.scale]), 2 * expected)
    assert float(module.log_scale.detach()) == 1.0


def test_a_change_of_the_vector_changes_the_module(module: Network) -> None:
    flat = FlatParameters(module)
    with torch.no_grad():
        flat.vector.fill_(0.5)
    assert all(bool((parameter == 0.5).all()) for parameter in module.parameters())
    assert module(torch.ones(1, 3)).tolist() == [[pytest.approx(4 * 0.5 * torch.tensor(2.0).tanh().item() + 0.5)] * 2]


def test_autograd_adds_to_the_gradients_vector(module: Network) -> None:
    plain = Network()
    plain.load_state_dict(module.state_dict())
    flat, x = FlatParameters(module), torch.rand(5, 3)
    for network in (module, plain):
        network(x).square().sum().backward()
    members = (plain.first.weight, plain.last.weight, plain.first.bias, plain.last.bias)
    expected = torch.cat([parameter.grad.flatten() for parameter in members])  # type: ignore[union-attr]  # set
    torch.testing.assert_close(flat.gradients, expected)
    assert torch.equal(torch.cat([flat.matrices.grad, flat.others.grad]), expected)  # type: ignore[list-item]  # set
    flat.gradients.zero_()
    assert all(not parameter.grad.any() for parameter in module.parameters())  # type: ignore[union-attr]  # set


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_the_copy_follows_the_vector_at_a_refresh(module: Network, dtype: torch.dtype | None) -> None:
    flat = FlatParameters(module, dtype)
    weight = module.first.weight
    value = flat.value(weight)
    assert (value.shape, value.dtype) == (weight.shape, dtype or torch.float32)
    with torch.no_grad():
        flat.vector.fill_(0.25)
    flat.refresh()
    assert bool((value == 0.25).all()), "the same view, with new values"


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_collect_brings_the_gradients_of_the_copy_to_the_optimiser(module: Network, dtype: torch.dtype | None) -> None:
    flat = FlatParameters(module, dtype)
    flat.gradient(module.last.bias).fill_(1.5)
    flat.collect()
    assert flat.gradients.dtype is torch.float32
    assert flat.gradients.tolist() == 24 * [0.0] + 2 * [1.5]


def test_replaced_values_last_as_long_as_the_block(module: Network) -> None:
    flat = FlatParameters(module, torch.bfloat16)
    before, value = flat.vector.detach().clone(), flat.value(module.first.bias)
    copied = value.clone()

    def fail_inside() -> None:
        with flat.replaced(torch.zeros(26)):
            assert not module(torch.ones(1, 3)).any()
            assert not value.any()
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert torch.equal(flat.vector, before)
    assert torch.equal(value, copied)
