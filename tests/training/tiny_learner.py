"""Learners of small networks and small pictures for them, made in a moment."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vaecli.datasets.dataset import ImageSet
from vaecli.settings import Flags, resolve
from vaecli.training.batches import Resident
from vaecli.training.learner import Learner, Setup
from vaecli.training.model import VAE
from vaecli.training.noise import Noise
from vaecli.training.session import choose_learner

CPU = torch.device("cpu")
SHAPE = (1, 6, 7)  # (channels, height, width)
STEPS_PER_EPOCH = 4

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN, which computes the dense steps"
)


def tiny_learner(
    flags: Flags,
    kind: type[Learner] | None = None,
    *,
    precision: str = "float32",
    device: torch.device = CPU,
    recorded: str = "",
) -> Learner:
    """A learner of this kind, or the one that a training would take. The same flags give the same weights."""
    settings = resolve(None, flags)
    model = VAE(settings.model, SHAPE)
    model.initialise(torch.Generator().manual_seed(1))
    setup = Setup(settings, precision, STEPS_PER_EPOCH, recorded=recorded)
    return (kind or choose_learner)(model, Noise(2, device), setup)


def random_images(n: int, seed: int = 3) -> Tensor:
    """uint8 (n, c, h, w)."""
    return torch.randint(0, 256, (n, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def source(images: Tensor) -> Resident:
    """Pictures (n, c, h, w) as a training reads them."""
    return Resident(ImageSet(images.permute(0, 2, 3, 1).numpy()), CPU)
