"""What the page shows of a model."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny_model import make_conditional, two_gaussians, write_flow, write_pair, write_prior
from vaecli import UsageError, load
from vaecli.config import RUN
from vaecli.events import ignore
from vaecli.explore.contents import POINTS, gather


def test_points_are_held_out_pictures(digits: Path) -> None:
    """Their latents are those of `encode`, their pictures those of the data, their classes the digits."""
    model = load(digits, "cpu")
    contents = gather(model.pair, None, None, RUN, ignore)
    points = contents.facts.points
    assert points.count == POINTS
    assert points.classes == [str(digit) for digit in range(10)]
    pictures = model.read("mnist-5k").images
    np.testing.assert_allclose(contents.latents, model.encode(pictures)[0], atol=1e-5)
    with Image.open(io.BytesIO(contents.sheet)) as sheet:
        first = np.asarray(sheet.convert("L"))[:28, 28:56]
    assert np.abs(first.astype(float) - pictures[1, ..., 0]).mean() < 8
    assert contents.facts.paper == "#000000"


def test_without_pictures_the_plane_is_that_of_the_prior(tmp_path: Path) -> None:
    """The two Gaussians of this prior are apart along the diagonal."""
    write_prior(write_pair(tmp_path / "run", latent_dim=3), two_gaussians(3))
    contents = gather(load(tmp_path / "run", "cpu").pair, None, None, RUN, ignore)
    assert contents.facts.points.count == len(contents.latents) == 0
    np.testing.assert_allclose(contents.facts.axes[0], [3**-0.5] * 3, atol=0.1)


@pytest.mark.parametrize("classes", [(), ("left", "right")])
def test_a_flow_and_the_classes_that_it_knows(classes: tuple[str, ...], tmp_path: Path) -> None:
    run = write_pair(tmp_path / "run")
    assert gather(load(run, "cpu").pair, None, None, RUN, ignore).facts.has_flow is False
    write_flow(run, classes=classes)
    facts = gather(load(run, "cpu").pair, None, None, RUN, ignore).facts
    assert (facts.has_flow, tuple(facts.classes)) == (True, classes)
    assert facts.flow_shares == ([0.25, 0.75] if classes else [])
    assert facts.facts[-2:] == ["prior: N(0, I)", "samples: drawn by a flow"]


def test_data_without_an_encoder(tmp_path: Path) -> None:
    run = write_pair(tmp_path / "run")
    (run / "encoder.onnx").unlink()
    assert gather(load(run, "cpu").pair, None, None, RUN, ignore).facts.has_encoder is False
    with pytest.raises(UsageError, match="no encoder"):
        gather(load(run, "cpu").pair, "mnist-5k", None, RUN, ignore)


@pytest.mark.parametrize("known", [True, False])
def test_pictures_are_encoded_with_their_classes(known: bool, tmp_path: Path) -> None:
    """Where they have none, with the first of the model's."""
    make_conditional(write_pair(tmp_path / "run"), ("1", "2"))
    model = load(tmp_path / "run", "cpu")
    images = np.random.default_rng(0).integers(0, 255, (30, 8, 8), np.uint8)
    labels = [1 + row % 2 for row in range(30)]
    labelled = {"y_train": np.array(labels), "y_test": np.array(labels)} if known else {}
    np.savez(tmp_path / "x.npz", allow_pickle=False, x_train=images, x_test=images, **labelled)
    contents = gather(model.pair, str(tmp_path / "x.npz"), None, RUN, ignore)
    expected = model.encode(images, labels=labels)[0] if known else model.given("1").encode(images)[0]
    np.testing.assert_allclose(contents.latents, expected, rtol=1e-5)


def test_without_pictures_a_conditional_model_shows_its_first_class(tmp_path: Path) -> None:
    make_conditional(write_pair(tmp_path / "run"), ("1", "2"))
    assert gather(load(tmp_path / "run", "cpu").pair, None, None, RUN, ignore).facts.conditional
