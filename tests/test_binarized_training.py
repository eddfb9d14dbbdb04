"""A model that was trained on pixels made 0 or 1 is measured on such pixels, whichever command measures it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import Result, vae
from tests.conftest import TINY
from tests.test_conditional import stripes
from vaecli import load
from vaecli.config import DataConfig
from vaecli.datasets import load as load_data
from vaecli.evaluation.probes import probe


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("binarized")
    images, labels = stripes(300)
    np.savez(folder / "stripes.npz", x=images, y=labels)
    settings = ("--data", folder / "stripes.npz", "--binarize", "threshold", "--epochs", "8", "--seed", "1")
    trained = vae("train", *settings, "--run", folder / "run", *TINY, "--likelihood", "bernoulli")
    assert vae("export", "--run", folder / "run", "--prior", "normal").code == 0
    return folder / "run", trained


def binary(run: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The pictures of a split, made 0 or 1 at 0.5, and their classes."""
    data = load_data(DataConfig(source=str(run.parent / "stripes.npz")))
    images = data.held_out if split == "held-out" else data.train
    assert images.classes is not None
    return np.rint(images.whole() / 255), images.classes.labels


def test_the_variance_that_is_explained(training: tuple[Path, Result]) -> None:
    run, trained = training
    pictures, _ = binary(run, "held-out")
    made = load(run, "cpu").reconstruct(pictures)[..., np.newaxis]
    expected = 1 - np.square(pictures - made).sum() / np.square(pictures - pictures.mean(axis=0)).sum()
    found = re.search(r"reconstructions explain (\d+)%", trained.err)
    assert found is not None
    assert int(found[1]) == pytest.approx(100 * expected, abs=1)


def test_the_kl_of_each_dimension(training: tuple[Path, Result], tmp_path: Path) -> None:
    run, _ = training
    evaluated = vae("evaluate", "--run", run, "--json", "-q").json["kl_per_dimension"]
    drawn = vae("plot", "kl", "--run", run, "-o", tmp_path / "kl.png", "--json", "-q").json
    assert sum(drawn["kl_per_dimension"]) == pytest.approx(sum(evaluated), rel=1e-5)
    walked = load(run, "cpu").traverse(seed=1, steps=2)
    assert walked.values == pytest.approx(sorted(evaluated, reverse=True), rel=1e-5)


def test_the_probes(training: tuple[Path, Result]) -> None:
    run, _ = training
    model = load(run, "cpu")
    (known, labels), (tried, expected) = binary(run, "train"), binary(run, "held-out")
    by_hand = probe(model.encode(known)[0], labels, model.encode(tried)[0], expected)
    assert model.evaluate().probes == by_hand
