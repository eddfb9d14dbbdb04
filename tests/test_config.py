"""Every setting: its default, its bounds, and what is said of a value that is not allowed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from vaecli import config
from vaecli.config import Config, DataConfig, ModelConfig, TrainingConfig
from vaecli.errors import UsageError, VaeError
from vaecli.model_format import Likelihood
from vaecli.settings import resolve


def test_defaults_are_the_tutorials() -> None:
    settings = resolve(None, {})
    assert (settings.model.latent_dim, settings.model.hidden, settings.model.dropout) == (20, 500, 0.1)
    training = settings.training
    assert (training.learning_rate, training.batch_size, training.epochs, training.beta) == (
        1e-3,
        128,
        100,
        1,
    )


def test_json_round_trip_keeps_every_value() -> None:
    settings = resolve(None, {("training", "seed"): 2**64 - 1, ("model", "dropout"): 0.25})
    assert config.from_json(config.to_json(settings)) == settings
    written = msgspec.json.decode(config.to_json(settings))
    assert written["training"]["batch_size"] == 128, "defaults are written out"


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Config().model.hidden = 3  # type: ignore[misc]  # that it is frozen is the point


def test_every_setting_has_a_help_sentence() -> None:
    for section in msgspec.structs.fields(Config):
        for key in msgspec.structs.fields(section.type):
            assert config.field(section.name, key.name).help.endswith(".")


@pytest.mark.parametrize(
    "make",
    [
        lambda: TrainingConfig(epochs=-3),
        lambda: TrainingConfig(precision="nonsense"),  # type: ignore[arg-type]  # the mistake to be found
        lambda: TrainingConfig(learning_rate=float("inf")),
        lambda: ModelConfig(latent_dim="wide"),  # type: ignore[arg-type]  # the mistake to be found
        lambda: DataConfig(image_size="64x"),
        lambda: DataConfig(channels=2),
        lambda: Config(model=ModelConfig(scale=0.1)),
        lambda: Config(model=ModelConfig(likelihood="logistic-mixture", scale=0.1)),
        lambda: Config(model=ModelConfig(likelihood="logistic-mixture", scale_per="pixel")),
        lambda: Config(model=ModelConfig(likelihood="logistic", scale=0.1, scale_per="channel")),
        lambda: ModelConfig(patch=9),
        lambda: resolve({"model": {"likelihood": "gaussian"}, "data": {"binarize": "dynamic"}}),
        lambda: resolve({"training": {"objective": "iwae", "beta": 2.0}}),
        lambda: resolve({"model": {"hiden": 3}}),
        lambda: resolve({"model": 3}),
    ],
)
def test_a_config_is_valid_however_it_is_made(make: Callable[[], object]) -> None:
    with pytest.raises(UsageError):
        make()


@pytest.mark.parametrize("likelihood", ["gaussian", "logistic"])
def test_a_scale_may_be_given_or_learned_for_parts(likelihood: Likelihood) -> None:
    assert Config(model=ModelConfig(likelihood=likelihood, scale=0.1)).model.scale == 0.1
    assert Config(model=ModelConfig(likelihood=likelihood, scale_per="pixel")).model.scale is None


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("training", "epochs", -3, "expected a whole number >= 1"),
        ("training", "seed", 0.5, "expected a whole number"),
        ("model", "scale", 0, "expected a number >= 1e-06"),
        ("data", "shuffle", 2, "expected true or false"),
        ("data", "image_size", 3.5, "expected a whole number or a text"),
    ],
)
def test_what_was_expected_is_said_without_names_of_types(section: str, key: str, value: object, said: str) -> None:
    with pytest.raises(VaeError, match=rf"^`{key}` {re.escape(str(value))}: {said}\nhint: "):
        resolve({section: {key: value}})


def test_numbers_of_numpy_are_numbers() -> None:
    settings = resolve({"training": {"beta": np.float64(2), "seed": np.int64(3)}})
    assert (settings.training.beta, settings.training.seed) == (2.0, 3)
    assert type(settings.training.seed) is int


def test_values_are_kept_in_the_setting_s_type() -> None:
    """However a config is made: NumPy's numbers cannot be written as JSON."""
    values: dict[str, Any] = {"epochs": np.int64(3), "learning_rate": np.float32(0.5)}
    training = TrainingConfig(**values)
    assert (type(training.epochs), type(training.learning_rate)) == (int, float)
    assert DataConfig(image_size="64x64") == DataConfig(image_size=64)


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(UsageError, match="`source`"):
        DataConfig(source="")


def test_an_array_is_no_source() -> None:
    """Python users may try: it is not printed whole, and they learn what to do."""
    with pytest.raises(UsageError) as refused:
        config.check(("data", "source"), np.zeros((3, 8, 8)))
    assert refused.value.message == "`source` an array of shape (3, 8, 8): expected a name or a path"
    assert "numpy.savez('pictures.npz', x=pictures)" in refused.value.hint
