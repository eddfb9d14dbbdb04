"""The recipes in the package: settings known to work, by name, and which of them suits which pictures.

A recipe is a TOML file of settings beside this module. Its table [about] says what it is for and, where that was
measured, what it reached, in which time, on how many training pictures.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import msgspec

from vaecli.config import CONVOLVED_SIDES
from vaecli.model_format import ImageShape

ABOUT = "about"  # the table for people
SMALL = 32  # pixels: the longer side of a picture that dense layers see well
FEW_PICTURES = 20_000  # training pictures; below, the recipe for few small ones is taken
LEAST_FOR_VAMP = 1000  # pictures: of fewer a VampPrior overfits, and N(0, I) is better
MOST_TIMES_THE_EPOCHS = 3  # the largest factor of a recipe's epochs, for fewer pictures than it was measured on
LEAST_GREY_SHARE = 0.25  # of the values of small grey pictures; with more, they are no strokes in black and white
LARGEST_KEPT_SIDE = 128  # pixels: pictures of one size up to this stay as they are; the time grows with their area
RESIZED_SIDE = 64  # pixels a side that larger pictures, and pictures of several sizes, are cropped and resized to
AREA = 64  # pixels of a picture, for each position of the smallest feature map, which has latent numbers of its own
POSITIONS = 16, 64  # the fewest and the most of such a map


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe: its settings by section, and what is known of it."""

    name: str
    purpose: str
    reached: str | None = None  # the held-out loss that was measured, and on what
    time: str | None = None
    pictures: int | None = None  # to train on, as it was measured
    settings: dict[str, dict[str, Any]]


class Choice(msgspec.Struct, frozen=True):
    """A recipe for pictures, with the settings that they need changed."""

    name: str
    settings: dict[str, dict[str, Any]]  # of the recipe's sections model and training
    why: str


@functools.cache
def _files() -> dict[str, Path]:
    return {file.stem: file for file in Path(__file__).parent.glob("*.toml")}


def names() -> list[str]:
    """The name of every recipe."""
    return sorted(_files())


def read(name: str) -> Recipe:
    """The recipe of that name. Raises KeyError where there is none."""
    settings = msgspec.toml.decode(_files()[name].read_bytes(), type=dict[str, dict[str, Any]])
    about = settings.pop(ABOUT)
    return Recipe(
        name=name,
        purpose=about["for"],
        reached=about.get("reached"),
        time=about.get("time"),
        pictures=about.get("pictures"),
        settings=settings,
    )


def known() -> list[Recipe]:
    """Every recipe, by name."""
    return [read(name) for name in names()]


def is_small_grey(image_shape: ImageShape) -> bool:
    """Whether dense layers may suit pictures of (channels, height, width)."""
    channels, height, width = image_shape
    return channels == 1 and max(height, width) <= SMALL


def choose(source: str, image_shape: ImageShape, count: int, grey_share: float = 0.0) -> Choice:
    """The recipe for `count` pictures of (channels, height, width): the best one known for such.

    Small pictures in black and white get dense layers; larger ones, those in colour and those of which a share of
    LEAST_GREY_SHARE or more are shades of grey get convolutions and a likelihood over 8-bit values. With few pictures
    there are more epochs, MOST_TIMES_THE_EPOCHS times as many at most.
    """
    channels, height, width = image_shape
    low, high = CONVOLVED_SIDES
    shaded = grey_share >= LEAST_GREY_SHARE and min(height, width) >= low
    if is_small_grey(image_shape) and not shaded:
        name = "fashion-mnist" if source == "fashion-mnist" else "mnist-5k" if count < FEW_PICTURES else "mnist-mlp"
        why = f"small grey pictures ({height}x{width}, {count:,} of them)"
    else:
        name, why = "pictures", f"{'grey' if channels == 1 else 'colour'} pictures of {height}x{width}"
        if is_small_grey(image_shape):
            why += f", {grey_share:.0%} of whose values are shades of grey"
    recipe = read(name)
    settings = {section: dict(keys) for section, keys in recipe.settings.items() if section != "data"}
    if recipe.pictures is not None and count < recipe.pictures:
        settings["training"]["epochs"] *= max(1, min(MOST_TIMES_THE_EPOCHS, round(recipe.pictures / count)))
    if settings["model"].get("prior") == "vamp" and count < LEAST_FOR_VAMP:
        settings["model"]["prior"] = "normal"
        why += ", with the prior N(0, I) because they are few"
    if settings["model"].get("architecture") == "conv" and not low <= min(height, width) <= max(height, width) <= high:
        settings["model"]["architecture"] = "mlp"
        why += f", with dense layers because convolutions take {low} to {high} pixels a side"
    if settings["model"].get("latent_map"):
        settings["model"]["map_size"] = _map_size(height, width, settings["model"]["patch"])
    return Choice(name, settings, why)


def _map_size(height: int, width: int, patch: int) -> int:
    """The longer side of the feature map with nearly a position for each AREA, of those that halving gives."""
    fewest, most = POSITIONS
    wanted = min(max(height * width / AREA, fewest), most)
    sides = [(-(-height // patch), -(-width // patch))]
    while max(sides[-1]) > 1:
        high, wide = sides[-1]
        sides.append((-(-high // 2), -(-wide // 2)))
    return max(min(sides, key=lambda side: abs(math.log(math.prod(side) / wanted))))
