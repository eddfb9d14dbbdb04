"""The scale of strangeness: what it finds, its calibration, and what it depends on."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from tests import linear_gaussian
from vaecli import load, model_format
from vaecli.evaluation.strangeness import FAINT, Strangeness, looks, measure_reference
from vaecli.model import Model
from vaecli.model_format import Reference

KNOWN = linear_gaussian.exact()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(KNOWN.write(tmp_path_factory.mktemp("linear")), "cpu")


@pytest.fixture(scope="module")
def reference(model: Model) -> Reference:
    return measure_reference(model.pair, KNOWN.pictures(500, seed=0))


def strangeness(model: Model, scale: Strangeness, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    return scale.of(model.score(pictures).columns["excess"], looks(pictures))


def test_looks_are_those_of_the_definition() -> None:
    half = np.zeros((2, 4, 6, 3), np.uint8)
    half[0, :, 3:] = 255
    (brightness, contrast, detail), nothing = looks(half)
    assert (brightness, contrast) == (0.5, 0.5)
    assert detail == pytest.approx(
        np.sqrt(np.log1p(255 / FAINT) / 5 / 2)
    )  # one of 5 steps in each row, none in columns
    np.testing.assert_array_equal(nothing, 0)
    assert np.isfinite(looks(half[:, :1, :1])).all(), "a single pixel has no neighbours"


@pytest.mark.parametrize("kind", ["too plain", "too busy", "badly explained"])
def test_what_is_strange(model: Model, reference: Reference, kind: str) -> None:
    usual = KNOWN.pictures(200, seed=1)
    strange = {
        "too plain": np.full((1, 4, 4, 1), 128, np.uint8),
        "too busy": np.array([0, 255] * 8, np.uint8).reshape(1, 4, 4, 1),
        "badly explained": usual[:1, ::-1, ::-1],
    }[kind]
    scale = Strangeness(reference)
    if kind != "badly explained":
        assert scale.tail(strangeness(model, scale, strange))[0] == 1 / 501
    else:  # the looks are the same, whichever way up
        np.testing.assert_allclose(looks(strange), looks(usual[:1]))
        turned = strangeness(model, scale, usual[:, ::-1, ::-1])
        assert (turned > strangeness(model, scale, usual)).mean() > 0.75


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_as_many_new_pictures_are_in_the_tail_as_it_says(model: Model, reference: Reference, share: float) -> None:
    new, scale = KNOWN.pictures(5000, seed=2), Strangeness(reference)
    found = (scale.tail(strangeness(model, scale, new)) <= share).mean()
    # Of the reference as many are beyond; their share in all pictures has this standard deviation.
    assert found == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 500))


def test_a_small_reference_flags_no_more_new_pictures_than_it_says(model: Model) -> None:
    pictures = KNOWN.pictures(6000, seed=3)
    excess, appearance = model.score(pictures).columns["excess"], looks(pictures)
    found = []
    for start in range(0, 6000, 60):
        brightness, contrast, detail = appearance[start : start + 20].T.tolist()
        columns = {"brightness": brightness, "contrast": contrast, "detail": detail}
        scale = Strangeness(Reference(excess=excess[start : start + 20].tolist(), **columns, local=[0.0] * 20))
        new = slice(start + 20, start + 60)
        found.append((scale.tail(scale.of(excess[new], appearance[new])) <= 0.05).mean())
    assert 0.02 < np.mean(found) < 0.06


def test_a_tail_is_smaller_the_stranger_a_picture_is(reference: Reference) -> None:
    scale = Strangeness(reference)
    assert len(scale) == 500
    tails = scale.tail(np.linspace(-1, 20, 100))
    assert (np.diff(tails) <= 0).all()
    assert (tails[0], tails[-1]) == (1, 1 / 501)


def test_held_out_pictures_that_are_all_alike_make_a_scale(model: Model) -> None:
    scale = Strangeness(measure_reference(model.pair, np.full((20, 4, 4, 1), 128, np.uint8)))
    usual, other = np.full((1, 4, 4, 1), 128, np.uint8), np.full((1, 4, 4, 1), 200, np.uint8)
    assert strangeness(model, scale, usual)[0] < strangeness(model, scale, other)[0] < np.inf


def test_a_reference_survives_its_file(reference: Reference, model: Model) -> None:
    metadata = msgspec.structs.replace(model.metadata, reference=reference)
    assert model_format.from_json(model_format.to_json(metadata)).reference == reference
    columns = msgspec.structs.asdict(reference) | {"detail": reference.detail[1:]}
    damaged = msgspec.json.encode(msgspec.structs.asdict(metadata) | {"reference": columns}).decode()
    with pytest.raises(msgspec.ValidationError, match="different lengths"):
        model_format.from_json(damaged)


def test_metadata_without_a_reference_are_valid(model: Model, tmp_path: Path) -> None:
    text = model_format.to_json(model.metadata).replace(',"reference":null', "")
    assert "reference" not in text
    assert model_format.from_json(text) == model.metadata
    assert load(KNOWN.write(tmp_path), "cpu").score(KNOWN.pictures(3, seed=0)).reference == 0
