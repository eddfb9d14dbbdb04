"""Where in a picture a model disagrees with it: the excess of each pixel and area, and pictures that show it.

An area is a square around each pixel, of about a tenth of the picture's shorter side. The largest excess of an area is
a score for defects that are small: in the sum over all pixels they would be lost. The largest value of a smoothed
anomaly map is the usual score of a picture in anomaly detection (Bergmann et al., The MVTec anomaly detection dataset,
2021, section 4).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vaecli import model_format
from vaecli.config import Binarize
from vaecli.evaluation import likelihoods
from vaecli.inference.geometry import Float64
from vaecli.inference.pair import Pair
from vaecli.model_format import LIKELIHOODS, MAX_PIXEL

DIMMED = 0.35  # of a picture's brightness, under the heat
HOTTEST = 4  # times the excess at which heat begins: above it nothing gets hotter
SHARE = 0.1  # of the shorter side of a picture: the side of an area
HEAT = np.array([[0, 0, 0], [160, 0, 60], [255, 90, 0], [255, 220, 0]], np.float64)  # RGB, from none to the hottest


def disagreement(
    pair: Pair,
    pictures: NDArray[np.uint8],
    labels: NDArray[np.int64] | None = None,
    binarize: Binarize | None = None,
) -> Float64:
    """The excess of each pixel in nats, summed over channels: uint8 (b, h, w, c) -> (b, h, w).

    At the mean of q(z|x), so nothing is drawn. Pixels are made 0 or 1 where `binarize`, or where it is None the
    training, does so by a threshold; at random they are not. `labels` (b,) are the pictures' classes, of a conditional
    model.

    Raises:
        VaeError: a graph fails.
    """
    likelihood = pair.metadata.likelihood
    image = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)) / np.float64(MAX_PIXEL)  # (b, c, h, w)
    if (pair.metadata.binarize if binarize is None else binarize) == "threshold":
        image = np.rint(image)
    (mean,) = pair.encoder.run((model_format.MEAN,), image.astype(np.float32), labels)
    parameters = pair.decoder.run(LIKELIHOODS[likelihood].parameters, mean, labels)
    return likelihoods.excess(likelihood, parameters, image)


def of_areas(nats: Float64) -> Float64:
    """The mean of `disagreement` (b, h, w) over the area around each pixel: (b, h, w).

    The side of an area is an odd number of pixels, at least 3. Beyond the picture's edge, the edge is repeated.
    """
    _, height, width = nats.shape
    reach = max(1, round((SHARE * min(height, width) - 1) / 2))
    side = 2 * reach + 1
    padded = np.pad(nats, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    rows = padded[:, :height].copy()
    for start in range(1, side):
        rows += padded[:, start : start + height]
    areas = rows[:, :, :width].copy()
    for start in range(1, side):
        areas += rows[:, :, start : start + width]
    areas /= side**2
    return areas


def largest_area(nats: Float64) -> Float64:
    """The largest mean of `disagreement` (b, h, w) over an area, in nats a pixel: (b,)."""
    largest: Float64 = of_areas(nats).max(axis=(1, 2))
    return largest


def heatmap(pictures: NDArray[np.uint8], nats: Float64, begin: float) -> NDArray[np.uint8]:
    """Pictures (b, h, w, c), dimmed and grey, with the excess of areas (b, h, w) as colour: uint8 (b, h, w, 3).

    Red begins above `begin` nats; yellow is HOTTEST times as much.
    """
    heat = np.clip((nats / begin - 1) / (HOTTEST - 1), 0, 1)[..., np.newaxis]  # (b, h, w, 1)
    stops = np.linspace(0, 1, len(HEAT))
    colour = np.concatenate([np.interp(heat, stops, HEAT[:, channel]) for channel in range(3)], axis=-1)
    under = DIMMED * pictures.mean(axis=-1, keepdims=True)
    visible = np.minimum(1, heat * (len(HEAT) - 1))  # the first colour is full where heat has reached it
    blended: Float64 = under * (1 - visible) + colour
    return np.rint(np.minimum(blended, MAX_PIXEL)).astype(np.uint8)
