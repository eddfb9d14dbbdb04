"""A training in memory: begun from a config or resumed from a checkpoint, run, and saved after each epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

import vaecli
from vaecli import config as configs
from vaecli.config import Arithmetic, Config
from vaecli.datasets import Dataset
from vaecli.datasets.dataset import spread
from vaecli.errors import VaeError
from vaecli.events import EpochMetrics, Note, Step, TrainingDone, TrainingStarted, is_better
from vaecli.model_format import LARGEST_FITTED, MAX_PIXEL, Versions
from vaecli.pictures.arrays import Pixels, binarized
from vaecli.pictures.writing import save_grid
from vaecli.run_folder import DataFacts, RunFolder, RunRecord
from vaecli.training import checkpoint
from vaecli.training.batches import channels_first, open_source
from vaecli.training.checkpoint import Checkpoint, Weights
from vaecli.training.device import (
    choose_device,
    choose_precision,
    device_name,
    whole_float32,
)
from vaecli.training.fast.dense import DenseLearner, KernelError
from vaecli.training.learner import Learner, Schedule, Setup
from vaecli.training.loop import images_in_epoch, measured_at_once, train
from vaecli.training.memory import check_memory, check_weights, convert_out_of_memory
from vaecli.training.model import VAE
from vaecli.training.network import ARCHITECTURES
from vaecli.training.noise import Noise
from vaecli.training.processes import ALONE, Processes
from vaecli.training.threads import Threads
from vaecli.wording import how_many, listed

DATA_PREVIEW = 64  # training images in the picture of the data
MANY_STARTS = 10_000  # training images that learned pictures may start from
SUMMED = 2**20  # bytes of training images that are summed at once
EXAMINED = 200  # measured images whose reconstructions are examined
EXAMPLES = 9  # training images that are saved with the weights: a 3x3 preview


@dataclass(frozen=True)
class History:
    """The epochs so far."""

    epoch: int = 0
    best: EpochMetrics | None = None  # see events.best_epoch
    seconds: float = 0.0

    def after(self, epoch: EpochMetrics, kl_warmup: int) -> History:
        """With one more epoch."""
        better = self.best is None or is_better(epoch, self.best, kl_warmup)
        return History(epoch.epoch, epoch if better else self.best, self.seconds + epoch.seconds)


@dataclass(frozen=True)
class Resumed:
    """How a training goes on from a checkpoint."""

    exact: bool  # whether the random numbers go on as they would have: not on another kind of device
    epochs_before: int  # after which it was to end
    schedule: Schedule | None  # the new cosine, where its epochs have changed


class Session:
    """A training: the learner, the images, and the epochs so far."""

    @convert_out_of_memory()
    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        precision: Arithmetic | None = None,
        recipe: str | None = None,
        path: str | None = None,
        processes: Processes = ALONE,
    ) -> None:
        """Set up a new training. `precision` and `path`, of the run that goes on, override this machine's choice.

        `recipe` is the name of the recipe that the settings are from, for the record.

        Raises:
            DeviceError: the device asked for is not there.
            VaeError: the pictures do not suit the settings, or the training does not fit into memory.
        """
        seed = config.training.seed
        assert seed is not None, "the caller draws a seed"
        self.config, self.dataset, self.recipe = config, dataset, recipe
        self.processes = processes
        self.device = choose_device(config.training.device, processes)
        self.threads = Threads(self.device, fixed=processes.count > 1)
        self.precision = precision or self._choose_precision()
        self.history = History()
        self.epochs_before: tuple[int, ...] = ()  # see RunRecord
        self.saved = 0  # the last epoch on disk
        self.images_in_epoch = _checked_images_in_epoch(config, dataset)
        ARCHITECTURES[config.model.architecture].check(config.model.architecture, dataset.image_shape)
        # Three independent seeds: for weights, for training, for measuring.
        weights_seed, noise_seed, self.measuring_seed = (
            int(word) for word in np.random.SeedSequence(seed).generate_state(3, np.uint64)
        )
        self.classes = _checked_classes(config, dataset)
        alone = processes.count == 1  # it is not known whether several share one machine's memory
        model = VAE(config.model, dataset.image_shape, len(self.classes))
        if alone:
            check_weights(model, self.device, self.precision, averaged=config.training.ema > 0)
        model.initialise(torch.Generator().manual_seed(weights_seed))
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        self.examples = channels_first(_spread_over(dataset, EXAMPLES))
        known = dataset.train.rows(spread(EXAMPLES, len(dataset.train))).classes
        self.example_labels = None if known is None else torch.from_numpy(known.labels)
        mean, std = _mean_and_std(dataset)
        model.set_scale(std)
        if model.pseudo_inputs is not None:
            _check_vamp_prior(model)
            some = np.random.default_rng(weights_seed).permutation(spread(MANY_STARTS, len(dataset.train)))
            known = dataset.train.rows(some).classes
            starts = model.pseudo_inputs.starts(len(some), None if known is None else torch.from_numpy(known.labels))
            model.pseudo_inputs.initialise_from(channels_first(dataset.train[some[starts.numpy()]]).float() / 255)
        if config.model.output_bias:
            model.set_output_bias(mean)
        steps_per_epoch = -(-self.images_in_epoch // config.training.batch_size)
        setup = Setup(config, self.precision, steps_per_epoch, processes, path or "")
        self.learner = choose_learner(model, Noise(noise_seed, self.device), setup)
        if alone:
            label = None if self.example_labels is None else self.example_labels[:1]
            check_memory(self.learner, self.examples[:1], label, min(config.training.batch_size, self.images_in_epoch))

    def _choose_precision(self) -> Arithmetic:
        """The arithmetic for this machine; of several processes the first one chooses."""
        choose = partial(choose_precision, self.config.training.precision, self.device)
        chosen: Arithmetic = self.processes.share(choose)
        return chosen

    @property
    def record(self) -> RunRecord:
        """The content of config.json."""
        data = self.dataset
        return RunRecord(
            config=self.config,
            data=DataFacts(
                name=data.name,
                hash=data.hash,
                image_shape=data.image_shape,
                train=len(data.train),
                validation=len(data.validation or ()),
                held_out=len(data.held_out),
                classes=data.classes,
                labels_hash=data.labels_hash,
            ),
            device=self.device.type,
            precision=self.precision,
            path=self.learner.path,
            versions=Versions(vaecli=vaecli.__version__, torch=str(torch.__version__)),
            recipe=self.recipe,
            parameters=self.parameters,
            processes=self.processes.count,
            epochs_before=self.epochs_before,
        )

    @property
    def finished(self) -> bool:
        """Whether a training that goes on has all its epochs, or was stopped before by its `patience`."""
        return self.history.epoch >= self.config.training.epochs or self.out_of_patience

    @property
    def out_of_patience(self) -> bool:
        """Whether the last `patience` epochs brought no better one."""
        patience, kl_warmup, best = self.config.training.patience, self.config.training.kl_warmup, self.history.best
        return bool(patience and best and self.history.epoch - max(best.epoch, kl_warmup) >= patience)

    def started(self, folder: RunFolder) -> TrainingStarted:
        """The event before the first step."""
        data, training = self.dataset, self.config.training
        return TrainingStarted(
            run=str(folder.path),
            data=data.name,
            train=len(data.train),
            validation=len(data.validation or ()),
            held_out=len(data.held_out),
            classes=len(data.classes),
            class_names=data.classes,
            image_shape=data.image_shape,
            value_range=data.value_range,
            parameters=self.parameters,
            latent_dim=self.learner.model.latent_dim,
            device=device_name(self.device),
            precision=self.precision,
            path=self.learner.path,
            prior=self._prior_in_words,
            chosen_by=self._objective_in_words,
            seed=self.record.seed,
            epochs=training.epochs,
            resumed_after=self.history.epoch,
            images_in_epoch=self.images_in_epoch,
        )

    @property
    def _prior_in_words(self) -> str:
        model = self.config.model
        return "N(0, I)" if model.prior == "normal" else f"VampPrior of {model.pseudo_inputs} pseudo-inputs"

    @property
    def _objective_in_words(self) -> str:
        training = self.config.training
        if training.objective != "elbo":
            return f"bound of {training.importance_samples} importance samples"
        if training.free_bits:
            return f"loss with {training.free_bits:g} free bits"
        return "loss" if training.beta == 1 else f"reconstruction + {training.beta:g} x KL"

    def done(self, folder: RunFolder) -> TrainingDone:
        """The event after the last epoch."""
        best, record = self.history.best, self.record
        assert best is not None, "a training has an epoch"
        return TrainingDone(
            run=str(folder.path),
            epochs=self.history.epoch,
            best_epoch=best.epoch,
            best_loss=best.held_out.loss,
            chosen_by=record.data.chosen_by,
            seconds=self.history.seconds,
            device=self.device.type,
            precision=self.precision,
            seed=record.seed,
        )

    def restore(self, path: Path) -> Resumed:
        """Continue from the checkpoint in `path`.

        Raises:
            VaeError: it is not a checkpoint of this network, or a version of vae with another format wrote it.
        """
        state = self.processes.share(lambda: checkpoint.load_checkpoint(path))
        try:
            exact = self.learner.restore(state.weights.model, state.learner)
            best = msgspec.convert(state.best, EpochMetrics)
        except Exception as error:  # which one depends on where the state differs
            raise VaeError(
                f"{path}: this version of vae cannot resume from this checkpoint",
                "train anew with `overwrite`, or use the version that config.json names",
            ) from error
        self.history = History(state.weights.epoch, best, state.seconds)
        self.saved = state.weights.epoch
        self.threads.resume(state.threads)
        before = configs.from_json(state.weights.config.encode()).training.epochs
        return Resumed(exact, before, self.learner.change_epochs(before))

    def run(self) -> Iterator[Note | Step | EpochMetrics]:
        """Train to the last epoch. After each EpochMetrics, `save` keeps that epoch.

        Raises:
            VaeError: a loss is not finite, or there is too little memory.
        """
        images, measured = (
            open_source(part, self.device, self.processes) for part in (self.dataset.train, self.dataset.measured)
        )
        learner, after, seed = self.learner, self.history.epoch, self.measuring_seed
        events = train(learner, images, measured, self.threads, after=after, measuring_seed=seed)
        with whole_float32(), convert_out_of_memory():
            for event in events:
                if isinstance(event, EpochMetrics):
                    self.history = self.history.after(event, self.config.training.kl_warmup)
                yield event
                if self.out_of_patience:
                    return

    def save(self, folder: RunFolder, epoch: EpochMetrics) -> None:
        """Keep this epoch in the run folder. The checkpoint is written last: the other files then have its epoch.

        Raises:
            VaeError: a file cannot be written; the one before it is still there.
        """
        weights = Weights(
            config=configs.to_json(self.config).decode(),
            image_shape=self.dataset.image_shape,
            model=self.learner.weights(),
            epoch=epoch.epoch,
            held_out=msgspec.structs.asdict(epoch.held_out),
            examples=self.examples.permute(0, 2, 3, 1),
            classes=self.classes,
            labels=self.example_labels,
        )
        best = self.history.best
        assert best is not None, "after an epoch there is a best one"
        if best.epoch == epoch.epoch:
            checkpoint.save(folder.best, weights)
        folder.append_metrics(epoch)
        learner, best_so_far = self.learner.state(), msgspec.to_builtins(best)
        state = Checkpoint(weights, learner, best_so_far, self.history.seconds, epoch.threads)
        checkpoint.save(folder.checkpoint, state)
        self.saved = epoch.epoch

    @convert_out_of_memory()
    def save_preview(self, folder: RunFolder, epoch: int) -> None:
        """Save the example images as the model reconstructs them now. Raises VaeError."""
        with self.learner.saved_weights():
            image = self.learner.reconstruct(self.examples, self.example_labels).float() * 255
        save_grid(image.round().byte().permute(0, 2, 3, 1).cpu().numpy(), folder.preview(epoch))

    @convert_out_of_memory()
    def explained_variance(self) -> float | None:
        """The share of the variance of some measured images, as they are learned, that reconstructions explain.

        1 - Σ (x - x̂)² / Σ (x - mean)², with the mean picture of these images. None where they are all the same.
        """
        measured = self.dataset.measured
        some = measured.rows(spread(EXAMINED, len(measured)))
        images = channels_first(binarized(some.whole(), self.config.data.binarize, seed=0))  # (n, c, h, w)
        labels = None if some.classes is None else torch.from_numpy(some.classes.labels)
        size = measured_at_once(self.learner.model, self.config.training)
        with self.learner.saved_weights():
            parts = [
                self.learner.reconstruct(images[part], None if labels is None else labels[part]).float().cpu()
                for part in (slice(start, start + size) for start in range(0, len(images), size))
            ]
        x = images.double() / MAX_PIXEL
        whole = (x - x.mean(0)).square().sum()
        return float(1 - (x - torch.cat(parts)).square().sum() / whole) if whole else None

    def save_data_preview(self, folder: RunFolder) -> None:
        """Save some training images, so that a mistake in the data is seen at once. Raises VaeError."""
        save_grid(_spread_over(self.dataset, DATA_PREVIEW), folder.data_preview)


def choose_learner(model: VAE, noise: Noise, setup: Setup) -> Learner:
    """The fastest learner for these settings on this machine. Its `path` says which, and why a faster one failed."""
    if not DenseLearner.serves(setup.config, noise.device, setup.precision):
        return Learner(model, noise, setup)
    dense = DenseLearner(model, noise, setup)
    try:
        dense.check_kernels()
    except KernelError as error:
        learner = Learner(model, noise, setup)
        learner.path = f"autograd, because the dense kernels do not run here: {error}"
        return learner
    return dense


def _checked_images_in_epoch(config: Config, dataset: Dataset) -> int:
    """How many images an epoch trains on. Raises VaeError where there are none."""
    n, size = len(dataset.train), config.training.batch_size
    count = images_in_epoch(n, size, drop_last=config.data.drop_last)
    if not count:
        raise VaeError(
            f"`batch_size` {size}: {dataset.name} has {how_many(n, 'training image')}",
            "with `drop_last` there must be at least one whole batch: make it smaller",
        )
    return count


def _check_vamp_prior(model: VAE) -> None:
    """Raise VaeError where a class has no pseudo-input, or the export could not fit the mixture that it needs."""
    if model.config.pseudo_inputs < model.classes:
        raise VaeError(
            f"`pseudo_inputs` {model.config.pseudo_inputs}: fewer than the {model.classes} classes",
            "each class needs one or more: use more `pseudo_inputs`, or `prior` normal",
        )
    if model.latent_dim > LARGEST_FITTED:
        raise VaeError(
            f"`prior` {model.config.prior}: {model.latent_dim} latent dimensions, more than the {LARGEST_FITTED} "
            "that a mixture is fitted to",
            "use `prior` normal, or fewer dimensions",
        )


def _checked_classes(config: Config, dataset: Dataset) -> tuple[str, ...]:
    """The classes of a conditional model. Raises VaeError where it is to be one, and they are not known."""
    if not config.model.conditional:
        return ()
    if not dataset.classes:
        why = f": {dataset.no_classes}" if dataset.no_classes else ""
        raise VaeError(
            f"`conditional`: {dataset.name} has no classes{why}",
            "put every picture into the subfolder of its class, or labels.csv into their folder; an .npz needs y",
        )
    known = dataset.train.classes
    counts = np.bincount([] if known is None else known.labels, minlength=len(dataset.classes))
    if unseen := [name for name, count in zip(dataset.classes, counts, strict=True) if not count]:
        problem = f"`conditional`: {dataset.name} has no picture to train on of class {listed(unseen)}"
        raise VaeError(problem, "add some, or leave these classes out of the held-out pictures, too")
    return dataset.classes


def _spread_over(dataset: Dataset, count: int) -> Pixels:
    """At most `count` training images, evenly spaced: many data sets are sorted by class."""
    return dataset.train[spread(count, len(dataset.train))]


def _mean_and_std(dataset: Dataset) -> tuple[Tensor, float]:
    """The mean training image, (c, h, w) in [0, 1], and the standard deviation of a pixel around it."""
    total, squares = np.zeros((2, *dataset.train.shape[1:]), np.int64)
    for images in dataset.train.chunks(SUMMED):
        total += images.sum(axis=0, dtype=np.int64)
        squares += np.square(images, dtype=np.uint16).sum(axis=0, dtype=np.int64)
    mean = total / (MAX_PIXEL * len(dataset.train))
    variance = (squares / (MAX_PIXEL**2 * len(dataset.train)) - mean**2).mean()
    return torch.from_numpy(mean).permute(2, 0, 1).float(), math.sqrt(max(variance, 0))
