"""What a stage reports while it works: typed records, handed to an `on_event` callback as they happen.

The same records are the lines of metrics.jsonl and of `vae train --json`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Literal, Self, TypeAlias, TypeVar

import msgspec

from vaecli.errors import VaeWarning
from vaecli.wording import how_many

ChosenBy: TypeAlias = Literal["held-out", "validation"]  # the images that chose the best epoch


class Note(msgspec.Struct, frozen=True):
    """A sentence for a person. A warning is shown even where other notes are not."""

    text: str
    warning: bool = False


class Progress(msgspec.Struct, frozen=True):
    """How far a piece of work is: `done` of `total` units, where the total is known."""

    what: str  # "reading pictures"
    done: int
    total: int | None
    unit: str  # "pictures"


class Losses(msgspec.Struct, frozen=True, kw_only=True):
    """A loss and its two terms, in nats per image.

    `loss` is what was minimised; on held-out images always reconstruction + kl, the negative ELBO.
    """

    loss: float
    reconstruction: float
    kl: float

    @property
    def finite(self) -> bool:
        """Whether all three are finite numbers."""
        return all(math.isfinite(value) for value in (self.loss, self.reconstruction, self.kl))


class TrainingStarted(msgspec.Struct, frozen=True, kw_only=True):
    """What a training found, before its first step."""

    run: str
    data: str  # the data set's name
    train: int  # images
    validation: int  # images that choose the best epoch; 0: the held-out ones do
    held_out: int
    classes: int  # of the pictures; 0: not known
    class_names: tuple[str, ...] = ()
    image_shape: tuple[int, int, int]  # (channels, height, width)
    value_range: tuple[int, int]  # smallest and largest pixel value
    parameters: int
    latent_dim: int
    device: str  # as a person knows it: cpu (2 threads)
    precision: str
    path: str  # how a step is computed, such as: autograd, channels last; dense kernels, MKL
    prior: str  # as a person knows it: N(0, I), VampPrior of 300 pseudo-inputs
    chosen_by: str  # what the best epoch has least of: loss, importance-weighted bound, reconstruction + 4 x KL
    seed: int
    epochs: int
    resumed_after: int  # the last epoch of the training that is resumed; 0 for a new one
    images_in_epoch: int


class Step(msgspec.Struct, frozen=True):
    """`images` of this epoch have been trained on."""

    epoch: int
    images: int


class EpochMetrics(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="epoch"):
    """One epoch: `train` is the mean over its steps, as trained; `held_out` is measured after it, without dropout.

    Where there are validation images, `held_out` is measured on them, and so is all that follows.

    `seconds` is the wall clock of the training steps, without the held-out pass. `threads` is their number on the CPU;
    None on a GPU.
    """

    epoch: int
    seconds: float
    images_per_second: float
    threads: int | None = None
    learning_rate: float | None = None  # of the last step
    beta: float | None = None  # the weight of the KL in the last step: it rises in the KL warm-up
    train: Losses
    held_out: Losses
    objective: float | None = None  # the held-out value of what is trained: β, free bits, importance weights included
    active_units: int  # latent dimensions whose posterior mean varies over the held-out images: see docs/evaluation.md
    bits_per_dimension: float | None = None  # of the held-out loss, for likelihoods over 8-bit values


def best_epoch(epochs: Iterable[EpochMetrics], kl_warmup: int) -> EpochMetrics | None:
    """The epoch whose weights are kept: the lowest held-out objective after the KL warm-up.

    Within the warm-up the training minimises something else, so those epochs count only as long as no later one exists.
    None where there are no epochs.
    """
    best = None
    for epoch in epochs:
        if best is None or is_better(epoch, best, kl_warmup):
            best = epoch
    return best


def is_better(epoch: EpochMetrics, best: EpochMetrics, kl_warmup: int) -> bool:
    """Whether a later epoch is better than the best before it."""
    if best.epoch < kl_warmup:
        return True
    values = [one.held_out.loss if one.objective is None else one.objective for one in (epoch, best)]
    return values[0] < values[1]


class TrainingDone(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="done"):
    """The end of a training: where it is, and the best epoch with its loss in nats per image.

    That loss is of the images that chose the epoch, so new images have a slightly higher one.
    """

    run: str
    epochs: int
    best_epoch: int
    best_loss: float
    chosen_by: ChosenBy
    seconds: float
    device: str
    precision: str
    seed: int


class Changes(msgspec.Struct, kw_only=True):
    """How many pictures were not taken as they are."""

    fitted: int = 0  # cropped, resized or converted
    flattened: int = 0  # transparent parts filled with white
    deep: int = 0  # reduced from 16 bits a value to 8
    first: int = 0  # the first of several frames or pages

    def __iadd__(self, others: Changes) -> Self:
        """Those of other pictures, too."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(others, name))
        return self

    def notes(self, goal: str = "") -> tuple[Note, ...]:
        """The same for a person. `goal` is what pictures were fitted to, and ends the last note."""
        notes = []
        if self.flattened:
            notes.append(f"transparent parts of {how_many(self.flattened, 'picture')} were filled with white")
        if self.deep:
            notes.append(f"{how_many(self.deep, 'picture')} of more than 8 bits a value reduced to 8")
        if self.first:
            notes.append(f"of {how_many(self.first, 'picture')} with several frames or pages the first was taken")
        if self.fitted:
            notes.append(f"cropped, resized or converted {how_many(self.fitted, 'picture')}{goal}")
        return tuple(map(Note, notes))


class BlockDone(msgspec.Struct, frozen=True, kw_only=True):
    """A block of a job is in its file."""

    number: int  # from 0
    rows: int
    errors: int  # rows of pictures that cannot be read
    changes: Changes  # to its pictures
    seconds: float
    first_error: str | None = None


Event: TypeAlias = BlockDone | Note | Progress | TrainingStarted | Step | EpochMetrics | TrainingDone
OnEvent: TypeAlias = Callable[[Event], None]
Chunk = TypeVar("Chunk", bound=Sized)


def ignore(_: Event) -> None:
    """The callback of somebody who wants no events."""


def warn(event: Event) -> None:
    """The callback of a Python program that gives none: a warning is shown, all else is dropped."""
    if isinstance(event, Note) and event.warning:
        warnings.warn(event.text, VaeWarning, stacklevel=2)


def counted(chunks: Iterable[Chunk], on_event: OnEvent, what: str, total: int | None, unit: str) -> Iterator[Chunk]:
    """The same chunks, with a Progress event before the first and after each."""
    done = 0
    on_event(Progress(what, done, total, unit))
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        on_event(Progress(what, done, total, unit))
