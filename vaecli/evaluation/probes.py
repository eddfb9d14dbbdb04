"""How much of a picture's class its latent carries: the accuracy of two simple classifiers of latents.

They are fitted to the means of q(z|x) of training pictures, and tried on those of pictures held out. (Alain and Bengio,
Understanding intermediate layers using linear classifier probes, 2016.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vaecli.inference.geometry import Float64
from vaecli.parallel import cut

NEIGHBOURS = 5
RIDGE = 1e-3  # of the mean variance, added to every variance: latents may be collinear
BLOCK = 2**24  # distances computed at once

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Probes:
    """Shares of the pictures whose class is found, from 0 to 1."""

    linear: float  # by linear discriminant analysis
    neighbours: float  # by the majority of the five nearest latents
    largest_class: float  # what always naming the most frequent class of the training pictures would reach
    classes: int
    fitted_to: int  # training pictures


def probe(latents: NDArray[np.floating], labels: Labels, others: NDArray[np.floating], expected: Labels) -> Probes:
    """Fit to `latents` (n, d) and their `labels` (n,), and find the `expected` classes (m,) of `others` (m, d)."""
    known, tried = latents.astype(np.float64), others.astype(np.float64)
    return Probes(
        linear=float((_linear(known, labels, tried) == expected).mean()),
        neighbours=float((_neighbours(known, labels, tried) == expected).mean()),
        largest_class=float((expected == np.bincount(labels).argmax()).mean()),
        classes=len(np.unique(labels)),
        fitted_to=len(labels),
    )


def _linear(known: Float64, labels: Labels, tried: Float64) -> Labels:
    """The class of the highest posterior probability where all classes are Gaussians of one covariance.

    Hastie, Tibshirani and Friedman, The elements of statistical learning, 2009, equation 4.10.
    """
    kinds, counts = np.unique(labels, return_counts=True)
    means = np.stack([known[labels == kind].mean(axis=0) for kind in kinds])
    centred = known - means[np.searchsorted(kinds, labels)]
    covariance = centred.T @ centred / len(known)
    covariance += np.eye(len(covariance)) * RIDGE * (known.var(axis=0).mean() or 1.0)
    directions = np.linalg.solve(covariance, means.T)  # (d, classes)
    constants = np.log(counts / counts.sum()) - 0.5 * np.einsum("kd,dk->k", means, directions)
    found: Labels = kinds[(tried @ directions + constants).argmax(axis=1)]
    return found


def _neighbours(known: Float64, labels: Labels, tried: Float64) -> Labels:
    """The most frequent class among the nearest latents; of equally frequent ones that whose latents are nearer."""
    count = min(NEIGHBOURS, len(known))
    votes = 1 + np.linspace(0.1, 0, count)  # by rank: they decide a tie
    squares, found = np.square(known).sum(axis=1), []
    for part in cut(tried, max(1, BLOCK // len(known))):
        distances = squares - 2 * part @ known.T  # except for a constant of each row
        nearest = np.argpartition(distances, count - 1, axis=1)[:, :count]
        order = np.take_along_axis(distances, nearest, axis=1).argsort(axis=1)
        kinds = labels[np.take_along_axis(nearest, order, axis=1)]
        found += [np.bincount(row, weights=votes).argmax() for row in kinds]
    return np.array(found, np.int64)
