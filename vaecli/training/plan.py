"""What is to be trained: the settings, where their pictures are, and whether the run folder may have it.

All of it is decided before PyTorch is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from vaecli import config as configs
from vaecli import recipes
from vaecli.config import Config, DataConfig
from vaecli.errors import VaeError
from vaecli.events import Note, OnEvent, ignore
from vaecli.extras import require, require_training
from vaecli.files import with_home
from vaecli.run_folder import RunFolder, RunRecord
from vaecli.settings import Given
from vaecli.untrusted_text import storable

SOME_PICTURES = 10  # from so many on, a folder is taken for one of pictures and refused as a run folder
WARM_UP = 10  # a warm-up of a recipe lasts at most 1 / WARM_UP of a training


@dataclass(frozen=True)
class Plan:
    """What is to be trained, decided once for all processes."""

    settings: Config
    data: configs.DataConfig  # as it was asked for
    recipe: str | None
    recorded: RunRecord | None = None  # of the run that is resumed
    begun: bool = False  # whether that has an epoch


def plan_new_run(folder: RunFolder, given: Given, on_event: OnEvent, *, overwrite: bool) -> Plan:
    """Plan a new training. What can be refused is refused before anything is removed.

    Raises VaeError and UsageError as `stage.train`.
    """
    asked = given.config()  # refuses settings that no picture could make right
    if folder.has_foreign_config:
        raise VaeError(f"{folder.config}: was not written by vae", "move it, or name another folder")
    if folder.occupied and not overwrite:
        if folder.has_training:
            hint = "`resume` continues it, `overwrite` replaces it, or name another folder"
            raise VaeError(f"`run` {folder.path}: there is a training in it already", hint)
        kept = ", ".join(file.name for file in folder.files if file.exists())
        raise VaeError(f"`run` {folder.path}: holds {kept}", "`overwrite` replaces them, or name another folder")
    if not folder.has_training and _holds_pictures(folder):
        problem = f"`run` {folder.path}: this is a folder of pictures: a training would write among them"
        raise VaeError(problem, "name another folder; `source` names the pictures to train on")
    _require_packages(asked)
    settings, recipe = choose_settings(given, on_event)
    if settings.training.seed is None:
        settings = configs.with_seed(settings, configs.draw_seed())
    located = _located(settings.data)
    for key, path in (("source", located.source), ("held_out", located.held_out or ""), ("dir", located.dir or "")):
        if storable(path) != path:
            raise VaeError(f"`{key}` {path}: the name is not UTF-8, and {folder.config.name} is", "rename it")
    for path in filter(None, (located.source, located.held_out)):
        if _lies_in(folder.path, Path(path)):
            problem = f"`run` {folder.path}: lies in {path}, and its previews would be among the pictures there"
            raise VaeError(problem, "name a folder outside of it")
    return Plan(msgspec.structs.replace(settings, data=located), settings.data, recipe)


def _lies_in(run: Path, pictures: Path) -> bool:
    """Whether the run is below a folder of pictures. A path is absolute here: other sources are names."""
    return pictures.is_absolute() and pictures.is_dir() and pictures.resolve() in run.resolve().parents


def _holds_pictures(folder: RunFolder) -> bool:
    """Whether there are SOME_PICTURES or more in a folder and its subfolders, but for the previews of a training."""
    from vaecli.pictures.folders import is_picture_name

    places = [folder.path, *(place for place in folder.path.glob("[!.]*/") if place != folder.previews)]
    pictures = (file for place in places for file in place.glob("[!.]*") if is_picture_name(file))
    return len(list(islice(pictures, SOME_PICTURES))) == SOME_PICTURES


def _located(data: DataConfig) -> DataConfig:
    """The same pictures, named so that they are found from any folder."""
    from vaecli import datasets

    folder = data.dir and str(with_home(data.dir).absolute())
    held_out = data.held_out and datasets.located(data.held_out)
    return msgspec.structs.replace(data, source=datasets.located(data.source), held_out=held_out, dir=folder)


def _require_packages(settings: Config) -> None:
    """Check for what a training with these settings imports. Raises VaeError where it is not installed."""
    require_training("vae train")
    if settings.training.log == "tensorboard":
        require("tensorboard", "`log` tensorboard")


def choose_settings(given: Given, on_event: OnEvent = ignore) -> tuple[Config, str | None]:
    """All settings of a new training, and the recipe they are from. See `train`; PyTorch is not imported.

    Raises VaeError where the pictures cannot be found, and as `Given.config`.
    """
    settings = given.config()
    if given.complete:
        return settings, None
    from vaecli import datasets
    from vaecli.datasets.surveys import grey_share as grey_share_of

    data = settings.data
    if not given.needs_recipe and not datasets.is_here(data):  # the settings can be printed all the same
        return settings, given.recipe
    found = datasets.survey(data)
    channels, height, width = found.image_shape
    shaped = dict[str, Any]()
    if data.image_size is None and (not found.one_size or max(height, width) > recipes.LARGEST_KEPT_SIDE):
        shaped["image_size"] = recipes.RESIZED_SIDE
    if data.channels is None and not found.one_kind:
        shaped["channels"] = channels
    resized = (
        f"their sizes {'are large' if found.one_size else 'differ'}, so they are cropped and resized to "
        f"{recipes.RESIZED_SIDE}x{recipes.RESIZED_SIDE} (`image_size`)"
        if "image_size" in shaped
        else ""
    )
    if not given.needs_recipe:
        if resized:
            on_event(Note(f"pictures of up to {height}x{width} pixels: {resized}"))
        settings = given.over({"data": shaped})
        if given.recipe is not None:
            _tell_of_latent_map(recipes.read(given.recipe).settings, settings, on_event)
        return settings, given.recipe
    size = data.size or ((recipes.RESIZED_SIDE, recipes.RESIZED_SIDE) if "image_size" in shaped else (height, width))
    shape = (data.channels or channels, *size)
    grey_share = grey_share_of(data) if recipes.is_small_grey(shape) else 0.0
    chosen = recipes.choose(data.source, shape, found.count, grey_share)
    resized = resized and f"; {resized}"
    on_event(Note(f"recipe {chosen.name}, for {chosen.why}{resized}; choose another with `config`"))
    if data.binarize != "none":  # then the pixels are no grey values
        chosen.settings["model"].pop("likelihood", None)
    recipe = {**chosen.settings, "data": shaped}
    training = given.over(recipe).training
    # In a training that was asked to be short, the recipe's warm-ups are short, too.
    steps = training.epochs * max(1, found.count // training.batch_size)
    for key, longest in (("warmup_steps", steps // WARM_UP), ("kl_warmup", training.epochs // WARM_UP)):
        recipe["training"][key] = min(recipe["training"].get(key, 0), longest)
    settings = given.over(recipe)
    _tell_of_latent_map(recipe, settings, on_event)
    return settings, chosen.name


def _tell_of_latent_map(recipe: Mapping[str, Mapping[str, Any]], settings: Config, on_event: OnEvent) -> None:
    """Say that the latent is no map any more, where a setting that was given replaces the map of the recipe."""
    latent_map = recipe.get("model", {}).get("latent_map", 0)
    if latent_map and not settings.model.latent_map:
        said = f"the latent is a vector of {settings.model.latent_dim} numbers, not the recipe's map"
        on_event(Note(f"{said}: `latent_map` {latent_map} keeps that"))


def plan_resumed_run(folder: RunFolder, given: Given) -> Plan:
    """Plan to continue the training in the run folder after its last whole epoch.

    Raises VaeError and UsageError as `stage.train`.
    """
    record = folder.read_record()
    settings = given.resumed(record.config)
    _require_packages(settings)
    # A training that was killed in its first epoch may have left a line without a checkpoint.
    if not folder.checkpoint.exists() and folder.metrics.exists() and (epochs := len(folder.read_metrics())) > 1:
        problem = f"{folder.checkpoint}: no such file, and {folder.metrics.name} has {epochs} epochs"
        raise VaeError(problem, "bring it back, or train anew with `overwrite` or in another `run`")
    located = msgspec.structs.replace(settings, data=_located(settings.data))
    return Plan(located, settings.data, record.recipe, record, folder.checkpoint.exists())
