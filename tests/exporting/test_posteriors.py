"""The posteriors of training pictures: which pictures are encoded, and what is drawn from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exporting.clusters import clusters, of_classes
from tests.tiny_model import write_pair
from vaecli import datasets, load
from vaecli.datasets import classes
from vaecli.datasets.dataset import ImageSet
from vaecli.exporting import posteriors
from vaecli.exporting.posteriors import DRAWS_PER_PICTURE, Encoding, Posteriors, encode
from vaecli.inference.pair import open_pair
from vaecli.run_folder import RunFolder


def test_pictures_spread_evenly_are_encoded_as_the_model_encodes_them(tmp_path: Path) -> None:
    folder = write_pair(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
    images = ImageSet(pixels, classes=classes.of_numbers(np.arange(40) % 4))
    found = encode(open_pair(folder, "cpu"), images, most=20)
    assert len(found) == 20
    mean, std = load(folder, "cpu").encode(pixels[::2])
    np.testing.assert_allclose(found.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(found.std, std, rtol=1e-5)
    assert found.classes is not None
    np.testing.assert_array_equal(found.classes.labels, np.arange(0, 40, 2) % 4)


def test_pixels_are_binarised_as_in_the_training(tmp_path: Path) -> None:
    pair = open_pair(write_pair(tmp_path), "cpu")
    grey = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
    black_or_white = np.where(grey >= 127.5, 255, 0).astype(np.uint8)
    found = encode(pair, ImageSet(grey), 40, "threshold")
    np.testing.assert_array_equal(found.mean, encode(pair, ImageSet(black_or_white), 40).mean)
    drawn, other = (encode(pair, ImageSet(grey), 40, "dynamic", seed).mean for seed in (1, 2))
    assert not np.array_equal(drawn, other)


def test_some_are_drawn_at_random_and_keep_their_order_and_classes() -> None:
    pictures = of_classes(clusters(100), np.arange(100) % 7)
    assert pictures.some(100, np.random.default_rng(0)) is pictures
    found = pictures.some(30, np.random.default_rng(0))
    (rows,) = np.nonzero((pictures.mean[:, np.newaxis] == found.mean).all(axis=2).any(axis=1))
    assert len(found) == len(rows) == 30
    np.testing.assert_array_equal(found.mean, pictures.mean[rows])
    assert found.classes is not None
    np.testing.assert_array_equal(found.classes.labels, rows % 7)


def test_draws_have_the_mean_and_the_width_of_each_posterior() -> None:
    pictures = Posteriors(np.repeat([[1.0, -2.0]], 5000, axis=0), np.repeat([[0.1, 3.0]], 5000, axis=0))
    latents = pictures.draws(np.random.default_rng(0))
    assert latents.shape == (5000, DRAWS_PER_PICTURE, 2)
    assert latents.mean(axis=(0, 1)) == pytest.approx([1, -2], abs=0.1)
    assert latents.std(axis=(0, 1)) == pytest.approx([0.1, 3], rel=0.05)


def test_what_several_priors_are_fitted_to_is_encoded_once(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 108 training and 12 held-out pictures. Another number of them are others."""
    asked = list[int]()

    def counted(*arguments: Any) -> Posteriors:
        asked.append(len(found := encode(*arguments)))
        return found

    monkeypatch.setattr(posteriors, "encode", counted)
    encoding = Encoding(open_pair(trained, "cpu"), datasets.load(RunFolder(trained).read_record().config.data))
    assert encoding.of("train", 1000) is encoding.of("train", 200)
    assert len(encoding.of("held_out", 10)) == 10
    assert len(encoding.of("held_out", 1000)) == 12
    assert asked == [108, 10, 12]
