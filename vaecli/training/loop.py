"""The training loop: batches in, one record an epoch out. Saving and showing are the caller's."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from vaecli.errors import VaeError
from vaecli.metrics import ACTIVE, EpochMetrics, Losses
from vaecli.training.batches import Source
from vaecli.training.learner import Learner
from vaecli.training.noise import Noise

MEASURED_AT_ONCE = 500  # held-out images in a batch
FEW = 2000  # held-out images, up to which one z for each is too rough


@dataclass(frozen=True)
class Step:
    """So many images of this epoch have been learnt from."""

    epoch: int
    images: int


def train(
    learner: Learner, images: Source, held_out: Source, *, after: int, measuring_seed: int
) -> Iterator[Step | EpochMetrics]:
    """Train from the epoch that follows `after` to the last, yielding each step and each epoch.

    Inside an epoch no value is read back from the device.

    Raises:
        VaeError: an epoch's loss is not finite; its weights should not be kept.
    """
    training, data = learner.config.training, learner.config.data
    count = images_in_epoch(len(images), training.batch_size, drop_last=data.drop_last)
    for epoch in range(after + 1, training.epochs + 1):
        start = time.perf_counter()
        order = learner.noise.permutation(len(images)) if data.shuffle else None
        learnt = 0
        for batch in images.batches(training.batch_size, count, order):
            learner.step(batch)
            learnt += len(batch)
            yield Step(epoch, learnt)
        losses = learner.take_losses()
        seconds = time.perf_counter() - start
        with learner.kept_weights():
            measured, active = measure(learner, held_out, measuring_seed)
        if not (losses.finite and measured.finite):
            raise VaeError(
                f"the loss of epoch {epoch} is not finite",
                "try a smaller --learning-rate; the last good checkpoint is kept",
            )
        yield EpochMetrics(
            epoch=epoch,
            seconds=seconds,
            images_per_second=count / seconds,
            train=losses,
            held_out=measured,
            active_units=active,
            bits_per_dimension=_bits_per_dimension(learner, measured),
        )


def images_in_epoch(n: int, batch_size: int, *, drop_last: bool) -> int:
    """How many of n images an epoch learns from."""
    return n - n % batch_size if drop_last else n


def measure(learner: Learner, images: Source, seed: int) -> tuple[Losses, int]:
    """The negative ELBO of `images` in nats per image, and the number of active latent dimensions.

    The same seed draws the same z for the same image, so that epochs differ by their weights alone. Where there are
    few images, each has an opposite pair of z.
    """
    noise, samples = Noise(seed, learner.device), 2 if len(images) <= FEW else 1
    sums = torch.zeros(2, dtype=torch.float64, device=learner.device)
    moments = torch.zeros(2, learner.model.latent_dim, dtype=torch.float64, device=learner.device)
    for batch in images.batches(MEASURED_AT_ONCE, len(images)):
        measured = learner.measure(batch, noise, samples)
        sums += torch.stack((measured.reconstruction.double().sum(), measured.kl.double().sum()))
        mean = measured.mean.double()
        moments += torch.stack((mean.sum(0), mean.square().sum(0)))
    mean, square = moments / len(images)
    active = int((square - mean.square() > ACTIVE).sum())
    reconstruction, kl = (sums / len(images)).tolist()
    return Losses(loss=reconstruction + kl, reconstruction=reconstruction, kl=kl), active


def _bits_per_dimension(learner: Learner, held_out: Losses) -> float | None:
    """The held-out bound as bits a pixel and channel: only a likelihood over 8-bit values has such a number."""
    if learner.config.model.likelihood != "logistic":
        return None
    return held_out.loss / (math.log(2) * math.prod(learner.model.image_shape))
