"""The digits in the package: mnist-5k, 500 MNIST training images of each digit. Needs no network."""

from __future__ import annotations

import io
from importlib import resources

import numpy as np

from vaecli.datasets.classes import Classes
from vaecli.pictures.arrays import Pixels
from vaecli.pictures.decoding import read_picture

NAME = "mnist-5k"
TITLE = "handwritten digits, 500 each, in the package"
SHEET = "mnist-5k.png"  # 50 rows of 100 digits, in class order
SIDE = 28
ROWS, COLUMNS = 50, 100
PER_DIGIT, HELD_OUT_PER_DIGIT = 500, 50


def digits() -> tuple[Pixels, Pixels]:
    """The 4,500 training and the 500 held-out digits, (n, 28, 28, 1), both in class order.

    The last 50 of each digit are held out.
    """
    sheet = (resources.files("vaecli") / "data" / SHEET).read_bytes()
    pixels = read_picture(io.BytesIO(sheet), SHEET)
    tiles = pixels.reshape(ROWS, SIDE, COLUMNS, SIDE).swapaxes(1, 2)
    by_digit = tiles.reshape(10, PER_DIGIT, SIDE, SIDE, 1)
    train, held_out = np.split(by_digit, [PER_DIGIT - HELD_OUT_PER_DIGIT], axis=1)
    return train.reshape(-1, SIDE, SIDE, 1), held_out.reshape(-1, SIDE, SIDE, 1)


def classes() -> Classes:
    """The digit on each image, training images first, (5000,)."""
    counts = (PER_DIGIT - HELD_OUT_PER_DIGIT, HELD_OUT_PER_DIGIT)
    return Classes(tuple("0123456789"), np.concatenate([np.repeat(np.arange(10), count) for count in counts]))
