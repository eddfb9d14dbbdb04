"""A prior fitted to where the latents of the training pictures lie, and its graph.

A mixture of Gaussians with full covariances, fitted after the training, as Ghosh et al. recommend (From variational to
deterministic autoencoders, 2020, section 4), by expectation maximisation. It is fitted not to points but to the
posteriors q(z|x) = N(mean, std²): EM raises a lower bound on the mean of E_q log p(z), the prior's term in the ELBO.
Each of its two steps is one product with a matrix, the expectations of z zᵀ, z and 1 under each posterior, so that it
takes a second where EM on draws takes four. For latents of many dimensions that matrix is too large; there each step
goes from component to component.

Several such fits from different starts are averaged: a mixture, too, whose log density is at least the mean of theirs
(Jensen's inequality), and mostly some tenths of a nat more, as each has errors of its own.

Where the classes of the pictures are known, each component belongs to one of them and is fitted to its pictures alone:
then p(z|class) is a mixture, too, and p(z) is mostly the better for it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto, checker, helper, numpy_helper

import vaecli
from vaecli import model_format
from vaecli.config import Binarize
from vaecli.datasets.classes import Classes
from vaecli.datasets.dataset import ImageSet, hold_out, spread
from vaecli.evaluation.bounds import binarized
from vaecli.events import OnEvent, Progress, ignore
from vaecli.inference.pair import BATCH_NUMBERS, LARGEST_BATCH
from vaecli.inference.prior import Float64, Mixture, log_normal
from vaecli.inference.runtime import Graph
from vaecli.model_format import (
    BATCH,
    CHOICE,
    FACTORS,
    LARGEST_FITTED,
    LATENT,
    LEVELS,
    LOG_WEIGHTS,
    MEAN,
    MEANS,
    NOISE,
    STD,
    PriorSummary,
)
from vaecli.processors import cut, ordered_map

Float32 = NDArray[np.float32]

FACTOR_NUMBERS = 2**22  # in all covariances together: 16 MB
PACKED = 256  # dimensions up to which the expectations fit into one matrix
MOST_PICTURES = 60_000  # that are fitted to
MOST_UNPACKED = 8_000  # of them where there are more dimensions: a step takes n · k · d² operations
MOST_JUDGED = 10_000  # held-out pictures that tell what it gains
MOMENT_NUMBERS = 2**25  # in the matrix of expectations: 256 MB
SEARCHED = 10_000  # pictures that choose the number of components
COMPONENTS = (1, 4, 16, 32, 64, 128, 256)
PER_CLASS = (1, 2, 4, 8, 12, 16, 24, 32)
PER_COMPONENT = 12  # pictures, at least
# Largest loss of density (nats) accepted for more components: samples look better, and averaging gains more.
AS_GOOD = 0.1
AVERAGED = 2  # fits
# Shrinkage towards the common covariance, in pictures.
SHRINKAGES = (3.0, 10.0, 30.0, 100.0, 300.0)
SHRINKAGE = 10.0  # while the best is not known
# N(0, I) counts in the common covariance as this many pictures for each dimension: few pictures of many dimensions have
# a covariance that does not generalise.
NORMAL_PICTURES = 0.25
# Classes are kept where the mixture without them gains at most this share more over N(0, I).
CLASSES_MAY_COST = 0.05
ITERATIONS = 40
CONVERGED = 5e-5  # nats a dimension that an iteration gains
DRAWS = 4  # latents of each picture on which a density is judged
IR_VERSION = 10  # of the file: what the exporter of PyTorch writes for the other two


class TrainingPictures(NamedTuple):
    """What a prior is fitted to and judged on: uint8 pictures (n, h, w, c), which may stay on disk."""

    train: ImageSet
    held_out: ImageSet
    binarize: Binarize  # what training made of grey pixels
    seed: int


@dataclass(frozen=True)
class FittedPrior:
    """A mixture as its file holds it, and how it was fitted."""

    mixture: Mixture
    summary: PriorSummary


@dataclass(frozen=True)
class Posteriors:
    """q(z|x) of pictures."""

    mean: Float64  # (n, d)
    std: Float64  # (n, d)
    classes: Classes | None = None  # of the pictures, where they are known
    conditional: bool = False  # whether they are q(z|x, y), of a model that needs p(z|y)

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, rows: NDArray[np.int64]) -> Posteriors:
        return Posteriors(self.mean[rows], self.std[rows], self.classes and self.classes[rows], self.conditional)

    def draws(self, generator: np.random.Generator) -> Float64:
        """(n, DRAWS, d) latents."""
        noise = generator.standard_normal((len(self), DRAWS, self.mean.shape[1]))
        return self.mean[:, np.newaxis] + self.std[:, np.newaxis] * noise

    def some(self, most: int, generator: np.random.Generator) -> Posteriors:
        """At most `most` of them, drawn at random, in their order."""
        return self if len(self) <= most else self[np.sort(generator.permutation(len(self))[:most])]


Moments: TypeAlias = Float32 | Posteriors  # see _moments


def fit_prior(encoder: Graph, pictures: TrainingPictures, on_event: OnEvent = ignore) -> FittedPrior | None:
    """The prior that suits a model with this encoder; None where no mixture is better than N(0, I).

    Raises:
        VaeError: the encoder fails, or a picture cannot be read.
    """
    train = encode(encoder, pictures, pictures.train, MOST_PICTURES)
    mixture = fit(train, pictures.seed, on_event)
    if mixture is None:
        return None
    mixture = _rounded(mixture)
    held_out = encode(encoder, pictures, pictures.held_out, MOST_JUDGED)
    latents = held_out.draws(np.random.default_rng(pictures.seed))
    summary = PriorSummary(
        kind="mixture",
        components=mixture.components,
        classes=train.classes.names if train.classes and mixture.class_sizes else (),
        class_sizes=mixture.class_sizes,
        log_density=_density(mixture, latents, held_out),
        normal_log_density=float(log_normal(latents).mean()),
        pictures=len(train),
    )
    return FittedPrior(mixture, summary)


def encode(encoder: Graph, pictures: TrainingPictures, images: ImageSet, most: int) -> Posteriors:
    """q(z|x) of at most `most` of the images, evenly spaced."""
    rows, conditional = spread(most, len(images)), bool(encoder.file.metadata.classes)
    channels, height, width = encoder.file.metadata.image_shape
    size = max(1, min(LARGEST_BATCH, BATCH_NUMBERS // (channels * height * width)))

    def encoded(chosen: NDArray[np.int64]) -> list[Float32]:
        pixels = binarized(images[chosen], pictures.binarize, pictures.seed)
        scaled = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(LEVELS)
        labels = images.rows(chosen).classes if conditional else None
        return encoder.run((MEAN, STD), scaled, None if labels is None else labels.labels)

    parts = ordered_map(encoded, cut(rows, size), encoder.workers)
    means, stds = zip(*parts, strict=True)
    mean, std = (np.concatenate(found).astype(np.float64) for found in (means, stds))
    return Posteriors(mean, std, images.rows(rows).classes, conditional=conditional)


def fit(pictures: Posteriors, seed: int, on_event: OnEvent = ignore) -> Mixture | None:
    """The mixture that suits the posteriors of training pictures; None where none is better than N(0, I).

    A tenth of the pictures is held out of the fit. The shrinkage and the number of components are those with the
    highest density on it; the next larger number is taken if it is about as good. With them AVERAGED mixtures are then
    fitted to all pictures, and their mean is taken.
    """
    size = pictures.mean.shape[1]
    if size > LARGEST_FITTED or len(pictures) < 2:  # one to fit to, and one to judge by
        return None
    generator = np.random.default_rng(seed)
    most = min(MOST_PICTURES, MOMENT_NUMBERS // _columns(size)) if size <= PACKED else MOST_UNPACKED
    pictures = pictures.some(most, generator)
    searched = pictures.some(SEARCHED, generator)
    rows, held_out = hold_out(len(searched))
    judged = searched[held_out].draws(generator)
    normal = float(log_normal(judged).mean())
    parts, fits = (searched[rows], searched[held_out], judged), itertools.count(1)

    def fitted() -> None:
        on_event(Progress("fitting the prior", next(fits), None, "mixtures"))

    chosen = _search(*parts, tied=False, generator=generator, fitted=fitted)
    if pictures.classes is not None:
        tied = _search(*parts, tied=True, generator=generator, fitted=fitted)
        if tied is not None and (chosen is None or tied.gain(normal) >= (1 - CLASSES_MAY_COST) * chosen.gain(normal)):
            chosen = tied
    if chosen is None or chosen.gain(normal) <= 0:
        return None
    more = math.sqrt(len(pictures) / len(searched))  # components that more pictures are good for
    return _averaged(pictures, chosen, more, generator, fitted)


class Candidate(NamedTuple):
    """A number of components, how they were shrunk, and their mean density on latents that they were not fitted to."""

    sizes: tuple[int, ...]  # components of each class, or of all pictures
    tied: bool  # whether they belong to classes
    shrinkage: float
    density: float  # in nats

    def gain(self, normal: float) -> float:
        """Over N(0, I), whose mean density is `normal`."""
        return self.density - normal


@dataclass(frozen=True)
class Owned:
    """Which pictures a component may have: those of its class."""

    sizes: tuple[int, ...]  # how many components each class has; the components are in the order of the classes
    barred: NDArray[np.bool_]  # (n, k) where the picture is of another class

    @classmethod
    def of(cls, pictures: Posteriors, sizes: Sequence[int]) -> Owned | None:
        """None where there are no `sizes`, as components belong to no class."""
        if not sizes or pictures.classes is None:
            return None
        owners = np.repeat(np.arange(len(sizes)), sizes)
        return cls(tuple(sizes), owners != pictures.classes.labels[:, np.newaxis])


def _search(
    pictures: Posteriors,
    held_out: Posteriors,
    judged: Float64,
    *,
    tied: bool,
    generator: np.random.Generator,
    fitted: Callable[[], None],
) -> Candidate | None:
    """The number of components that is best on `judged`, latents of `held_out`, or the next one if it is as good.

    With components for each class where they are `tied` to classes. None where there would be too many components.
    `fitted` is called after each fit.
    """
    size, found, highest = pictures.mean.shape[1], None, -np.inf
    moments, members = _moments(pictures), _members(pictures, tied=tied)
    tried = 0
    for most in PER_CLASS if tied else COMPONENTS:
        sizes = _allowed([most] * len(members), members)
        if sum(sizes) == tried or sum(sizes) > _largest(size) or (not tied and sizes[0] < most):
            break
        tried = sum(sizes)
        owned = Owned.of(pictures, sizes if tied else ())
        sums = _converged(moments, _starts(moments, members, sizes, size, generator), size, SHRINKAGE, owned)
        fitted()
        densities = [_density(_mixture(sums, size, shrinkage, owned), judged, held_out) for shrinkage in SHRINKAGES]
        at = int(np.argmax(densities))
        if densities[at] > highest - AS_GOOD:
            found = Candidate(sizes, tied, SHRINKAGES[at], densities[at])
        if densities[at] <= highest:
            break
        highest = densities[at]
    return found


def _averaged(
    pictures: Posteriors, chosen: Candidate, more: float, generator: np.random.Generator, fitted: Callable[[], None]
) -> Mixture:
    """The mean of AVERAGED mixtures, each with `more` times as many components as were chosen where that is allowed.

    `fitted` is called after each fit.
    """
    size = pictures.mean.shape[1]
    moments, members = _moments(pictures), _members(pictures, tied=chosen.tied)
    count = AVERAGED if max(chosen.sizes) > 1 and AVERAGED * sum(chosen.sizes) <= _largest(size) else 1
    more = min(more, _largest(size) / (count * sum(chosen.sizes)))
    sizes = _allowed([int(more * number) for number in chosen.sizes], members)
    owned = Owned.of(pictures, sizes if chosen.tied else ())

    fits = []
    for _ in range(count):
        start = _starts(moments, members, sizes, size, generator)
        sums = _converged(moments, start, size, chosen.shrinkage, owned)
        fits.append(_mixture(sums, size, chosen.shrinkage, owned))
        fitted()
    # The components of a class stay together.
    order = np.argsort(np.tile(np.repeat(np.arange(len(sizes)), sizes), count), kind="stable")
    log_weights, means, factors = (
        np.concatenate(parts)[order]
        for parts in zip(*((fit.log_weights, fit.means, fit.factors) for fit in fits), strict=True)
    )
    class_sizes = tuple(count * number for number in sizes) if owned else ()
    return Mixture(log_weights - math.log(count), means, factors, class_sizes)


def _members(pictures: Posteriors, *, tied: bool) -> list[NDArray[np.int64]]:
    """The rows of each class, or of all pictures."""
    if not tied or pictures.classes is None:
        return [np.arange(len(pictures))]
    return [np.flatnonzero(pictures.classes.labels == label) for label in range(len(pictures.classes.names))]


def _allowed(sizes: Sequence[int], members: Sequence[NDArray[np.int64]]) -> tuple[int, ...]:
    """These numbers of components, or as many as the pictures of a class allow, and at least one."""
    return tuple(max(1, min(number, len(rows) // PER_COMPONENT)) for number, rows in zip(sizes, members, strict=True))


def _largest(size: int) -> int:
    """The most components of this many dimensions."""
    return FACTOR_NUMBERS // size**2


def _starts(
    moments: Moments,
    members: Sequence[NDArray[np.int64]],
    sizes: Sequence[int],
    size: int,
    generator: np.random.Generator,
) -> Float64:
    """Where EM starts: the sums of moments (k, columns) of `sizes` components among each of the `members`."""
    return np.concatenate(
        [_start(moments[rows], number, size, generator) for rows, number in zip(members, sizes, strict=True)]
    )


def _density(mixture: Mixture, latents: Float64, pictures: Posteriors) -> float:
    """The mean of log p(z) over latents (n, DRAWS, d) of pictures; of a conditional model, of log p(z|y)."""
    labels = pictures.classes.labels if pictures.conditional and pictures.classes is not None else None
    return float(mixture.log_density(latents, labels).mean())


def _columns(size: int) -> int:
    return size * (size + 3) // 2 + 1


def _moments(pictures: Posteriors) -> Moments:
    """The expectations of z_i z_j (i <= j), z_i and 1 under each posterior: (n, columns), or what they follow from.

    In float32, whose products take half the time: latents are of about unit size.
    """
    if pictures.mean.shape[1] > PACKED:
        return pictures
    first, second = np.triu_indices(pictures.mean.shape[1])
    products = pictures.mean[:, first] * pictures.mean[:, second]
    products[:, first == second] += np.square(pictures.std)
    return np.concatenate([products, pictures.mean, np.ones((len(pictures), 1))], axis=1, dtype=np.float32)


def _start(moments: Moments, components: int, size: int, generator: np.random.Generator) -> Float64:
    """The sums of moments (k, columns) over the pictures nearest to each of k pictures drawn at random."""
    if not len(moments):
        return np.zeros((components, _columns(size)))
    means = moments.mean if isinstance(moments, Posteriors) else moments[:, -size - 1 : -1]
    centres = means[np.sort(generator.permutation(len(means))[:components])]
    nearest = (np.square(centres).sum(axis=1) - 2 * means @ centres.T).argmin(axis=1)
    return _sums(np.eye(components, dtype=np.float32)[nearest], moments)


def _converged(moments: Moments, sums: Float64, size: int, shrinkage: float, owned: Owned | None) -> Float64:
    """The sums of moments (k, columns) of each component after EM."""
    last = -np.inf
    for _ in range(ITERATIONS):
        shares, bound = _shares(moments, _mixture(sums, size, shrinkage, owned), owned)
        sums = _sums(shares, moments)
        if bound - last < CONVERGED * size:
            break
        last = bound
    return sums


def _sums(shares: Float32, moments: Moments) -> Float64:
    """The sums of moments over each component's share of the pictures: (k, columns)."""
    if not isinstance(moments, Posteriors):
        return (shares.T @ moments).astype(np.float64)
    mean, variance = moments.mean.astype(np.float32), np.square(moments.std).astype(np.float32)
    first, second = np.triu_indices(mean.shape[1])
    sums = np.empty((shares.shape[1], _columns(mean.shape[1])))
    for share, out in zip(shares.T, sums, strict=True):
        products = (mean * share[:, np.newaxis]).T @ mean
        products[np.diag_indices_from(products)] += share @ variance
        out[:] = np.concatenate([products[first, second], share @ mean, [share.sum()]])
    return sums


