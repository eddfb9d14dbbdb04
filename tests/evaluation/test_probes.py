"""Probes: classes found where latents tell them, and not where they do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vaecli import export, load, train
from vaecli.evaluation.probes import probe


def test_two_blobs_are_told_apart_by_both() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 400) + 3
    latents = generator.standard_normal((400, 3)) + 10 * labels[:, np.newaxis]
    found = probe(latents[:300], labels[:300], latents[300:], labels[300:])
    assert (found.linear, found.neighbours, found.classes, found.fitted_to) == (1, 1, 2, 300)
    assert 0.4 < found.largest_class < 0.6


def test_a_ring_is_found_by_neighbours_alone() -> None:
    generator = np.random.default_rng(0)
    latents = generator.uniform(-1, 1, (2000, 2))
    labels = (np.square(latents).sum(axis=1) < 0.4).astype(np.int64)
    found = probe(latents[:1500], labels[:1500], latents[1500:], labels[1500:])
    assert found.neighbours > 0.95
    assert found.linear < found.largest_class + 0.02


def test_latents_without_the_class_reach_chance() -> None:
    generator = np.random.default_rng(0)
    latents, labels = generator.standard_normal((3000, 4)), np.arange(3000) % 10
    found = probe(latents[:2000], labels[:2000], latents[2000:], labels[2000:])
    assert found.linear == pytest.approx(0.1, abs=0.04)
    assert found.neighbours == pytest.approx(0.1, abs=0.04)


def test_collinear_latents_and_a_class_of_one_picture_are_no_error() -> None:
    latents = np.repeat(np.arange(6.0)[:, np.newaxis], 3, axis=1)
    found = probe(latents, np.array([0, 0, 0, 1, 1, 2]), latents, np.array([0, 0, 0, 1, 1, 2]))
    assert 0 <= found.linear <= 1
    assert probe(np.zeros((4, 2)), np.array([0, 0, 1, 1]), np.zeros((1, 2)), np.array([0])).largest_class == 1


def test_an_evaluation_has_them_where_classes_are_known(tmp_path: Path, trained: Path) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 200)
    images = np.where(np.arange(64).reshape(8, 8) < 32, labels[:, np.newaxis, np.newaxis], 1 - labels[:, None, None])
    np.savez(tmp_path / "halves.npz", x=images.astype(np.uint8) * 200, y=labels)
    training = {"epochs": 30, "seed": 1, "device": "cpu", "precision": "float32"}
    train({"data": {"source": str(tmp_path / "halves.npz")}, "training": training}, tmp_path / "run")
    export(tmp_path / "run")
    model = load(tmp_path / "run", "cpu")
    probes = model.evaluate().probes
    assert probes is not None
    assert (probes.neighbours, probes.classes, probes.fitted_to) == (1, 2, 180)
    assert model.evaluate(split="train").probes is None
    assert load(trained, "cpu").evaluate().probes is None


def test_a_tie_of_neighbours_goes_to_the_nearer_ones() -> None:
    latents = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]])
    for labels, expected in (([7, 7, 3, 3, 5], 7), ([3, 3, 7, 7, 5], 3), ([5, 7, 7, 3, 3], 7)):
        assert probe(latents, np.array(labels), np.zeros((1, 1)), np.array([expected])).neighbours == 1
