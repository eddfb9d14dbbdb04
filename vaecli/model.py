"""An exported model on NumPy arrays: `load` a folder, then sample, reconstruct, encode, decode, measure.

Images go in as uint8 or as floats in [0, 1], shaped (n, h, w) for one channel or (n, h, w, c), channels last as picture
files have them. They come out as float32 in [0, 1], (n, h, w) for one channel, else (n, h, w, c).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vaecli.config import (
    IMPORTANCE_SAMPLES,
    MANIFOLD_STEPS,
    PRIOR,
    REACH,
    STEPS,
    TEMPERATURE,
    Binarize,
    Criterion,
    DataConfig,
    DeviceChoice,
    PriorChoice,
    SamplePrior,
    Split,
    draw_seed,
)
from vaecli.errors import UsageError
from vaecli.events import OnEvent, warn
from vaecli.inference import geometry, walks
from vaecli.inference.arguments import as_images, as_latent, as_latents, as_pixels, latents_or_means
from vaecli.inference.classes import Labels
from vaecli.inference.geometry import Latents, Method, Vector
from vaecli.inference.pair import Pair, open_pair, with_labels
from vaecli.inference.sampling import samples
from vaecli.inspection import mismatch_with_training, read_training
from vaecli.model_format import ImageShape, Metadata
from vaecli.parallel import cut
from vaecli.run_folder import RunFolder

if TYPE_CHECKING:  # measuring imports data sets and more, which drawing does not need
    from vaecli.evaluation.evaluate import Evaluation
    from vaecli.evaluation.score import Scores
    from vaecli.pictures.inputs import PictureInputs

FloatImages: TypeAlias = NDArray[np.float32]  # (n, h, w) or (n, h, w, c), in [0, 1]


def load(run: str | Path, device: DeviceChoice = "auto") -> Model:
    """The model in `run`, a folder with `encoder.onnx` and `decoder.onnx`.

    With only one of the two files, what needs the other one raises an error. Graphs are opened when first used.

    Several threads may use it at once. A process that is given the model opens its graphs anew.

    Raises:
        VaeError: there is no model, or a file of it is damaged, not ours, or of another pair.
        UsageError: there is no such `device`.
        DeviceError: `cuda` was asked for and does not work.
    """
    return Model(open_pair(run, device))


@dataclass(frozen=True)
class Traversal:
    """Walks along latent dimensions, those that matter most first."""

    dimensions: list[int]
    ordered_by: Literal["kl", "change"]  # KL in nats on held-out pictures, or the squared change of a pixel
    values: list[float]  # of each of `dimensions`
    coordinates: list[list[float]] = field(repr=False)  # where the latents are along each: (dimensions, steps)
    images: FloatImages = field(repr=False)  # (dimensions, steps, h, w), with a last axis of 3 for colour


@dataclass(frozen=True)
class Manifold:
    """The plane of two latent dimensions."""

    dimensions: tuple[int, int]  # that grow to the right, and upwards
    coordinates: tuple[list[float], list[float]] = field(repr=False)  # of the columns and, from below, of the rows
    images: FloatImages = field(repr=False)  # (steps, steps, h, w), with a last axis of 3 for colour


class Model:
    """An exported model, made by `load`."""

    def __init__(self, pair: Pair) -> None:
        """`pair` computes batch by batch; the methods here take and return whole arrays."""
        self.pair = pair

    def __repr__(self) -> str:
        """The folder and the model's shape."""
        channels, height, width = self.image_shape
        given = "" if self.pair.label is None else f", given class {self.classes[self.pair.label]}"
        return (
            f"Model({str(self.folder)!r}, images {height}x{width}x{channels}, {self.latent_dim} latent dimensions, "
            f"{self.metadata.likelihood}{given})"
        )

    @property
    def folder(self) -> Path:
        """Where the model was loaded from."""
        return self.pair.folder

    @property
    def metadata(self) -> Metadata:
        """What the exported files say about the model: likelihood, data, training, versions."""
        return self.pair.metadata

    @property
    def image_shape(self) -> ImageShape:
        """(channels, height, width) of every image."""
        return self.pair.image_shape

    @property
    def latent_dim(self) -> int:
        """The size d of a latent."""
        return self.pair.latent_dim

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that a conditional model, or else its prior knows; none where it knows none."""
        return self.pair.classes

    @property
    def conditional(self) -> bool:
        """Whether encoder and decoder need the class of each picture."""
        return self.pair.conditional

    @property
    def outdated(self) -> str | None:
        """A warning if its run folder has a better epoch than the exported one, or another training; else None."""
        training = read_training(RunFolder(self.folder), [])
        return mismatch_with_training(self.metadata, training) if training is not None else None

    def given(self, label: str | SupportsIndex) -> Model:
        """The conditional model with its class fixed, by name or number: that of all pictures and latents.

        Raises:
            UsageError: the model is not conditional, or has no such class.
        """
        return Model(self.pair.given(label))

    def class_mean(self, label: str) -> Vector:
        """The mean latent of one of `classes`, (d,).

        Raises:
            UsageError: the model does not have this class, or is conditional: then its latents do not hold the class.
        """
        return self.pair.class_mean(label)

    def encode(self, images: ArrayLike, *, labels: Labels | None = None) -> tuple[Latents, Latents]:
        """Mean and standard deviation of q(z|x): two arrays (n, d) float32.

        `labels` (n,) are the classes of the images by name or number, for a conditional model that is not `given` one.

        Raises:
            UsageError: there are no `images`; they are not of the model's shape, or not uint8 or floats in [0, 1]; or
                the `labels` do not suit the model.
        """
        pictures = as_images(self.pair, images)
        return self.pair.encode(pictures, self.pair.class_numbers(labels, len(pictures)))

    def decode(self, latents: ArrayLike, *, labels: Labels | None = None) -> FloatImages:
        """The images of `latents` (n, d): the mean of p(x|z). `labels` are as in `encode`.

        Raises:
            UsageError: `latents` are not (n, d) finite numbers, n at least 1; or the `labels` do not suit the model.
        """
        rows = as_latents(self.pair, latents)
        numbers = self.pair.class_numbers(labels, len(rows))
        return _joined(self.pair.decode_batches(cut(rows, self.pair.batch_size), labels=numbers))

    def sample(
        self,
        n: int,
        *,
        seed: int | None = None,
        temperature: float = TEMPERATURE,
        prior: SamplePrior = PRIOR,
        label: str | int | None = None,
        like: ArrayLike | None = None,
    ) -> FloatImages:
        """`n` images decoded from draws of the prior. Same seed, same latents.

        `prior` model draws from the flow where the model has one and there is no `like`, else from the mixture, else
        from N(0, I). `label` draws from one of `classes`, `like` from where these images or latents lie. `temperature`
        scales the noise within a component of the mixture or that a flow starts from, or a latent of N(0, I).

        Raises:
            UsageError: `n` is less than 1, `temperature` is negative or not finite, `seed` does not fit in 64 bits,
                there is no such `prior` or class, or the prior has no components.
        """
        drawn = draw_seed() if seed is None else seed
        known = None if like is None else latents_or_means(self.pair.for_label(label), like)
        return _joined(samples(self.pair, n, drawn, temperature=temperature, prior=prior, label=label, like=known))

    def reconstruct(self, images: ArrayLike, *, seed: int | None = None, labels: Labels | None = None) -> FloatImages:
        """Encode and decode `images`: through the mean of q(z|x), or with a seed through a draw of it.

        `labels` are as in `encode`.

        Raises:
            UsageError: as in `encode`; or `seed` does not fit in 64 bits.
        """
        pictures = as_images(self.pair, images)
        numbers = self.pair.class_numbers(labels, len(pictures))
        return _joined(self.pair.reconstructions(cut(pictures, self.pair.batch_size), seed, labels=numbers))

    def interpolate(
        self, a: ArrayLike, b: ArrayLike, *, steps: int = STEPS, method: Method | None = None
    ) -> FloatImages:
        """`steps` images from `a` to `b`, each one image or one latent (d,).

        `method` string goes through where the model's prior has its mass, in equal steps of the pictures; slerp follows
        an arc, lerp a straight line; see `inference.geometry`. None: the one that
        suits the model; see `inference.walks.choose_method`.

        Raises:
            UsageError: `a` or `b` is neither, `steps` is less than 2, or there is no such method.
        """
        walks.check_steps(steps)
        stops = np.stack([as_latent(self.pair, a), as_latent(self.pair, b)])
        return self.decode(walks.through(self.pair, stops, steps, walks.choose_method(self.pair, method)))

    def traverse(
        self,
        start: ArrayLike | None = None,
        *,
        seed: int | None = None,
        dims: int | None = None,
        steps: int = STEPS,
        reach: float = REACH,
        prior: PriorChoice = PRIOR,
        data: str | Path | None = None,
        data_dir: str | None = None,
    ) -> Traversal:
        """Walk along each of the `dims` dimensions that matter most, `reach` standard deviations to both sides.

        From `start` (one image or one latent), from a draw of the prior where there is a seed, else from its mean. The
        walk is centred at the prior's mean, and in units of its standard deviation in this dimension.
        The order is by KL on held-out pictures: of `data`, else of the training's data where they are on this machine.

        Raises:
            UsageError: a number is out of range, there is no such `prior`, or `start` is neither an image nor a latent.
            VaeError: `data` cannot be read.
        """
        from vaecli.evaluation.dimensions import order_dimensions

        walks.check_dims(self.pair, dims)
        walks.check_steps(steps)
        order = order_dimensions(self.pair, data, data_dir, reach, prior)
        chosen = order.dimensions[:dims]
        first = walks.starting_point(self.pair, seed, prior) if start is None else as_latent(self.pair, start)
        coordinates, walk = walks.traversal(self.pair, first, chosen, steps, reach, prior)
        images = self.decode(walk)
        values = [order.values[dimension] for dimension in chosen]
        return Traversal(chosen, order.by, values, coordinates, images.reshape(len(chosen), steps, *images.shape[1:]))

    def manifold(
        self,
        dims: tuple[int, int] | None = None,
        *,
        steps: int = MANIFOLD_STEPS,
        prior: PriorChoice = PRIOR,
        data: str | Path | None = None,
        data_dir: str | None = None,
    ) -> Manifold:
        """`steps` x `steps` images over the plane of two dimensions, at the quantiles of the prior in each.

        `dims` are the dimensions that grow to the right and upwards; where they are not given, those that matter
        most, as in `traverse`. The other dimensions take likely values given these two.

        Raises:
            UsageError: the model does not have these dimensions, or there is no such `prior`.
            VaeError: `data` cannot be read.
        """
        from vaecli.evaluation.dimensions import choose_plane

        walks.check_steps(steps)
        dims, _ = choose_plane(self.pair, dims, data, data_dir, prior)
        plane = geometry.plane(self.latent_dim, dims, steps, self.pair.choose_prior(prior))
        images = self.decode(plane.latents)
        return Manifold(dims, (plane.columns, plane.rows), images.reshape(steps, steps, *images.shape[1:]))

    def evaluate(
        self,
        data: str | Path | DataConfig | ArrayLike | None = None,
        *,
        data_dir: str | None = None,
        split: Split | None = None,
        n: int | None = None,
        labels: Labels | None = None,
        importance_samples: int = IMPORTANCE_SAMPLES,
        binarize: Binarize | None = None,
        prior: PriorChoice = PRIOR,
        samples: int | None = None,
        seed: int = 0,
        on_event: OnEvent = warn,
    ) -> Evaluation:
        """ELBO and importance-weighted bound in nats per image, on the model's own held-out pictures or others.

        `data` is a data set's name, a path, the settings of one, or an array of images. `split`
        says which pictures of a data set; with `n`, only that many of them, evenly spaced. `binarize` None: as in
        training. `prior` is the model's own, or N(0, I). `labels` are the classes of an array, as in `encode`.
        `samples` is how many of its samples to compare with the pictures; see `evaluation.samples.SampleComparison`.

        Raises:
            VaeError: the pictures cannot be loaded, or are of another shape; a likelihood is not finite.
            UsageError: `binarize` does not suit the model, or a number is out of range.
        """
        from vaecli.datasets.classes import Classes
        from vaecli.evaluation.data import choose, of_array
        from vaecli.evaluation.evaluate import evaluate

        if isinstance(data, Path):
            data = str(data)
        if data is None or isinstance(data, str | DataConfig):
            if labels is not None:
                raise UsageError("labels: only with an array of images", "a data set brings its own classes")
            pictures = choose(self.pair, data, data_dir, on_event, split=split, n=n)
        else:
            if split is not None:
                raise UsageError("`split`: only with a data set", "an array of images has no splits")
            pixels = as_pixels(self.pair, data)
            known = self.pair.class_numbers(labels, len(pixels))
            pictures = of_array(pixels, n, None if known is None else Classes(self.classes, known))
        return evaluate(
            self.pair,
            pictures,
            importance_samples=importance_samples,
            binarize=binarize,
            prior=prior,
            samples=samples,
            seed=seed,
            on_event=on_event,
        )

    def score(
        self,
        images: ArrayLike,
        *,
        by: Criterion | None = None,
        labels: Labels | None = None,
        importance_samples: int | None = None,
        binarize: Binarize | None = None,
        seed: int = 0,
        on_event: OnEvent = warn,
    ) -> Scores:
        """Rank `images` by strangeness; see `evaluation.score.score`. `flagged(0.01)` of the result are its outliers.

        `by` is what they are sorted by, strangeness or another column. `labels` are as in `encode`.

        Raises:
            UsageError: as in `encode`; `binarize` does not suit the model, or a number is out of range.
            VaeError: a likelihood is not finite.
        """
        from vaecli.evaluation.score import score

        pictures = as_pixels(self.pair, images)
        return score(
            self.pair,
            pictures,
            by=by,
            labels=self.pair.class_numbers(labels, len(pictures)),
            importance_samples=importance_samples,
            binarize=binarize,
            seed=seed,
            on_event=on_event,
        )

    def disagreement(self, images: ArrayLike, *, labels: Labels | None = None) -> NDArray[np.float64]:
        """Where the model disagrees with `images`: the excess loss of each pixel in nats, (n, h, w).

        `labels` are as in `encode`.

        Raises:
            UsageError: as in `encode`.
        """
        from vaecli.evaluation.disagreement import disagreement

        pictures = as_pixels(self.pair, images)
        batches = with_labels(cut(pictures, self.pair.batch_size), self.pair.class_numbers(labels, len(pictures)))
        return np.concatenate([disagreement(self.pair, part, of_part) for part, of_part in batches])

    def heatmaps(self, images: ArrayLike, *, labels: Labels | None = None) -> NDArray[np.uint8]:
        """The `disagreement` with `images` as pictures, as `vae score --heatmap` draws them: uint8 (n, h, w, 3).

        `labels` are as in `encode`.

        Raises:
            UsageError: as in `encode`.
        """
        from vaecli.evaluation.score import heatmaps

        pictures = as_pixels(self.pair, images)
        numbers = self.pair.class_numbers(labels, len(pictures))
        return np.concatenate(list(heatmaps(self.pair, cut(pictures, self.pair.batch_size), numbers)))

    def page(
        self,
        data: str | Path | None = None,
        *,
        data_dir: str | None = None,
        run: str | Path | None = None,
        on_event: OnEvent = warn,
    ) -> bytes:
        """The page of `vae explore`, one HTML file in UTF-8 with the model in it; it needs no server and no network.

        Its points are held-out pictures, found as `traverse` finds them. `run` is the folder that the commands on the
        page name; left out, the name of the model's own.

        Raises:
            VaeError: `data` cannot be read, a graph fails, or the model is too large for a page.
        """
        from vaecli.explore.contents import gather
        from vaecli.explore.page import build

        return build(
            self.pair, gather(self.pair, data, data_dir, Path(self.folder.name if run is None else run), on_event)
        )

    def read(
        self,
        inputs: str | Path | Sequence[str | Path] = (),
        *,
        split: Split | None = None,
        invert: bool = False,
        listed: Sequence[str] = (),
        data_dir: str | None = None,
        on_event: OnEvent = warn,
    ) -> PictureInputs:
        """Picture files, folders and arrays, fitted to the model's shape: `images` uint8 (n, h, w, c) and `names`.

        A name that is no file is that of a data set: its held-out pictures, found in the folder `data_dir` or
        downloaded into it. `listed` are more inputs, of whose picture files a few may be unreadable.

        With `split`: those pictures of the training's data, or of the one data set, folder or array that `inputs` name,
        that a training holds out, takes for validation, or trains on.

        `labels` are the names of their classes, None where a class is not known: from the subfolder of a picture,
        labels.csv, y in an .npz, the labels of shards, or a data set. For a conditional model, the nearest folder with
        the name of one of its classes counts.

        Raises:
            VaeError: an input is missing, damaged or no picture.
            UsageError: no input and no `split`; or `split` with several.
        """
        from vaecli.inference.model_inputs import read

        return read(self.pair, inputs, split=split, invert=invert, listed=listed, data_dir=data_dir, on_event=on_event)


def _joined(parts: Iterable[Any]) -> FloatImages:
    """Batches (b, h, w, c) as one array, without the channel axis where there is one channel."""
    images: FloatImages = np.concatenate(list(parts))
    return images[..., 0] if images.shape[-1] == 1 else images
