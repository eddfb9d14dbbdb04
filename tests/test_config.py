"""The shared config: one source of defaults, flags over file over defaults, mistakes named by place."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from vaecli import config
from vaecli.config import Config, DataConfig, ModelConfig, TrainingConfig
from vaecli.errors import UsageError, VaeError
from vaecli.model_format import Likelihood


def test_defaults_are_the_tutorials() -> None:
    settings = config.resolve(None, {})
    assert (settings.model.latent_dim, settings.model.hidden, settings.model.dropout) == (20, 500, 0.1)
    training = settings.training
    assert (training.learning_rate, training.batch_size, training.epochs, training.beta) == (
        1e-3,
        128,
        100,
        1,
    )


def test_flags_go_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[model]\nlatent_dim = 3\nhidden = 40\n[training]\nepochs = 7\n")
    settings = config.resolve(file, {("model", "latent_dim"): 5, ("training", "epochs"): None})
    assert settings.model.latent_dim == 5
    assert settings.model.hidden == 40
    assert settings.training.epochs == 7
    assert settings.training.batch_size == 128


def test_json_round_trip_keeps_every_value() -> None:
    settings = config.resolve(None, {("training", "seed"): 2**64 - 1, ("model", "dropout"): 0.25})
    assert config.from_json(config.to_json(settings)) == settings
    written = msgspec.json.decode(config.to_json(settings))
    assert written["training"]["batch_size"] == 128, "defaults are written out"


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Config().model.hidden = 3  # type: ignore[misc]  # that it is frozen is the point


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[model]\nlatent_dimm = 3", ("[model] latent_dimm", "unknown key", "did you mean latent_dim?")),
        ("[modle]\nhidden = 3", ("modle", "did you mean model?")),
        ("hidden = 3", ("hidden: no section", "hidden belongs below [model]")),
        ("[training]\nepochs = '3'", ('[training] epochs "3": expected a whole number',)),
        ("other = 3", ("other", "unknown key", "data, model, training")),
        ("[model]\nlatent_dim = 0", ("[model] latent_dim", ">= 1")),
        ("[model]\ndropout = 1", ("[model] dropout", "<= 0.99")),
        ("[model]\nhidden = 'wide'", ("[model] hidden", "wide", "a whole number")),
        ("[training]\nprecision = 'float16'", ("[training] precision", "float16")),
        ("[training]\nseed = 18446744073709551616", ("[training] seed", "18446744073709551615")),
        ("[training]\nseed = -1", ("[training] seed", ">= 0")),
        ("model = 3", ("[model]", "table")),
        ("[model", ("not valid TOML",)),
        ("[model]\nhidden = " + "[" * 9999, ("not valid TOML",)),
        ("[model]\nhidden = " + "9" * 9999, ("not valid TOML",)),
    ],
)
def test_a_mistake_in_a_file_is_named_by_file_section_and_key(
    tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(VaeError) as caught:
        config.resolve(file, {})
    said = f"{caught.value.message} {caught.value.hint}"
    for word in (str(file), *words):
        assert word in said
    assert caught.value.exit_code == 1


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VaeError, match=r"none\.toml"):
        config.resolve(tmp_path / "none.toml", {})


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        (("model", "latent_dim"), 0, "`latent_dim` 0"),
        (("training", "learning_rate"), -1.0, "`learning_rate` -1.0"),
        (("training", "seed"), 2**64, "`seed` 18446744073709551616"),
        (("training", "epochs"), 0, "`epochs` 0"),
    ],
)
def test_a_flag_out_of_range_is_wrong_usage(place: tuple[str, str], value: Any, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        config.resolve(None, {place: value})
    assert caught.value.message.startswith(named)
    assert caught.value.exit_code == 2


def test_a_run_that_goes_on_may_train_longer_but_not_otherwise() -> None:
    begun = config.resolve(None, {("training", "epochs"): 3, ("model", "latent_dim"): 4})
    assert config.resume(begun, None, {("training", "epochs"): 9}).training.epochs == 9
    assert config.resume(begun, None, {("model", "latent_dim"): 4}) == begun
    with pytest.raises(UsageError, match="`latent_dim` 5: the run was begun with 4"):
        config.resume(begun, None, {("model", "latent_dim"): 5})


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
        lambda: config.resolve({"model": {"likelihood": "gaussian"}, "data": {"binarize": "dynamic"}}),
        lambda: config.resolve({"training": {"objective": "iwae", "beta": 2.0}}),
        lambda: config.resolve({"model": {"hiden": 3}}),
        lambda: config.resolve({"model": 3}),  # type: ignore[dict-item]  # the mistake to be found
    ],
)
def test_a_config_is_valid_however_it_is_made(make: Callable[[], object]) -> None:
    with pytest.raises(UsageError):
        make()


@pytest.mark.parametrize("likelihood", ["gaussian", "logistic"])
def test_a_scale_may_be_given_or_learned_for_parts(likelihood: Likelihood) -> None:
    assert Config(model=ModelConfig(likelihood=likelihood, scale=0.1)).model.scale == 0.1
    assert Config(model=ModelConfig(likelihood=likelihood, scale_per="pixel")).model.scale is None


def test_a_config_comes_from_a_dict_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[model]\nhidden = 40\n")
    assert config.resolve(tmp_path / "a.toml") == config.resolve({"model": {"hidden": 40}})
    assert config.resolve(config.resolve({"model": {"hidden": 40}})).model.hidden == 40


def test_a_conflict_in_a_file_names_the_file_and_key(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[model]\nscale = 0.1\n")
    with pytest.raises(VaeError) as caught:
        config.resolve(file)
    assert caught.value.message.startswith(f"{file}: [model] scale 0.1: ")
    assert caught.value.exit_code == 1
    assert "`" not in str(caught.value)


def test_a_conflict_between_a_file_and_a_flag_names_the_flag(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[training]\nobjective = 'iwae'\n")
    with pytest.raises(UsageError, match="`beta` 2"):
        config.resolve(file, {("training", "beta"): 2.0})


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"# \xe4\n[model]\n")
    with pytest.raises(VaeError, match=r"a\.toml: not UTF-8 text, from byte 3"):
        config.resolve(tmp_path / "a.toml")


def test_a_file_may_begin_as_the_editor_of_windows_begins_it(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[model]\nhidden = 40\n", encoding="utf-8-sig")
    assert config.resolve(tmp_path / "a.toml").model.hidden == 40


def test_a_resumed_run_names_the_file_that_asks_for_another(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[model]\nhidden = 40\n")
    with pytest.raises(VaeError, match=r"a\.toml: \[model\] hidden 40: the run was begun with 500"):
        config.resume(Config(), tmp_path / "a.toml")


def test_a_resumed_run_takes_the_config_it_was_begun_with() -> None:
    begun = config.with_seed(Config(), 5)
    assert config.resume(begun, Config()) == begun
    assert config.resume(begun, {"training": {"epochs": 200, "seed": 5}}).training.epochs == 200


def test_a_file_of_megabytes_is_no_config(tmp_path: Path) -> None:
    (tmp_path / "large.toml").write_text("\n".join(f"[model.a{row}]" for row in range(100_000)))
    with pytest.raises(VaeError, match=r"large.toml: too large for a config, . MB"):
        config.resolve(tmp_path / "large.toml")


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
        config.resolve({section: {key: value}})


def test_what_are_no_settings_is_refused() -> None:
    with pytest.raises(UsageError, match=r"flags: \('training', 'sed'\): no such setting"):
        config.resolve(None, {("training", "sed"): 1})
    with pytest.raises(UsageError, match="settings: a list"):
        config.resolve([1])  # type: ignore[arg-type]  # what a user may pass


def test_numbers_of_numpy_are_numbers() -> None:
    settings = config.resolve({"training": {"beta": np.float64(2), "seed": np.int64(3)}})
    assert (settings.training.beta, settings.training.seed) == (2.0, 3)
    assert type(settings.training.seed) is int


def test_a_latent_dim_that_would_have_no_effect(tmp_path: Path) -> None:
    """It excludes the latent map of a recipe, and is refused beside one that was given."""
    flags = {("model", "latent_dim"): 9}
    assert config.resolve("photographs", flags).model.latent_map == 0
    assert config.resolve("photographs", {("model", "latent_dim"): 20}).model.latent_map == 0  # also the default
    assert config.resolve("photographs").model.latent_map == 8
    assert config.resolve(config.resolve("photographs")).model.latent_map == 8
    both = {**flags, ("model", "architecture"): "conv", ("model", "latent_map"): 4}
    with pytest.raises(UsageError, match="`latent_dim` 9: it has no effect, as `latent_map` is 4"):
        config.resolve(None, both)
    (tmp_path / "both.toml").write_text("[model]\narchitecture = 'conv'\nlatent_map = 4\nlatent_dim = 9\n")
    with pytest.raises(VaeError, match=r"both.toml: \[model\] latent_dim 9: it has no effect"):
        config.resolve(tmp_path / "both.toml")
    assert config.resolve(None, {**both, ("model", "architecture"): "mlp"}).model.latent_dim == 9
