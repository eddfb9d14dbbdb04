"""Which way a step is computed: the fastest that serves what was asked for."""

from __future__ import annotations

from vaecli.config import Config
from vaecli.training.capture import capture
from vaecli.training.dense import DenseLearner
from vaecli.training.learner import Learner
from vaecli.training.model import VAE
from vaecli.training.noise import Noise


def choose_learner(model: VAE, noise: Noise, config: Config, precision: str, steps_per_epoch: int) -> Learner:
    """The learner for this model on this machine: dense kernels where they serve and run, else autograd.

    On a GPU its steps are replayed from a recording. Its `path` says which, and why where the faster way failed.
    """
    learner = _eager(model, noise, config, precision, steps_per_epoch)
    if learner.device.type == "cuda":
        failure = capture(learner, config.training.batch_size)
        learner.path += "; a step is one CUDA graph" if failure is None else f"; no CUDA graph: {failure}"
    return learner


def _eager(model: VAE, noise: Noise, config: Config, precision: str, steps_per_epoch: int) -> Learner:
    failure = None
    if DenseLearner.serves(config, noise.device, precision):
        dense = DenseLearner(model, noise, config, precision, steps_per_epoch)
        failure = dense.trial()
        if failure is None:
            return dense
    learner = Learner(model, noise, config, precision, steps_per_epoch)
    if failure is not None:
        learner.path = f"autograd, as the dense kernels do not run here: {failure}"
    return learner
