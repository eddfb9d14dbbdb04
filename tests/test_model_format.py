"""What an exported model says of itself, and the facts about each likelihood."""

from __future__ import annotations

import json
import math
from typing import get_args

import msgspec
import pytest

from vaecli import model_format
from vaecli.model_format import (
    LIKELIHOODS,
    Likelihood,
    Metadata,
    Reference,
    TrainingSummary,
    Versions,
    bits_per_dimension,
)

METADATA = Metadata(
    format=model_format.FORMAT_VERSION,
    pair="0123456789abcdef",
    image_shape=(3, 10, 12),
    latent_dim=20,
    likelihood="logistic",
    data_name="blobs",
    data_hash="fedcba",
    binarize="threshold",
    training=TrainingSummary(
        epoch=2, epochs=3, held_out_loss=1.5, held_out_reconstruction=1.25, held_out_kl=0.25, beta=1, seed=7
    ),
    versions=Versions(vaecli="1.0.0", torch="2.10.0"),
)


def test_metadata_is_read_back() -> None:
    assert model_format.from_json(model_format.to_json(METADATA)) == METADATA


def test_keys_of_a_later_version_are_ignored() -> None:
    record = json.loads(model_format.to_json(METADATA))
    record["colour_space"] = "sRGB"
    record["training"]["gpus"] = 8
    assert model_format.from_json(json.dumps(record)) == METADATA


def test_a_pair_that_says_nothing_of_binarizing_was_not_binarized() -> None:
    record = json.loads(model_format.to_json(METADATA))
    del record["binarize"]
    assert model_format.from_json(json.dumps(record)).binarize == "none"


@pytest.mark.parametrize(
    ("key", "value"), [("likelihood", "poisson"), ("image_shape", [1, 2]), ("latent_dim", "20"), ("binarize", None)]
)
def test_other_metadata_is_refused(key: str, value: object) -> None:
    with pytest.raises(msgspec.DecodeError):
        model_format.from_json(json.dumps({**json.loads(model_format.to_json(METADATA)), key: value}))


def test_what_is_not_json_is_refused() -> None:
    for text in ("", "{", "[]"):
        with pytest.raises(msgspec.DecodeError):
            model_format.from_json(text)


def test_every_likelihood_has_its_facts() -> None:
    assert set(LIKELIHOODS) == set(get_args(Likelihood))
    known = {model_format.LOGITS, model_format.LOCATION, model_format.LOG_SCALE, model_format.MIXTURE}
    for facts in LIKELIHOODS.values():
        assert facts.parameters
        assert set(facts.parameters) <= known


def test_which_likelihoods_have_a_scale() -> None:
    assert {name for name, facts in LIKELIHOODS.items() if facts.has_scale} == {
        "gaussian",
        "logistic",
        "logistic-mixture",
    }
    assert {name for name, facts in LIKELIHOODS.items() if facts.scale_can_be_set} == {"gaussian", "logistic"}


def test_bits_per_dimension_are_of_eight_bit_likelihoods_alone() -> None:
    for likelihood, facts in LIKELIHOODS.items():
        assert (bits_per_dimension(1, likelihood, (1, 2, 2)) is not None) == facts.eight_bit


def test_bits_per_dimension_of_noise_are_eight() -> None:
    """Pixels that are equally likely to have any of 256 values: log 256 nats each."""
    nats = 3 * 10 * 12 * math.log(256)
    assert bits_per_dimension(nats, "logistic", (3, 10, 12)) == pytest.approx(8)


def test_what_is_a_probability_of_pictures() -> None:
    """An 8-bit likelihood always; a Bernoulli where pixels are 0 or 1; a density never."""
    for grey in (True, False):
        found = {name for name, facts in LIKELIHOODS.items() if facts.normalised(grey=grey)}
        assert found == {"logistic", "logistic-mixture", *([] if grey else ["bernoulli"])}


def test_a_component_has_a_row_for_each_number() -> None:
    assert model_format.mixture_rows(1) == 3, "log weight, location, log scale"
    assert model_format.mixture_rows(3) == 10, "and three coefficients"


@pytest.mark.parametrize(("brightness", "inverted"), [(0.2, False), (0.85, True), (0.05, False), (0.5, False)])
def test_pictures_are_inverted_where_only_their_negatives_are_as_bright_as_held_out_ones(
    brightness: float, inverted: bool
) -> None:
    reference = Reference(excess=[1, 1], brightness=[0.1, 0.3], contrast=[0, 0], detail=[0, 0], local=[0, 0])
    assert reference.looks_inverted(brightness) is inverted
