"""How well `vae score` tells strange pictures from held-out ones: the table in the README.

    python -m tests.benchmarks.strange EMOJI FOLDER [MODEL...]

EMOJI is the folder img/twitter/64 of the npm package emoji-datasource-twitter 16.0.0: 3,786 icons of 64x64. Needs the
photographs of scikit-image and scikit-learn, as tests.benchmarks.photographs. Trains each model with two seeds in
FOLDER, where it is not there yet (half an hour on one core), and prints the AUROC, the median over the seeds: the
probability that a strange picture scores above a held-out one; 0.5 where the two cannot be told apart.

The reference of the strangeness is one half of the held-out pictures, the other half is compared; then the halves are
swapped. "flagged" is the share that `--flag 0.05` lists. MODELs are names of CONTENDERS; without one, all of them.
"""

from __future__ import annotations

import io
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

import vaecli
from tests.benchmarks.photographs import crops
from vaecli.datasets import builtin
from vaecli.evaluation.data import choose
from vaecli.evaluation.strangeness import Strangeness, looks
from vaecli.model import Model
from vaecli.model_format import ImageShape, Reference
from vaecli.pictures.decoding import fit, read_picture

Pictures = NDArray[np.uint8]  # (n, h, w, c)
Numbers = NDArray[np.float64]

SEEDS = (1, 2)
ICONS = {"grey": (1, 28, 28), "colour": (3, 32, 32)}  # grey ones on black, colour ones on white
EACH = 500  # strange pictures of a kind, where there are more
FLAG = 0.05
COLUMNS = ("negative ELBO", "excess", "strangeness", "local", "flagged")


@dataclass(frozen=True)
class Contender:
    """A model: how it is trained, and on what."""

    name: str
    recipe: str
    own: str  # kind of picture
    more: tuple[str, ...] = ()


CONTENDERS = (
    Contender("digits", "mnist-5k", "digits"),
    Contender("icons", "mnist-5k", "icons", ("--data", "icons-grey.npy")),
    Contender("icons-logistic", "fashion-mnist", "icons", ("--data", "icons-grey.npy")),
    Contender("icons-colour", "colour.toml", "icons", ("--data", "icons-colour.npy")),
)
COLOUR = """
[model]
architecture = "conv"
latent_dim = 64
width = 16
depth = 1
dropout = 0.0
likelihood = "logistic"
output_bias = true
[training]
epochs = 30
batch_size = 64
learning_rate = 5e-4
warmup_steps = 200
kl_warmup = 5
schedule = "cosine"
ema = 0.99
clip_gradient = 1000.0
"""


def make_icons(emoji: Path, folder: Path) -> None:
    """The icons as arrays to train on."""
    originals = [read_picture(path, path.name) for path in sorted(emoji.glob("*.png"))]
    for kind, shape in ICONS.items():
        fitted = np.stack([fit(picture, shape) for picture in originals])
        np.save(folder / f"icons-{kind}.npy", 255 - fitted if kind == "grey" else fitted)


def trained(contender: Contender, seed: int, folder: Path) -> Model:
    """The exported model, trained now where it is not there."""
    run = folder / f"{contender.name}-{seed}"
    if not (run / "decoder.onnx").exists():
        vae = (sys.executable, "-m", "vaecli")
        train = (*vae, "train", "--config", contender.recipe, *contender.more, "--run", run.name, "--seed", str(seed))
        for command in ((*train, "--overwrite"), (*vae, "export", "--run", run.name)):
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return vaecli.load(run, "cpu")


