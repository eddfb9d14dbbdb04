"""The recipes in the package: valid, named, and chosen by the pictures; a flag wins over them."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vaecli
from tests.command_line import PROJECT, assert_refused, vae
from tests.conftest import TINY
from vaecli import config, recipes
from vaecli.config import Config, ModelConfig, TrainingConfig
from vaecli.errors import VaeError
from vaecli.events import Event, Note
from vaecli.settings import Flags, gather, resolve
from vaecli.training.plan import choose_settings


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of colour pictures of several sizes, one of them grey."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for index in range(12):
        mode = "L" if index == 5 else "RGB"
        Image.linear_gradient("L").convert(mode).resize((40 + index, 30)).save(folder / f"{index}.png")
    return folder


def array(path: Path, *shape: int) -> Path:
    np.save(path, np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    return path


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_is_valid_and_says_what_it_is_for(name: str) -> None:
    recipe = recipes.read(name)
    assert recipe.purpose
    assert recipe.reached is None or any(digit.isdigit() for digit in recipe.reached)
    settings = resolve(name)
    for section, keys in recipe.settings.items():
        for key, value in keys.items():
            assert getattr(getattr(settings, section), key) == value


def test_the_tutorials_recipe_is_the_defaults() -> None:
    settings = resolve("tutorial")
    assert settings == Config()
    assert (settings.model.latent_dim, settings.model.hidden, settings.training.epochs) == (20, 500, 100)
    assert resolve(PROJECT / "examples/adcme-mnist.toml").model == settings.model


@pytest.mark.parametrize(
    ("source", "shape", "count", "name", "likelihood"),
    [
        ("mnist-5k", (1, 28, 28), 5_000, "mnist-5k", "bernoulli"),
        ("mnist", (1, 28, 28), 70_000, "mnist-mlp", "bernoulli"),
        ("fashion-mnist", (1, 28, 28), 70_000, "fashion-mnist", "logistic-mixture"),
        ("mine", (1, 64, 64), 5_000, "pictures", "logistic"),
        ("cifar10", (3, 32, 32), 60_000, "pictures", "logistic"),
    ],
)
def test_the_pictures_choose(source: str, shape: tuple[int, int, int], count: int, name: str, likelihood: str) -> None:
    chosen = recipes.choose(source, shape, count)
    assert chosen.name == name
    settings = gather().over(chosen.settings)
    assert settings.model.likelihood == likelihood
    assert settings.model.architecture == ("mlp" if name != "pictures" else "conv")
    assert settings.data == Config().data, "which pictures is not the recipe's to say"


@pytest.mark.parametrize(
    ("side", "grey_share", "name"), [(28, 0.1, "mnist-5k"), (28, 0.5, "pictures"), (15, 0.5, "mnist-5k")]
)
def test_small_pictures_with_shades_of_grey_get_convolutions(side: int, grey_share: float, name: str) -> None:
    chosen = recipes.choose("mine", (1, side, side), 5_000, grey_share)
    assert chosen.name == name
    assert ("50% of whose values are shades of grey" in chosen.why) is (name == "pictures")


@pytest.mark.parametrize(
    ("side", "map_size"),
    [((64, 64), 8), ((16, 16), 4), ((32, 32), 4), ((48, 48), 6), ((60, 80), 10), ((128, 128), 8), ((128, 16), 16)],
)
def test_the_smallest_map_has_nearly_a_position_for_64_pixels(side: tuple[int, int], map_size: int) -> None:
    chosen = recipes.choose("mine", (3, *side), 5_000)
    assert chosen.settings["model"]["map_size"] == map_size


def test_few_pictures_are_seen_more_often() -> None:
    epochs = {n: recipes.choose("a", (1, 28, 28), n).settings["training"]["epochs"] for n in (9000, 3000, 300, 20)}
    assert epochs == {9000: 40, 3000: 80, 300: 120, 20: 120}
    assert recipes.choose("mnist", (1, 28, 28), 30_000).settings["training"]["epochs"] == 60, "not measured"


def test_few_pictures_get_the_prior_that_does_not_overfit() -> None:
    for count, prior in ((999, "normal"), (1000, "vamp")):
        chosen = recipes.choose("mine", (1, 28, 28), count)
        assert chosen.settings["model"]["prior"] == prior
        assert ("because they are few" in chosen.why) is (prior == "normal")


def test_the_warm_ups_of_a_chosen_recipe_fit_a_short_training(blobs: Path) -> None:
    flags = {("data", "source"): str(blobs), ("training", "epochs"): 20, ("training", "batch_size"): 20}
    assert choose_settings(gather(None, flags))[0].training.warmup_steps == 12
    asked = choose_settings(gather(None, {**flags, ("training", "warmup_steps"): 30}))[0]
    assert asked.training.warmup_steps == 30, "as asked for"


def test_the_kl_warm_up_of_a_chosen_recipe_fits_a_short_training(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8))
    flags = {("data", "source"): str(tmp_path / "a.npy"), ("training", "epochs"): 20}
    settings, recipe = choose_settings(gather(None, flags))
    assert (recipe, settings.training.kl_warmup) == ("pictures", 2)


def test_convolutions_are_not_chosen_where_they_do_not_fit() -> None:
    model = recipes.choose("mine", (3, 8, 8), 100).settings["model"]
    assert (model["architecture"], model["likelihood"]) == ("mlp", "logistic")


def test_a_folder_of_several_sizes_and_colours_trains_without_settings(photographs: Path, tmp_path: Path) -> None:
    result = vae("train", "--data", photographs, "--run", tmp_path / "r", "--epochs", "1", "--width", "4")
    assert result.code == 0, result.err
    (line,) = (line for line in result.err.splitlines() if line.startswith("recipe "))
    assert "pictures, for colour pictures of 64x64" in line
    assert "their sizes differ, so they are cropped and resized to 64x64 (--image-size)" in line
    record = json.loads((tmp_path / "r/config.json").read_text())
    assert record["recipe"] == "pictures"
    assert record["data"]["image_shape"] == [3, 64, 64]
    assert record["config"]["model"]["width"] == 4, "a flag wins over the recipe"
    assert record["config"]["model"]["architecture"] == "conv"


def test_pictures_of_one_size_keep_it_if_some_are_in_colour(tmp_path: Path) -> None:
    for row in range(5):
        Image.new("RGB" if row == 4 else "L", (28, 28)).save(tmp_path / f"{row}.png")
    settings, _ = choose_settings(gather(None, {("data", "source"): str(tmp_path)}))
    assert (settings.data.image_size, settings.data.channels) == (None, 3)


@pytest.mark.parametrize(("shape", "size"), [((128, 100), None), ((129, 100), 64), ((300, 300), 64)])
def test_large_pictures_are_resized_unless_a_size_is_asked_for(
    shape: tuple[int, int], size: int | None, tmp_path: Path
) -> None:
    np.save(tmp_path / "alike.npy", np.zeros((4, *shape, 3), np.uint8))
    flags: Flags = {("data", "source"): str(tmp_path / "alike.npy")}
    assert choose_settings(gather(None, flags))[0].data.image_size == size
    assert choose_settings(gather(None, {**flags, ("data", "image_size"): "256"}))[0].data.image_size == 256
    assert choose_settings(gather("photographs", flags))[0].data.image_size == size, "also of a named recipe"


def test_a_named_recipe_is_taken_to_the_letter(blobs: Path, tmp_path: Path) -> None:
    flags = ("--epochs", "1", "--device", "cpu", "--hidden", "16")
    assert vae("train", "--config", "tutorial", "--data", blobs, "--run", tmp_path / "r", *flags).code == 0
    record = json.loads((tmp_path / "r/config.json").read_text())
    assert record["recipe"] == "tutorial"
    trained = config.from_json(json.dumps(record["config"]).encode())
    assert trained.model == ModelConfig(hidden=16)
    assert trained.training == TrainingConfig(epochs=1, device="cpu", seed=trained.training.seed)


def test_python_chooses_as_the_command_does(blobs: Path, tmp_path: Path) -> None:
    settings: dict[str, dict[str, object]] = {"data": {"source": str(blobs)}, "training": {"epochs": 5}}
    chosen, name = choose_settings(gather(settings))
    file = tmp_path / "same.toml"
    file.write_text(f"[data]\nsource = '{blobs}'\n[training]\nepochs = 5\n")
    assert choose_settings(gather(file)) == (chosen, name), "a file and a dict are alike"
    by_flags, _ = choose_settings(gather(None, {("data", "source"): str(blobs), ("training", "epochs"): 5}))
    assert (chosen, name) == (by_flags, "mnist-5k")
    assert chosen.training.learning_rate == recipes.read("mnist-5k").settings["training"]["learning_rate"]
    assert choose_settings(gather(resolve(settings))) == (resolve(settings), None), "a Config is complete"
    assert vaecli.recipes.read("mnist-5k").name == "mnist-5k"


def test_a_setting_of_a_recipe_gives_way_to_a_flag_that_excludes_it() -> None:
    assert resolve("photographs").training.kl_warmup > 0
    assert resolve("photographs", {("training", "objective"): "iwae"}).training.kl_warmup == 0


def test_it_gives_way_also_where_the_pictures_are_looked_at(tmp_path: Path) -> None:
    data = array(tmp_path / "a.npy", 20, 16, 16, 3)
    flags: Flags = {("data", "source"): str(data), ("training", "objective"): "iwae"}
    settings, name = choose_settings(gather("photographs", flags))
    assert (settings.training.objective, settings.training.kl_warmup, name) == ("iwae", 0, "photographs")


def test_binarised_colour_is_not_given_a_likelihood_of_grey_values(tmp_path: Path) -> None:
    data = array(tmp_path / "a.npy", 20, 16, 16, 3)
    settings, _ = choose_settings(gather(None, {("data", "source"): str(data), ("data", "binarize"): "dynamic"}))
    assert (settings.model.architecture, settings.model.likelihood) == ("conv", "bernoulli")


def test_a_name_that_nobody_knows() -> None:
    for name, words in (("tutoril", ("no recipe or file", "did you mean tutorial?")), ("a.toml", ("no such file",))):
        result = vae("train", "--config", name)
        assert_refused(result, 1, f"--config {name}", *words, "mnist-mlp")
        assert "create the folder" not in result.err
        with pytest.raises(VaeError):
            resolve(name)


def test_print_config_is_a_file_to_start_from(tmp_path: Path) -> None:
    result = vae("train", "--config", "photographs", "--epochs", "7", "--print-config", "--run", tmp_path / "r")
    assert (result.code, result.err) == (0, "")
    content = tomllib.loads(result.out)
    assert (content["recipe"], content["training"]["epochs"]) == ("photographs", 7)
    (tmp_path / "mine.toml").write_text(result.out)
    assert resolve(tmp_path / "mine.toml") == resolve("photographs", {("training", "epochs"): 7})
    assert "# Passes over the training images.\nepochs = 7" in result.out
    assert not (tmp_path / "r").exists()
    assert vae("train", "--config", "photographs", "--print-config", "--json").json["model"]["latent_map"] == 8


def test_a_file_may_say_what_it_is_about(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[about]\nfor = 'my cats'\n[model]\nhidden = 9\n")
    assert resolve(tmp_path / "a.toml") == Config(model=ModelConfig(hidden=9))


def test_vae_data_lists_them() -> None:
    listed, records = vae("data").out, vae("data", "--json").json["recipes"]
    assert [record["name"] for record in records] == recipes.names()
    for record in records:
        assert any(line.split()[:1] == [record["name"]] and record["purpose"] in line for line in listed.splitlines())


@pytest.mark.parametrize(
    ("shape", "flags", "told"),
    [
        ((20, 16, 16, 3), ("--likelihood", "bernoulli"), "warning: --likelihood bernoulli is for pixels that are"),
        ((4, 64, 64, 3), ("--architecture", "mlp"), "warning: --architecture mlp: dense layers do not know"),
        ((20, 8, 8), (), "18 pictures to train on are few"),
    ],
)
def test_what_does_not_fit_the_pictures_is_said_before_training(
    tmp_path: Path, shape: tuple[int, ...], flags: tuple[str, ...], told: str
) -> None:
    data = array(tmp_path / "a.npy", *shape)
    common = ("train", "--data", data, "--epochs", "1", *TINY, "--width", "4")
    result = vae(*common, "--run", tmp_path / "r", *flags)
    lines = result.err.splitlines()
    (at,) = (index for index, line in enumerate(lines) if line.startswith(told))
    assert at < next(index for index, line in enumerate(lines) if line.startswith("epoch 1/1"))
    if told.endswith("are few"):
        assert lines[at].endswith("--patience 20 stops it then")
    if "bernoulli" in flags:
        assert lines[at].endswith("--likelihood logistic suits them"), "as the recipe for colour has it"
    if flags:
        assert not any(line.startswith(told) for line in vae(*common, "--run", tmp_path / "s").err.splitlines())


def test_one_single_picture_is_refused_with_what_to_do(tmp_path: Path) -> None:
    Image.linear_gradient("L").save(tmp_path / "one.png")
    result = vae("train", "--data", tmp_path / "one.png", "--run", tmp_path / "r")
    assert_refused(result, 1, "one.png", "only one picture, and one must be held out", "name the folder it is in")


def test_the_choice_is_an_event(blobs: Path) -> None:
    told: list[Event] = []
    choose_settings(gather({"data": {"source": str(blobs)}}), on_event=told.append)
    why = "small grey pictures (8x8, 120 of them), with the prior N(0, I) because they are few"
    assert told == [Note(f"recipe mnist-5k, for {why}; choose another with `config`")]


def test_pictures_of_one_size_but_two_kinds_keep_their_size(tmp_path: Path) -> None:
    for row in range(60):
        Image.new("L" if row % 2 else "RGB", (12, 12), row).save(tmp_path / f"{row}.png")
    settings, recipe = choose_settings(gather({"data": {"source": str(tmp_path)}}))
    assert (recipe, settings.model.architecture) == ("pictures", "mlp")  # convolutions take 16 pixels or more
    assert (settings.data.image_size, settings.data.channels) == (None, 3)


def test_a_few_pictures_fewer_take_no_more_epochs() -> None:
    epochs = [recipes.choose("a", (1, 28, 28), count).settings["training"]["epochs"] for count in (5000, 4499, 2250)]
    assert epochs[1] == epochs[0]
    assert epochs[2] == 2 * epochs[0]
