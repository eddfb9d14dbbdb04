"""One training step, the plain way: any model, objective, device and precision, through autograd."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vaecli.config import Config
from vaecli.metrics import Losses
from vaecli.training.batches import pixels
from vaecli.training.device import DTYPES
from vaecli.training.flat import FlatParameters
from vaecli.training.model import VAE
from vaecli.training.noise import Noise
from vaecli.training.objective import Terms, elbo, importance_weighted, kl_divergence


@dataclass(frozen=True)
class Measured:
    """A batch as the model has it: losses in nats of each image (batch,), and posterior means (batch, d)."""

    reconstruction: Tensor
    kl: Tensor
    mean: Tensor


class Dials:
    """What changes from step to step besides weights and noise: numbers, or tensors () once they are held.

    A recorded step reads the same memory each time it is replayed, and knows no number from Python: for it they are
    held on the device, and turned in place.
    """

    rate: float | Tensor = 0.0  # the optimiser's
    beta: float | Tensor = 0.0  # weight of the KL
    pace: float | Tensor = 0.0  # of the moving average: how far it goes towards the weights

    def __init__(self, **values: float) -> None:
        self._values: dict[str, float] = {}
        self.turn(**values)

    def turn(self, **values: float) -> None:
        """Give each its value for the step to come. What stays as it is costs no launch."""
        for name, value in values.items():
            if self._values.get(name) == value:
                continue
            self._values[name] = value
            dial = getattr(self, name)
            if isinstance(dial, Tensor):
                dial.fill_(value)
            else:
                setattr(self, name, value)

    def hold(self, device: torch.device, dtype: torch.dtype) -> None:
        """Make them tensors on the device."""
        self.rate = torch.tensor(self.rate, device=device)  # float32 is what a fused optimiser reads
        self.beta = torch.tensor(self.beta, dtype=dtype, device=device)
        self.pace = torch.tensor(self.pace, dtype=dtype, device=device)

    def release(self) -> None:
        """Make them numbers again."""
        for name, value in self._values.items():
            setattr(self, name, value)


class Learner:
    """A model, its optimiser and its noise, and the sums that an epoch reports. Nothing is read back in a step."""

    path = "autograd"

    def __init__(self, model: VAE, noise: Noise, config: Config, precision: str, steps_per_epoch: int) -> None:
        self.model, self.noise, self.config = model, noise, config
        self.device = noise.device
        self.mixed = precision == "bfloat16"
        self.dtype = torch.float32 if self.mixed else DTYPES[precision]  # of weights, sums and noise
        self.steps_per_epoch = steps_per_epoch
        self.steps = 0
        self.dropout = config.model.dropout
        model.to(self.device, self.dtype)
        self.parameters = self._flatten(model)
        self.optimizer = torch.optim.AdamW(
            [self.parameters.vector],
            lr=config.training.learning_rate,
            weight_decay=config.training.weight_decay,
            fused=True,
            capturable=self.device.type == "cuda",
        )
        self._begin_moments()
        self.average = self.parameters.vector.detach().clone() if config.training.ema else None
        self.dials = Dials(rate=self.rate, beta=self.beta, pace=self.pace)
        self.learn: Callable[[Tensor], None] = self.learn_plainly
        self._sums = torch.zeros(3, dtype=torch.float64, device=self.device)  # loss, reconstruction, kl
        self._images = 0

    def _flatten(self, model: VAE) -> FlatParameters:
        return FlatParameters(model)

    def _begin_moments(self) -> None:
        """Let the optimiser make its moments now, in the place where they stay: a step of 0, then all to 0."""
        self.optimizer.param_groups[0]["lr"] = 0.0
        self.optimizer.step()
        for moment in self._moments.values():
            moment.zero_()

    @property
    def _moments(self) -> dict[str, Tensor]:
        moments: dict[str, Tensor] = self.optimizer.state[self.parameters.vector]
        return moments

    def step(self, image: Tensor) -> None:
        """Learn from one batch, uint8 (batch, c, h, w)."""
        self.dials.turn(rate=self.rate, beta=self.beta, pace=self.pace)
        self.learn(image)
        self.steps += 1
        self._images += len(image)

    def learn_plainly(self, image: Tensor) -> None:
        """The device's part of a step: what it does depends on nothing but `image` and what the device holds."""
        x = pixels(image, self.dtype, self.config.data.binarize, self.noise)
        self._sums += self.backward(x)
        self._update()

    def backward(self, x: Tensor) -> Tensor:
        """Put the gradients of a batch (batch, c, h, w) in place; give its summed losses and terms, (3,)."""
        self.parameters.gradients.zero_()
        terms = self._terms(x)
        terms.loss.backward()
        loss = terms.loss.detach() * len(x)
        return torch.stack((loss, terms.reconstruction.detach().sum(), terms.kl.detach().sum()))

    def _terms(self, x: Tensor) -> Terms:
        training, noise = self.config.training, self.noise
        samples, kind = training.importance_samples, training.objective
        with self._arithmetic():
            if kind != "elbo":
                return importance_weighted(self.model, x, noise, samples=samples, kind=kind, dropout=True)
            beta, free_bits = self.dials.beta, training.free_bits
            return elbo(self.model, x, noise, samples=samples, beta=beta, free_bits=free_bits, dropout=True)

    def _update(self) -> None:
        """Clip, step, average."""
        training, parameters = self.config.training, self.parameters
        if training.clip_gradient is not None:
            torch.nn.utils.clip_grad_norm_([parameters.vector], training.clip_gradient)
        self.optimizer.param_groups[0]["lr"] = self.dials.rate
        self.optimizer.step()
        if self.average is not None:
            self.average.lerp_(parameters.vector.detach(), self.dials.pace)
        parameters.refresh()

    @property
    def rate(self) -> float:
        """The learning rate of the step to come: warm-up, then the schedule."""
        training, step = self.config.training, self.steps + 1
        rate = training.learning_rate
        if step < training.warmup_steps:
            rate *= step / training.warmup_steps
        if training.schedule == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * min(1, step / (training.epochs * self.steps_per_epoch))))
        return rate

    @property
    def beta(self) -> float:
        """The weight of the KL in the step to come: it rises from 0 over the warm-up."""
        training = self.config.training
        if not training.kl_warmup:
            return training.beta
        return training.beta * min(1.0, self.steps / (training.kl_warmup * self.steps_per_epoch))

    @property
    def pace(self) -> float:
        """How far the moving average follows the weights of the step to come.

        A young average follows closely: it would otherwise remember the first, random weights.
        """
        step = self.steps + 1
        return 1 - min(self.config.training.ema, (1 + step) / (10 + step))

    def take_losses(self) -> Losses:
        """The mean losses since the last call, as trained. Waits for the device."""
        loss, reconstruction, kl = (self._sums / max(1, self._images)).tolist()
        self._sums.zero_()
        self._images = 0
        return Losses(loss=loss, reconstruction=reconstruction, kl=kl)

    @torch.no_grad()
    def measure(self, image: Tensor, noise: Noise, samples: int = 1) -> Measured:
        """A batch of uint8 (batch, c, h, w) under the model as it is: β = 1, dropout off, so many z an image."""
        x = pixels(image.to(self.device), self.dtype, self.config.data.binarize, noise)
        mean, std = self._encode(x)
        latent = mean + std * noise.opposites(samples, std.shape, std.dtype)  # (samples, batch, d)
        raw = self._decode(latent.flatten(0, 1)).unflatten(0, (samples, -1))
        reconstruction = self.model.reconstruction(raw, x).mean(0)
        return Measured(reconstruction, kl_divergence(mean, std).sum(1), mean)

    @torch.no_grad()
    def reconstruct(self, image: Tensor) -> Tensor:
        """The mean of p(x|z) at the mean of q(z|x): uint8 (batch, c, h, w) -> the same, float in [0, 1]."""
        mean, _ = self._encode(image.to(self.device, self.dtype) / 255)
        return self.model.image(self._decode(mean))

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with self._arithmetic():
            return self.model.encode(x)

    def _decode(self, latent: Tensor) -> Tensor:
        with self._arithmetic():
            return self.model.decode(latent)

    def _arithmetic(self) -> Any:  # noqa: ANN401 - torch.autocast has no useful type
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed)

    @contextmanager
    def kept_weights(self) -> Iterator[None]:
        """Use the weights that are kept, the moving average where there is one, for a while."""
        if self.average is None:
            yield
        else:
            with self.parameters.replaced(self.average):
                yield

    def weights(self) -> dict[str, Tensor]:
        """A copy of the weights that are kept, by their names in the model."""
        with self.kept_weights():
            return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """Everything that training goes on from, besides the kept weights."""
        return {
            "vector": self.parameters.vector.detach() if self.average is not None else None,
            "moments": self._moments,
            "steps": self.steps,
            "noise": self.noise.state(),
        }

    @torch.no_grad()
    def restore(self, weights: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Go back to where `state` was taken, with the `weights` that were kept then. All stays in its place."""
        self.model.load_state_dict(weights)
        if self.average is not None:
            self.average.copy_(self.parameters.vector)
            self.parameters.vector.copy_(state["vector"])
        self.parameters.refresh()
        for name, moment in self._moments.items():
            moment.copy_(state["moments"][name])
        self.steps = state["steps"]
        self.noise.restore(state["noise"])
