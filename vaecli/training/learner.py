"""One training step through autograd: for any model, objective, device and precision."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from vaecli.config import Config
from vaecli.events import Losses
from vaecli.training.adam import Adam
from vaecli.training.batches import pixels
from vaecli.training.device import DTYPES
from vaecli.training.flat import FlatParameters
from vaecli.training.model import VAE
from vaecli.training.network import use_channels_last
from vaecli.training.noise import Noise
from vaecli.training.objective import (
    BatchLoss,
    divergence,
    elbo,
    importance_weighted,
    log_weights,
    negative_bound,
    repeated,
)
from vaecli.training.processes import ALONE, Part, Processes

# The learning rate of a likelihood's scale before warm-up and schedule. It is one number with a gradient from every
# pixel: at a network's rate of 1e-3 it would take thousands of steps to where it belongs.
SCALE_RATE = 0.02
AUTOGRAD, CHANNELS_LAST = "autograd", "autograd, channels last"  # paths, see Learner.path


@dataclass(frozen=True)
class Measurement:
    """A batch under the model, in nats."""

    reconstruction: Tensor  # (batch,)
    kl: Tensor  # (batch, d), or (batch, 1) where the prior is not N(0, I)
    mean: Tensor  # (batch, d), of the posterior
    bound: Tensor  # (batch,) the importance-weighted bound, where that is trained; else reconstruction + KL


@dataclass(frozen=True)
class Schedule:
    """Where the warm-up and the cosine begin: at step 0, or later where a resumed training changed its epochs."""

    start: int = 0  # steps before it
    height: float = 1.0  # of the cosine, as a share of the learning rate


@dataclass(frozen=True)
class Setup:
    """What a Learner computes, and how."""

    config: Config
    precision: str
    steps_per_epoch: int
    processes: Processes = ALONE
    recorded: str = ""  # the `path` of the training that goes on: where a choice changes rounding, it is kept


def half_cosine(step: int, end: int) -> float:
    """From 1 at step 0 to 0 at step `end`."""
    return 0.5 * (1 + math.cos(math.pi * min(1, step / end)))


def averaged_share(step: int, decay: float) -> float:
    """The share that the new weights have in a moving average at a step, the first being 1: 1 - decay.

    The decay grows over the first steps, else the average would keep the random initial weights.
    """
    return 1 - min(decay, (1 + step) / (10 + step))


class Learner:
    """A model, its optimiser and its noise, and the losses of the epoch so far.

    A step reads no value back from the device. Each of several `processes` takes a part of every batch.
    """

    path = AUTOGRAD  # how a step is computed, for a person and for config.json

    def __init__(self, model: VAE, noise: Noise, setup: Setup) -> None:
        self.model, self.noise, self.setup = model, noise, setup
        self.config, self.processes, self.steps_per_epoch = setup.config, setup.processes, setup.steps_per_epoch
        self.device = noise.device
        self.mixed = setup.precision == "bfloat16"
        self.dtype = torch.float32 if self.mixed else DTYPES[setup.precision]  # of weights, sums and noise
        self.steps = 0
        self.schedule = Schedule()
        model.to(self.device, self.dtype)
        if self._suits_channels_last():
            self.path = CHANNELS_LAST
            use_channels_last(model.encoder)
            use_channels_last(model.decoder)
        self.parameters = self._flatten(model)
        self.optimizer = Adam(self.parameters, self.config.training.weight_decay)
        self.average = self.parameters.vector.clone() if self.config.training.ema else None
        self._sums = torch.zeros(3, dtype=torch.float64, device=self.device)  # loss, reconstruction, kl
        self._images = 0

    def _suits_channels_last(self) -> bool:
        """Whether the networks are to be arranged so. A training that goes on keeps what was recorded of it."""
        if self.setup.recorded:
            return self.setup.recorded == CHANNELS_LAST
        on_cpu = self.device.type == "cpu"
        return on_cpu and self.config.model.architecture == "conv" and self.setup.precision == "float32"

    def _flatten(self, model: VAE) -> FlatParameters:
        return FlatParameters(model)

    def step(self, image: Tensor, label: Tensor | None = None, part: Part | None = None) -> None:
        """Train on one batch of pictures, uint8 (batch, c, h, w), and their classes (batch,) where they are known.

        They may be a `part` of the batch, the rest of which other processes have.
        """
        self.noise.part = part = part or ALONE.part(len(image))
        x = pixels(image, self.dtype, self.config.data.binarize, self.noise)  # (batch, c, h, w)
        losses = self.backward(x, label)
        if part.counted:
            self._sums += losses
        if self.processes.count > 1:
            self.processes.sum_(self.parameters.gradients.mul_(part.weight))
        self._update()
        self.steps += 1
        self._images += part.whole

    def backward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Compute the gradients of a batch (batch, c, h, w). Returns its summed loss, reconstruction and KL, (3,)."""
        self.parameters.gradients.zero_()
        batch = self._loss(x, label)
        batch.loss.backward()
        loss = batch.loss.detach() * len(x)
        return torch.stack((loss, batch.reconstruction.detach().sum(), batch.kl.detach().sum()))

    def dry_run(self, image: Tensor, label: Tensor | None = None) -> None:
        """Compute what a step on this batch would, to time it. Neither weights nor random numbers change."""
        state, self.noise.part = self.noise.state(), None
        self.backward(pixels(image, self.dtype, self.config.data.binarize, self.noise), label)
        self.noise.restore(state, self.steps)

    def _loss(self, x: Tensor, label: Tensor | None) -> BatchLoss:
        training, noise = self.config.training, self.noise
        samples, kind = training.importance_samples, training.objective
        with self._arithmetic():
            if kind != "elbo":
                return importance_weighted(self.model, x, noise, samples=samples, kind=kind, label=label)
            beta, free_bits = self.beta, training.free_bits
            return elbo(
                self.model,
                x,
                noise,
                samples=samples,
                beta=beta,
                free_bits=free_bits,
                label=label,
                batch_mean=self._batch_mean,
            )

    def _batch_mean(self, values: Tensor) -> Tensor:
        """The mean over the whole batch, with the gradient of this process's rows: (rows, d) -> (d,)."""
        mean = values.mean(0)
        if self.processes.count == 1 or self.noise.part is None:
            return mean
        return mean + (self.processes.sum_(mean.detach() * self.noise.part.weight) - mean.detach())

    def _update(self) -> None:
        """Clip the gradient, take Adam's step, update the moving average."""
        training, flat = self.config.training, self.parameters
        if training.clip_gradient is not None:
            torch.nn.utils.clip_grad_norm_([flat.matrices, flat.others, flat.scale], training.clip_gradient)
        rate = self.learning_rate
        self.optimizer.step(rate, SCALE_RATE * rate / training.learning_rate)
        if self.average is not None:
            self.average.lerp_(flat.vector, self.ema_weight)
        flat.refresh()

    @property
    def kl_terms(self) -> int:
        """Terms of the KL that are known: of each latent dimension, or of all together. See objective.divergence."""
        return self.model.latent_dim if self.model.pseudo_inputs is None else 1

    @property
    def learning_rate(self) -> float:
        """Of the next step: warm-up, then the schedule."""
        training, step = self.config.training, self.steps + 1 - self.schedule.start
        rate = training.learning_rate * self.schedule.height
        if step < training.warmup_steps:
            rate *= step / training.warmup_steps
        if training.schedule == "cosine":
            # From the first step's whole rate to the last one's, which is still above 0.
            rate *= half_cosine(step - 1, training.epochs * self.steps_per_epoch - self.schedule.start)
        return rate

    def change_epochs(self, before: int) -> Schedule | None:
        """Begin a new cosine where the training was to end after `before` epochs; None where the old one goes on.

        It begins at the rate that a cosine over all epochs would have here, after the warm-up, and falls to 0. Where
        the epochs were doubled, that was 0.1 to 2.4 nats better than the rest of the longer cosine.
        """
        training, end = self.config.training, self.config.training.epochs * self.steps_per_epoch
        if training.schedule != "cosine" or training.epochs == before or self.steps >= end:
            return None
        self.schedule = Schedule(self.steps, half_cosine(self.steps, end))
        return self.schedule

    @property
    def beta(self) -> float:
        """The KL weight of the next step: it rises from 0 during the warm-up."""
        training = self.config.training
        if not training.kl_warmup:
            return training.beta
        return training.beta * min(1.0, self.steps / (training.kl_warmup * self.steps_per_epoch))

    @property
    def ema_weight(self) -> float:
        """The weight of the new weights in the moving average."""
        return averaged_share(self.steps + 1, self.config.training.ema)

    def take_losses(self) -> Losses:
        """The mean training losses since the last call, in nats per image. Waits for the device and other processes."""
        self.processes.sum_(self._sums)
        loss, reconstruction, kl = (self._sums / max(1, self._images)).tolist()
        self._sums.zero_()
        self._images = 0
        return Losses(loss=loss, reconstruction=reconstruction, kl=kl)

    @torch.no_grad()
    def measure(self, image: Tensor, noise: Noise, samples: int = 1, label: Tensor | None = None) -> Measurement:
        """A batch of uint8 (batch, c, h, w) under the model, without dropout, with `samples` latents per image.

        The bound of a training with importance weights has the latents of that training.
        """
        x = pixels(image.to(self.device), self.dtype, self.config.data.binarize, noise)
        mean, std = self._encode(x, label)
        latent = mean + std * noise.antithetic(samples, std.shape, std.dtype)  # (samples, batch, d)
        raw = self._decode(latent.flatten(0, 1), repeated(label, samples)).unflatten(0, (samples, -1))
        reconstruction = self.model.reconstruction(raw, x).mean(0)
        kl = divergence(self.model, mean, std, latent, label)
        if self.config.training.objective == "elbo":
            return Measurement(reconstruction, kl, mean, reconstruction + kl.sum(1))
        count = self.config.training.importance_samples
        latent = mean + std * noise.normal(torch.Size((count, *std.shape)), std.dtype)  # (K, batch, d)
        raw = self._decode(latent.flatten(0, 1), repeated(label, count)).unflatten(0, (count, -1))
        weights = log_weights(self.model.log_prior(latent, label), self.model.reconstruction(raw, x), latent, mean, std)
        return Measurement(reconstruction, kl, mean, negative_bound(weights))

    @torch.no_grad()
    def reconstruct(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """The mean of p(x|z) at the mean of q(z|x): uint8 (batch, c, h, w) -> the same, float in [0, 1]."""
        label = None if label is None else label.to(self.device)
        mean, _ = self._encode(image.to(self.device, self.dtype) / 255, label)
        return self.model.image(self._decode(mean, label))

    def _encode(self, x: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        with self._arithmetic():
            return self.model.encode(x, label=label)

    def _decode(self, latent: Tensor, label: Tensor | None) -> Tensor:
        with self._arithmetic():
            return self.model.decode(latent, label=label)

    def _arithmetic(self) -> Any:  # noqa: ANN401 - torch.autocast has no useful type
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed)

    @contextmanager
    def saved_weights(self) -> Iterator[None]:
        """Use the weights that are saved, the moving average where there is one, within the block."""
        if self.average is None:
            yield
        else:
            with self.parameters.replaced(self.average):
                yield

    def weights(self) -> dict[str, Tensor]:
        """A copy of the weights that are saved, by their names in the model."""
        with self.saved_weights():
            return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """All that a training is resumed from, besides the saved weights.

        `vector` (parameters,) where a moving average is saved instead, the `optimizer`'s state, `steps`, `schedule`,
        and the state of the random numbers `noise`, uint8.
        """
        return {
            "vector": self.parameters.vector if self.average is not None else None,
            "optimizer": self.optimizer.state(),
            "steps": self.steps,
            "schedule": asdict(self.schedule),
            "noise": self.noise.state(),
        }

    @torch.no_grad()
    def restore(self, weights: dict[str, Tensor], state: dict[str, Any]) -> bool:
        """Return to where `state` was taken, with the `weights` that were saved then.

        Returns whether the random numbers go on exactly: a generator of another kind of device is seeded anew.
        """
        self.model.load_state_dict(weights)
        if self.average is not None:
            self.average.copy_(self.parameters.vector)
            self.parameters.vector.copy_(state["vector"])
        self.parameters.refresh()
        self.steps = state["steps"]
        self.optimizer.restore(state["optimizer"], self.steps)
        self.schedule = Schedule(**state["schedule"])
        return self.noise.restore(state["noise"], self.steps)
