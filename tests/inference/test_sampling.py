"""Samples: what they are drawn from, and what a flow draws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.command_line import assert_refused, vae
from tests.tiny_model import (
    FLOW_SCALE,
    FLOW_SHIFT,
    edit,
    make_conditional,
    two_gaussians,
    write_flow,
    write_pair,
    write_prior,
)
from vaecli import UsageError, VaeError, load, noise
from vaecli.inference.pair import Pair
from vaecli.inference.sampling import drawn_from, draws

CLASSES = ("cat", "dog")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A pair with a flow and no mixture."""
    folder = write_pair(tmp_path / "run")
    write_flow(folder)
    return folder


@pytest.fixture
def knows_classes(tmp_path: Path) -> Path:
    """A pair with a mixture and a flow that know two classes, of 0.25 and 0.75 of the pictures."""
    folder = write_pair(tmp_path / "classes")
    write_prior(folder, two_gaussians(class_sizes=(1, 1)), classes=CLASSES)
    write_flow(folder, classes=CLASSES)
    return folder


def expected(start: np.ndarray) -> np.ndarray:
    """Where the flow of `tiny_model` leads."""
    return FLOW_SCALE * np.e * start + FLOW_SHIFT


def drawn(pair: Pair, seed: int, first: int, count: int) -> np.ndarray:
    """The latents alone."""
    return draws(pair, seed)(first, count)[0]


def test_samples_come_from_the_flow(run: Path) -> None:
    model = load(run, "cpu")
    latents = drawn(model.pair, 3, 0, 5)
    np.testing.assert_allclose(latents, expected(noise.prior(3, 0, 5, 2)), atol=0.02)
    np.testing.assert_allclose(model.sample(5, seed=3), model.decode(latents), atol=1e-6)
    assert not np.allclose(model.sample(5, seed=3), model.sample(5, seed=3, prior="normal"), atol=1e-3)


def test_a_latent_is_the_same_in_any_batch(run: Path) -> None:
    pair = load(run, "cpu").pair
    np.testing.assert_array_equal(drawn(pair, 3, 4, 1), drawn(pair, 3, 0, 40)[4:5])


def test_temperature_scales_the_noise_that_it_starts_from(run: Path) -> None:
    pair = load(run, "cpu").pair
    latents, _ = draws(pair, 3, temperature=0.0)(0, 4)
    np.testing.assert_allclose(latents, FLOW_SHIFT, atol=1e-6)


def test_a_class_is_drawn_by_its_share_or_by_name(knows_classes: Path) -> None:
    """The latents of the two classes lie FLOW_SHIFT apart."""
    pair = load(knows_classes, "cpu").pair
    any_class, _ = draws(pair, 1, temperature=0.0)(0, 1000)
    assert np.unique(any_class).tolist() == [FLOW_SHIFT, 2 * FLOW_SHIFT]
    assert (any_class[:, 0] == FLOW_SHIFT).mean() == pytest.approx(0.25, abs=0.05)
    for number, name in enumerate(CLASSES):
        of_class, labels = draws(pair, 1, temperature=0.0, label=name)(0, 20)
        assert (of_class == FLOW_SHIFT * (1 + number)).all()
        assert labels is None  # the decoder needs none
    with pytest.raises(UsageError, match="bird"):
        draws(pair, 1, label="bird")


def test_a_flow_may_know_classes_that_the_mixture_does_not(tmp_path: Path) -> None:
    """As of latents with too many numbers for a component of each class."""
    folder = write_pair(tmp_path / "run")
    write_prior(folder, two_gaussians())
    write_flow(folder, classes=CLASSES)
    pair = load(folder, "cpu").pair
    assert pair.classes == CLASSES
    np.testing.assert_array_equal(pair.class_shares, [0.25, 0.75])
    of_class, _ = draws(pair, 1, temperature=0.0, label="dog")(0, 5)
    assert (of_class == 2 * FLOW_SHIFT).all()
    for refused in (lambda: draws(pair, 1, prior="mixture", label="dog"), lambda: pair.class_mean("dog")):
        with pytest.raises(UsageError, match="only the flow knows classes"):
            refused()


@pytest.mark.parametrize(
    "wrong",
    [
        {"class_shares": [1.0]},
        {"class_shares": [0.5, -0.5]},
        {"class_shares": [0.0, 0.0]},
        {"classes": [], "class_shares": [1.0]},
        {"classes": ["a", "a"]},
        {"classes": [str(number) for number in range(1001)], "class_shares": [0.5] * 1001},
        {"steps": 0},
        {"pictures": -1},
        {"loss": -1.0},
    ],
    ids=str,
)
def test_metadata_that_no_export_writes_is_refused(knows_classes: Path, wrong: dict[str, object]) -> None:
    def change(model: onnx.ModelProto) -> None:
        known = json.loads(model.metadata_props[0].value)
        change_metadata(model, flow={**known["flow"], **wrong})

    edit(knows_classes / "flow.onnx", change)
    with pytest.raises(VaeError, match=r"flow\.onnx: its metadata is damaged"):
        load(knows_classes)


