"""Compare the loss of an exported pair on held-out pictures with PyTorch's, and with the one that training recorded.

The comparison of tensors in parity.py says that two graphs compute the same. This one says that they are the model
whose loss was recorded, that pictures reach them as in training, and that both formulas of the likelihood agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vaecli import noise
from vaecli.config import Config
from vaecli.datasets.dataset import Dataset, spread
from vaecli.errors import ParityError
from vaecli.evaluation.bounds import measure
from vaecli.events import ChosenBy, Losses
from vaecli.inference.pair import Pair
from vaecli.model_format import MAX_PIXEL
from vaecli.pictures.arrays import binarized
from vaecli.training.model import VAE
from vaecli.wording import how_many

# Pictures: as many as have NUMBERS pixels and channels together, within bounds. Both sides together then take 0.1
# seconds of one core for dense layers on MNIST, and 2 for the widest of the recipes, where the export takes 5.
NUMBERS, FEWEST, MOST = 200 * 784, 20, 200

# Difference from PyTorch that is accepted, on the same pictures and latents: NATS + SHARE · |reconstruction|, the mean
# over pictures. Rounding in float32 makes a thousandth of that; the standard error of an evaluation is larger.
NATS, SHARE = 0.01, 1e-4

# Difference from the recorded loss that is accepted: ERRORS standard errors of the sample's mean + RECORDED_SHARE ·
# |reconstruction|. The recorded loss is of all pictures, with other latents, perhaps in bfloat16. By chance five
# standard errors are exceeded once in a million exports with 200 pictures, once in a thousand with ten, and once in 65
# with four (Student's t). Fewer pictures than COMPARED are not compared.
# Equal pictures have the same latent, because a picture's content is the key of its noise: they count as one.
ERRORS, RECORDED_SHARE, COMPARED = 5, 0.01, 10


@dataclass(frozen=True)
class HeldOutCheck:
    """The negative ELBO of an exported pair on some of the pictures that its training measured, in nats per image.

    Of a model with a VampPrior it is the reconstruction term.
    """

    pictures: int
    measured: int  # pictures that the training measured: these are some of them, or all
    loss: float
    standard_error: float | None  # None of one picture, however often it is there
    difference: float  # |ONNX Runtime - PyTorch| of the mean reconstruction, with the same latents
    of: Literal["loss", "reconstruction"]  # what is compared
    recorded: float  # the loss that training recorded, on all of its pictures and with other latents
    chosen_by: ChosenBy  # the kind of these pictures


@dataclass(frozen=True)
class MeasuredPictures:
    """Pictures of a training."""

    pixels: NDArray[np.uint8]  # (n, h, w, c)
    available: int  # pictures that these were chosen from
    labels: NDArray[np.int64] | None  # (n,) their classes, of a conditional model
    chosen_by: ChosenBy = "held-out"  # their kind


def measured_pictures(dataset: Dataset, config: Config) -> MeasuredPictures:
    """Some of the pictures that training measured, evenly spaced, made 0 or 255 where it did so."""
    count = min(MOST, max(FEWEST, NUMBERS // math.prod(dataset.image_shape)))
    chosen = dataset.measured.rows(spread(count, len(dataset.measured)))
    classes = chosen.classes if config.model.conditional else None
    pixels = binarized(chosen.whole(), config.data.binarize, seed=0)
    kind: ChosenBy = "held-out" if dataset.validation is None else "validation"
    return MeasuredPictures(pixels, len(dataset.measured), None if classes is None else classes.labels, kind)


def check_held_out(pair: Pair, model: VAE, pictures: MeasuredPictures, recorded: Losses) -> HeldOutCheck:
    """Compare the losses of `pair` with those of `model` on `pictures`, and with the `recorded` ones.

    Raises:
        ParityError: they are further apart than this module allows.
        VaeError: a graph fails.
    """
    pixels = pictures.pixels
    parts = list(measure(pair, pixels, samples=1, seed=0, labels=pictures.labels))
    losses, reconstruction = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("negative_elbo", "reconstruction")
    )
    difference = abs(float(reconstruction.mean()) - _in_pytorch(model, pictures))
    if not difference <= NATS + SHARE * abs(float(reconstruction.mean())):
        raise ParityError(
            f"export: the reconstruction of {how_many(len(pixels), f'{pictures.chosen_by} picture')} differs from "
            f"PyTorch's by {difference:.3g} nats per image",
            "no file was changed; try another torch or onnxruntime",
        )
    # The loss under a VampPrior is not that under N(0, I), which is measured here: the reconstruction is compared.
    of: Literal["loss", "reconstruction"] = "loss" if model.pseudo_inputs is None else "reconstruction"
    values, wanted = (losses, recorded.loss) if of == "loss" else (reconstruction, recorded.reconstruction)
    loss = float(values.mean())
    error, different = _standard_error(values, noise.digests(pixels))
    if error is not None and different >= COMPARED:
        allowed = ERRORS * error + RECORDED_SHARE * abs(recorded.reconstruction)
        if not abs(loss - wanted) <= allowed:
            raise ParityError(
                f"export: {len(pixels)} {pictures.chosen_by} pictures have a {of} of {loss:.6g} nats per image, and "
                f"training recorded {wanted:.6g}: more than {allowed:.2g} apart",
                "no file was changed; the weights are not those that were measured: train anew",
            )
    return HeldOutCheck(len(pixels), pictures.available, loss, error, difference, of, wanted, pictures.chosen_by)


def _standard_error(values: NDArray[np.float64], digests: NDArray[np.uint64]) -> tuple[float | None, float]:
    """The standard error of the mean of `values` (n,), equal where the digests of their pictures are; None of one.

    And how many different pictures say as much: n where all differ, hardly more than 1 where almost all are equal
    (Kish, Survey Sampling, 1965). The error is that of clusters: of pictures that all differ, the usual one.
    """
    _, which, times = np.unique(digests, return_inverse=True, return_counts=True)
    different = float(len(values) ** 2 / np.square(times).sum())
    if len(times) == 1:
        return None, different
    sums = np.bincount(which, values - values.mean())  # (different pictures,)
    error = math.sqrt(len(times) / (len(times) - 1) * float(np.square(sums).sum())) / len(values)
    return error, different


@torch.no_grad()
def _in_pytorch(model: VAE, pictures: MeasuredPictures) -> float:
    """The mean reconstruction by training's own formulas, with the latents that `measure` draws for these pictures."""
    nats = []
    for rows in np.array_split(np.arange(len(pictures.pixels)), max(1, len(pictures.pixels) // FEWEST)):
        batch = pictures.pixels[rows]
        label = None if pictures.labels is None else torch.from_numpy(pictures.labels[rows])
        x = torch.from_numpy(batch).permute(0, 3, 1, 2).float() / MAX_PIXEL
        mean, std = model.encode(x, label=label)
        epsilon = noise.normal(noise.keys(0, "posterior", noise.digests(batch)), model.latent_dim)[:, 0]
        raw = model.decode(mean + std * torch.from_numpy(epsilon), label=label)
        nats.append(model.reconstruction(raw, x).double())
    return float(torch.cat(nats).mean())
