"""Scores from Python: the order, its independence of other pictures, and the bound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vaecli import load
from vaecli.errors import UsageError


def test_white_pictures_are_stranger_than_what_was_trained_on(trained: Path, blobs: Path) -> None:
    images = np.load(blobs)[:20]
    white = np.full((2, 8, 8), 255, np.uint8)
    scores = load(trained, "cpu").score(np.concatenate([images, white]))
    assert set(scores.order[:2].tolist()) == {20, 21}
    nats = scores.columns["excess"][scores.order]
    assert (np.diff(nats) <= 0).all()
    assert scores.sorted_by == "excess"
    assert set(scores.of(3)) == {"local", "excess", "negative_elbo", "reconstruction", "kl"}
    assert scores.of(3)["negative_elbo"] == pytest.approx(scores.of(3)["reconstruction"] + scores.of(3)["kl"])


def test_a_score_depends_on_the_picture_alone(trained: Path, blobs: Path) -> None:
    model, images = load(trained, "cpu"), np.load(blobs)[:30]
    order = np.random.default_rng(0).permutation(30)
    there = model.score(images, importance_samples=3)
    shuffled = model.score(images[order], importance_samples=3)
    np.testing.assert_allclose(shuffled.columns["bound"], there.columns["bound"][order], atol=1e-4)
    assert shuffled.sorted_by == "bound"
    alone = model.score(images[4:5], importance_samples=3)
    assert alone.columns["bound"][0] == pytest.approx(there.columns["bound"][4], abs=1e-4)


def test_the_repr_holds_no_arrays(trained: Path, blobs: Path) -> None:
    scores = load(trained, "cpu").score(np.load(blobs)[:3])
    assert len(scores) == 3
    assert "array" not in repr(scores)


def test_what_cannot_be_scored_is_refused(trained: Path) -> None:
    model = load(trained, "cpu")
    with pytest.raises(UsageError, match="`importance_samples` 0"):
        model.score(np.zeros((1, 8, 8), np.uint8), importance_samples=0)
    with pytest.raises(UsageError, match="shape"):
        model.score(np.zeros((1, 9, 8), np.uint8))
