"""Which pictures a model is measured on, named or not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaecli.datasets import builtin
from vaecli.errors import VaeError
from vaecli.evaluation.data import EvaluationData, held_out
from vaecli.events import ignore
from vaecli.model import load


def look(run: Path, source: str | Path | None = None, most: int = 1000) -> EvaluationData | None:
    return held_out(load(run, device="cpu").pair, None if source is None else str(source), None, most, ignore)


def images(found: EvaluationData | None) -> Any:
    assert found is not None
    return np.concatenate(list(found.batches(5)))


def test_the_data_of_the_training(trained: Path, blobs: Path) -> None:
    found = look(trained)
    assert images(found).shape == (12, 8, 8, 1)
    assert found is not None
    assert found.pictures.classes is None
    assert str(found) == f"12 held-out pictures of {blobs.name}"
    kept = {image.tobytes() for image in images(found)}
    assert kept < {image.tobytes() for image in np.load(blobs)}


def test_the_data_of_the_training_by_name(trained: Path, blobs: Path) -> None:
    assert np.array_equal(images(look(trained, blobs)), images(look(trained)))


def test_a_pair_away_from_its_run_folder_has_no_data(trained: Path, tmp_path: Path) -> None:
    for half in ("encoder.onnx", "decoder.onnx"):
        shutil.copy(trained / half, tmp_path)
    assert look(tmp_path) is None


def test_data_that_are_gone_are_no_error_unless_named(run: Path) -> None:
    record = (run / "config.json").read_text()
    (run / "config.json").write_text(record.replace("blobs.npy", "gone.npy"))
    assert look(run) is None
    with pytest.raises(VaeError, match=r"gone\.npy"):
        look(run, "gone.npy")


def test_digits_where_they_fit(digits: Path) -> None:
    found = look(digits)
    assert found is not None
    assert found.name == "mnist-5k"
    assert np.array_equal(images(found), builtin.digits()[1])
    known = found.pictures.classes
    assert known is not None
    assert np.array_equal(known.labels, np.repeat(np.arange(10), 50))


def test_a_few_are_spread_over_all(digits: Path) -> None:
    found = look(digits, most=20)
    assert found is not None
    known = found.pictures.classes
    assert known is not None
    assert np.array_equal(known.labels, np.repeat(np.arange(10), 2))


def test_pictures_that_are_named_are_fitted(colour: Path) -> None:
    found = look(colour, "mnist-5k", most=7)
    assert images(found).shape == (7, 10, 12, 3)


def test_without_an_encoder_there_is_nothing_to_measure_with(digits: Path, tmp_path: Path) -> None:
    shutil.copy(digits / "decoder.onnx", tmp_path)
    assert look(tmp_path) is None
