"""Pictures ranked by how strange they are to a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaecli.config import Binarize
from vaecli.errors import UsageError, VaeError
from vaecli.evaluation.bounds import measure
from vaecli.evaluation.disagreement import disagreement, heatmap
from vaecli.evaluation.likelihoods import Float64
from vaecli.evaluation.strangeness import FEWEST, PIXELS_ABOVE, Strangeness, looks
from vaecli.events import Note, OnEvent, counted, ignore
from vaecli.inference.pair import Pair, checked_seed
from vaecli.model_format import REFERENCE_VERSION, Reference

Criterion: TypeAlias = Literal["strangeness", "excess", "bound"]

NO_REFERENCE = "this model's files have no statistics of held-out pictures"
EXPORT_AGAIN = "vae export its run again, where the data of the training are"


@dataclass(frozen=True)
class Scores:
    """Each picture's strangeness and losses, and the order."""

    sorted_by: Criterion
    importance_samples: int
    binarize: Binarize
    seed: int
    reference: int  # held-out pictures that the strangeness is measured against; 0: there is none
    order: NDArray[np.int64] = field(repr=False)  # (n,) the pictures' rows, strangest first
    # (n,) each, see `column_names`: the losses in nats, tail a probability
    columns: dict[str, Float64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.order)

    def of(self, row: int) -> dict[str, float]:
        """The numbers of one picture by name."""
        return {name: float(values[row]) for name, values in self.columns.items()}

    def flagged(self, probability: float) -> NDArray[np.int64]:
        """The rows whose tail probability is at most `probability`, in order: of pictures as strange as that.

        Raises:
            UsageError: `probability` is not in (0, 1), or below what the reference can tell.
            VaeError: there is no reference.
        """
        _check_flag(probability, self.reference)
        return self.order[self.columns["tail"][self.order] <= probability]


def check_flag(probability: float, reference: Reference | None) -> None:
    """Raise what `Scores.flagged` raises, before anything is measured."""
    _check_flag(probability, len(reference) if reference else 0)


def _check_flag(probability: float, reference: int) -> None:
    if not reference:
        raise VaeError(f"`flag`: {NO_REFERENCE}", EXPORT_AGAIN)
    least = 1 / (reference + 1)
    if not least <= probability < 1:
        problem = f"`flag` {probability:g}: {reference} held-out pictures tell probabilities from {least:.2g} to 1"
        raise UsageError(problem, "0.01 flags what one held-out picture in a hundred reaches")


def reference_of(pair: Pair, binarize: Binarize | None = None) -> Reference | None:
    """The model's reference; None where it has none, or none that holds for such pixels."""
    reference, theirs = pair.metadata.reference, pair.metadata.binarize
    known = reference is not None and reference.version == REFERENCE_VERSION and len(reference) >= FEWEST
    return reference if known and binarize in (None, theirs) else None


def column_names(importance_samples: int | None, reference: Reference | None) -> list[str]:
    """What `score` computes for each picture."""
    return [
        *(["strangeness", "tail"] if reference else []),
        *("excess", "negative_elbo", "reconstruction", "kl"),
        *(["bound"] if importance_samples else []),
    ]


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

    By `strangeness`, from one latent for each picture; by `excess` where the model has no reference; by the
    importance-weighted bound with `importance_samples`. `binarize` is as in training where it is None. A picture's
    score does not depend on the others.

    Raises:
        VaeError: a graph fails, or a likelihood is not finite.
        UsageError: `binarize` does not suit the model, or a number is out of range.
    """
    if importance_samples is not None and importance_samples < 1:
        raise UsageError(f"`importance_samples` {importance_samples}: not 1 or more", "more tighten the bound")
    reference = reference_of(pair, binarize)
    binarize, seed = pair.metadata.binarize if binarize is None else binarize, checked_seed(seed)
    if reference is None and importance_samples is None:
        other = f"the model's statistics of held-out pictures are not of `binarize` {binarize}"
        on_event(Note(f"sorted by the excess loss: {NO_REFERENCE if reference_of(pair) is None else other}"))
    bounds = measure(
        pair,
        pictures,
        samples=importance_samples or 1,
        seed=seed,
        binarize=binarize,
        prior=pair.trained_prior,
        batch_size=batch_size,
    )
    parts, start = [], 0
    for part in counted(bounds, on_event, "scoring", len(pictures), "pictures"):
        losses = [part.excess, part.negative_elbo, part.reconstruction, part.divergence]
        appearance = looks(pictures[start : start + len(part)])
        parts.append((*losses, *([part.bound] if importance_samples else []), appearance))
        start += len(part)
    *measured, appearance = map(np.concatenate, zip(*parts, strict=True))
    if reference:
        scale = Strangeness(reference)
        strange = scale.of(measured[0], appearance)
        measured = [strange, scale.tail(strange), *measured]
    columns = dict(zip(column_names(importance_samples, reference), measured, strict=True))
    criterion: Criterion = "bound" if importance_samples else "strangeness" if reference else "excess"
    order = (-columns[criterion]).argsort(kind="stable")
    count = len(reference) if reference else 0
    return Scores(criterion, importance_samples or 1, binarize, seed, count, order, columns)


def heatmaps(pair: Pair, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Where the model disagrees with each batch of pictures (b, h, w, c): pictures (b, h, w, 3).

    Colour begins where a pixel's excess is above that of all but one held-out pixel in PIXELS_ABOVE; without a
    reference, of all but one in so many of the first batch.

    Raises:
        VaeError: a graph fails.
    """
    reference, begin = reference_of(pair), None
    for batch in batches:
        nats = disagreement(pair, batch)
        if begin is None:
            begin = reference.pixel if reference else float(np.quantile(nats, 1 - 1 / PIXELS_ABOVE))
        yield heatmap(batch, nats, max(begin, 1e-6))
