"""What a stage reports while it works."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest

import vaecli
from vaecli.errors import VaeWarning
from vaecli.events import EpochMetrics, Event, Losses, Note, Progress, TrainingDone, counted, ignore, warn

LOSSES = Losses(loss=3, reconstruction=2, kl=1)


def test_counted_hands_on_the_chunks_and_says_how_far_it_is() -> None:
    events: list[Event] = []
    chunks = counted([[1, 2], [3]], events.append, "reading", 3, "pictures")
    assert list(chunks) == [[1, 2], [3]]
    assert events == [Progress("reading", done, 3, "pictures") for done in (0, 2, 3)]


def test_a_chunk_counts_once_it_has_been_used() -> None:
    events: list[Event] = []
    chunks = counted([[1, 2], [3]], events.append, "reading", None, "pictures")
    next(chunks)
    assert events == [Progress("reading", 0, None, "pictures")]
    next(chunks)
    assert events[-1] == Progress("reading", 2, None, "pictures")


def test_counted_takes_no_more_chunks_than_are_asked_for() -> None:
    chunks = iter([[1], [2], [3]])
    next(counted(chunks, ignore, "reading", 3, "pictures"))
    assert list(chunks) == [[2], [3]]


def test_losses_are_finite_where_all_three_are() -> None:
    assert LOSSES.finite
    for bad in (math.nan, math.inf, -math.inf):
        for term in ("loss", "reconstruction", "kl"):
            assert not msgspec.structs.replace(LOSSES, **{term: bad}).finite


def test_an_epoch_as_json() -> None:
    """The keys that scripts read from metrics.jsonl and from the output of `vae train` in JSON."""
    epoch = EpochMetrics(
        epoch=1,
        seconds=2.5,
        images_per_second=100,
        threads=2,
        learning_rate=0.125,
        beta=0.5,
        train=LOSSES,
        held_out=LOSSES,
        objective=3.5,
        active_units=3,
        bits_per_dimension=4.5,
    )
    losses = {"loss": 3, "reconstruction": 2, "kl": 1}
    assert json.loads(msgspec.json.encode(epoch)) == {
        "event": "epoch",
        "epoch": 1,
        "seconds": 2.5,
        "images_per_second": 100,
        "threads": 2,
        "learning_rate": 0.125,
        "beta": 0.5,
        "train": losses,
        "objective": 3.5,
        "held_out": losses,
        "active_units": 3,
        "bits_per_dimension": 4.5,
    }


def test_the_end_of_a_training_as_json() -> None:
    done = TrainingDone(
        run="runs/a",
        epochs=3,
        best_epoch=2,
        best_loss=1.5,
        chosen_by="held-out",
        seconds=9,
        device="cpu",
        precision="float32",
        seed=7,
    )
    assert json.loads(msgspec.json.encode(done)) == {
        "event": "done",
        "run": "runs/a",
        "epochs": 3,
        "best_epoch": 2,
        "best_loss": 1.5,
        "chosen_by": "held-out",
        "seconds": 9,
        "device": "cpu",
        "precision": "float32",
        "seed": 7,
    }


def test_lines_of_json_are_told_apart_by_their_event() -> None:
    epoch = EpochMetrics(epoch=1, seconds=1, images_per_second=1, train=LOSSES, held_out=LOSSES, active_units=3)
    line = msgspec.json.encode(epoch)
    assert msgspec.json.decode(line, type=EpochMetrics | TrainingDone) == epoch
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(line, type=TrainingDone)


def test_an_epoch_without_bits_per_dimension_can_be_read() -> None:
    """As one written by an older version."""
    line = (
        b'{"event":"epoch","epoch":1,"seconds":1,"images_per_second":1,"active_units":0,'
        b'"train":{"loss":1,"reconstruction":1,"kl":0},"held_out":{"loss":1,"reconstruction":1,"kl":0}}'
    )
    assert msgspec.json.decode(line, type=EpochMetrics).bits_per_dimension is None


def test_without_a_callback_a_warning_is_one_of_python() -> None:
    with pytest.warns(VaeWarning, match="careful"):
        warn(Note("careful", warning=True))
    with warnings.catch_warnings(action="error"):
        warn(Note("nothing to worry about"))


def test_a_training_without_a_callback_warns(tmp_path: Path) -> None:
    np.save(tmp_path / "dark.npy", np.random.default_rng(0).integers(0, 10, (40, 8, 8), np.uint8))
    settings = {"data": {"source": str(tmp_path / "dark.npy")}, "model": {"hidden": 4}, "training": {"epochs": 1}}
    with pytest.warns(VaeWarning, match="they are nearly black"):
        vaecli.train(settings, tmp_path / "run")
