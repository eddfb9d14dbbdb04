"""The columns that each task computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tiny_model import add_reference, write_pair
from vaecli import load
from vaecli.errors import UsageError
from vaecli.jobs.tasks import DOING, Decode, Encode, Reconstruct, Score, Task


@pytest.mark.parametrize(
    ("task", "columns"),
    [
        (Encode(), ["mean"]),
        (Encode(std=True), ["mean", "std"]),
        (Encode(seed=0), ["latent"]),
        (Encode(std=True, seed=0), ["latent", "mean", "std"]),
        (Score(), ["local", "excess", "negative_elbo", "reconstruction", "kl"]),
        (Score(importance_samples=2), ["local", "excess", "negative_elbo", "reconstruction", "kl", "bound"]),
        (Reconstruct(), ["image"]),
        (Decode(), ["image"]),
    ],
    ids=str,
)
def test_what_is_computed_has_the_columns(task: Task, columns: list[str], grey: Path) -> None:
    model = load(grey, "cpu")
    rows = np.zeros((3, 2), np.float32) if isinstance(task, Decode) else np.zeros((3, 8, 8, 1), np.uint8)
    assert list(task.columns(model.pair)) == list(task.start(model.pair, 2)(rows, None)) == columns
    assert type(task) in DOING


def test_scores_of_a_model_with_a_reference_have_strangeness(tmp_path: Path) -> None:
    folder = write_pair(tmp_path / "model")
    add_reference(folder, np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), np.uint8))
    model = load(folder, "cpu")
    assert list(Score().columns(model.pair))[:2] == ["strangeness", "tail"]
    assert "tail" not in Score(binarize="threshold").columns(model.pair)
    with pytest.raises(UsageError, match="importance_samples"):
        Score(importance_samples=0).start(model.pair, 2)
