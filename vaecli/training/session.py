"""One training as a whole: begun from a config or taken up from a checkpoint, run, and saved after each epoch."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

import vaecli
from vaecli import config as configs
from vaecli.config import Config
from vaecli.datasets import Dataset
from vaecli.errors import VaeError
from vaecli.metrics import EpochMetrics
from vaecli.model_format import Versions
from vaecli.pictures.previews import save_grid
from vaecli.run_folder import DataFacts, RunFolder, RunRecord
from vaecli.training import checkpoint
from vaecli.training.batches import channels_first, open_source
from vaecli.training.checkpoint import Checkpoint, Weights
from vaecli.training.device import (
    choose_device,
    choose_precision,
    denormals_flushed,
    device_name,
    use_granted_processors,
)
from vaecli.training.learners import choose_learner
from vaecli.training.loop import Step, images_in_epoch, train
from vaecli.training.model import VAE
from vaecli.training.noise import Noise

DATA_PREVIEW = 64  # training images in the picture of the data
EXAMPLES = 9  # training images that are kept with the weights: a 3x3 preview


@dataclass(frozen=True)
class Progress:
    """What the epochs so far came to."""

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    seconds: float = 0.0


class Session:
    """A training in memory: the learner, the images on its device, and where it stands."""

    def __init__(self, config: Config, dataset: Dataset, precision: str | None = None) -> None:
        """Set up from the beginning; `precision` overrides what this machine would choose for `auto`.

        Raises:
            DeviceError: the device asked for is not there.
            VaeError: the data do not suit what was asked for.
        """
        seed = config.training.seed
        assert seed is not None, "the caller draws a seed where none was given"
        self.config, self.dataset = config, dataset
        self.device = choose_device(config.training.device)
        use_granted_processors()
        self.precision = precision or choose_precision(config.training.precision, self.device)
        self.progress = Progress()
        self.saved = 0  # the last epoch that is on disk
        size = config.training.batch_size
        self.images_in_epoch = images_in_epoch(len(dataset.train), size, drop_last=config.data.drop_last)
        if not self.images_in_epoch:
            raise VaeError(
                f"--batch-size {size}: {dataset.name} has {len(dataset.train)} training images",
                "with --drop-last there must be at least one whole batch: make it smaller",
            )
        _, height, width = dataset.image_shape
        if config.model.architecture == "conv" and not all(16 <= side <= 256 for side in (height, width)):
            raise VaeError(
                f"--architecture conv: {dataset.name} has pictures of {height}x{width}, not 16 to 256 a side",
                "use --architecture mlp, or --image-size",
            )
        # Three streams that never meet: weights, training noise, held-out noise.
        weights_seed, noise_seed, self.measuring_seed = (
            int(word) for word in np.random.SeedSequence(seed).generate_state(3, np.uint64)
        )
        model = VAE(config.model, dataset.image_shape)
        model.initialise(torch.Generator().manual_seed(weights_seed))
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        self.examples = channels_first(dataset.train[:EXAMPLES])
        if config.model.output_bias:
            model.set_output_bias(_mean_image(dataset))
        noise = Noise(noise_seed, self.device)
        self.learner = choose_learner(model, noise, config, self.precision, -(-self.images_in_epoch // size))

    @property
    def record(self) -> RunRecord:
        """What config.json says of this run."""
        data = self.dataset
        return RunRecord(
            config=self.config,
            data=DataFacts(
                name=data.name,
                hash=data.hash,
                image_shape=data.image_shape,
                train=len(data.train),
                held_out=len(data.held_out),
            ),
            device=self.device.type,
            precision=self.precision,
            path=self.learner.path,
            versions=Versions(vaecli=vaecli.__version__, torch=str(torch.__version__)),
        )

    def take_up(self, path: Path) -> None:
        """Go on from the checkpoint in `path` exactly where it was taken.

        Raises:
            VaeError: it is not one, or was taken of another network or by a version of vae that kept other things.
        """
        state = checkpoint.load_checkpoint(path)
        try:
            self.learner.restore(state.weights.model, state.learner)
        except (KeyError, RuntimeError) as error:
            raise VaeError(
                f"{path}: not a checkpoint that this version of vae goes on from",
                "train anew with --overwrite, or use the version that config.json names",
            ) from error
        self.progress = Progress(state.weights.epoch, state.best_epoch, state.best_loss, state.seconds)
        self.saved = state.weights.epoch

    def run(self) -> Iterator[Step | EpochMetrics]:
        """Train to the last epoch. After an EpochMetrics comes, `save` keeps that epoch.

        Raises:
            VaeError: a loss is not finite.
        """
        images, held_out = (open_source(part, self.device) for part in (self.dataset.train, self.dataset.held_out))
        patience = self.config.training.patience
        events = train(self.learner, images, held_out, after=self.progress.epoch, measuring_seed=self.measuring_seed)
        with denormals_flushed():
            for event in events:
                if isinstance(event, EpochMetrics):
                    self.progress = self._after(event)
                yield event
                if patience and self.progress.epoch - self.progress.best_epoch >= patience:
                    return

    def _after(self, epoch: EpochMetrics) -> Progress:
        progress = replace(self.progress, epoch=epoch.epoch, seconds=self.progress.seconds + epoch.seconds)
        if epoch.held_out.loss < progress.best_loss:
            progress = replace(progress, best_epoch=epoch.epoch, best_loss=epoch.held_out.loss)
        return progress

    def save(self, folder: RunFolder, epoch: EpochMetrics) -> None:
        """Keep this epoch in the run folder. The checkpoint comes last: what is in it, the other files have.

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
        )
        if self.progress.best_epoch == epoch.epoch:
            checkpoint.save(folder.best, weights)
        folder.append_metrics(epoch)
        progress = self.progress
        checkpoint.save(
            folder.checkpoint,
            Checkpoint(
                weights=weights,
                learner=self.learner.state(),
                best_epoch=progress.best_epoch,
                best_loss=progress.best_loss,
                seconds=progress.seconds,
            ),
        )
        self.saved = epoch.epoch

    def save_preview(self, folder: RunFolder, epoch: int) -> None:
        """Save the example images as the model reconstructs them now. Raises VaeError."""
        with self.learner.kept_weights():
            image = self.learner.reconstruct(self.examples).float() * 255
        save_grid(image.round().byte().permute(0, 2, 3, 1).cpu().numpy(), folder.preview(epoch))

    def save_data_preview(self, folder: RunFolder) -> None:
        """Save the first training images, so that a mistake in the data is seen at once. Raises VaeError."""
        save_grid(self.dataset.train[:DATA_PREVIEW], folder.data_preview)

    @property
    def contended(self) -> bool:
        """Whether other work leaves this training's threads no processor each."""
        threads = torch.get_num_threads()
        if self.device.type != "cpu" or threads == 1 or not hasattr(os, "getloadavg"):
            return False
        return os.getloadavg()[0] + threads > (os.cpu_count() or threads) + 0.5

    @property
    def device_name(self) -> str:
        """The device as a person knows it."""
        return device_name(self.device)


def _mean_image(dataset: Dataset) -> Tensor:
    """The mean training image, (c, h, w) in [0, 1]."""
    total = np.zeros(dataset.train.shape[1:], np.float64)
    for images in dataset.train.chunks():
        total += images.sum(0, dtype=np.float64)
    return torch.from_numpy(total / (255 * len(dataset.train))).permute(2, 0, 1).float()
