"""The training loop: batches in, one record an epoch out. Saving and showing are the caller's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vaecli.config import Config
from vaecli.errors import VaeError
from vaecli.metrics import EpochMetrics, Losses
from vaecli.training.learner import Learner
from vaecli.training.noise import Noise

MEASURED_AT_ONCE = 2000  # held-out images in a batch


@dataclass(frozen=True)
class Step:
    """So many images of this epoch have been learnt from."""

    epoch: int
    images: int


def train(
    learner: Learner, images: Tensor, held_out: Tensor, config: Config, *, after: int = 0, measuring_seed: int
) -> Iterator[Step | EpochMetrics]:
    """Train from the epoch that follows `after` to the last, yielding each step and each epoch.

    `images` and `held_out` are uint8 (n, c, h, w). Inside an epoch no value is read back from the device.

    Raises:
        VaeError: an epoch's loss is not finite; its weights should not be kept.
    """
    size, data = config.training.batch_size, config.data
    whole = len(images) - len(images) % size if data.drop_last else len(images)
    for epoch in range(after + 1, config.training.epochs + 1):
        start = time.perf_counter()
        order = learner.noise.permutation(len(images)) if data.shuffle else None
        for first in range(0, whole, size):
            chosen = slice(first, min(first + size, whole))
            learner.step(images[chosen] if order is None else images[order[chosen]])
            yield Step(epoch, chosen.stop)
        losses = learner.take_losses()
        seconds = time.perf_counter() - start
        measured = measure(learner, held_out, measuring_seed)
        if not (losses.finite and measured.finite):
            raise VaeError(
                f"the loss of epoch {epoch} is not finite",
                "try a smaller --learning-rate; the last good checkpoint is kept",
            )
        yield EpochMetrics(
            epoch=epoch, seconds=seconds, images_per_second=whole / seconds, train=losses, held_out=measured
        )


def measure(learner: Learner, images: Tensor, seed: int) -> Losses:
    """The negative ELBO of `images`, uint8 (n, c, h, w), in nats per image: dropout off, one z an image.

    The same seed draws the same z, so that epochs differ by their weights alone.
    """
    noise = Noise(seed, learner.device)
    sums = torch.stack([learner.measure(batch, noise) for batch in images.split(MEASURED_AT_ONCE)]).sum(0)
    reconstruction, kl = (sums / len(images)).tolist()
    return Losses(loss=reconstruction + kl, reconstruction=reconstruction, kl=kl)
