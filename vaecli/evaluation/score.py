"""Pictures ranked by how strange they are to a model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vaecli.config import Binarize, Criterion
from vaecli.datasets.division import HELD_OUT
from vaecli.errors import UsageError, VaeError, check_choice, check_count
from vaecli.evaluation.bounds import check_binarize, measure, pictures_at_once
from vaecli.evaluation.disagreement import disagreement, heatmap, largest_area, of_areas
from vaecli.evaluation.strangeness import AREAS_ABOVE, FEWEST, looks, scale_of
from vaecli.events import Note, OnEvent, Progress, ignore
from vaecli.inference.geometry import Float64
from vaecli.inference.pair import Pair, checked_seed, with_labels
from vaecli.model_format import REFERENCE_VERSION, Reference
from vaecli.parallel import cut, ordered_map

NO_REFERENCE = "this model's files have no statistics of held-out pictures"
NEEDED = f"{FEWEST} held-out pictures are needed, as a folder of {FEWEST * HELD_OUT} has"
EXPORT_AGAIN = f"run vae export again where the pictures of the training are; {NEEDED}"


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

    @property
    def tail(self) -> str:
        """The column with the tail probability that `flagged` compares: that of `local` where it is sorted by that."""
        return "local_tail" if self.sorted_by == "local" else "tail"

    @property
    def least_tail(self) -> float:
        """The smallest tail probability that the reference can tell."""
        return _least_tail(self.reference)

    def of(self, row: int) -> dict[str, float]:
        """The numbers of one picture by name."""
        return {name: float(values[row]) for name, values in self.columns.items()}

    def chosen(self, probability: float | None) -> NDArray[np.int64]:
        """The rows in order: all of them, or with a `probability` those `flagged`. Raises as that."""
        return self.order if probability is None else self.flagged(probability)

    def flagged(self, probability: float) -> NDArray[np.int64]:
        """The rows whose tail probability is at most `probability`, in order.

        Raises:
            UsageError: `probability` is not in (0, 1), or below what the reference can tell.
            VaeError: there is no reference.
        """
        _check_flag(probability, self.reference)
        return self.order[self.columns[self.tail][self.order] <= probability]


def check_flag(probability: float, reference: Reference | None) -> None:
    """Raise what `Scores.flagged` raises, before anything is measured."""
    _check_flag(probability, len(reference) if reference else 0)


def _check_flag(probability: float, reference: int) -> None:
    if not reference:
        raise VaeError(f"`flag`: {NO_REFERENCE}", EXPORT_AGAIN)
    if not _least_tail(reference) <= probability < 1:
        least = math.ceil(1e5 * _least_tail(reference)) / 1e5
        problem = f"`flag` {probability:g}: with {reference} held-out pictures, tails are from {least:g} to 1"
        one = max(0.01, least)
        raise UsageError(problem, f"{one:g} flags pictures as strange as the strangest {one:.2%} of held-out ones")


def _least_tail(reference: int) -> float:
    """The smallest tail probability that this many held-out pictures can tell: see `Strangeness.tail`."""
    return 1 / (reference + 1)


def reference_of(pair: Pair, binarize: Binarize | None = None) -> Reference | None:
    """The model's reference; None where it has none, or none that holds for such pixels."""
    reference, theirs = pair.metadata.reference, pair.metadata.binarize
    known = reference is not None and reference.version == REFERENCE_VERSION and len(reference) >= FEWEST
    return reference if known and binarize in (None, theirs) else None


def column_names(importance_samples: int | None, reference: Reference | None) -> list[str]:
    """What `score` computes for each picture."""
    return [
        *(["strangeness", "tail"] if reference else []),
        "local",
        *(["local_tail"] if reference else []),
        *("excess", "negative_elbo", "reconstruction", "kl"),
        *(["bound"] if importance_samples else []),
    ]