def strange_pictures(held_out: Pictures, shape: ImageShape, own: str, folder: Path) -> dict[str, Pictures]:
    """Pictures of every other kind, uint8 (n, h, w, c)."""
    channels, height, width = shape
    rng = np.random.default_rng(0)

    def fitted(pictures: list[Pictures] | Pictures) -> Pictures:
        return np.stack([fit(picture, shape) for picture in pictures])

    def as_jpeg(picture: Pictures) -> Pictures:
        buffer = io.BytesIO()
        Image.fromarray(picture[:, :, 0] if channels == 1 else picture).save(buffer, "JPEG", quality=90)
        return read_picture(buffer, "a JPEG")

    def scratched(picture: Pictures) -> Pictures:
        """A line of one pixel and a third of the width, as bright as the picture is not, at a random place."""
        image = Image.fromarray(picture[:, :, 0] if channels == 1 else picture)
        (x, y), angle, length = rng.uniform(0.25, 0.75, 2) * (width, height), rng.uniform(0, np.pi), width / 6
        ends = [(x + sign * length * np.cos(angle), y + sign * length * np.sin(angle)) for sign in (-1, 1)]
        light = 255 if picture[int(y), int(x)].mean() < 128 else 0
        ImageDraw.Draw(image).line([*ends[0], *ends[1]], fill=light if channels == 1 else (light,) * channels)
        return np.asarray(image).reshape(picture.shape)

    def chipped(picture: Pictures) -> Pictures:
        """A square of a sixth of the width, at a pixel that differs most from the corner, filled with the corner's."""
        differs = np.abs(picture.astype(int) - picture[0, 0]).sum(axis=2)
        rows, columns = np.nonzero(differs >= np.quantile(differs, 0.9))
        at, side = rng.integers(len(rows)), width // 12
        damaged = picture.copy()
        row, column = rows[at], columns[at]
        damaged[max(0, row - side) : row + side, max(0, column - side) : column + side] = picture[0, 0]
        return damaged

    sides = (height, width, channels)
    greys = np.arange(256, dtype=np.uint8)[:, np.newaxis, np.newaxis, np.newaxis]
    kinds = {
        "digits": fitted(builtin.digits()[1]),
        "icons": fitted(np.load(folder / f"icons-{'grey' if channels == 1 else 'colour'}.npy").reshape(-1, *sides)),
        "photographs": fitted([np.asarray(crop) for crop in crops(EACH)]),
        "inverted": 255 - held_out,
        "turned by 90°": np.rot90(held_out, axes=(1, 2)),
        "upside down": held_out[:, ::-1, ::-1],
        "scratched": np.stack([scratched(picture) for picture in held_out]),
        "a piece missing": np.stack([chipped(picture) for picture in held_out]),
        "blank": np.broadcast_to(greys, (256, height, width, channels)),
        "uniform noise": rng.integers(0, 256, (EACH, height, width, channels), np.uint8),
        "held out, as JPEG": fitted([as_jpeg(picture) for picture in held_out]),
    }
    return {
        name: np.ascontiguousarray(pictures[:: -(-len(pictures) // EACH)])
        for name, pictures in kinds.items()
        if name != own
    }


def measured(contender: Contender, seed: int, folder: Path) -> dict[str, dict[str, float]]:
    """The columns of each kind."""
    model = trained(contender, seed, folder)
    source = None if contender.own == "digits" else str(folder / contender.more[1])
    held_out = choose(model.pair, source).pictures[:]
    kinds = {"held out": held_out, **strange_pictures(held_out, model.image_shape, contender.own, folder)}
    losses = {}
    for name, pictures in kinds.items():
        columns = model.score(pictures).columns
        losses[name] = (columns["negative_elbo"], columns["excess"], looks(pictures), columns["local"])
    found: dict[str, dict[str, list[float]]] = {name: {column: [] for column in COLUMNS} for name in kinds}
    halves = np.array_split(np.random.default_rng(0).permutation(len(held_out)), 2)
    for reference, compared in (halves, halves[::-1]):
        scale = strangeness_scale(*(values[reference] for values in losses["held out"][1:3]))
        usual = [values[compared] for values in losses["held out"]]
        for name, (negative_elbo, excess, appearance, local) in losses.items():
            rows = compared if name == "held out" else slice(None)
            strange = scale.of(excess, appearance)
            pairs = (
                (usual[0], negative_elbo),
                (usual[1], excess),
                (scale.of(*usual[1:3]), strange),
                (usual[3], local),
            )
            for column, (inside, outside) in zip(COLUMNS, pairs, strict=False):
                found[name][column].append(auroc(inside, outside[rows]))
            found[name]["flagged"].append(float((scale.tail(strange[rows]) <= FLAG).mean()))
    return {name: {column: statistics.mean(values) for column, values in row.items()} for name, row in found.items()}


def strangeness_scale(excess: Numbers, appearance: Numbers) -> Strangeness:
    """The scale that these held-out pictures make."""
    brightness, contrast, detail = appearance.T.tolist()
    return Strangeness(
        Reference(
            excess=excess.tolist(), brightness=brightness, contrast=contrast, detail=detail, local=[0.0] * len(excess)
        )
    )


def auroc(usual: Numbers, strange: Numbers) -> float:
    """The probability that a strange one is above a usual one; ties count half."""
    ordered = np.sort(usual)
    below, upto = (np.searchsorted(ordered, strange, side).mean() for side in ("left", "right"))
    return float((below + upto) / 2 / len(usual))


def main(emoji: Path, folder: Path, names: list[str]) -> None:
    """Train what is missing, measure, print a table for each model."""
    folder.mkdir(parents=True, exist_ok=True)
    make_icons(emoji, folder)
    (folder / "colour.toml").write_text(COLOUR)
    console = Console(width=118)
    for contender in (one for one in CONTENDERS if not names or one.name in names):
        found = [measured(contender, seed, folder) for seed in SEEDS]
        table = Table(title=f"{contender.name}: AUROC, median over {len(SEEDS)} seeds", title_justify="left")
        for name in ("", *COLUMNS):
            table.add_column(name, justify="right" if name else "left")
        for kind in found[0]:
            medians = (statistics.median(one[kind][column] for one in found) for column in COLUMNS)
            table.add_row(kind, *(f"{value:.3f}" for value in medians))
        console.print(table)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
