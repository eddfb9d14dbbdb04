"""What a job computes of each block: the columns of its result, and how they follow from a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from vaecli.config import Binarize
from vaecli.evaluation.bounds import pictures_at_once
from vaecli.evaluation.score import Scorer, column_names, reference_of
from vaecli.inference.pair import Pair, checked_seed, encoded_columns
from vaecli.inference.runtime import Graph
from vaecli.pictures.writing import encode as encode_picture

Kind: TypeAlias = Literal["vector", "number", "picture"]  # lists of float32, float64, the bytes of a PNG
Values: TypeAlias = NDArray[np.floating[Any]] | Sequence[bytes]  # of a column: (b, d), (b,) or b pictures
# Rows (b, ...) and, where the model needs them, the numbers of their classes (b,) -> the columns.
Compute: TypeAlias = Callable[[NDArray[Any], NDArray[np.int64] | None], Mapping[str, Values]]

IMAGE = "image"  # the column of pictures


class Encode(msgspec.Struct, frozen=True, kw_only=True, tag="encode"):
    """Latents of pictures: the means of q(z|x); with `std` its deviations, too; with a seed draws of it."""

    std: bool = False
    seed: int | None = None
    labelled: ClassVar[bool] = True  # whether the result has the class of each row

    def columns(self, pair: Pair) -> dict[str, Kind]:
        """The names and kinds of the columns."""
        return dict.fromkeys(encoded_columns(std=self.std, stochastic=self.seed is not None), "vector")

    def start(self, pair: Pair, batch_size: int | None) -> Compute:
        """Open what is needed. The function then takes pictures (b, h, w, c).

        Raises UsageError where `seed` does not fit in 64 bits.
        """
        names = self.columns(pair)
        if self.seed is not None:
            checked_seed(self.seed)

        def compute(pictures: NDArray[Any], labels: NDArray[np.int64] | None) -> Mapping[str, Values]:
            (encoded,) = pair.encode_batches([pictures], self.seed, labels)
            return {name: getattr(encoded, name) for name in names}

        return compute


class Score(msgspec.Struct, frozen=True, kw_only=True, tag="score"):
    """How strange pictures are to the model; see `evaluation.score.score`."""

    importance_samples: int | None = None
    binarize: Binarize | None = None
    seed: int = 0
    labelled: ClassVar[bool] = True

    def columns(self, pair: Pair) -> dict[str, Kind]:
        """As `Encode.columns`."""
        return dict.fromkeys(column_names(self.importance_samples, reference_of(pair, self.binarize)), "number")

    def start(self, pair: Pair, batch_size: int | None) -> Compute:
        """As `Encode.start`. Raises UsageError where `binarize` does not suit the model."""
        return Scorer(
            pair,
            importance_samples=self.importance_samples,
            binarize=self.binarize,
            seed=self.seed,
            batch_size=batch_size,
        )


class Reconstruct(msgspec.Struct, frozen=True, kw_only=True, tag="reconstruct"):
    """Reconstructions of pictures as PNG: through the mean of q(z|x), or with a seed through a draw of it."""

    seed: int | None = None
    labelled: ClassVar[bool] = False

    def columns(self, pair: Pair) -> dict[str, Kind]:
        """As `Encode.columns`."""
        return {IMAGE: "picture"}

    def start(self, pair: Pair, batch_size: int | None) -> Compute:
        """As `Encode.start`."""
        if self.seed is not None:
            checked_seed(self.seed)

        def compute(pictures: NDArray[Any], labels: NDArray[np.int64] | None) -> Mapping[str, Values]:
            (images,) = pair.reconstructions([pictures], self.seed, labels=labels, as_uint8=True)
            return {IMAGE: [encode_picture(image, "png") for image in images]}

        return compute


class Decode(msgspec.Struct, frozen=True, kw_only=True, tag="decode"):
    """The pictures of latents as PNG."""

    labelled: ClassVar[bool] = False

    def columns(self, pair: Pair) -> dict[str, Kind]:
        """As `Encode.columns`."""
        return {IMAGE: "picture"}

    def start(self, pair: Pair, batch_size: int | None) -> Compute:
        """As `Encode.start`, but that the function takes latents (b, d)."""

        def compute(latents: NDArray[Any], labels: NDArray[np.int64] | None) -> Mapping[str, Values]:
            (images,) = pair.decode_batches([latents], labels, as_uint8=True)
            return {IMAGE: [encode_picture(image, "png") for image in images]}

        return compute


Task: TypeAlias = Encode | Score | Reconstruct | Decode
DOING = {Encode: "encoding", Score: "scoring", Reconstruct: "reconstructing", Decode: "decoding"}


def rows_at_once(pair: Pair, task: Task, batch_size: int | None) -> int:
    """How many rows to give to what `start` returns.

    It computes them as one batch: with more it would start threads of its own, within those of the worker.
    """
    samples = task.importance_samples if isinstance(task, Score) else None
    return pictures_at_once(pair, samples or 1, batch_size)


def graph_of(pair: Pair, task: Task) -> Graph:
    """The graph that a task needs first. Raises VaeError where it cannot be opened."""
    return pair.decoder if isinstance(task, Decode) else pair.encoder
