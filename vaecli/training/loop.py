"""The training loop: batches in, one record per epoch out. The caller saves and shows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from vaecli.config import TrainingConfig
from vaecli.errors import VaeError
from vaecli.events import EpochMetrics, Losses, Note, Step
from vaecli.model_format import ACTIVE_VARIANCE, bits_per_dimension
from vaecli.training.batches import Source
from vaecli.training.learner import Learner
from vaecli.training.model import VAE
from vaecli.training.noise import Noise
from vaecli.training.threads import Threads

# Held-out images in a batch: this many small pictures, and fewer of those for which a decoder makes more numbers.
MEASURED_AT_ONCE = 500
NUMBERS_AT_ONCE = 2**23  # of a decoder's output: 34 MB in float32, and a likelihood needs several times as much
MEASURED_TWICE = 2000  # held-out images; up to this number each is measured with two latents, because one is too noisy


def train(
    learner: Learner, images: Source, measured: Source, threads: Threads, *, after: int, measuring_seed: int
) -> Iterator[Note | Step | EpochMetrics]:
    """Train the epochs that follow `after` on `images`. Yields each step and each epoch, measured on other images.

    Within an epoch no value is read back from the device. Between epochs `threads` may change their number; a Note
    says so.

    Raises:
        VaeError: an epoch's loss is not finite; its weights should not be saved.
    """
    training, data = learner.config.training, learner.config.data
    count = images_in_epoch(len(images), training.batch_size, drop_last=data.drop_last)

    def dry_run(some: int) -> None:
        batch = next(images.batches(some, some))
        learner.dry_run(batch.images, batch.labels)

    for epoch in range(after + 1, training.epochs + 1):
        before = threads.count
        threads.choose(dry_run, min(training.batch_size, len(images)), (training.epochs + 1 - epoch) * count)
        if threads.count != before:
            yield Note(f"from epoch {epoch} on: {threads}, not {before}, as that is faster now")
        start = time.perf_counter()
        order = learner.noise.permutation(len(images)) if data.shuffle else None
        trained = 0
        for batch in images.batches(training.batch_size, count, order):
            rate, beta = learner.learning_rate, learner.beta
            learner.step(*batch)  # pixels, loss, gradients, Adam, moving average
            trained += batch.part.whole
            yield Step(epoch, trained)
        losses = learner.take_losses()
        seconds = time.perf_counter() - start
        threads.trained(count, seconds)
        with learner.saved_weights():
            found = measure(learner, measured, measuring_seed)
        if not (losses.finite and found.losses.finite):
            raise VaeError(
                f"the loss of epoch {epoch} is not finite",
                "try a smaller `learning_rate`; the last good checkpoint is kept",
            )
        model = learner.model
        yield EpochMetrics(
            epoch=epoch,
            seconds=seconds,
            images_per_second=count / seconds,
            threads=threads.count if learner.device.type == "cpu" else None,
            learning_rate=rate,
            beta=beta,
            train=losses,
            held_out=found.losses,
            objective=found.objective,
            active_units=found.active_units,
            bits_per_dimension=bits_per_dimension(found.losses.loss, model.config.likelihood, model.image_shape),
        )


def measured_at_once(model: VAE, training: TrainingConfig) -> int:
    """How many held-out images are measured together: at least a training batch, which takes more memory."""
    channels, height, width = model.image_shape
    fit = min(MEASURED_AT_ONCE, NUMBERS_AT_ONCE // (model.likelihood.numbers(channels) * height * width))
    latents = training.importance_samples if training.objective != "elbo" else 1
    return max(training.batch_size, fit // latents)


def images_in_epoch(n: int, batch_size: int, *, drop_last: bool) -> int:
    """How many of n images an epoch trains on."""
    return n - n % batch_size if drop_last else n


@dataclass(frozen=True)
class Measured:
    """Held-out images under the model."""

    losses: Losses  # the negative ELBO and its terms, whatever is trained
    objective: float  # the held-out value of what is trained, with the final β
    active_units: int


def measure(learner: Learner, images: Source, seed: int) -> Measured:
    """The losses of `images` in nats per image, and the number of active latent dimensions.

    The same seed draws the same latents for the same image, so epochs differ by their weights alone. Few images have
    an antithetic pair of latents each.
    """
    training, latent_dim = learner.config.training, learner.model.latent_dim
    weighted = training.objective != "elbo"
    noise, samples = Noise(seed, learner.device), 2 if len(images) <= MEASURED_TWICE else 1
    size = measured_at_once(learner.model, training)
    sums = torch.zeros(2, dtype=torch.float64, device=learner.device)  # reconstruction, bound
    moments = torch.zeros(2, latent_dim, dtype=torch.float64, device=learner.device)  # mean, mean squared
    kl = torch.zeros(learner.kl_terms, dtype=torch.float64, device=learner.device)
    for batch in images.batches(size, len(images)):
        noise.part = batch.part
        measured = learner.measure(batch.images, noise, samples, batch.labels)
        if not batch.part.counted:
            continue
        sums += torch.stack((measured.reconstruction.double().sum(), measured.bound.double().sum()))
        mean = measured.mean.double()
        moments += torch.stack((mean.sum(0), mean.square().sum(0)))
        kl += measured.kl.double().sum(0)
    for total in (sums, moments, kl):
        learner.processes.sum_(total)
    reconstruction, bound = (sums / len(images)).tolist()
    kl, (mean, square) = kl / len(images), moments / len(images)
    losses = Losses(loss=reconstruction + float(kl.sum()), reconstruction=reconstruction, kl=float(kl.sum()))
    penalty = kl.clamp(min=training.free_bits) if training.free_bits else kl
    penalised = reconstruction + training.beta * float(penalty.sum())
    with torch.no_grad():
        least = ACTIVE_VARIANCE * learner.model.prior_variance().double().to(learner.device)
    active = int((square - mean.square() > least).sum())
    return Measured(losses, bound if weighted else penalised, active)