def _shares(moments: Moments, mixture: Mixture, owned: Owned | None = None) -> tuple[Float32, float]:
    """Each component's share of each picture, (n, k), and the bound on the mean of E_q log p(z)."""
    size = mixture.means.shape[1]
    logs = _expected_logs(moments, mixture, size)
    if owned is not None:
        logs[owned.barred] = -np.inf
    largest = logs.max(axis=1, keepdims=True)
    shares = np.exp(logs - largest)
    total = shares.sum(axis=1, keepdims=True)
    return shares / total, float((largest + np.log(total)).mean(dtype=np.float64))


def _expected_logs(moments: Moments, mixture: Mixture, size: int) -> Float32:
    """E_q of log (weight · density) of each component, (n, k)."""
    if isinstance(moments, Posteriors):
        parts = zip(mixture.log_weights, mixture.means, mixture.factors, strict=True)
        return np.stack([_of_component(moments, *part) for part in parts], axis=1)
    logs: Float32 = moments @ mixture.polynomials(np.zeros(size)).astype(np.float32)
    return logs


def _of_component(pictures: Posteriors, log_weight: Float64, mean: Float64, factor: Float64) -> Float32:
    """E_q of log (weight · density), (n,)."""
    inverse = np.linalg.inv(factor).astype(np.float32)
    apart = np.square((pictures.mean - mean).astype(np.float32) @ inverse.T).sum(axis=1)
    apart += np.square(pictures.std).astype(np.float32) @ np.square(inverse).sum(axis=0)
    constant = log_weight - np.log(factor.diagonal()).sum() - 0.5 * len(mean) * np.log(2 * np.pi)
    log: Float32 = (constant - 0.5 * apart).astype(np.float32)
    return log


