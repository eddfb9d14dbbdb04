"""An evaluation from Python. The numbers themselves: test_bounds.py; through the command line: commands/."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vaecli import load
from vaecli.config import Binarize
from vaecli.errors import UsageError, VaeError
from vaecli.events import Event, Note, Progress


def test_of_its_own_held_out_pictures(trained: Path) -> None:
    result = load(trained, "cpu").evaluate(importance_samples=5)
    assert (result.data, result.split, result.trained_on, result.n) == ("blobs.npy", "held-out", True, 12)
    assert result.negative_elbo.nats == pytest.approx(result.reconstruction.nats + result.kl.nats)
    assert result.bound.nats < result.negative_elbo.nats
    assert result.kl_per_dimension.sum() == pytest.approx(load(trained).evaluate(prior="normal").kl.nats)
    assert "kl_per_dimension" not in repr(result)


@pytest.mark.parametrize("binarize", ["none", "threshold"])
def test_the_error_of_reconstructions(trained: Path, binarize: Binarize) -> None:
    model = load(trained)
    pictures = np.random.default_rng(1).integers(0, 256, (300, *model.image_shape[1:]), np.uint8)  # two batches
    found = model.evaluate(pictures, importance_samples=1, binarize=binarize)
    x = (pictures >= 128) if binarize == "threshold" else pictures / 255
    expected = np.mean((model.reconstruct(x.astype(np.float64)) - x) ** 2, dtype=np.float64)
    assert found.mean_squared_error == pytest.approx(expected, rel=1e-5)
    assert found.psnr == pytest.approx(-10 * np.log10(expected), rel=1e-5)
    assert replace(found, mean_squared_error=0.0).psnr is None


def test_without_a_seed_it_is_deterministic(trained: Path) -> None:
    model = load(trained, "cpu")
    assert model.evaluate().bound == model.evaluate().bound
    assert model.evaluate().bound != model.evaluate(seed=1).bound


def test_arrays_and_names_and_paths(trained: Path, blobs: Path) -> None:
    model = load(trained, "cpu")
    images = np.load(blobs)
    whole = model.evaluate(images)
    assert (whole.data, whole.n, whole.trained_on) == ("array", 120, None)
    assert whole.bound.nats == pytest.approx(model.evaluate(split="all").bound.nats, rel=1e-6)
    assert whole.bound.nats == pytest.approx(model.evaluate(images / 255).bound.nats, rel=1e-6)
    assert model.evaluate(str(blobs), split="train", n=7).n == 7


def test_events_tell_what_is_measured_and_how_far_it_is(trained: Path) -> None:
    events: list[Event] = []
    load(trained, "cpu").evaluate(split="all", on_event=events.append)
    assert Note("data: 120 pictures of blobs.npy") in events
    progress = [event for event in events if isinstance(event, Progress)]
    assert (progress[0].done, progress[-1].done, progress[-1].total) == (0, 120, 120)


def test_what_cannot_be_measured_is_refused(trained: Path, grey: Path) -> None:
    with pytest.raises(UsageError, match="`importance_samples` 0"):
        load(trained, "cpu").evaluate(importance_samples=0)
    with pytest.raises(UsageError, match="`seed`"):
        load(trained, "cpu").evaluate(seed=-1)
    with pytest.raises(UsageError, match="shape"):
        load(trained, "cpu").evaluate(np.zeros((3, 9, 9), np.uint8))
    with pytest.raises(VaeError, match="cannot locate"):
        load(grey, "cpu").evaluate()


def test_the_losses_are_of_the_models_prior(trained: Path) -> None:
    model = load(trained)
    own, normal = model.evaluate(), model.evaluate(prior="normal")
    assert (own.prior, normal.prior) == ("mixture", "normal")
    assert model.pair.prior_summary is not None
    gain = normal.negative_elbo.nats - own.negative_elbo.nats
    assert gain == pytest.approx(normal.kl.nats - own.kl.nats)
    assert gain == pytest.approx(model.pair.prior_summary.gain, abs=0.15)  # of 12 pictures, with other latents
    assert own.reconstruction == normal.reconstruction
    assert own.negative_elbo_normal == normal.negative_elbo
    assert normal.negative_elbo_normal is None
    np.testing.assert_array_equal(own.kl_per_dimension, normal.kl_per_dimension)
