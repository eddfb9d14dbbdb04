"""What training reports: typed records, the same in memory, in metrics.jsonl and on stdout with --json."""

from __future__ import annotations

import math

import msgspec

LOG_FLOOR = 1e-8  # inside the logarithm of the KL, the tutorial's
ACTIVE = 0.01  # variance of a posterior mean above which a latent dimension is in use (Burda et al. 2016)


class Losses(msgspec.Struct, frozen=True, kw_only=True):
    """A loss and its two terms, in nats per image.

    `loss` is what was minimised; on held-out images always reconstruction + kl, the negative ELBO.
    """

    loss: float
    reconstruction: float
    kl: float

    @property
    def finite(self) -> bool:
        """Whether every number is one."""
        return all(math.isfinite(value) for value in (self.loss, self.reconstruction, self.kl))


class EpochMetrics(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="epoch"):
    """One epoch: `train` is the mean over its steps, as trained; `held_out` is measured after it, dropout off.

    `seconds` is the wall clock of the training steps, without the held-out pass.
    """

    epoch: int
    seconds: float
    images_per_second: float
    train: Losses
    held_out: Losses
    active_units: int  # latent dimensions whose posterior mean varies over the held-out images
    bits_per_dimension: float | None = None  # of the held-out loss, where the likelihood is over 8-bit values


class TrainingDone(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="done"):
    """The end of a training: where it is, and the epoch with the lowest held-out loss."""

    run: str
    epochs: int
    best_epoch: int
    best_loss: float
    seconds: float
    device: str
    precision: str
    seed: int
