"""Settings by recipe, file, dict and flags: what lies over what, and mistakes named by their place."""

from __future__ import annotations

import copy
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from vaecli import config
from vaecli.config import Config, DataConfig, to_toml
from vaecli.errors import UsageError, VaeError
from vaecli.settings import gather, resolve


def test_flags_go_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[model]\nlatent_dim = 3\nhidden = 40\n[training]\nepochs = 7\n")
    settings = resolve(file, {("model", "latent_dim"): 5, ("training", "epochs"): None})
    assert settings.model.latent_dim == 5
    assert settings.model.hidden == 40
    assert settings.training.epochs == 7
    assert settings.training.batch_size == 128


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[model]\nlatent_dimm = 3", ("[model] latent_dimm", "unknown key", "did you mean latent_dim?")),
        ("[modle]\nhidden = 3", ("modle", "did you mean model?")),
        ("recipe = 'mnist'", ("recipe mnist: no such recipe", "did you mean mnist-")),
        ("recipe = 3", ("recipe 3: no such recipe", "the recipes are fashion-mnist, mnist-5k")),
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
        resolve(file, {})
    said = f"{caught.value.message} {caught.value.hint}"
    for word in (str(file), *words):
        assert word in said
    assert caught.value.exit_code == 1


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VaeError, match=r"none\.toml"):
        resolve(tmp_path / "none.toml", {})


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
        resolve(None, {place: value})
    assert caught.value.message.startswith(named)
    assert caught.value.exit_code == 2


def test_a_run_that_goes_on_may_train_longer_but_not_otherwise() -> None:
    begun = resolve(None, {("training", "epochs"): 3, ("model", "latent_dim"): 4})
    assert gather(None, {("training", "epochs"): 9}).resumed(begun).training.epochs == 9
    assert gather(None, {("model", "latent_dim"): 4}).resumed(begun) == begun
    with pytest.raises(UsageError, match="`latent_dim` 5: the run was begun with 4"):
        gather(None, {("model", "latent_dim"): 5}).resumed(begun)


def test_equal_sizes_are_equal_settings() -> None:
    begun = resolve(None, {("data", "image_size"): 64})
    for same in ("64", "64x64", 64):
        assert gather(None, {("data", "image_size"): same}).resumed(begun) == begun
    with pytest.raises(UsageError, match="`image_size` 48x64: the run was begun with 64"):
        gather(None, {("data", "image_size"): "48x64"}).resumed(begun)


def test_a_config_comes_from_a_dict_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[model]\nhidden = 40\n")
    assert resolve(tmp_path / "a.toml") == resolve({"model": {"hidden": 40}})
    assert resolve(resolve({"model": {"hidden": 40}})).model.hidden == 40