class Scorer:
    """Scores pictures in parts. A picture's numbers do not depend on the others, nor on how they are cut."""

    def __init__(
        self,
        pair: Pair,
        *,
        importance_samples: int | None = None,
        binarize: Binarize | None = None,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> None:
        """`binarize` is as in training where it is None.

        Raises:
            UsageError: `binarize` does not suit the model, or a number is out of range.
        """
        if importance_samples is not None:
            check_count("importance_samples", importance_samples, 1, "more tighten the bound")
        self.binarize: Binarize = pair.metadata.binarize if binarize is None else binarize
        check_binarize(pair, self.binarize)
        self.reference = reference_of(pair, binarize)
        self.importance_samples, self.seed = importance_samples, checked_seed(seed)
        self.columns = column_names(importance_samples, self.reference)
        self._pair, self._batch_size = pair, batch_size
        self._scale = scale_of(self.reference) if self.reference else None

    @property
    def note(self) -> str:
        """Why the order is by the excess loss, where it is."""
        if self._scale or self.importance_samples:
            return ""
        other = f"the model's statistics of held-out pictures are not of `binarize` {self.binarize}"
        return f"sorted by the excess loss: {NO_REFERENCE if reference_of(self._pair) is None else other}"

    def batches(
        self, pictures: NDArray[np.uint8], labels: NDArray[np.int64] | None = None
    ) -> Iterator[dict[str, Float64]]:
        """The numbers of pictures (n, h, w, c) by `columns`, (b,) each, batch by batch in their order.

        `labels` (n,) are their classes, of a conditional model.

        Raises:
            VaeError: a graph fails, or a likelihood is not finite.
        """
        samples = self.importance_samples or 1
        bounds = measure(
            self._pair,
            pictures,
            samples=samples,
            seed=self.seed,
            binarize=self.binarize,
            prior=self._pair.trained_prior,
            labels=labels,
            batch_size=self._batch_size,
        )
        start = 0
        batches = with_labels(cut(pictures, pictures_at_once(self._pair, samples, self._batch_size)), labels)

        def of_areas(batch: tuple[NDArray[np.uint8], NDArray[np.int64] | None]) -> Float64:
            return largest_area(disagreement(self._pair, *batch, self.binarize))

        areas = ordered_map(of_areas, batches, self._pair.decoder.workers)
        for part, local in zip(bounds, areas, strict=True):
            rows = slice(start, start + len(part))
            measured = {
                "local": local,
                "excess": part.excess,
                "negative_elbo": part.negative_elbo,
                "reconstruction": part.reconstruction,
                "kl": part.kl,
                "bound": part.bound,
            }
            if self._scale:
                strange = self._scale.of(part.excess, looks(pictures[rows]))
                measured |= {
                    "strangeness": strange,
                    "tail": self._scale.tail(strange),
                    "local_tail": self._scale.local_tail(local),
                }
            start += len(part)
            yield {name: measured[name] for name in self.columns}

    def __call__(self, pictures: NDArray[np.uint8], labels: NDArray[np.int64] | None = None) -> dict[str, Float64]:
        """The numbers of all `pictures`. Raises as `batches`."""
        return _joined(list(self.batches(pictures, labels)))


def score(
    pair: Pair,
    pictures: NDArray[np.uint8],
    *,
    by: Criterion | None = None,
    labels: NDArray[np.int64] | None = None,
    importance_samples: int | None = None,
    binarize: Binarize | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    on_event: OnEvent = ignore,
) -> Scores:
    """Score pictures (n, h, w, c) of the model's shape, strangest first.

    Sorted `by` strangeness, by the excess of their strangest area (`local`), by the excess of all pixels, or by the
    bound. Where it is None: by strangeness, or by excess where the model has no reference; by the importance-weighted
    bound with `importance_samples`. One latent is drawn for each picture, or as many as `importance_samples`.
    `binarize` is as in training where it is None. `labels` (n,) are the pictures' classes, of a conditional model. A
    picture's score does not depend on the others.

    Raises:
        VaeError: a graph fails, or a likelihood is not finite.
        UsageError: `binarize` does not suit the model, a number is out of range, or what to sort `by` is not known.
    """
    scorer = Scorer(pair, importance_samples=importance_samples, binarize=binarize, seed=seed, batch_size=batch_size)
    criterion = _criterion(by, scorer)
    if scorer.note and by is None:
        on_event(Note(scorer.note))
    done, parts = 0, list[dict[str, Float64]]()
    on_event(Progress("scoring", done, len(pictures), "pictures"))
    for part in scorer.batches(pictures, labels):
        parts.append(part)
        done += len(part["excess"])
        on_event(Progress("scoring", done, len(pictures), "pictures"))
    columns = _joined(parts)
    order = (-columns[criterion]).argsort(kind="stable")
    count = len(scorer.reference) if scorer.reference else 0
    return Scores(criterion, importance_samples or 1, scorer.binarize, scorer.seed, count, order, columns)


def _criterion(by: Criterion | None, scorer: Scorer) -> Criterion:
    """What to sort by. Raises UsageError where that is not known."""
    if by is None:
        return "bound" if scorer.importance_samples else "strangeness" if scorer.reference else "excess"
    check_choice("by", by, Criterion)
    if by not in scorer.columns:
        if by == "bound":
            raise UsageError("`by` bound: it needs more than one latent", "add `importance_samples`")
        raise UsageError(f"`by` {by}: {NO_REFERENCE}", EXPORT_AGAIN)
    return by


def _joined(parts: Sequence[dict[str, Float64]]) -> dict[str, Float64]:
    """The columns of all parts."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def heatmaps(
    pair: Pair,
    batches: Iterable[NDArray[np.uint8]],
    labels: NDArray[np.int64] | None = None,
    binarize: Binarize | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Where the model disagrees with each batch of pictures (b, h, w, c): pictures (b, h, w, 3).

    `labels` are the classes of all pictures, of a conditional model; `binarize` is as in `disagreement`.

    Colour begins where the excess of an area is above that of all but one held-out area in AREAS_ABOVE; without a
    reference, above that of all but one in AREAS_ABOVE of the first batch.

    Raises:
        VaeError: a graph fails.
    """
    reference, begin = reference_of(pair, binarize), None
    for batch, of_batch in with_labels(batches, labels):
        nats = of_areas(disagreement(pair, batch, of_batch, binarize))
        if begin is None:
            begin = reference.area if reference else float(np.quantile(nats, 1 - 1 / AREAS_ABOVE))
        yield heatmap(batch, nats, max(begin, 1e-6))
