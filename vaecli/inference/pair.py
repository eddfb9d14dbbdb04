"""An exported encoder, decoder and prior, opened together: batches in, batches out, in order, with flat memory."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaecli import model_format, noise
from vaecli.config import LARGEST_SEED, PRIOR, DeviceChoice, PriorChoice, check_prior
from vaecli.errors import UsageError, VaeError, check_choice, shown
from vaecli.files import finish_pending_moves
from vaecli.flags import run_flag
from vaecli.inference import classes, graph_file, runtime
from vaecli.inference.classes import Labels
from vaecli.inference.geometry import Float64, Latents, Vector
from vaecli.inference.mixture import Mixture, moments, read_mixture
from vaecli.model_format import ImageShape
from vaecli.parallel import cut, ordered_map
from vaecli.pictures.arrays import to_uint8
from vaecli.run_folder import RunFolder, remedy_without
from vaecli.wording import how_many

if TYPE_CHECKING:
    from vaecli.datasets.classes import Classes

Batch: TypeAlias = NDArray[Any]  # (b, h, w, c): uint8, or float32 in [0, 1]

# Pixels times channels in a batch. Measured with images of 784 on two cores: batches of 256 and 512 are fastest, 128
# and 1024 take 3 % longer (small batches cost calls, large ones leave the cache).
BATCH_NUMBERS = 256 * 784
LARGEST_BATCH = 4096

ATTEMPTS = 3  # at reading the files of one model
TOLERANCE = 1e-3  # how far an image may lie outside [0, 1]: less than rounding to uint8 changes


class Encoded(NamedTuple):
    """A batch of pictures under q(z|x): three arrays (b, d) float32."""

    mean: Latents
    std: Latents
    latent: Latents  # a draw of q(z|x) where there was a seed, else the mean


def encoded_columns(*, std: bool, stochastic: bool) -> list[str]:
    """What is kept of an encoding: the means; the draws instead; with `std` means and deviations, too."""
    means = std or not stochastic
    return [
        *([model_format.LATENT] if stochastic else []),
        *([model_format.MEAN] if means else []),
        *([model_format.STD] if std else []),
    ]


class Pair:
    """An exported encoder and decoder, and a prior where there is one. The graphs are opened when first used."""

    def __init__(self, folder: Path, files: dict[str, graph_file.GraphFile], device: DeviceChoice) -> None:
        self.folder = folder
        self.metadata = next(iter(files.values())).metadata
        self.label: int | None = None  # of a conditional model: the class that pictures and latents are taken for
        self.device: DeviceChoice = device  # that was asked for
        self._files = files
        self._begin()

    def _begin(self) -> None:
        """No graph is open."""
        self._graphs, self._opening = dict[str, runtime.Graph](), threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets: graphs are opened there."""
        return {name: value for name, value in vars(self).items() if name not in ("_graphs", "_opening")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As made by `load`."""
        vars(self).update(state)
        self._begin()

    @property
    def image_shape(self) -> ImageShape:
        """(channels, height, width) of every image."""
        return self.metadata.image_shape

    @property
    def latent_dim(self) -> int:
        """The size d of a latent."""
        return self.metadata.latent_dim

    @property
    def batch_size(self) -> int:
        """How many images are best computed at once."""
        channels, height, width = self.image_shape
        return max(1, min(LARGEST_BATCH, BATCH_NUMBERS // max(channels * height * width, self.latent_dim)))

    @property
    def files(self) -> Mapping[str, graph_file.GraphFile]:
        """The exported files by name, read and checked."""
        return self._files

    @cached_property
    def digest(self) -> str:
        """A hash of the exported files."""
        digest = hashlib.sha256()
        for name in sorted(self._files):
            digest.update(name.encode())
            digest.update(hashlib.sha256(self._files[name].content).digest())
        return digest.hexdigest()

    @property
    def has_encoder(self) -> bool:
        """Whether the encoder's file is there."""
        return model_format.ENCODER_FILE in self._files

    @property
    def encoder(self) -> runtime.Graph:
        """The opened encoder: image -> mean, std. Raises VaeError where it cannot be opened."""
        return self._open(model_format.ENCODER_FILE)

    @property
    def decoder(self) -> runtime.Graph:
        """The opened decoder: latent -> image and parameters of p(x|z). Raises VaeError where it cannot be opened."""
        return self._open(model_format.DECODER_FILE)

    @property
    def prior(self) -> Mixture | None:
        """The model's own prior p(z), opened; None: N(0, I). Of a `given` class: p(z|y), where it knows classes.

        Raises VaeError where it cannot be opened.
        """
        mixture = self._prior_of_all
        return mixture if mixture is None or self.label is None else mixture.of_class(self.label)

    @cached_property
    def _prior_of_all(self) -> Mixture | None:
        """The prior of all classes."""
        file = self._files.get(model_format.PRIOR_FILE)
        if file is None and self.trained_prior == "model":
            problem, hint = (
                "no such file, and the model was trained with a VampPrior",
                "copy it beside encoder and decoder",
            )
            raise VaeError(f"{self.folder / model_format.PRIOR_FILE}: {problem}", hint)
        return None if file is None else read_mixture(file)

    @property
    def prior_summary(self) -> model_format.PriorSummary | None:
        """How its prior was fitted; None: it is N(0, I)."""
        file = self._files.get(model_format.PRIOR_FILE)
        return None if file is None else file.metadata.prior

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that a conditional model, or else its prior or flow knows; or none."""
        files = (self._files.get(name) for name in (model_format.PRIOR_FILE, model_format.FLOW_FILE))
        known = [file.metadata.prior or file.metadata.flow for file in files if file is not None]
        return self.metadata.classes or next((summary.classes for summary in known if summary and summary.classes), ())

    @cached_property
    def class_shares(self) -> Float64:
        """The share of each of `classes` in the training pictures, (k,), as prior or flow know it; else all alike."""
        summary = self.prior_summary
        mixture = self._prior_of_all if summary is not None and summary.class_sizes else None
        if mixture is None:
            flow = self._files[model_format.FLOW_FILE].metadata.flow if self.has_flow else None
            known = () if flow is None else flow.class_shares
            return np.array(known or [1 / len(self.classes)] * len(self.classes))
        starts = np.cumsum([0, *mixture.class_sizes[:-1]])
        shares: Float64 = np.add.reduceat(np.exp(mixture.log_weights), starts)
        return shares

    @property
    def trained_prior(self) -> PriorChoice:
        """The prior whose KL training weighed: N(0, I), or for a VampPrior the model's own, which is close to it."""
        return "model" if self.metadata.trained_prior == "vamp" else "normal"

    @cached_property
    def trained_moments(self) -> tuple[Float64, Float64]:
        """Mean and standard deviation of each dimension of the prior that training weighed, (d,) each."""
        return moments(self._prior_of_all if self.trained_prior == "model" else None, self.latent_dim)

    def kind_of(self, prior: PriorChoice) -> Literal["mixture", "normal"]:
        """What p(z) is where this `prior` is asked for: as the results of commands and evaluations say it."""
        return "normal" if prior == "normal" or self.prior_summary is None else "mixture"

    @property
    def has_flow(self) -> bool:
        """Whether it has a flow to draw samples with."""
        return model_format.FLOW_FILE in self._files

    @property
    def flow(self) -> runtime.Graph:
        """The opened flow: state, time -> velocity, latent. Raises VaeError where it cannot be opened."""
        return self._open(model_format.FLOW_FILE)

    def class_mean(self, label: str) -> Vector:
        """The mean latent of one of `classes`, (d,).

        Raises:
            UsageError: the model does not have this class, or is conditional: then its latents do not hold the class.
        """
        if self.conditional:
            problem = f"{label}: the latents of a conditional model do not hold the class"
            raise UsageError(problem, "name pictures, or train without `conditional`")
        number, mixture = self.class_number(label), self._prior_of_all
        if mixture is None or not mixture.class_sizes:
            raise UsageError(f"{label}: {self._class_unknown}", "name pictures of the class")
        return mixture.of_class(number).mean.astype(np.float32)

    @property
    def _class_unknown(self) -> str:
        return f"the prior of {self.folder} has no components for it, only the flow knows classes"

    @property
    def conditional(self) -> bool:
        """Whether encoder and decoder need the class of each picture."""
        return bool(self.metadata.classes)

    def given(self, label: str | SupportsIndex) -> Self:
        """The conditional model with its class fixed, by name or number: that of all pictures and latents.

        Raises:
            UsageError: the model is not conditional, or has no such class.
        """
        if not self.conditional:
            problem = f"`label` {label}: the model in {self.folder} is not conditional"
            raise UsageError(problem, "leave it out; only vae sample takes it of any model")
        return self.given_place(self.class_number(label))

    def given_place(self, place: int) -> Self:
        """As `given`, by the place of the class in `classes`."""
        found = copy.copy(self)
        found._graphs, found._opening = self._graphs, self._opening  # they share the graphs that are open
        found.label = place
        return found

    def for_label(self, label: str | SupportsIndex | None) -> Self:
        """The model `given` this class, where it is conditional and there is one; else the model itself."""
        return self if label is None or not self.conditional else self.given(label)

    def choose_prior(
        self, prior: PriorChoice = PRIOR, label: str | int | None = None, like: Latents | None = None
    ) -> Mixture | None:
        """What to draw latents from; None: N(0, I).

        The model's own `prior`, or N(0, I). With a `label`, that of the class of this name. With `like` (n, d), the
        components of the model's prior that hold these latents.

        Raises:
            UsageError: there is no such prior or class, or the model's prior has no components to choose from.
            VaeError: the prior's file cannot be opened.
        """
        self.check_prior(prior)
        if label is None and like is None:
            return None if prior == "normal" else self.prior
        if not self.conditional and label is not None and like is not None:
            raise UsageError("`label` and `like` both choose what to draw from", "take one of them")
        number = self.place_of(label)
        summary = self.prior_summary
        if label is not None and not self.conditional and summary is not None and not summary.classes:
            raise UsageError(f"`label` {label}: {self._class_unknown}", "leave out `prior`, or `label`")
        if prior == "normal":
            if like is None and self.conditional:
                return None
            raise UsageError(f"`{'like' if label is None else 'label'}`: N(0, I) has no classes", "leave out `prior`")
        mixture = self._prior_of_all
        if mixture is not None and number is not None:
            mixture = mixture.of_class(number)
        if like is None:
            return mixture
        if mixture is None:
            raise UsageError(f"`like`: the prior of {self.folder} is N(0, I)", "vae export fits a mixture")
        return mixture.like(like)

    def check_prior(self, prior: PriorChoice) -> None:
        """Raise UsageError where the model does not have this `prior`, VaeError where its file is missing."""
        check_choice("prior", prior, PriorChoice)
        check_prior(prior, self.metadata.trained_prior)
        if prior == "mixture" and self._prior_of_all is None:
            raise UsageError(f"`prior` mixture: the prior of {self.folder} is N(0, I)", "leave it out")

    def place_of(self, label: str | int | None) -> int | None:
        """The place of the class of this name, or of the class that the model is `given`; None: any class.

        Raises:
            UsageError: there is no such class, or the model is `given` another one.
        """
        number = self.label if label is None else self.class_number(label)
        if self.label not in (None, number):
            raise UsageError(
                f"`label` {label}: the model takes all for {self.classes[self.label or 0]}", "leave it out"
            )
        return number

    @property
    def needs_labels(self) -> bool:
        """Whether the class of each picture must be told: the model is conditional, and not `given` a class."""
        return self.conditional and self.label is None

    def labels_of(self, known: Classes | None) -> NDArray[np.int64] | None:
        """The numbers of pictures' classes, (n,), where the model needs them, else None.

        Raises:
            UsageError: a class is not known, or none of the model.
        """
        if not self.needs_labels:
            return None
        if known is None:
            raise classes.class_needed("these pictures", self.classes, self.folder)
        present = np.unique(known.labels)
        places = np.zeros(len(known.names), np.int64)
        places[present] = classes.numbers([known.names[label] for label in present], self.classes, self.folder)
        return places[known.labels]

    def class_numbers(self, labels: Labels | None, count: int) -> NDArray[np.int64] | None:
        """The numbers of the classes of `count` pictures, given by name or number: (count,). None where none are given.

        Raises:
            UsageError: the model is not conditional, or is `given` a class; there is not one class for each picture, or
                one of them is None; or the model has no such class.
        """
        if labels is None:
            return None
        if not self.conditional:
            raise UsageError(f"labels: the model in {self.folder} is not conditional", "leave them out")
        if self.label is not None:
            problem = f"labels: the model takes all pictures for {self.classes[self.label]}"
            raise UsageError(problem, "leave them out, or use the model that is not given a class")
        shape = np.asarray(labels).shape
        if shape != (count,):
            problem = f"labels: an array of shape {shape} for {how_many(count, 'picture')}"
            raise UsageError(problem, "give one class for each picture, by name or number")
        return classes.numbers(labels, self.classes, self.folder)

    def class_number(self, label: str | SupportsIndex) -> int:
        """The place of a class in `classes`, given by name or number. Raises UsageError, which names the classes."""
        return classes.number(label, self.classes, self.folder)

    def _open(self, name: str) -> runtime.Graph:
        if name not in self._files:
            raise VaeError(f"{self.folder / name}: no such file", "copy it beside the other file of its pair")
        with self._opening:
            if name not in self._graphs:
                self._graphs[name] = runtime.open_graph(self._files[name], self.device)
        graph = self._graphs[name]
        return graph if self.label is None else replace(graph, label=self.label)

    def encode_batches(
        self, images: Iterable[Batch], seed: int | None = None, labels: NDArray[np.int64] | None = None
    ) -> Iterator[Encoded]:
        """q(z|x) of each batch of images (b, h, w, c), uint8 or floats in [0, 1].

        With a seed, `latent` is mean + std · noise. A picture's noise depends on the seed and its pixels alone.
        `labels` (n,) are the classes of all images, where a conditional model is not `given` one.

        Raises:
            UsageError: `seed` does not fit in 64 bits.
        """
        encoder, seed = self.encoder, None if seed is None else checked_seed(seed)
        return ordered_map(lambda pair: _encode(encoder, *pair, seed), with_labels(images, labels), encoder.workers)

    def encode(self, images: Batch, labels: NDArray[np.int64] | None = None) -> tuple[Latents, Latents]:
        """Mean and standard deviation of q(z|x) of images (n, h, w, c), as in `encode_batches`: (n, d) float32 each."""
        parts = list(self.encode_batches(cut(images, self.batch_size), labels=labels))
        return np.concatenate([part.mean for part in parts]), np.concatenate([part.std for part in parts])

    def decode_batches(
        self, latents: Iterable[Latents], labels: NDArray[np.int64] | None = None, *, as_uint8: bool = False
    ) -> Iterator[Batch]:
        """The images of each batch of latents (b, d): (b, h, w, c) float32 in [0, 1], or uint8.

        `labels` (n,) are the classes of all latents, where a conditional model is not `given` one.
        """
        decoder = self.decoder
        return ordered_map(
            lambda pair: _decode(decoder, *pair, as_uint8=as_uint8), with_labels(latents, labels), decoder.workers
        )

    def decode_batch(
        self, latents: Latents, labels: NDArray[np.int64] | None = None, *, as_uint8: bool = False
    ) -> Batch:
        """The images of one batch, as in `decode_batches`."""
        return _decode(self.decoder, latents, labels, as_uint8=as_uint8)

    def reconstructions(
        self,
        images: Iterable[Batch],
        seed: int | None = None,
        *,
        labels: NDArray[np.int64] | None = None,
        as_uint8: bool = False,
    ) -> Iterator[Batch]:
        """The reconstruction of each batch of images: through the mean of q(z|x), or with a seed through a draw.

        `labels` are as in `encode_batches`.

        Raises:
            UsageError: `seed` does not fit in 64 bits.
        """
        encoder, decoder = self.encoder, self.decoder
        seed = None if seed is None else checked_seed(seed)

        def reconstruct(pair: tuple[Batch, NDArray[np.int64] | None]) -> Batch:
            return _decode(decoder, _encode(encoder, *pair, seed).latent, pair[1], as_uint8=as_uint8)

        return ordered_map(reconstruct, with_labels(images, labels), decoder.workers)


def open_pair(run: str | Path, device: DeviceChoice = "auto") -> Pair:
    """The exported model in the folder `run`. Its graphs are opened when first used.

    Raises:
        VaeError: there is no model, or a file of it is damaged, not ours, or of another pair.
        UsageError: there is no such `device`.
        DeviceError: `cuda` was asked for and does not work.
    """
    check_choice("device", device, DeviceChoice)
    folder = Path(run)
    pair = Pair(folder, open_files(folder), device)
    if device == "cuda":  # it never falls back: whether it works is known now, not at the first use
        pair._open(model_format.ENCODER_FILE if pair.has_encoder else model_format.DECODER_FILE)
    return pair


def open_files(folder: Path) -> dict[str, graph_file.GraphFile]:
    """The exported files in `folder` by name, read and checked; nothing of them is run.

    Raises:
        VaeError: there is none, or one is damaged, not ours, or of another pair.
    """
    if not folder.is_dir():
        what = "is a file, not a run folder" if folder.exists() else "no such run folder"
        raise VaeError(f"{folder}: {what}", "vae train, then vae export, make one; `run` names another")
    run = RunFolder(folder)
    with contextlib.suppress(OSError):  # a folder that cannot be written is read as it is
        finish_pending_moves(folder)
    for _ in range(ATTEMPTS):  # an export may replace the files between two of them
        files = {file.name: graph_file.read(file) for file in run.exported if file.exists()}
        if not files:
            first = "" if run.has_training else f"vae train{run_flag(folder)}, then "
            hint = remedy_without(folder, f"{first}vae export{run_flag(folder)}")
            raise VaeError(f"{folder}: no exported model in it", hint)
        if len({file.metadata.pair for file in files.values()}) == 1:
            _check_classes(files)
            return files
    raise VaeError(
        f"{folder}: {' and '.join(files)} are of different models", "copy all from one place, or export again"
    )


def _check_classes(files: Mapping[str, graph_file.GraphFile]) -> None:
    """Raise VaeError where prior or flow know other classes than a conditional model, or than each other."""
    known = next(iter(files.values())).metadata.classes
    for name in (model_format.PRIOR_FILE, model_format.FLOW_FILE):
        metadata = files[name].metadata if name in files else None
        summary = metadata and (metadata.prior or metadata.flow)
        if summary is None or not summary.classes:
            continue
        if known and summary.classes != known:
            raise VaeError(f"{files[name].path}: its classes are not those of the model", "export it again")
        known = summary.classes


def checked_seed(seed: int) -> int:
    """The seed itself. Raises UsageError where it is no whole number that fits in 64 bits."""
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool):
        raise UsageError(f"`seed` {shown(seed)}: not a whole number", f"take one from 0 to {LARGEST_SEED}")
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"`seed` {seed}: does not fit in 64 bits", f"take a whole number from 0 to {LARGEST_SEED}")
    return seed