def test_a_conflict_in_a_file_names_the_file_and_key(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[model]\nscale = 0.1\n")
    with pytest.raises(VaeError) as caught:
        resolve(file)
    assert caught.value.message.startswith(f"{file}: [model] scale 0.1: ")
    assert caught.value.exit_code == 1
    assert "`" not in str(caught.value)


def test_a_conflict_between_a_file_and_a_flag_names_the_flag(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[training]\nobjective = 'iwae'\n")
    with pytest.raises(UsageError, match="`beta` 2"):
        resolve(file, {("training", "beta"): 2.0})


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"# \xe4\n[model]\n")
    with pytest.raises(VaeError, match=r"a\.toml: not UTF-8 text, from byte 3"):
        resolve(tmp_path / "a.toml")


def test_a_file_may_begin_as_the_editor_of_windows_begins_it(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[model]\nhidden = 40\n", encoding="utf-8-sig")
    assert resolve(tmp_path / "a.toml").model.hidden == 40


def test_a_resumed_run_names_the_file_that_asks_for_another(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[model]\nhidden = 40\n")
    with pytest.raises(VaeError, match=r"a\.toml: \[model\] hidden 40: the run was begun with 500"):
        gather(tmp_path / "a.toml").resumed(Config())


def test_a_resumed_run_takes_the_config_it_was_begun_with() -> None:
    begun = config.with_seed(Config(), 5)
    assert gather(Config()).resumed(begun) == begun
    assert gather({"training": {"epochs": 200, "seed": 5}}).resumed(begun).training.epochs == 200


def test_a_file_of_megabytes_is_no_config(tmp_path: Path) -> None:
    (tmp_path / "large.toml").write_text("\n".join(f"[model.a{row}]" for row in range(100_000)))
    with pytest.raises(VaeError, match=r"large.toml: too large for a config, . MB"):
        resolve(tmp_path / "large.toml")


def test_what_are_no_settings_is_refused() -> None:
    with pytest.raises(UsageError, match=r"flags: \('training', 'sed'\): no such setting"):
        resolve(None, {("training", "sed"): 1})
    with pytest.raises(UsageError, match="settings: a list"):
        resolve([1])  # type: ignore[arg-type]  # what a user may pass


def test_a_latent_dim_that_would_have_no_effect(tmp_path: Path) -> None:
    """It excludes the latent map of a recipe, and is refused beside one that was given."""
    flags = {("model", "latent_dim"): 9}
    assert resolve("photographs", flags).model.latent_map == 0
    assert resolve("photographs", {("model", "latent_dim"): 20}).model.latent_map == 0  # also the default
    assert resolve("photographs").model.latent_map == 8
    assert resolve(resolve("photographs")).model.latent_map == 8
    both = {**flags, ("model", "architecture"): "conv", ("model", "latent_map"): 4}
    with pytest.raises(UsageError, match="`latent_dim` 9: it has no effect, as `latent_map` is 4"):
        resolve(None, both)
    (tmp_path / "both.toml").write_text("[model]\narchitecture = 'conv'\nlatent_map = 4\nlatent_dim = 9\n")
    with pytest.raises(VaeError, match=r"both.toml: \[model\] latent_dim 9: it has no effect"):
        resolve(tmp_path / "both.toml")
    assert resolve(None, {**both, ("model", "architecture"): "mlp"}).model.latent_dim == 9


def test_settings_of_a_file_and_of_a_dict_go_over_the_recipe_that_they_name(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("recipe = 'mnist-mlp'\n[model]\nhidden = 40\n")
    given = gather(tmp_path / "a.toml")
    assert (given.recipe, given.needs_recipe) == ("mnist-mlp", False)
    assert given.config() == resolve("mnist-mlp", {("model", "hidden"): 40})
    assert resolve({"recipe": "mnist-mlp", "model": {"hidden": 40}}) == given.config()


def test_without_the_name_of_a_recipe_the_pictures_choose_one(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[model]\nhidden = 40\n")
    for settings in (None, {}, {"model": {"hidden": 40}}, tmp_path / "a.toml"):
        assert gather(settings).needs_recipe
        over = gather(settings).over({"model": {"hidden": 7, "latent_dim": 3}})
        assert (over.model.hidden, over.model.latent_dim) == (40 if settings else 7, 3)
    for complete in ("tutorial", Config(), {"recipe": "tutorial"}):
        assert not gather(complete).needs_recipe


def test_a_setting_of_a_named_recipe_gives_way_to_one_in_the_file_that_excludes_it(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("recipe = 'photographs'\n[training]\nobjective = 'iwae'\n")
    assert resolve("photographs").training.kl_warmup > 0
    assert resolve(tmp_path / "a.toml").training.kl_warmup == 0


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("[training]\nepochs = 7\n",))
    writer.start()
    given = gather(gather(tmp_path / "pipe"), {("training", "seed"): 1})
    writer.join()
    assert (given.config().training.epochs, given.config().training.seed) == (7, 1)


def test_the_config_of_a_run_can_be_given_again(tmp_path: Path) -> None:
    """Also where a flag excluded a setting of the recipe."""
    config = resolve("mnist-conv", {("model", "latent_map"): 4})
    assert resolve(config) == config
    (tmp_path / "all.toml").write_text(to_toml(config, "mnist-conv"))
    assert resolve(tmp_path / "all.toml") == config


def test_the_same_command_resumes_where_a_flag_excluded_a_setting_of_the_recipe() -> None:
    for recipe, flags in (
        ("pictures", {("training", "objective"): "iwae"}),
        ("mnist-binarized", {("model", "likelihood"): "gaussian"}),
    ):
        given = gather(recipe, flags)
        assert given.resumed(given.config()) == given.config()


def test_an_error_of_a_setting_goes_to_another_process() -> None:
    with pytest.raises(UsageError) as found:
        resolve(None, {("training", "epochs"): 0})
    again = copy.copy(found.value)  # as pickle, by __reduce__
    assert (str(again), again.hint, type(again)) == (str(found.value), found.value.hint, type(found.value))


def test_a_setting_that_is_as_recorded_may_be_given_again() -> None:
    recorded = resolve({"model": {"likelihood": "gaussian", "scale": 0.2}})
    assert gather({"model": {"scale": 0.2}}).resumed(recorded) == recorded
    with pytest.raises(UsageError, match=r"`held_out` a.npy: the run was begun without it"):
        gather({"data": {"held_out": "a.npy"}}).resumed(recorded)


def test_a_place_may_be_a_path(tmp_path: Path) -> None:
    assert resolve({"data": {"source": tmp_path, "dir": tmp_path}}).data == DataConfig(
        source=str(tmp_path), dir=str(tmp_path)
    )


def test_settings_that_are_the_pictures_themselves_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="data: a str, expected a dict of settings") as refusal:
        resolve({"data": "pictures"})
    assert refusal.value.hint == 'write {"data": {"source": …}}'
    with pytest.raises(VaeError, match="is a folder, not a recipe or a TOML file"):
        resolve(str(tmp_path))
