"""The strangest pictures, written: all files or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vaecli import load
from vaecli.commands.score_files import DRAWN, write
from vaecli.errors import UsageError
from vaecli.evaluation.score import heatmaps, score
from vaecli.pictures.inputs import PictureInputs
from vaecli.pictures.writing import picture_output
from vaecli.tables import table_output


def test_the_table_has_all_pictures_and_a_drawing_the_first(grey: Path, blobs: Path, tmp_path: Path) -> None:
    model = load(grey, "cpu")
    read = model.read(blobs)
    scores = score(model.pair, read.images)
    table = table_output(str(tmp_path / "s.csv"), {"excess": None}, on_stdout="csv")
    drawings = {"picture": picture_output(str(tmp_path / "p.npy"), flag="picture")}
    write(model.pair, read, scores, None, table=table, drawings=drawings, top=None)
    lines = (tmp_path / "s.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines[1:]] == [read.names[row] for row in scores.order]
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), read.images[scores.order[:DRAWN], ..., 0])


def test_no_table_where_a_drawing_fails(grey: Path, blobs: Path, tmp_path: Path) -> None:
    model = load(grey, "cpu")
    read = model.read(blobs)
    table = table_output(str(tmp_path / "s.csv"), {"excess": None}, on_stdout="csv")
    drawings = {"heatmap": picture_output(str(blobs), flag="heatmap")}
    with pytest.raises(UsageError, match="one of the files to read"):
        write(model.pair, read, score(model.pair, read.images), None, table=table, drawings=drawings, top=2)
    assert not (tmp_path / "s.csv").exists()


def test_heat_maps_are_of_the_pixels_that_were_measured(grey: Path, blobs: Path, tmp_path: Path) -> None:
    model, images = load(grey, "cpu"), np.load(blobs)[:6, ..., np.newaxis]
    drawn = {}
    for binarize in ("none", "threshold"):
        target = picture_output(str(tmp_path / f"{binarize}.npy"), flag="heatmap")
        read = PictureInputs(images, [f"{row}.png" for row in range(6)])
        scores = score(model.pair, images, by="excess", binarize=binarize)
        write(model.pair, read, scores, None, table=None, drawings={"heatmap": target}, top=None)
        drawn[binarize] = np.load(tmp_path / f"{binarize}.npy")[np.argsort(scores.order)]
    (expected,) = heatmaps(model.pair, [images], binarize="threshold")
    np.testing.assert_array_equal(drawn["threshold"], expected)
    assert not np.array_equal(drawn["none"], drawn["threshold"])