def _mixture(sums: Float64, size: int, shrinkage: float, owned: Owned | None = None) -> Mixture:
    """The mixture of the highest likelihood given the sums of moments (k, columns), its covariances shrunk."""
    count = sums[:, -1]
    some = np.maximum(count, np.finfo(float).tiny)  # a component may have lost all pictures
    means = sums[:, -size - 1 : -1] / some[:, np.newaxis]
    first, second = np.triu_indices(size)
    scatter = np.empty((len(sums), size, size))
    scatter[:, first, second] = scatter[:, second, first] = sums[:, : len(first)]
    scatter -= count[:, np.newaxis, np.newaxis] * means[:, :, np.newaxis] * means[:, np.newaxis, :]
    normal = NORMAL_PICTURES * size
    common = (scatter.sum(axis=0) + normal * np.eye(size)) / (count.sum() + normal)
    covariances = (scatter + shrinkage * common) / (count + shrinkage)[:, np.newaxis, np.newaxis]
    log_weights = np.log((count + 1) / (count + 1).sum())
    return Mixture(log_weights, means, np.linalg.cholesky(covariances), owned.sizes if owned else ())


def _rounded(mixture: Mixture) -> Mixture:
    """The mixture with the float32 numbers that its file holds."""
    log_weights, means, factors = (
        part.astype(np.float32) for part in (mixture.log_weights, mixture.means, mixture.factors)
    )
    return Mixture(log_weights, means, factors, mixture.class_sizes)


