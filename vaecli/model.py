"""An exported model on NumPy arrays: `load` a folder, then sample, reconstruct, encode, decode, measure.

Images go in as uint8 or as floats in [0, 1], shaped (n, h, w) for one channel or (n, h, w, c), channels last as picture
files have them. They come out as float32 in [0, 1], (n, h, w) for one channel, else (n, h, w, c).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

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
    Split,
    draw_seed,
)
from vaecli.errors import UsageError, check_choice
from vaecli.events import OnEvent, ignore
from vaecli.inference import latents as paths
from vaecli.inference.latents import Latents, Method, Vector
from vaecli.inference.pair import Batch, Labels, Pair, checked_seed, open_files, with_labels
from vaecli.inference.prior import draw, moments
from vaecli.inspection import mismatch_with_training, read_training
from vaecli.model_format import MAX_PIXEL
from vaecli.pictures.arrays import to_uint8
from vaecli.processors import cut
from vaecli.run_folder import RunFolder

if TYPE_CHECKING:  # measuring imports data sets and more, which drawing does not need
    from vaecli.evaluation.data import EvaluationData
    from vaecli.evaluation.dimensions import Order
    from vaecli.evaluation.evaluate import Evaluation
    from vaecli.evaluation.score import Scores
    from vaecli.pictures.inputs import PictureInputs

FloatImages: TypeAlias = NDArray[np.float32]  # (n, h, w) or (n, h, w, c), in [0, 1]

FINE = 65  # pictures of an interpolation whose distances tell where its steps are
EXAMINED = 1000  # held-out pictures that tell how much each latent dimension carries


def load(run: str | Path, device: DeviceChoice = "auto") -> Model:
    """The model in `run`, a folder with `encoder.onnx` and `decoder.onnx`.

    With only one of the two files, what needs the other one raises an error. Graphs are opened when first used.

    Several threads may use it at once. A process that is given the model opens its graphs anew.

    Raises:
        VaeError: there is no model, or a file of it is damaged, not ours, or of another pair.
        UsageError: there is no such `device`.
    """
    check_choice("device", device, DeviceChoice)
    folder = Path(run)
    return Model(folder, open_files(folder), device)


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


class Model(Pair):
    """An exported model, made by `load`."""

    def __repr__(self) -> str:
        """The folder and the model's shape."""
        channels, height, width = self.image_shape
        return (
            f"Model({str(self.folder)!r}, images {height}x{width}x{channels}, {self.latent_dim} latent dimensions, "
            f"{self.metadata.likelihood})"
        )

    @property
    def outdated(self) -> str | None:
        """A warning if its run folder has a better epoch than the exported one, or another training; else None."""
        training = read_training(RunFolder(self.folder), [])
        return mismatch_with_training(self.metadata, training) if training is not None else None

    def encode(self, images: ArrayLike, *, labels: Labels | None = None) -> tuple[Latents, Latents]:
        """Mean and standard deviation of q(z|x): two arrays (n, d) float32.

        `labels` (n,) are the classes of the images by name or number, for a conditional model that is not `given` one.

        Raises:
            UsageError: there are no `images`; they are not of the model's shape, or not uint8 or floats in [0, 1]; or
                the `labels` do not suit the model.
        """
        pictures = self._as_images(images)
        numbers = self.class_numbers(labels, len(pictures))
        parts = list(self.encode_batches(cut(pictures, self.batch_size), labels=numbers))
        return np.concatenate([part.mean for part in parts]), np.concatenate([part.std for part in parts])

    def decode(self, latents: ArrayLike) -> FloatImages:
        """The images of `latents` (n, d): the mean of p(x|z).

        Raises:
            UsageError: `latents` are not (n, d) finite numbers, n at least 1.
        """
        return _joined(self.decode_batches(cut(self._as_latents(latents), self.batch_size)))

    def sample(
        self,
        n: int,
        *,
        seed: int | None = None,
        temperature: float = TEMPERATURE,
        prior: PriorChoice = PRIOR,
        label: str | int | None = None,
        like: ArrayLike | None = None,
    ) -> FloatImages:
        """`n` images decoded from draws of the prior: the model's own, or N(0, I). Same seed, same latents.

        `label` draws from one of `classes`, `like` from where these images or latents lie. `temperature` scales the
        noise within a component of the model's prior, or a latent of N(0, I).

        Raises:
            UsageError: `n` is less than 1, `temperature` is negative or not finite, `seed` does not fit in 64 bits,
                there is no such `prior` or class, or the prior has no components.
        """
        drawn = draw_seed() if seed is None else seed
        seen = self.given(label) if self.conditional and label is not None else self
        known = None if like is None else seen._latents_or_images(like)
        return _joined(self.samples(n, drawn, temperature=temperature, prior=prior, label=label, like=known))

    def class_mean(self, label: str) -> Vector:
        """The mean latent of one of `classes`, (d,).

        Raises:
            UsageError: the model does not have this class, or is conditional: then its latents do not hold the class.
        """
        mixture = self.choose_prior(label=label)
        if self.conditional or mixture is None:
            problem = f"{label}: the latents of a conditional model do not hold the class"
            raise UsageError(problem, "name pictures, or train without `conditional`")
        return mixture.mean.astype(np.float32)

    def reconstruct(self, images: ArrayLike, *, seed: int | None = None, labels: Labels | None = None) -> FloatImages:
        """Encode and decode `images`: through the mean of q(z|x), or with a seed through a draw of it.

        `labels` are as in `encode`.

        Raises:
            UsageError: as in `encode`; or `seed` does not fit in 64 bits.
        """
        pictures = self._as_images(images)
        numbers = self.class_numbers(labels, len(pictures))
        return _joined(self.reconstructions(cut(pictures, self.batch_size), seed, labels=numbers))

    def interpolate(
        self, a: ArrayLike, b: ArrayLike, *, steps: int = STEPS, method: Method | None = None
    ) -> FloatImages:
        """`steps` images from `a` to `b`, each one image or one latent (d,).

        `method` string goes through where the model's prior has its mass, in equal steps of the pictures; slerp follows
        an arc, lerp a straight line; see `inference.latents`. None: see `interpolation`.

        Raises:
            UsageError: `a` or `b` is neither, `steps` is less than 2, or there is no such method.
        """
        check_steps(steps)
        stops = np.stack([self._as_latent(a), self._as_latent(b)])
        return self.decode(self.path(stops, steps, self.interpolation(method)))

    def traverse(
        self,
        start: ArrayLike | None = None,
        *,
        seed: int | None = None,
        dims: int | None = None,
        steps: int = STEPS,
        reach: float = REACH,
        prior: PriorChoice = PRIOR,
        data: str | None = None,
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
        self.check_dims(dims)
        check_steps(steps)
        order = self.order_dimensions(data, data_dir, reach, prior)
        chosen = order.dimensions[:dims]
        coordinates = self.coordinates(chosen, steps, reach, prior)
        images = self.decode(paths.along(self.starting_point(start, seed, prior), chosen, coordinates))
        values = [order.values[dimension] for dimension in chosen]
        return Traversal(chosen, order.by, values, coordinates, images.reshape(len(chosen), steps, *images.shape[1:]))

    def manifold(
        self,
        dims: tuple[int, int] | None = None,
        *,
        steps: int = MANIFOLD_STEPS,
        prior: PriorChoice = PRIOR,
        data: str | None = None,
        data_dir: str | None = None,
    ) -> Manifold:
        """`steps` x `steps` images over the plane of two dimensions, at the quantiles of the prior in each.

        `dims` are the dimensions that grow to the right and upwards; where they are not given, those that matter
        most, as in `traverse`. The other dimensions take their most likely values given these two.

        Raises:
            UsageError: the model does not have these dimensions, or there is no such `prior`.
            VaeError: `data` cannot be read.
        """
        self.check_plane(dims)
        check_steps(steps)
        if dims is None:
            dims = (0, 1)
            if self.latent_dim > 2:
                order = self.order_dimensions(data, data_dir, prior=prior)
                dims = order.dimensions[0], order.dimensions[1]
        plane = paths.plane(self.latent_dim, dims, steps, self.choose_prior(prior))
        images = self.decode(plane.latents)
        return Manifold(dims, (plane.columns, plane.rows), images.reshape(steps, steps, *images.shape[1:]))

    def evaluate(
        self,
        data: str | DataConfig | ArrayLike | None = None,
        *,
        data_dir: str | None = None,
        split: Split = "held-out",
        n: int | None = None,
        importance_samples: int = IMPORTANCE_SAMPLES,
        binarize: Binarize | None = None,
        prior: PriorChoice = PRIOR,
        samples: int | None = None,
        seed: int = 0,
        on_event: OnEvent = ignore,
    ) -> Evaluation:
        """ELBO and importance-weighted bound in nats per image, on the model's own held-out pictures or others.

        `data` is a data set's name, a path, the settings of one, or an array of images. `split`
        says which pictures of a data set; with `n`, only that many of them, evenly spaced. `binarize` None: as in
        training. `prior` is the model's own, or N(0, I).
        `samples` is how many of its samples to compare with the pictures; see `evaluation.samples.SampleComparison`.

        Raises:
            VaeError: the pictures cannot be loaded, or are of another shape; a likelihood is not finite.
            UsageError: `binarize` does not suit the model, or a number is out of range.
        """
        from vaecli.evaluation.evaluate import evaluate

        return evaluate(
            self,
            self.evaluation_data(data, data_dir=data_dir, split=split, n=n, on_event=on_event),
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
        on_event: OnEvent = ignore,
    ) -> Scores:
        """Rank `images` by strangeness; see `evaluation.score.score`. `flagged(0.01)` of the result are its outliers.

        `by` is what they are sorted by, strangeness or another column. `labels` are as in `encode`.

        Raises:
            UsageError: as in `encode`; `binarize` does not suit the model, or a number is out of range.
            VaeError: a likelihood is not finite.
        """
        from vaecli.evaluation.score import score

        pictures = self._as_pixels(images)
        return score(
            self,
            pictures,
            by=by,
            labels=self.class_numbers(labels, len(pictures)),
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

        pictures = self._as_pixels(images)
        batches = with_labels(cut(pictures, self.batch_size), self.class_numbers(labels, len(pictures)))
        return np.concatenate([disagreement(self, part, of_part) for part, of_part in batches])

    def heatmaps(self, images: ArrayLike, *, labels: Labels | None = None) -> NDArray[np.uint8]:
        """The `disagreement` with `images` as pictures, as `vae score --heatmap` draws them: uint8 (n, h, w, 3).

        `labels` are as in `encode`.

        Raises:
            UsageError: as in `encode`.
        """
        from vaecli.evaluation.score import heatmaps

        pictures = self._as_pixels(images)
        numbers = self.class_numbers(labels, len(pictures))
        return np.concatenate(list(heatmaps(self, cut(pictures, self.batch_size), numbers)))

    def page(
        self,
        data: str | None = None,
        *,
        data_dir: str | None = None,
        run: str | Path | None = None,
        on_event: OnEvent = ignore,
    ) -> bytes:
        """The page of `vae explore`, one HTML file in UTF-8 with the model in it; it needs no server and no network.

        Its points are held-out pictures, found as `traverse` finds them. `run` is the folder that the commands on the
        page name; left out, the name of the model's own.

        Raises:
            VaeError: `data` cannot be read, a graph fails, or the model is too large for a page.
        """
        from vaecli.explore.contents import gather
        from vaecli.explore.page import build

        return build(self, gather(self, data, data_dir, Path(self.folder.name if run is None else run), on_event))

    def read(
        self,
        inputs: str | Path | Sequence[str | Path],
        *,
        invert: bool = False,
        listed: Sequence[str] = (),
        data_dir: str | None = None,
        on_event: OnEvent = ignore,
    ) -> PictureInputs:
        """Picture files, folders and arrays, fitted to the model's shape: `images` uint8 (n, h, w, c) and `names`.

        A name that is no file is that of a data set: its held-out pictures, found in the folder `data_dir` or
        downloaded into it. `listed` are more inputs, of whose picture files a few may be unreadable.

        For a conditional model, `labels` are the names of their classes, None where a class is not known. They are from
        the folder of a picture, labels.csv, y in an .npz, the labels of shards, or a data set.

        Raises:
            VaeError: an input is missing, damaged or no picture.
        """
        from vaecli.pictures.inputs import read_inputs

        def named(name: str) -> PictureInputs | None:
            from vaecli.datasets.inputs import held_out  # most inputs are files

            return held_out(name, self.image_shape, data_dir, on_event)

        given = [inputs] if isinstance(inputs, str | Path) else inputs
        names = [str(item) for item in given]
        found = read_inputs(names, self.image_shape, invert=invert, listed=listed, named=named, on_event=on_event)
        reference = self.metadata.reference
        if reference and reference.brightness and not invert:
            brightness = float(found.images[:EXAMINED].mean()) / MAX_PIXEL
            if reference.looks_inverted(brightness):
                than = "brighter" if brightness > max(reference.brightness) else "darker"
                note = f"these pictures are {than} than all held-out ones of the training"
                found = replace(found, notes=(*found.notes, f"{note}: `invert` takes their negatives"))
        if not self.conditional:
            return found
        from vaecli.datasets.classes import of_inputs

        return replace(found, labels=of_inputs(found, self.classes))

    # What the methods above have in common with the commands, which stream.

    def evaluation_data(
        self,
        data: str | DataConfig | ArrayLike | None = None,
        *,
        data_dir: str | None = None,
        split: Split = "held-out",
        n: int | None = None,
        on_event: OnEvent = ignore,
    ) -> EvaluationData:
        """The pictures that `evaluate` measures; see there."""
        from vaecli.evaluation.data import choose, of_array

        check_choice("split", split, Split)
        if n is not None and n < 1:
            raise UsageError(f"`n` {n}: nothing to measure", "take 1 or more")
        if data is None or isinstance(data, str | DataConfig):
            return choose(self, data, data_dir, on_event, split=split, n=n)
        return of_array(self._as_pixels(data), n)

    def order_dimensions(
        self,
        data: str | None,
        data_dir: str | None,
        reach: float = REACH,
        prior: PriorChoice = PRIOR,
        on_event: OnEvent = ignore,
    ) -> Order:
        """The latent dimensions, those that matter most first: by KL on held-out pictures where there are any.

        Raises:
            UsageError: `reach` is not a positive number, or there is no such `prior`.
            VaeError: `data` cannot be read, or a graph fails.
        """
        if not 0 < reach < math.inf:
            raise UsageError(f"`reach` {reach}: not a positive number", "3 covers nearly all of the prior")
        from vaecli.evaluation.data import held_out
        from vaecli.evaluation.dimensions import order

        return order(self, held_out(self, data, data_dir, EXAMINED, on_event), reach, self.choose_prior(prior))

    def coordinates(self, dims: Sequence[int], steps: int, reach: float, prior: PriorChoice) -> list[list[float]]:
        """The values of a walk along each of `dims`: `reach` standard deviations of the prior about its mean."""
        mean, std = moments(self.choose_prior(prior), self.latent_dim)
        found: list[list[float]] = np.linspace(mean - reach * std, mean + reach * std, steps, axis=1)[dims].tolist()
        return found

    def starting_point(self, start: ArrayLike | None, seed: int | None, prior: PriorChoice = PRIOR) -> Vector:
        """Where a traversal starts, (d,): at an image or latent, at a draw of the prior, or at its mean.

        Raises:
            UsageError: `start` is neither an image nor a latent, or `seed` does not fit in 64 bits.
        """
        if start is not None:
            return self._as_latent(start)
        if seed is not None:
            first: Vector = draw(self.choose_prior(prior), checked_seed(seed), 0, 1, self.latent_dim)[0]
            return first
        return moments(self.choose_prior(prior), self.latent_dim)[0].astype(np.float32)

    def interpolation(self, method: Method | None) -> Method:
        """The method of an interpolation: the given one, or where it is None the one that suits the model.

        That is `string` if the prior was fitted and has at least as many components as dimensions, else `slerp`: the
        mean of a component that holds all kinds of pictures looks like none of them.

        Raises:
            UsageError: there is no such method, or `string` has no fitted prior to follow.
        """
        if method is None:
            return "string" if self.prior is not None and self.prior.components >= self.latent_dim else "slerp"
        check_choice("method", method, Method)
        if method == "string" and self.prior is None:
            raise UsageError("`method` string: the prior is N(0, I)", "vae export fits one; or take slerp")
        return method

    def path(self, stops: Latents, steps: int, method: Method) -> Latents:
        """`steps` latents from each of `stops` (k, d) to the next: ((k-1)·(steps-1) + 1, d), each stop once."""
        prior = self.prior
        if method != "string" or prior is None:
            arc: paths.Arc = "lerp" if method == "lerp" else "slerp"
            return paths.path(stops, lambda a, b: paths.between(a, b, steps, arc))
        return paths.path(stops, lambda a, b: self._evenly(paths.string(a, b, prior), steps))

    def _evenly(self, line: NDArray[np.float64], steps: int) -> Latents:
        """`steps` latents along a broken line (n, d) whose pictures are equally far apart in pixels: (steps, d)."""
        fine = paths.spaced(line, FINE)
        images = np.concatenate(list(self.decode_batches(cut(fine.astype(np.float32), self.batch_size))))
        lengths = np.linalg.norm(np.diff(images.reshape(FINE, -1), axis=0), axis=1)
        return paths.spaced(fine, steps, lengths).astype(np.float32)

    def check_dims(self, dims: int | None) -> None:
        """Raise UsageError where a model has not so many dimensions."""
        if dims is not None and not 1 <= dims <= self.latent_dim:
            raise UsageError(f"`dims` {dims}: the model has {self.latent_dim} dimensions", "take some or all of them")

    def check_plane(self, dims: tuple[int, int] | None) -> None:
        """Raise UsageError where `dims` are not two dimensions of the model, or it has only one."""
        if self.latent_dim < 2:
            raise UsageError(
                f"{self.folder}: the model has one latent dimension, no plane", "vae traverse walks along it"
            )
        if dims is None:
            return
        if len(set(dims)) != 2 or len(dims) != 2 or not all(0 <= value < self.latent_dim for value in dims):
            raise UsageError(
                f"`dims` {' '.join(map(str, dims))}: not two of the model's dimensions",
                f"name two different ones from 0 to {self.latent_dim - 1}",
            )

    def _as_latent(self, value: ArrayLike) -> Vector:
        """One image or one latent as a latent (d,)."""
        array = np.asarray(value)
        latents = self._as_latents(array[np.newaxis]) if array.ndim == 1 else self.encode(array[np.newaxis])[0]
        latent: Vector = latents[0]
        return latent

    def _latents_or_images(self, values: ArrayLike) -> Latents:
        """Latents (n, d), or the means of q(z|x) of images, as latents (n, d)."""
        array = np.asarray(values)
        if array.ndim != 2:
            return self.encode(array)[0]
        if array.shape == self.image_shape[1:]:
            problem = f"an array of shape {array.shape}: one image, or {len(array)} latents?"
            raise UsageError(problem, "one image needs a leading axis: image[None]")
        return self._as_latents(array)

    def _as_pixels(self, images: ArrayLike) -> NDArray[np.uint8]:
        """Images as uint8 (n, h, w, c)."""
        shaped = self._as_images(images)
        return shaped if shaped.dtype == np.uint8 else to_uint8(shaped)

    def _as_images(self, images: ArrayLike) -> Batch:
        """Check `images`, and add the channel axis where there is one channel: (n, h, w, c)."""
        array = np.asarray(images)
        channels, height, width = self.image_shape
        shaped = array[..., np.newaxis] if array.ndim == 3 and channels == 1 else array
        if not array.size:
            raise UsageError(f"images of shape {array.shape}: there are none", "pass one or more")
        if shaped.shape[1:] != (height, width, channels):
            wanted = f"(n, {height}, {width})" if channels == 1 else f"(n, {height}, {width}, {channels})"
            hint = "crop and resize them first; one image needs a leading axis: image[None]"
            if array.shape[1:] == self.image_shape:
                hint = "channels come last: images.transpose(0, 2, 3, 1)"
            raise UsageError(f"images of shape {array.shape}: this model takes {wanted}", hint)
        if array.dtype == np.uint8:
            return shaped
        if not np.issubdtype(array.dtype, np.floating):
            raise UsageError(f"images of type {array.dtype}: not uint8 or floats", "convert them first")
        if not (array.min() >= 0 and array.max() <= 1):  # NaN fails, too
            raise UsageError(
                "images with values outside [0, 1], or that are not numbers",
                "divide by the largest value, or pass uint8",
            )
        return shaped

    def _as_latents(self, latents: ArrayLike) -> Latents:
        """Check `latents`: (n, d) float32."""
        array = np.asarray(latents)
        if not array.size:
            raise UsageError(f"latents of shape {array.shape}: there are none", "pass one or more")
        if array.ndim != 2 or array.shape[1] != self.latent_dim:
            raise UsageError(
                f"latents of shape {array.shape}: this model takes (n, {self.latent_dim})",
                "one latent needs a leading axis: latent[None]",
            )
        with np.errstate(over="ignore"):
            rounded = array.astype(np.float32) if array.dtype.kind in "fiu" else None
        if rounded is None or not np.isfinite(rounded).all():
            raise UsageError(
                f"latents of type {array.dtype} that are not all finite numbers", "look for NaN and infinity"
            )
        return rounded


def check_steps(steps: int) -> None:
    """Raise UsageError where there are not two: both ends are steps."""
    if steps < 2:
        raise UsageError(f"`steps` {steps}: both ends are included", "take 2 or more")


def _joined(parts: Iterable[Any]) -> FloatImages:
    """Batches (b, h, w, c) as one array, without the channel axis where there is one channel."""
    images: FloatImages = np.concatenate(list(parts))
    return images[..., 0] if images.shape[-1] == 1 else images
