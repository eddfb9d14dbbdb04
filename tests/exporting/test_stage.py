"""`vaecli.export` from Python: its result, which weights it takes, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import vaecli
from vaecli.errors import UsageError, VaeError
from vaecli.inference import header
from vaecli.run_folder import RunFolder
from vaecli.training import checkpoint
from vaecli.training.checkpoint import load_weights


@pytest.fixture
def two_epochs(run: Path) -> RunFolder:
    """A run whose best weights are of another epoch than its last ones."""
    folder = RunFolder(run)
    checkpoint.save(folder.best, replace(load_weights(folder.best), epoch=2))
    return folder


def test_the_result_says_what_was_written(two_epochs: RunFolder) -> None:
    for file in (two_epochs.encoder, two_epochs.decoder):
        file.unlink()
    result = vaecli.export(two_epochs.path)
    assert (result.encoder, result.decoder) == (two_epochs.encoder, two_epochs.decoder)
    assert (result.opset, result.epoch) == (20, 2)
    assert result.max_abs_difference.keys() == {"mean", "std", "image", "logits"}
    assert all(0 <= difference < 1e-4 for difference in result.max_abs_difference.values())
    model = vaecli.load(two_epochs.path)
    assert model.sample(2, seed=1).shape == (2, 8, 8)


def test_the_last_weights_are_those_of_the_checkpoint(two_epochs: RunFolder) -> None:
    assert vaecli.export(two_epochs.path, weights="last").epoch == 3
    assert header.read(two_epochs.encoder).metadata.training.epoch == 3


def test_other_weights_are_refused(run: Path) -> None:
    with pytest.raises(UsageError, match="`weights` first: expected best or last"):
        vaecli.export(run, weights="first")  # type: ignore[arg-type]  # not one of the literals


@pytest.mark.parametrize(("gone", "words"), [("config.json", "there is no training in"), ("best.pt", "no such file")])
def test_a_file_of_the_training_that_is_missing_is_named(run: Path, gone: str, words: str) -> None:
    (run / gone).unlink()
    with pytest.raises(VaeError, match=words) as refusal:
        vaecli.export(run)
    assert str(run / gone) in refusal.value.message
