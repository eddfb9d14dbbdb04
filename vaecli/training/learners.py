"""Which way a step is computed: the fastest that serves what was asked for."""

from __future__ import annotations

from vaecli.config import Config
from vaecli.training.dense import DenseLearner
from vaecli.training.learner import Learner
from vaecli.training.model import VAE
from vaecli.training.noise import Noise


def choose_learner(model: VAE, noise: Noise, config: Config, precision: str, steps_per_epoch: int) -> Learner:
    """The learner for this model on this machine: dense kernels where they serve, else autograd."""
    if DenseLearner.serves(config, noise.device, precision):
        return DenseLearner(model, noise, config, precision, steps_per_epoch)
    return Learner(model, noise, config, precision, steps_per_epoch)