def with_labels(
    images: Iterable[Batch], labels: NDArray[np.int64] | None
) -> Iterator[tuple[Batch, NDArray[np.int64] | None]]:
    """Each batch with the labels of its images."""
    start = 0
    for batch in images:
        yield batch, None if labels is None else labels[start : start + len(batch)]
        start += len(batch)


def _encode(encoder: runtime.Graph, images: Batch, labels: NDArray[np.int64] | None, seed: int | None) -> Encoded:
    pixels = images.transpose(0, 3, 1, 2)  # (b, c, h, w)
    scaled = pixels / np.float32(model_format.MAX_PIXEL) if images.dtype == np.uint8 else pixels.astype(np.float32)
    mean, std = encoder.run((model_format.MEAN, model_format.STD), np.ascontiguousarray(scaled), labels)
    if seed is None:
        return Encoded(mean, std, mean)
    pictures = images if images.dtype == np.uint8 else to_uint8(images)
    keys = noise.keys(seed, "posterior", noise.digests(pictures))
    return Encoded(mean, std, mean + std * noise.normal(keys, mean.shape[1])[:, 0])


def _decode(
    decoder: runtime.Graph, latents: Latents, labels: NDArray[np.int64] | None = None, *, as_uint8: bool
) -> Batch:
    (images,) = decoder.run((model_format.IMAGE,), latents, labels)  # (b, c, h, w)
    # A sigmoid stays in [0, 1]; a graph from somebody else need not.
    if images.min() < -TOLERANCE or images.max() > 1 + TOLERANCE:
        raise VaeError(f"{decoder.file.path}: computes pixels outside [0, 1]", "export it again")
    images = images.transpose(0, 2, 3, 1).clip(0, 1)  # (b, h, w, c)
    return to_uint8(images) if as_uint8 else images
