"""How good samples of several models are, in features that are the same for all: of each model's flow and mixture.

python -m tests.benchmarks.pixel_features PICTURES RUN...      # exported models of one size of pictures

`vae evaluate --samples` compares in features of the model itself, so its figures compare within one model only. Here
the features are the first 64 principal components of PICTURES, shrunk to a quarter of their side: what is where, in
which colours. They do not see whether samples are sharp. For 1,000 samples it prints, beside 1,000 of the pictures:

    precision, recall   (Kynkäänniemi et al. 2019, k = 3)
    distance            the Fréchet distance

The table begins with 1,000 other pictures of PICTURES, which are the best that samples can be.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from vaecli import load
from vaecli.evaluation.samples import frechet_distance, precision_and_recall

COUNT = 1000
SHRUNK = 4
COMPONENTS = 64
SEED = 1

Images = NDArray[np.floating]  # (n, h, w) or (n, h, w, 3) in [0, 1]


def shrunk(images: Images) -> NDArray[np.floating]:
    """Each picture as one row, a mean for each square of pixels: (n, h, w, ...) -> (n, numbers)."""
    n, height, width = images.shape[:3]
    high, wide = height // SHRUNK, width // SHRUNK
    even = images[:, : high * SHRUNK, : wide * SHRUNK]
    means: NDArray[np.floating] = even.reshape(n, high, SHRUNK, wide, SHRUNK, -1).mean(axis=(2, 4))
    return means.reshape(n, -1)


def main(source: str, runs: list[Path]) -> None:
    """Print a table."""
    read = load(runs[0], "cpu").read(source).images
    if len(read) < 2 * COUNT:
        sys.exit(f"{source}: {len(read)} pictures, fewer than {2 * COUNT}")
    images = read[np.random.default_rng(SEED).permutation(len(read))] / np.float32(255)
    rows = shrunk(images)
    centre = rows.mean(axis=0)
    components = np.linalg.svd(rows - centre, full_matrices=False)[2][:COMPONENTS].T
    pictures = (rows[:COUNT] - centre) @ components

    table = Table(title=f"{COUNT:,} pictures each", title_justify="left")
    for heading in ("", "precision", "recall", "distance"):
        table.add_column(heading, justify="right" if heading else "left")

    def add(name: str, drawn: Images) -> None:
        features = (shrunk(drawn) - centre) @ components
        precision, recall = precision_and_recall(features, pictures)
        table.add_row(name, f"{precision:.3f}", f"{recall:.3f}", f"{frechet_distance(features, pictures):.2f}")

    add(f"other pictures of {source}", images[COUNT : 2 * COUNT])
    for run in runs:
        model = load(run, "cpu")
        for prior in ("flow", "mixture"):
            if prior == "flow" or model.pair.prior is not None:
                add(f"{run}: {prior}", model.sample(COUNT, seed=SEED, prior=prior))
    Console(width=118).print(table)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], [Path(argument) for argument in sys.argv[2:]])
