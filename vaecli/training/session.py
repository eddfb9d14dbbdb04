"""One training as a whole: begun from a config or taken up from a checkpoint, run, and saved after each epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import vaecli
from vaecli import config as configs
from vaecli import files
from vaecli.config import Config
from vaecli.datasets import Dataset
from vaecli.errors import VaeError
from vaecli.metrics import EpochMetrics
from vaecli.model_format import Versions
from vaecli.run_folder import DataFacts, RunFolder, RunRecord
from vaecli.training import checkpoint
from vaecli.training.checkpoint import Checkpoint, Weights
from vaecli.training.device import choose_device, choose_precision, device_name
from vaecli.training.learner import Learner
from vaecli.training.loop import Step, train
from vaecli.training.network import VAE
from vaecli.training.noise import Noise

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
            VaeError: the data are too few for the batches asked for.
        """
        seed = config.training.seed
        assert seed is not None, "the caller draws a seed where none was given"
        self.config, self.dataset = config, dataset
        self.device = choose_device(config.training.device)
        self.precision = precision or choose_precision(config.training.precision, self.device)
        self.progress = Progress()
        self.saved = 0  # the last epoch that is on disk
        if config.data.drop_last and len(dataset.train) < config.training.batch_size:
            raise VaeError(
                f"--batch-size {config.training.batch_size}: {dataset.name} has {len(dataset.train)} training images",
                "with --drop-last there must be at least one whole batch: make it smaller",
            )
        # Three streams that never meet: weights, training noise, held-out noise.
        weights_seed, noise_seed, self.measuring_seed = (
            int(word) for word in np.random.SeedSequence(seed).generate_state(3, np.uint64)
        )
        model = VAE(config.model, dataset.image_shape)
        model.initialise(torch.Generator().manual_seed(weights_seed))
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        self.learner = Learner(
            model,
            Noise(noise_seed, self.device),
            learning_rate=config.training.learning_rate,
            beta=config.training.beta,
            precision=self.precision,
        )
        self.examples = _on(torch.device("cpu"), dataset.train[:EXAMPLES])

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
            versions=Versions(vaecli=vaecli.__version__, torch=torch.__version__),
        )

    def take_up(self, state: Checkpoint) -> None:
        """Go on from `state` exactly where it was taken."""
        self.learner.model.load_state_dict(state.weights.model)
        self.learner.restore(state.optimizer)
        self.learner.noise.restore(state.noise)
        self.progress = Progress(state.weights.epoch, state.best_epoch, state.best_loss, state.seconds)
        self.saved = state.weights.epoch

    def run(self) -> Iterator[Step | EpochMetrics]:
        """Train to the last epoch. After an EpochMetrics comes, `save` keeps that epoch.

        Raises:
            VaeError: a loss is not finite.
        """
        images, held_out = _on(self.device, self.dataset.train), _on(self.device, self.dataset.held_out)
        for event in train(
            self.learner,
            images,
            held_out,
            self.config,
            after=self.progress.epoch,
            measuring_seed=self.measuring_seed,
        ):
            if isinstance(event, EpochMetrics):
                self.progress = self._after(event)
            yield event

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
            model=self.learner.model.state_dict(),
            epoch=epoch.epoch,
            held_out={
                "loss": epoch.held_out.loss,
                "reconstruction": epoch.held_out.reconstruction,
                "kl": epoch.held_out.kl,
            },
            examples=self.examples.permute(0, 2, 3, 1),
        )
        if self.progress.best_epoch == epoch.epoch:
            checkpoint.save(folder.best, weights)
        folder.append_metrics(epoch)
        checkpoint.save(
            folder.checkpoint,
            Checkpoint(
                weights=weights,
                optimizer=self.learner.state(),
                noise=self.learner.noise.state(),
                best_epoch=self.progress.best_epoch,
                best_loss=self.progress.best_loss,
                seconds=self.progress.seconds,
            ),
        )
        self.saved = epoch.epoch

    def save_preview(self, folder: RunFolder, epoch: int) -> None:
        """Save the example images as the model reconstructs them now. Raises VaeError."""
        image = self.learner.reconstruct(self.examples).float() * 255
        pictures = image.round().byte().permute(0, 2, 3, 1).cpu().numpy()
        files.make_folder(folder.previews)
        files.write_bytes(folder.preview(epoch), png(grid(pictures)))

    @property
    def device_name(self) -> str:
        """The device as a person knows it."""
        return device_name(self.device)


def _on(device: torch.device, images: NDArray[np.uint8]) -> Tensor:
    """Pictures (n, h, w, c) as a uint8 tensor (n, c, h, w) on the device; grey ones are not copied on a CPU."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).contiguous().to(device)