def test_the_decoder_of_a_conditional_model_gets_the_class_that_was_drawn(tmp_path: Path) -> None:
    folder = write_pair(tmp_path / "run")
    make_conditional(folder, CLASSES)
    write_flow(folder, classes=CLASSES)
    model = load(folder, "cpu")
    latents, labels = draws(model.pair, 1, temperature=0.0)(0, 50)
    assert labels is not None
    np.testing.assert_array_equal(latents[:, 0], FLOW_SHIFT * (1 + labels))
    np.testing.assert_allclose(
        model.sample(50, seed=1, temperature=0.0), model.decode(latents, labels=labels), atol=1e-6
    )
    given = model.given("dog")
    np.testing.assert_allclose(given.sample(3, seed=1), model.sample(3, seed=1, label="dog"), atol=1e-6)
    with pytest.raises(UsageError, match="takes all for dog"):
        given.sample(3, label="cat")


def test_other_priors_are_there_to_choose(knows_classes: Path, run: Path) -> None:
    pair = load(knows_classes, "cpu").pair
    assert drawn_from(pair, "model") == "flow"
    assert [drawn_from(pair, prior) for prior in ("mixture", "normal")] == ["mixture", "normal"]
    assert drawn_from(pair, "model", like=True) == "mixture"
    found, mixture = draws(pair, 1, prior="mixture")(0, 3)[0], pair.prior
    assert mixture is not None
    np.testing.assert_array_equal(found, mixture.latents(noise.prior(1, 0, 3, 2), noise.choices(1, 0, 3)))
    with pytest.raises(UsageError, match="`prior` mixture: the prior of"):
        load(run, "cpu").sample(1, prior="mixture")


def test_a_flow_of_other_classes_is_refused(knows_classes: Path) -> None:
    write_flow(knows_classes, classes=("cat", "bird"))
    with pytest.raises(VaeError, match=r"flow\.onnx: its classes are not those of the model"):
        load(knows_classes)


def test_a_flow_may_be_the_only_prior_there_is(tmp_path: Path) -> None:
    """Of a model that was trained with a VampPrior, whose file was not copied. Nothing else then is known of it."""
    folder = write_pair(tmp_path / "run")
    write_flow(folder, classes=CLASSES)
    for path in folder.glob("*.onnx"):
        edit(path, lambda model: change_metadata(model, trained_prior="vamp"))
    model = load(folder, "cpu")
    assert model.sample(20, seed=1).shape == (20, 8, 8)
    assert model.sample(2, seed=1, label="dog").shape == (2, 8, 8)
    for prior in ("mixture", "normal"):
        with pytest.raises(VaeError, match="VampPrior"):
            model.sample(1, prior=prior)
    with pytest.raises(VaeError, match=r"prior\.onnx: no such file"):
        model.pair.class_mean("dog")


def test_a_class_that_only_the_flow_knows_has_no_mean(tmp_path: Path) -> None:
    folder = write_pair(tmp_path / "run")
    write_flow(folder, classes=CLASSES)
    with pytest.raises(UsageError, match="only the flow knows classes"):
        load(folder, "cpu").pair.class_mean("dog")


def test_a_conditional_model_draws_classes_for_a_flow_without(tmp_path: Path) -> None:
    folder = write_pair(tmp_path / "run")
    make_conditional(folder, CLASSES)
    write_flow(folder)
    for path in folder.glob("flow.onnx"):
        edit(path, lambda model: change_metadata(model, classes=list(CLASSES)))
    assert load(folder, "cpu").sample(3, seed=1).shape == (3, 8, 8)


def change_metadata(model: onnx.ModelProto, **changes: object) -> None:
    known = json.loads(model.metadata_props[0].value)
    onnx.helper.set_model_props(model, {"vaecli": json.dumps({**known, **changes})})


def test_a_flow_of_another_model_is_refused(run: Path) -> None:
    write_flow(run, seed=1)
    with pytest.raises(VaeError, match="are of different models"):
        load(run)


def test_a_graph_under_its_name_that_is_no_flow_is_refused(run: Path) -> None:
    (run / "flow.onnx").write_bytes((run / "decoder.onnx").read_bytes())
    with pytest.raises(VaeError, match=r"flow\.onnx: is not a flow"):
        load(run).sample(1)


def test_the_command_says_what_it_has_drawn_from(knows_classes: Path, tmp_path: Path) -> None:
    def prior(*flags: str) -> str:
        done = vae("sample", "--run", knows_classes, "--json", "-o", tmp_path / "x.npy", *flags)
        assert done.code == 0, done.err
        return str(done.json["prior"])

    assert prior() == prior("--label", "cat") == "flow"
    assert prior("--prior", "mixture") == "mixture"
    np.save(tmp_path / "alike.npy", np.zeros((2, 8, 8), np.uint8))
    assert prior("--like", str(tmp_path / "alike.npy")) == "mixture"
    assert prior("--prior", "flow") == "flow"
    alike = ("--like", tmp_path / "alike.npy", "-o", tmp_path / "y.npy")
    assert_refused(vae("sample", "--run", knows_classes, "--prior", "flow", *alike), 2, "components of a mixture")


def test_an_evaluation_compares_samples_of_the_flow_and_says_so(knows_classes: Path) -> None:
    """Its bounds have the mixture: a flow has no density that is quick to compute."""
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    model = load(knows_classes, "cpu")
    found = {prior: model.evaluate(images, samples=10, seed=1, prior=prior) for prior in ("model", "mixture")}
    compared = {prior: evaluation.samples for prior, evaluation in found.items()}
    assert {prior: samples and samples.drawn_from for prior, samples in compared.items()} == {
        "model": "flow",
        "mixture": "mixture",
    }
    assert found["model"].bound == found["mixture"].bound
    assert compared["model"] != compared["mixture"]
