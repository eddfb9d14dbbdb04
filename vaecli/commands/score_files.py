"""The strangest pictures, written: all scores as a table, and the pictures themselves as `vae score` draws them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaecli.config import Binarize
from vaecli.evaluation.score import Scores, heatmaps
from vaecli.inference.pair import Pair
from vaecli.parallel import cut
from vaecli.pictures.grid import Series, in_pairs
from vaecli.pictures.inputs import PictureInputs
from vaecli.pictures.writing import PictureOutput
from vaecli.streams import STDOUT
from vaecli.tables import TableOutput

DRAWN = 25  # pictures, where nothing says how many
ROWS = 1024  # that are written at once
HEATMAP = "heatmap"  # the drawing of where the model disagrees


def write(
    pair: Pair,
    read: PictureInputs,
    scores: Scores,
    flag: float | None,
    *,
    table: TableOutput | None,
    drawings: Mapping[str, PictureOutput],
    top: int | None,
    labels: NDArray[np.int64] | None = None,
    known: Sequence[str | None] = (),
) -> None:
    """Write the table and the drawings of the pictures that are flagged, or of all: all of them, or none.

    Drawn are the first `top`. Where it is None: all flagged pictures, all heat maps of a folder or an array, else the
    first DRAWN. No drawing is made where there is no picture. `labels` are the classes of the pictures that were read,
    of a conditional model; `known` are their names, as far as they are known, for the table.

    Raises:
        VaeError: a graph fails, or a file cannot be written.
        UsageError: a drawing is too large, or one of the files that were read.
    """
    rows = scores.chosen(flag)
    with contextlib.ExitStack() as all_files:
        for name, target in drawings.items() if len(rows) else ():
            heat = name == HEATMAP
            some = DRAWN if flag is None and not (heat and target.form != "picture") else None
            _draw(all_files, target, pair, read, rows[: top or some], labels, scores.binarize, heat=heat)
        if table is not None and table.destination.name == STDOUT:  # whose reader may leave early
            all_files.close()
        if table is not None:
            placed = table.having(scores.columns, labelled=any(known))
            writer = all_files.enter_context(placed.open(len(rows), read.sources))
            for part in cut(rows, ROWS):
                numbers = [column[part].round(5) for column in scores.columns.values()]
                classes = [known[row] for row in part] if known else None
                writer.write([read.names[row] for row in part], numbers, classes)


def _draw(
    files: contextlib.ExitStack,
    target: PictureOutput,
    pair: Pair,
    read: PictureInputs,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64] | None,
    binarize: Binarize,
    *,
    heat: bool,
) -> None:
    """The pictures in `rows` with their reconstructions, or with `heat` where the model disagrees.

    A grid has each original above the other picture. An array or a folder has the originals, numbered by rank; or the
    heat maps, under their pictures' names.
    """
    paired = target.form == "picture"
    channels, height, width = pair.image_shape
    names = [read.names[row] if heat else f"{rank:04}-{Path(read.names[row]).name}" for rank, row in enumerate(rows, 1)]
    count = 2 * len(rows) if paired else len(rows)
    shape = (3 if heat else channels, height, width)
    writer = files.enter_context(
        target.open(Series(count, shape, stacked=2 if paired else 1, names=names, sources=read.sources))
    )

    def originals() -> Iterator[NDArray[np.uint8]]:
        return (read.images[part] for part in cut(rows, pair.batch_size))

    of_rows = None if labels is None else labels[rows]
    if heat:
        others = heatmaps(pair, originals(), of_rows, binarize)
    else:
        others = pair.reconstructions(originals(), labels=of_rows, as_uint8=True)
    for pictures, other in zip(originals(), others, strict=True):
        if paired:
            writer.write(in_pairs(pictures, other))
        else:
            writer.write(other if heat else pictures)