def prior_graph(mixture: Mixture, metadata: str) -> bytes:
    """`noise` (batch, d), `choice` (batch,) -> `latent` (batch, d), and the mixture itself, as an ONNX file's bytes."""
    count, size = mixture.means.shape
    constants = {
        "weights": mixture.log_weights.astype(np.float32),
        "centres": mixture.means.astype(np.float32),
        "triangles": mixture.factors.astype(np.float32),
        "edges": mixture.edges,
        "last": np.array(count - 1),
        "columns": np.array([1]),
        "depth": np.array([2]),
    }
    nodes = [  # the number of intervals that end at or below `choice` is the component
        helper.make_node("Unsqueeze", [CHOICE, "columns"], ["position"]),
        helper.make_node("GreaterOrEqual", ["position", "edges"], ["passed"]),
        helper.make_node("Cast", ["passed"], ["steps"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["steps", "columns"], ["sum"], keepdims=0),
        helper.make_node("Min", ["sum", "last"], ["component"]),
        helper.make_node("Gather", ["centres", "component"], ["centre"]),
        helper.make_node("Gather", ["triangles", "component"], ["triangle"]),
        helper.make_node("Unsqueeze", [NOISE, "depth"], ["column"]),
        helper.make_node("MatMul", ["triangle", "column"], ["product"]),
        helper.make_node("Squeeze", ["product", "depth"], ["within"]),
        helper.make_node("Add", ["centre", "within"], [LATENT]),
        helper.make_node("Identity", ["weights"], [LOG_WEIGHTS]),
        helper.make_node("Identity", ["centres"], [MEANS]),
        helper.make_node("Identity", ["triangles"], [FACTORS]),
    ]
    graph = helper.make_graph(
        nodes,
        "prior",
        [_value(NOISE, BATCH, size), _value(CHOICE, BATCH)],
        [
            _value(LATENT, BATCH, size),
            _value(LOG_WEIGHTS, count),
            _value(MEANS, count, size),
            _value(FACTORS, count, size, size),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", model_format.OPSET)],
        ir_version=IR_VERSION,
        producer_name="vaecli",
        producer_version=vaecli.__version__,
    )
    helper.set_model_props(model, {model_format.METADATA_KEY: metadata})
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _value(name: str, *shape: int | str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
