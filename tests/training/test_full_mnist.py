"""The numbers on full MNIST: ten epochs each, minutes in all. VAE_DATA names the folder that has it."""

from __future__ import annotations

import os
import statistics
from pathlib import Path

import msgspec
import pytest
import torch

from tests.command_line import PROJECT
from vaecli import datasets
from vaecli.config import Config
from vaecli.events import EpochMetrics
from vaecli.settings import resolve
from vaecli.training.fast.dense import DenseLearner
from vaecli.training.learner import Learner
from vaecli.training.session import Session

FOLDER = os.environ.get("VAE_DATA")

pytestmark = [
    pytest.mark.full_mnist,
    pytest.mark.slow,
    pytest.mark.skipif(
        FOLDER is None or not Path(FOLDER, "MNIST/raw/train-images-idx3-ubyte").exists(),
        reason="VAE_DATA names no folder with MNIST/raw in it",
    ),
]


def mean_of_epochs_6_to_10(settings: Config, kind: type[Learner] | None = None) -> float:
    """The steadier figure: the mean held-out loss of five epochs, in nats per image."""
    session = Session(settings, datasets.load(settings.data))
    if kind is not None:
        plain = session.learner
        session.learner = kind(plain.model, plain.noise, plain.setup)
    losses = [event.held_out.loss for event in session.run() if isinstance(event, EpochMetrics)]
    assert len(losses) == 10
    return statistics.mean(losses[5:])


def settings(file: Path | None, precision: str) -> Config:
    flags = {
        ("data", "source"): "mnist",
        ("data", "dir"): FOLDER,
        ("training", "precision"): precision,
        ("training", "epochs"): 10,
        ("training", "seed"): 1,
        ("training", "device"): "cpu",
    }
    return resolve(file, flags)


@pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16"])
def test_the_tutorials_run_follows_the_reference(precision: str) -> None:
    assert mean_of_epochs_6_to_10(settings(PROJECT / "examples/adcme-mnist.toml", precision)) == pytest.approx(
        109.5, abs=0.8
    )


@pytest.fixture(scope="module")
def plain_loss() -> float:
    """The default run in float32 through autograd."""
    return mean_of_epochs_6_to_10(settings(None, "float32"), Learner)


@pytest.mark.parametrize(
    ("precision", "kind"),
    [("float32", DenseLearner), ("bfloat16", DenseLearner), ("bfloat16", Learner)],
)
def test_every_path_agrees_with_float32_autograd(precision: str, kind: type[Learner], plain_loss: float) -> None:
    assert mean_of_epochs_6_to_10(settings(None, precision), kind) == pytest.approx(plain_loss, abs=0.5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no NVIDIA GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_agrees_with_float32_autograd_on_the_cpu(precision: str, plain_loss: float) -> None:
    asked = settings(None, precision)
    asked = msgspec.structs.replace(asked, training=msgspec.structs.replace(asked.training, device="cuda"))
    assert mean_of_epochs_6_to_10(asked) == pytest.approx(plain_loss, abs=0.5)
