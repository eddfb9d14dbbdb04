"""A second opinion on everything between pictures and a bound: a linear Gaussian model, where log p(x) is known.

Trained, exported and evaluated as users do, with a network without activations: probabilistic PCA. Neither closed form
below knows anything of this program.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vaecli
from tests import linear_gaussian
from tests.linear_gaussian import PIXELS, LinearGaussian
from vaecli import datasets
from vaecli.config import DataConfig
from vaecli.model import Model

SCALE = 0.2
NATS = 0.01  # how far a bound may be from log p(x)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .npy of 600 pictures that vary in two directions."""
    columns, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((PIXELS, 2)))
    drawn = linear_gaussian.with_true_posterior(columns * [0.6, 0.45], np.full(PIXELS, 0.5), SCALE)
    path = tmp_path_factory.mktemp("linear") / "pictures.npy"
    np.save(path, drawn.pictures(600, seed=0))
    return path


@pytest.fixture(scope="module")
def model(pictures: Path) -> Model:
    """Trained on them and exported."""
    settings: dict[str, dict[str, Any]] = {
        "data": {"source": str(pictures)},
        "model": {
            "activation": "linear",
            "prior": "normal",
            "depth": 1,
            "hidden": 16,
            "latent_dim": 2,
            "dropout": 0.0,
            "likelihood": "gaussian",
            "scale": SCALE,
            "output_bias": True,
        },
        "training": {
            "epochs": 80,
            "kl_warmup": 20,  # else the second direction is found late or never
            "batch_size": 20,
            "learning_rate": 5e-3,
            "schedule": "cosine",
            "importance_samples": 2,
            "precision": "float32",
            "device": "cpu",
            "previews": 0,
            "seed": 1,
        },
    }
    run = pictures.parent / "run"
    vaecli.train(settings, run)
    vaecli.export(run, weights="last")
    return vaecli.load(run, "cpu")


def decoder_of(model: Model) -> LinearGaussian:
    """What p(x|z) of the exported decoder is, read off at three latents."""
    origin, *ends = model.pair.decoder.run(("location",), np.eye(3, 2, -1, dtype=np.float32))[0].reshape(3, PIXELS)
    b = origin.astype(np.float64)
    w = np.stack(ends, axis=1) - b[:, np.newaxis]
    unknown = np.zeros(0)
    return LinearGaussian(w, b, SCALE, unknown, unknown, unknown)


def test_the_bound_of_a_trained_model_is_its_log_likelihood(model: Model, pictures: Path) -> None:
    held_out = datasets.load(DataConfig(source=str(pictures))).held_out.whole()
    truth = decoder_of(model).negative_log_p(held_out).mean()
    result = model.evaluate(importance_samples=1000, prior="normal")
    assert result.n == len(held_out) == 60
    assert result.bound.nats == pytest.approx(truth, abs=NATS)
    assert result.negative_elbo.nats > truth


def test_training_finds_the_most_likely_model(model: Model, pictures: Path) -> None:
    trained_on = datasets.load(DataConfig(source=str(pictures))).train.whole()
    best = linear_gaussian.most_likely(trained_on, 2, SCALE).negative_log_p(trained_on).mean()
    found = model.evaluate(split="train", importance_samples=100, prior="normal").bound.nats
    assert best - 0.001 < found < best + 2 * NATS
    one_direction = linear_gaussian.most_likely(trained_on, 1, SCALE).negative_log_p(trained_on).mean()
    assert one_direction > best + 0.2, "both directions are needed"
