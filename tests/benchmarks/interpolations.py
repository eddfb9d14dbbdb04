"""How readable the pictures of an interpolation between digits are, and how even its steps, judged as in samples.py.

python -m tests.benchmarks.interpolations RUN...      # exported models of 28x28 digits
VAE_DATA=FOLDER python -m tests.benchmarks.interpolations RUN...      # with MNIST in FOLDER: a better judge

For each way to interpolate in nine steps between 100 pairs of held-out digits:

    inner, middle       the share of the seven inner pictures, and of the one in the middle, that a classifier of digits
                        is more than 90 % sure of; ends: the same of the first and last one, which are reconstructions
    largest             the largest of the eight steps, as the distance between pictures with pixels in [0, 1]
    to the mean         the largest step over the mean one
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tests.benchmarks.samples import Images, Judge, digits, train_classifier
from tests.benchmarks.timing import processor
from vaecli import load
from vaecli.inference.geometry import Method

PAIRS, STEPS, SEED = 100, 9, 0


def row(images: Images, judge: Judge) -> list[str]:
    """The cells of a table for interpolations (PAIRS, STEPS, 28, 28)."""
    sure: NDArray[np.bool_] = judge.sure(images.reshape(-1, 28, 28)).reshape(PAIRS, STEPS)
    lengths = np.linalg.norm(np.diff(images.reshape(PAIRS, STEPS, -1), axis=1), axis=2)
    return [
        f"{sure[:, 1:-1].mean():.3f}",
        f"{sure[:, STEPS // 2].mean():.3f}",
        f"{sure[:, [0, -1]].mean():.3f}",
        f"{lengths.max(axis=1).mean():.2f}",
        f"{(lengths.max(axis=1) / lengths.mean(axis=1)).mean():.2f}",
    ]


def main(runs: list[Path]) -> None:
    """Print a table."""
    train, classes, held_out, _, name = digits()
    judge = Judge(train_classifier(train, classes), held_out)
    rows = np.random.default_rng(SEED).permutation(len(held_out))[: 2 * PAIRS]
    table = Table(title=f"{PAIRS} pairs of held-out digits of {name} · {processor()}", title_justify="left")
    for heading in ("", "inner", "middle", "ends", "largest", "to the mean"):
        table.add_column(heading, justify="right" if heading else "left")
    for run in runs:
        model = load(run)
        table.add_section()
        methods = [method for method in get_args(Method) if method != "string" or model.pair.prior is not None]
        for method in methods:
            pairs = held_out[rows].reshape(PAIRS, 2, 28, 28)
            images = np.stack([model.interpolate(a, b, steps=STEPS, method=method) for a, b in pairs])
            table.add_row(f"{run}: {method}", *row(images, judge))
    Console(width=118).print(table)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main([Path(argument) for argument in sys.argv[1:]])
