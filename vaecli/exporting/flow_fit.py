"""A flow fitted to the latents of the training pictures: it draws latents that look like theirs.

A network learns the velocity at which noise becomes latents: flow matching with straight paths (Lipman et al., Flow
matching for generative modeling, 2023; Liu et al., Flow straight and fast, 2023). Trained on the latents of a VAE, it
is the prior of a latent diffusion model (Rombach et al., High-resolution image synthesis with latent diffusion models,
2022). A mixture of Gaussians describes a hundred dimensions well; a flow describes a thousand.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vaecli.errors import VaeError
from vaecli.events import Note, OnEvent, Progress, ignore
from vaecli.exporting.flow_network import Velocity
from vaecli.exporting.posteriors import Encoding, Posteriors
from vaecli.model_format import FlowSummary
from vaecli.parallel import cut
from vaecli.training.adam import Adam
from vaecli.training.device import choose_device, training_state
from vaecli.training.flat import FlatParameters
from vaecli.training.learner import averaged_share, half_cosine
from vaecli.training.memory import convert_out_of_memory
from vaecli.training.threads import Threads
from vaecli.wording import how_many

MAX_NUMBERS = 2**26  # in the latents that it is fitted to: 1.6 GB, with their standard deviations
MAX_HELD_OUT = 1000  # latents on which the weights are judged
BATCH = 32  # with 64, half as many steps take as long and learn less
LEARNING_RATE = 1e-3  # at its highest; it follows a cosine
WARMUP = 0.07  # share of the steps in which it rises
BETAS = (0.9, 0.99)
WEIGHT_DECAY = 0.01
LARGEST_GRADIENT = 1.0  # norm, above which it is scaled down
AVERAGED = 1 / 15  # share of the steps that the moving average of the weights is about
JUDGEMENTS = 20  # times that the average is judged, and the number of threads is looked at
PATIENCE = 6  # judgements that are no better than an earlier one, after which the training ends
FAINTEST = 1e-6  # at least the standard deviation that a dimension is divided by


@dataclass(frozen=True)
class FittedFlow:
    """A network as it was best on held-out latents, on the CPU, and how it was fitted."""

    network: Velocity
    summary: FlowSummary


def fit_flow(encoding: Encoding, latent_shape: tuple[int, ...], steps: int, on_event: OnEvent = ignore) -> FittedFlow:
    """The flow of a model trained on the pictures of `encoding`, after at most `steps` steps of training.

    `latent_shape` is (d,), or (channels, height, width) where the latent is a map. The flow knows the classes of the
    pictures, where they have any. It is fitted on a GPU where PyTorch can use one.

    Raises:
        VaeError: the encoder fails, a picture cannot be read, the loss is not finite, or there is too little memory.
    """
    to = f"the latents of {how_many(len(encoding.dataset.train), 'training picture')}"
    on_event(Note(f"fitting the flow to {to}; it takes minutes, and `prior` mixture leaves it out"))
    train = encoding.of("train", max(1, MAX_NUMBERS // encoding.pair.latent_dim))
    held_out = encoding.of("held_out", MAX_HELD_OUT)

    def on_step(step: int) -> None:
        on_event(Progress("fitting the flow", step, steps, "steps"))

    with convert_out_of_memory("fitting the flow takes more memory than there is", "export with `prior` mixture"):
        return train_flow(train, held_out, latent_shape, steps, encoding.seed, on_step)


def train_flow(
    train: Posteriors,
    held_out: Posteriors,
    latent_shape: tuple[int, ...],
    steps: int,
    seed: int,
    on_step: Callable[[int], None],
) -> FittedFlow:
    """Learn the velocity on draws of the posteriors of training pictures; both have classes, or neither.

    The loss is the mean squared error of the velocity along straight paths from noise to latents, at times whose logit
    is normal (Esser et al., Scaling rectified flow transformers, 2024, section 3.1). Of the moving average of the
    weights the one with the least loss on latents of held-out pictures is kept; where that does not fall any more, as
    with few pictures, the training ends. `on_step` is called after each step.
    """
    device, names = choose_device("auto"), train.classes.names if train.classes else ()
    mean, variance = train.mean.mean(axis=0), train.mean.var(axis=0) + np.square(train.std).mean(axis=0)
    scale = np.sqrt(variance).clip(FAINTEST)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Velocity(latent_shape, _tensor(mean), _tensor(scale), len(names)).to(device)
    if device.type == "cpu":
        network.to(memory_format=torch.channels_last)  # see network.use_channels_last
    generator = torch.Generator().manual_seed(seed)
    learning, judging = (_Latents(part, mean, scale, device) for part in (train, held_out))
    judged = [judging.examples(rows, generator) for rows in torch.arange(len(held_out)).split(BATCH)]
    decay = max(0.0, 1 - 1 / (AVERAGED * steps))
    parameters = FlatParameters(network)
    optimiser, average = Adam(parameters, WEIGHT_DECAY, BETAS), parameters.vector.clone()
    best, lowest, best_step = average, math.inf, 0

    def gradients(count: int, generator: torch.Generator) -> None:
        parameters.gradients.zero_()
        rows = torch.randint(len(train), (count,), generator=generator)
        _loss(network, learning.examples(rows, generator)).backward()

    def dry_run(count: int) -> None:
        gradients(count, torch.Generator())

    with training_state():
        threads = Threads(device)
        for numbers in cut(range(1, steps + 1), max(1, steps // JUDGEMENTS)):
            threads.choose(dry_run, BATCH, BATCH * (steps + 1 - numbers[0]))
            start = time.perf_counter()
            for step in numbers:
                gradients(BATCH, generator)
                nn.utils.clip_grad_norm_([parameters.matrices, parameters.others], LARGEST_GRADIENT)
                rate = LEARNING_RATE * min(1, step / (WARMUP * steps)) * half_cosine(step - 1, steps)
                optimiser.step(rate, rate)
                average.lerp_(parameters.vector, averaged_share(step, decay))
                on_step(step)
            threads.trained(BATCH * len(numbers), time.perf_counter() - start)
            with torch.no_grad(), parameters.replaced(average):
                loss = sum(len(part.time) * _loss(network, part).item() for part in judged) / len(held_out)
            if loss < lowest:
                lowest, best_step, best = loss, numbers[-1], average.clone()
            elif numbers[-1] - best_step >= PATIENCE * len(numbers):
                break
    if not best_step:
        raise VaeError("the flow has learned nothing: its loss is not finite", "export without it: `prior` mixture")
    counts = [] if train.classes is None else np.bincount(train.classes.labels, minlength=len(names)).tolist()
    shares = tuple(count / len(train) for count in counts)
    summary = FlowSummary(classes=names, class_shares=shares, steps=best_step, loss=lowest, pictures=len(train))
    parameters.vector.copy_(best)
    return FittedFlow(network.cpu().to(memory_format=torch.contiguous_format).eval(), summary)


@dataclass(frozen=True)
class _Examples:
    """Standardised latents (b, d), the noise that they come from (b, d), times between (b,), and classes or None."""

    latent: Tensor
    noise: Tensor
    time: Tensor
    label: Tensor | None


class _Latents:
    """Posteriors to draw examples from."""

    def __init__(self, posteriors: Posteriors, mean: np.ndarray, scale: np.ndarray, device: torch.device) -> None:
        self.mean, self.std = _tensor((posteriors.mean - mean) / scale), _tensor(posteriors.std / scale)
        self.label = None if posteriors.classes is None else torch.from_numpy(posteriors.classes.labels)
        self.device = device

    def examples(self, rows: Tensor, generator: torch.Generator) -> _Examples:
        """One of each of these rows. The random numbers are the same on any device."""
        draw, noise = torch.randn(2, len(rows), self.mean.shape[1], generator=generator)
        time = torch.randn(len(rows), generator=generator).sigmoid()
        latent, label = self.mean[rows] + self.std[rows] * draw, None if self.label is None else self.label[rows]
        here = [part.to(self.device) for part in (latent, noise, time)]
        return _Examples(here[0], here[1], here[2], None if label is None else label.to(self.device))


def _loss(network: nn.Module, of: _Examples) -> Tensor:
    """The mean squared error of the velocity, which is constant on a straight path: latent - noise."""
    place = torch.lerp(of.noise, of.latent, of.time[:, None])
    error: Tensor = network(place, of.time, of.label) - (of.latent - of.noise)
    return error.square().mean()


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
