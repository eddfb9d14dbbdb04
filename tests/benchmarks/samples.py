"""How good samples of digits are, judged by a classifier of digits: of N(0, I), and of the prior that a model brings.

python -m tests.benchmarks.samples RUN...      # exported models of 28x28 digits
VAE_DATA=FOLDER python -m tests.benchmarks.samples RUN...      # with MNIST in FOLDER: a better judge

It trains a small convolutional classifier on MNIST, half a minute on one core, or on the digits in the package, some
seconds. Then it prints for as many samples as there are held-out digits:

    readable            the share that the classifier is more than 90 % sure of
    distance            the Fréchet distance of the classifier's penultimate features from those of held-out digits
    precision, recall   of these features (Kynkäänniemi et al. 2019, k = 3)
    classes             the share of the rarest and of the commonest digit

And of a model that knows the digits, how many samples drawn with a label are of that digit.

Distances compare with those of the same judge only: the table begins with real digits.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from tests.benchmarks.timing import processor
from vaecli import load
from vaecli.config import PriorChoice
from vaecli.datasets import builtin
from vaecli.evaluation.samples import frechet_distance, precision_and_recall

SURE = 0.9
BATCH, STEPS, RATE = 128, 1400, 4e-3
FEATURES = 64
DROPOUT = 0.3
SEED = 1
TEMPERATURES = (1.0, 0.8, 0.6)

Images = NDArray[np.float32]  # (n, 28, 28) in [0, 1]


class Classifier(nn.Module):
    """Two convolutions and two dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(FEATURES, 10))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (b, 1, 28, 28) -> penultimate features (b, FEATURES), logits (b, 10)."""
        features = self.body(images)
        return features, self.head(features)


def digits() -> tuple[Images, NDArray[np.int64], Images, NDArray[np.int64], str]:
    """Training digits and their classes, held-out digits and theirs, and what they are called."""
    if root := os.environ.get("VAE_DATA"):
        from torchvision.datasets import MNIST  # type: ignore[import-untyped]  # it ships no types

        sets = [MNIST(root, train=train) for train in (True, False)]
        (train, classes), (held_out, theirs) = ((found.data.numpy(), found.targets.numpy()) for found in sets)
        return _scaled(train), classes, _scaled(held_out), theirs, "mnist"
    train, held_out = (part[..., 0] for part in builtin.digits())
    classes, theirs = np.split(builtin.classes().labels, [len(train)])
    return _scaled(train), classes, _scaled(held_out), theirs, builtin.NAME


def _scaled(pixels: NDArray[np.uint8]) -> Images:
    return pixels.astype(np.float32) / np.float32(255)


def train_classifier(images: Images, classes: NDArray[np.int64]) -> Classifier:
    """A classifier of digits."""
    torch.manual_seed(SEED)
    model = Classifier()
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    inputs, targets = torch.from_numpy(images)[:, None], torch.from_numpy(classes)
    for _ in range(STEPS):
        rows = torch.randint(len(inputs), (BATCH,))
        loss = nn.functional.cross_entropy(model(inputs[rows])[1], targets[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model.eval()


class Judge:
    """A classifier, and the features of held-out digits under it."""

    def __init__(self, model: Classifier, held_out: Images) -> None:
        self._model = model
        self._held_out, _ = self._look(held_out)

    def row(self, images: Images) -> list[str]:
        """The cells of a table for these images."""
        features, shares = self._look(images)
        precision, recall = precision_and_recall(features, self._held_out)
        classes = np.bincount(shares.argmax(axis=1), minlength=10) / len(images)
        return [
            f"{(shares.max(axis=1) > SURE).mean():.3f}",
            f"{frechet_distance(features, self._held_out):.1f}",
            f"{precision:.3f}",
            f"{recall:.3f}",
            f"{classes.min():.3f} to {classes.max():.3f}",
        ]

    def sure(self, images: Images) -> NDArray[np.bool_]:
        """Which images it is more than 90 % sure of."""
        found: NDArray[np.bool_] = self._look(images)[1].max(axis=1) > SURE
        return found

    def accuracy(self, images: Images, classes: NDArray[np.int64]) -> float:
        """The share of images that it classifies as their own class."""
        return float((self._look(images)[1].argmax(axis=1) == classes).mean())

    @torch.no_grad()
    def _look(self, images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features (n, FEATURES) and probabilities (n, 10)."""
        parts = [self._model(part[:, None]) for part in torch.from_numpy(images).split(1000)]
        features, logits = (torch.cat(part) for part in zip(*parts, strict=True))
        return features.numpy(), logits.softmax(dim=1).numpy()


def main(runs: list[Path]) -> None:
    """Print a table."""
    train, classes, held_out, theirs, name = digits()
    start = time.process_time()
    judge = Judge(train_classifier(train, classes), held_out)
    seconds, n = time.process_time() - start, len(held_out)
    table = Table(title=f"{n:,} pictures each · {processor()}", title_justify="left")
    for heading in ("", "readable", "distance", "precision", "recall", "classes"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_row(f"training digits of {name}", *judge.row(train[:: len(train) // n][:n]))
    right: dict[Path, float] = {}
    for run in runs:
        model = load(run)
        table.add_section()
        if not model.conditional:  # it would have to be told the digits
            table.add_row(f"{run}: reconstructions", *judge.row(model.reconstruct(held_out)))
            table.add_row("the same through draws of q(z|x)", *judge.row(model.reconstruct(held_out, seed=SEED)))
        kinds: list[tuple[PriorChoice, str]] = []
        if model.pair.trained_prior == "normal":
            kinds.append(("normal", "N(0, I)"))
        if model.pair.prior is not None:
            kinds.append(("model", f"mixture of {model.pair.prior.components}"))
        for kind, title in kinds:
            for temperature in TEMPERATURES:
                images = model.sample(n, seed=SEED, prior=kind, temperature=temperature)
                table.add_row(f"{title}, temperature {temperature:g}", *judge.row(images))
        if model.classes == tuple("0123456789"):
            images = np.concatenate([model.sample(n // 10, seed=SEED, label=label) for label in model.classes])
            right[run] = judge.accuracy(images, np.repeat(np.arange(10), n // 10))
            table.add_row("every class by its label", *judge.row(images))
    console = Console(width=118)
    console.print(table)
    accuracy = judge.accuracy(held_out, theirs)
    for run, share in right.items():
        console.print(f"{run}: {share:.3f} of the samples drawn by label are of that digit")
    console.print(f"classifier: {accuracy:.4f} of the held-out digits right, trained in {seconds:.0f} s of CPU time")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main([Path(argument) for argument in sys.argv[1:]])
