"""Pictures ranked by how badly a model explains them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaecli.config import Binarize
from vaecli.errors import UsageError
from vaecli.evaluation.bounds import measure
from vaecli.evaluation.likelihoods import Float64
from vaecli.events import OnEvent, counted, ignore
from vaecli.inference.pair import Pair, checked_seed

Criterion: TypeAlias = Literal["negative_elbo", "bound"]


@dataclass(frozen=True)
class Scores:
    """Each picture's loss in nats, and the order of strangeness."""

    sorted_by: Criterion
    importance_samples: int
    binarize: Binarize
    seed: int
    order: NDArray[np.int64] = field(repr=False)  # (n,) the pictures' rows, strangest first
    columns: dict[str, Float64] = field(repr=False)  # negative_elbo, reconstruction, kl, bound if asked for: (n,) each

    def __len__(self) -> int:
        return len(self.order)

    def of(self, row: int) -> dict[str, float]:
        """The losses of one picture by name."""
        return {name: float(values[row]) for name, values in self.columns.items()}


def column_names(importance_samples: int | None) -> list[str]:
    """The losses that `score` computes."""
    return ["negative_elbo", "reconstruction", "kl", *(["bound"] if importance_samples else [])]


def score(
    pair: Pair,
    pictures: NDArray[np.uint8],
    *,
    importance_samples: int | None = None,
    binarize: Binarize | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    on_event: OnEvent = ignore,
) -> Scores:
    """Score pictures (n, h, w, c) of the model's shape, strangest first.

    By the negative ELBO with one latent per picture; with `importance_samples`, by the importance-weighted bound.
    `binarize` is as in training where it is None. A picture's score does not depend on the others.

    Raises:
        VaeError: a graph fails, or a likelihood is not finite.
        UsageError: `binarize` does not suit the model, or a number is out of range.
    """
    if importance_samples is not None and importance_samples < 1:
        raise UsageError(f"`importance_samples` {importance_samples}: not 1 or more", "more tighten the bound")
    binarize, seed = pair.metadata.binarize if binarize is None else binarize, checked_seed(seed)
    names = column_names(importance_samples)
    bounds = measure(
        pair, pictures, samples=importance_samples or 1, seed=seed, binarize=binarize, batch_size=batch_size
    )
    parts = []
    for part in counted(bounds, on_event, "scoring", len(pictures), "pictures"):
        losses = (part.negative_elbo, part.reconstruction, part.kl.sum(axis=1), part.bound)
        parts.append(losses[: len(names)])
    columns = dict(zip(names, map(np.concatenate, zip(*parts, strict=True)), strict=True))
    criterion: Criterion = "bound" if importance_samples else "negative_elbo"
    order = (-columns[criterion]).argsort(kind="stable")
    return Scores(criterion, importance_samples or 1, binarize, seed, order, columns)
