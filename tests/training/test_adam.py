"""The optimiser, beside PyTorch's own."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from tests.command_line import PROJECT
from tests.conftest import TINY
from vaecli.training.adam import Adam
from vaecli.training.flat import FlatParameters


class Scaled(nn.Linear):
    """A network with a likelihood's scale."""

    def __init__(self) -> None:
        super().__init__(7, 5)
        self.log_scale = nn.Parameter(torch.zeros(3))


def test_it_is_pytorchs_adamw_to_the_bit_and_goes_on_from_a_state() -> None:
    generator = torch.Generator().manual_seed(0)
    module = Scaled()
    theirs = copy.deepcopy(module)
    weight, bias, scale = theirs.weight, theirs.bias, theirs.log_scale
    optimizer = torch.optim.AdamW(
        [
            {"params": [weight], "lr": 0.01, "weight_decay": 0.3},
            {"params": [bias], "lr": 0.01, "weight_decay": 0.0},
            {"params": [scale], "lr": 0.2, "weight_decay": 0.0},
        ],
        fused=True,
    )
    parameters = FlatParameters(module)
    adam = Adam(parameters, 0.3)
    for step in range(5):
        for mine, other in zip(module.parameters(), theirs.parameters(), strict=True):
            gradient = torch.randn(mine.shape, generator=generator)
            assert mine.grad is not None
            mine.grad.copy_(gradient)
            other.grad = gradient
        if step == 3:
            begun, adam = adam, Adam(parameters, 0.3)
            adam.restore(begun.state(), step)
        adam.step(0.01, 0.2)
        optimizer.step()
    for mine, other in zip(module.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_a_training_imports_no_compiler(blobs: Path, tmp_path: Path) -> None:
    """It takes almost as long to import as the rest of PyTorch."""
    program = "import sys; from vaecli.cli import main; main.run(sys.argv[1:]); print('torch._dynamo' in sys.modules)"
    command = ["train", "--data", str(blobs), "--run", str(tmp_path / "run"), "--epochs", "1", "--clip-gradient", "1"]
    done = subprocess.run(
        [sys.executable, "-c", program, *command, *TINY], capture_output=True, text=True, cwd=PROJECT, check=True
    )
    assert (tmp_path / "run/best.pt").exists()
    assert done.stdout == "False\n"
