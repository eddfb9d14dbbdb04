"""Which pictures a model is looked at with, where and where not they are named."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaecli.datasets import builtin
from vaecli.errors import VaeError
from vaecli.inference.held_out import HeldOut, held_out
from vaecli.inference.model import load


def look(run: Path, source: str | Path | None = None, most: int = 1000) -> HeldOut | None:
    def progress(what: str, total: int | None, unit: str) -> Any:
        return contextlib.nullcontext(lambda _: None)

    return held_out(load(run, device="cpu"), None if source is None else str(source), None, most, progress)


def images(looked_at: HeldOut | None) -> Any:
    assert looked_at is not None
    return np.concatenate(list(looked_at.batches(5)))


def test_the_data_of_the_training(trained: Path, blobs: Path) -> None:
    looked_at = look(trained)
    assert images(looked_at).shape == (12, 8, 8, 1)
    assert looked_at is not None
    assert looked_at.labels is None
    assert str(looked_at) == f"12 held-out pictures of {blobs}"
    kept = {image.tobytes() for image in images(looked_at)}
    assert kept < {image.tobytes() for image in np.load(blobs)}


def test_the_data_of_the_training_by_name(trained: Path, blobs: Path) -> None:
    assert np.array_equal(images(look(trained, blobs)), images(look(trained)))


def test_a_pair_away_from_its_run_folder_has_no_data(trained: Path, tmp_path: Path) -> None:
    for half in ("encoder.onnx", "decoder.onnx"):
        shutil.copy(trained / half, tmp_path)
    assert look(tmp_path) is None


def test_data_that_have_gone_are_not_missed(run: Path) -> None:
    record = (run / "config.json").read_text()
    (run / "config.json").write_text(record.replace("blobs.npy", "gone.npy"))
    assert look(run) is None
    with pytest.raises(VaeError, match=r"gone\.npy"):
        look(run, "gone.npy")


def test_digits_where_they_fit(digits: Path) -> None:
    looked_at = look(digits)
    assert looked_at is not None
    assert looked_at.source == "mnist-5k"
    assert np.array_equal(images(looked_at), builtin.digits()[1])
    assert looked_at.labels is not None
    assert np.array_equal(looked_at.labels, builtin.labels())


def test_a_few_are_spread_over_all(digits: Path) -> None:
    looked_at = look(digits, most=20)
    assert looked_at is not None
    assert looked_at.labels is not None
    assert np.array_equal(looked_at.labels, np.repeat(np.arange(10), 2))


def test_pictures_that_are_named_are_fitted(colour: Path) -> None:
    looked_at = look(colour, "mnist-5k", most=7)
    assert images(looked_at).shape == (7, 10, 12, 3)


def test_without_an_encoder_there_is_nothing_to_look_with(digits: Path, tmp_path: Path) -> None:
    shutil.copy(digits / "decoder.onnx", tmp_path)
    assert look(tmp_path) is None
