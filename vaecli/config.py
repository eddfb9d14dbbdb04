"""The one source of every setting: its name, type, bounds, default and help.

A config is valid however it is made: in Python, from a dict, from TOML or from JSON. The defaults are those of the
recipe `tutorial`. A field's `Meta` holds its bounds and the sentence that `vae train --help` shows.
"""

from __future__ import annotations

import functools
import math
import numbers
import re
import textwrap
from os import urandom
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin

import msgspec
from msgspec import Meta

from vaecli.errors import UsageError
from vaecli.model_format import LARGEST_MIXTURE, LIKELIHOODS, Likelihood
from vaecli.model_format import Binarize as Binarize
from vaecli.untrusted_text import json_line

Arithmetic: TypeAlias = Literal["float64", "float32", "bfloat16"]
Precision: TypeAlias = Literal["auto", Arithmetic]
DeviceChoice: TypeAlias = Literal["auto", "cpu", "cuda"]
Architecture: TypeAlias = Literal["mlp", "conv"]
Activation: TypeAlias = Literal["elu-tanh", "elu", "relu", "linear"]
Objective: TypeAlias = Literal["elbo", "iwae", "dreg"]
Schedule: TypeAlias = Literal["constant", "cosine"]
Log: TypeAlias = Literal["none", "tensorboard"]
ScalePer: TypeAlias = Literal["model", "channel", "pixel"]
TrainedPrior: TypeAlias = Literal["normal", "vamp"]
Split: TypeAlias = Literal["held-out", "validation", "train", "all"]  # the pictures of a data set to measure on
Criterion: TypeAlias = Literal["strangeness", "local", "excess", "bound"]  # that scored pictures are sorted by
PriorChoice: TypeAlias = Literal["model", "mixture", "normal"]  # p(z): the model's own, its mixture, or N(0, I)
SamplePrior: TypeAlias = Literal["model", "flow", "mixture", "normal"]  # what samples are drawn from

TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}  # msgspec's names
LARGEST_SEED = 2**64 - 1
LARGEST_SIDE = 1024  # pixels: of an image that is trained on
CONVOLVED_SIDES = 16, 256  # pixels: the shortest and the longest side of images that convolutions take

# Defaults of using a model. Those of training are the defaults of the settings below.
RUN = Path("runs/default")
TEMPERATURE = 1.0  # the prior's own standard deviation
PRIOR: PriorChoice = "model"
STEPS = 9  # images of an interpolation or traversal, both ends included
MANIFOLD_STEPS = 20  # images on each side of a plane
REACH = 3.0  # of a traversal: from -3 to 3, where 99.7 % of N(0, 1) lies
PORT = 8000  # of the page of vae explore; where it is in use, the next free one
IMPORTANCE_SAMPLES = 10  # latents per image in an evaluation

SettingKey: TypeAlias = tuple[str, str]  # (section, key) of a setting


class SettingError(UsageError):
    """A setting whose value is not allowed, alone or beside another one."""

    def __init__(self, setting: SettingKey, value: object, reason: str, hint: str) -> None:
        super().__init__(f"`{setting[1]}` {value}: {reason}", hint)
        self.setting, self._arguments = setting, (setting, value, reason, hint)

    def __reduce__(self) -> tuple[type[SettingError], tuple[SettingKey, object, str, str]]:
        """How it goes to another process."""
        return type(self), self._arguments


class _Section(msgspec.Struct, frozen=True):
    """A group of settings that checks and converts its values: msgspec does so only with what it decodes."""

    def __post_init__(self) -> None:
        for setting, known in _fields().items():
            if known.owner is type(self):
                msgspec.structs.force_setattr(self, known.key, check(setting, getattr(self, known.key)))


class DataConfig(_Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which pictures, and in which order."""

    source: Annotated[
        str,
        Meta(description="A name that vae data lists, a folder of images, .tar or .parquet shards, a .npy or a .npz."),
    ] = "mnist-5k"
    dir: Annotated[
        str | None,
        Meta(description="Folder for downloaded data sets and prepared pictures; left out: the user's cache."),
    ] = None
    image_size: Annotated[
        str | int | None,
        Meta(description="Crop and resize to N or HxW pixels; left out: as they are, 64 if they differ or are large."),
    ] = None
    channels: Annotated[
        int | None,
        Meta(description="1 for grey, 3 for colour; left out: as the pictures are."),
    ] = None
    binarize: Annotated[
        Binarize,
        Meta(
            description="Make pixels 0 or 1: by a threshold of 0.5, or at random with the grey value as probability, "
            "anew in every epoch. Without this, the Bernoulli loss of grey pixels is not a likelihood."
        ),
    ] = "none"
    held_out: Annotated[
        str | None,
        Meta(
            description="Hold out the images of this data set, folder or array. Without it: the test images that the "
            "source has, or a fixed tenth of it.",
        ),
    ] = None
    validation: Annotated[
        int,
        Meta(
            ge=0,
            description="Use N of the training images for validation: they choose the best epoch. 0: the held-out "
            "images choose it, which makes their loss a little too low.",
        ),
    ] = 0
    shuffle: Annotated[bool, Meta(description="Shuffle the images in every epoch.")] = True
    drop_last: Annotated[
        bool, Meta(description="Leave out the last batch of an epoch if it is smaller than the others.")
    ] = False

    @property
    def sources(self) -> tuple[str, ...]:
        """`source`, and `held_out` where pictures of another source are held out."""
        return (self.source,) if self.held_out is None else (self.source, self.held_out)

    @property
    def size(self) -> tuple[int, int] | None:
        """`image_size` as (height, width)."""
        if self.image_size is None:
            return None
        height, _, width = str(self.image_size).partition("x")
        return int(height), int(width or height)


class ModelConfig(_Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The network: an encoder from a picture to (mean, std), and a decoder back."""

    architecture: Annotated[
        Architecture,
        Meta(
            description="Dense layers, or residual convolutions for pictures of {} to {} pixels a side.".format(
                *CONVOLVED_SIDES
            )
        ),
    ] = "mlp"
    latent_dim: Annotated[int, Meta(ge=1, le=65536, description="Size of the latent z.")] = 20
    conditional: Annotated[
        bool,
        Meta(
            description="Give encoder and decoder the class of each picture: q(z|x, y) and p(x|z, y). The latent then "
            "need not describe the class. The pictures must have classes: subfolders, labels.csv, y in "
            "an .npz, the labels of shards, or those of a named data set."
        ),
    ] = False
    prior: Annotated[
        TrainedPrior,
        Meta(
            description="The prior of the latents: normal is N(0, I); vamp is a mixture of the posteriors of learned "
            "pictures (VampPrior), which gives better samples and takes longer. After either, vae export fits a "
            "mixture."
        ),
    ] = "normal"
    pseudo_inputs: Annotated[
        int, Meta(ge=1, le=10_000, description="vamp: how many learned pictures; each step encodes all of them.")
    ] = 100
    map_size: Annotated[
        int,
        Meta(
            ge=1, le=256, description="conv: longest side of the smallest feature map; the map is halved until it fits."
        ),
    ] = 8
    latent_map: Annotated[
        int,
        Meta(
            ge=0,
            le=4096,
            description="conv: N latent numbers for each position of the smallest feature map, without a dense layer. "
            "Details are learned much faster, but distant parts of a sample fit together less well. 0: one vector of "
            "latent_dim numbers.",
        ),
    ] = 0
    hidden: Annotated[int, Meta(ge=1, le=65536, description="mlp: width of each hidden layer.")] = 500
    width: Annotated[
        int,
        Meta(
            ge=1,
            le=1024,
            description="conv: channels of the largest feature map; each halving of the size doubles them.",
        ),
    ] = 32
    patch: Annotated[
        int,
        Meta(
            ge=1,
            le=8,
            description="conv: cut pictures into patches of NxN pixels: much faster, but less sharp at patch edges.",
        ),
    ] = 1
    depth: Annotated[int, Meta(ge=1, le=64, description="mlp: hidden layers; conv: residual blocks at each size.")] = 2
    activation: Annotated[
        Activation,
        Meta(
            description="mlp: activation of the hidden layers; elu-tanh has tanh next to the latent, ELU elsewhere; "
            "linear is none: with gaussian pixels, probabilistic PCA."
        ),
    ] = "elu-tanh"
    dropout: Annotated[
        float, Meta(ge=0, le=0.99, description="Probability that a hidden unit is dropped in training.")
    ] = 0.1
    likelihood: Annotated[
        Likelihood,
        Meta(
            description="Distribution of a pixel given the latent. For colour and 8-bit values: logistic makes clearer "
            "pictures, logistic-mixture needs fewer bits."
        ),
    ] = "bernoulli"
    # No bound is gt=0: msgspec takes it for >= 5e-324, which is 0 in a process that flushes denormals, as trainings do.
    scale: Annotated[
        Annotated[float, Meta(ge=1e-6, le=10)] | None,
        Meta(
            description="gaussian: standard deviation of a pixel in [0, 1]; logistic: its scale s, where the "
            "standard deviation is 1.81 s; left out: learned."
        ),
    ] = None
    scale_per: Annotated[
        ScalePer,
        Meta(
            description="gaussian, logistic: one learned scale for the model, one for each channel, or one for each "
            "pixel, which the decoder predicts."
        ),
    ] = "model"
    components: Annotated[
        int, Meta(ge=1, le=LARGEST_MIXTURE, description="logistic-mixture: logistic distributions for each pixel.")
    ] = 5
    output_bias: Annotated[
        bool, Meta(description="Start the decoder's last bias at the mean of the training images.")
    ] = False


class TrainingConfig(_Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the weights are trained."""

    epochs: Annotated[int, Meta(ge=1, description="Passes over the training images.")] = 100
    batch_size: Annotated[int, Meta(ge=1, description="Images in one step.")] = 128
    learning_rate: Annotated[float, Meta(ge=1e-12, le=1, description="Adam's step size.")] = 1e-3
    objective: Annotated[
        Objective,
        Meta(description="The ELBO, or the importance-weighted bound; dreg is its doubly reparameterised gradient."),
    ] = "elbo"
    importance_samples: Annotated[
        int,
        Meta(
            ge=1,
            le=10000,
            description="Latents drawn per image in a step; for the ELBO in antithetic pairs, for less noise.",
        ),
    ] = 1
    beta: Annotated[float, Meta(ge=0, le=1e6, description="Weight of the KL term in the training loss.")] = 1.0
    kl_warmup: Annotated[int, Meta(ge=0, description="Epochs in which the KL weight rises from 0 to beta.")] = 0
    free_bits: Annotated[
        float, Meta(ge=0, le=1e6, description="KL of each latent dimension, in nats, that is not penalised.")
    ] = 0.0
    schedule: Annotated[
        Schedule,
        Meta(
            description="Learning rate over time: constant, or half a cosine down to 0. If a resumed training changes "
            "its epochs, the cosine begins anew."
        ),
    ] = "constant"
    warmup_steps: Annotated[int, Meta(ge=0, description="Steps in which the learning rate rises from 0.")] = 0
    ema: Annotated[
        float,
        Meta(
            ge=0, lt=1, description="Decay of a moving average of the weights, which is saved in their place; 0: none."
        ),
    ] = 0.0
    weight_decay: Annotated[float, Meta(ge=0, le=1, description="Decoupled weight decay, as in AdamW.")] = 0.0
    clip_gradient: Annotated[
        Annotated[float, Meta(ge=1e-12)] | None,
        Meta(description="Scale gradients down to this norm if they are larger; left out: never."),
    ] = None
    patience: Annotated[
        int, Meta(ge=0, description="Stop after N epochs without a better held-out objective; 0: never.")
    ] = 0
    precision: Annotated[
        Precision,
        Meta(description="Arithmetic of a step; auto: bfloat16 where this machine is faster with it, else float32."),
    ] = "auto"
    device: Annotated[DeviceChoice, Meta(description="auto: CUDA where it works, else the CPU.")] = "auto"
    previews: Annotated[
        int,
        Meta(ge=0, description="Save a 3x3 picture of reconstructions every N epochs; 0: never."),
    ] = 1
    log: Annotated[Log, Meta(description="tensorboard: write curves and previews for TensorBoard, too.")] = "none"
    seed: Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="Seed of the random numbers.")] = None


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that a training can be told. Raises UsageError for values that are not allowed."""

    data: DataConfig = msgspec.field(default_factory=DataConfig)
    model: ModelConfig = msgspec.field(default_factory=ModelConfig)
    training: TrainingConfig = msgspec.field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        """Refuse settings that exclude each other."""
        model, training = self.model, self.training
        for key in ("beta", "kl_warmup", "free_bits"):
            if training.objective != "elbo" and getattr(training, key) != field("training", key).default:
                raise SettingError(
                    ("training", key),
                    getattr(training, key),
                    f"`objective` {training.objective} has no KL term to weigh",
                    f"leave `{key}` out, or use `objective` elbo",
                )
        if model.prior != "normal" and training.free_bits:
            raise SettingError(
                ("training", "free_bits"),
                training.free_bits,
                f"`prior` {model.prior} has no KL of single dimensions",
                "leave `free_bits` out, or use `prior` normal",
            )
        for key in ("scale", "scale_per"):
            given = getattr(model, key)
            if given != field("model", key).default and not LIKELIHOODS[model.likelihood].scale_can_be_set:
                raise SettingError(
                    ("model", key),
                    given,
                    f"the {model.likelihood} likelihood does not take one",
                    "leave it out, or use `likelihood` gaussian or logistic",
                )
        if model.scale is not None and model.scale_per != field("model", "scale_per").default:
            raise SettingError(
                ("model", "scale_per"), model.scale_per, f"`scale` {model.scale} is for all pixels", "give one of them"
            )
        if self.data.binarize != "none" and LIKELIHOODS[model.likelihood].for_grey_values:
            raise SettingError(
                ("data", "binarize"),
                self.data.binarize,
                f"makes pixels 0 or 1, and `likelihood` {model.likelihood} is for grey values",
                "leave it out, or use `likelihood` bernoulli",
            )


class Field(msgspec.Struct, frozen=True):
    """One setting: what it means, its type, and its value where nothing is given."""

    owner: type
    key: str
    help: str
    type: Any
    default: Any


def field(section: str, key: str) -> Field:
    """Look up a setting: `field("model", "latent_dim")`. Raises KeyError where there is none."""
    return _fields()[section, key]


def setting_keys() -> list[SettingKey]:
    """The (section, key) of every setting."""
    return list(_fields())


@functools.cache  # inspecting types takes milliseconds, and every start of the program needs all settings
def _fields() -> dict[SettingKey, Field]:
    sections: dict[str, type[msgspec.Struct]] = {"data": DataConfig, "model": ModelConfig, "training": TrainingConfig}
    return {
        (section, info.name): Field(owner, info.name, _description(info.type), info.type, info.default)
        for section, owner in sections.items()
        for info in msgspec.structs.fields(owner)
    }


def _description(annotation: Any) -> str:  # noqa: ANN401 - annotations have no common type
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        for meta in getattr(candidate, "__metadata__", ()):
            if isinstance(meta, Meta) and meta.description:
                return meta.description
    raise KeyError(f"no description on {annotation}")


def check(setting: SettingKey, value: Any) -> Any:  # noqa: ANN401 - any setting's value
    """The value in the setting's type. Raises SettingError where it is of another type or out of bounds."""
    kind = _fields()[setting].type
    if isinstance(value, PurePath) and setting[0] == "data":
        value = str(value)
    shape = getattr(value, "shape", None)
    if setting[0] == "data" and shape:
        remedy = "save it, numpy.savez('pictures.npz', x=pictures), and name the file"
        raise SettingError(setting, f"an array of shape {shape}", "expected a name or a path", remedy)
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):  # such as NumPy's
        value = int(value)
    elif isinstance(value, numbers.Real) and not isinstance(value, bool):
        value = float(value)
    try:
        converted = msgspec.convert(value, kind)
        if isinstance(converted, float) and not math.isfinite(converted):
            raise ValueError("expected a finite number")
        _check_by_key(setting[1], converted)
    except (msgspec.ValidationError, ValueError) as error:
        choices = next((get_args(part) for part in (kind, *get_args(kind)) if get_origin(part) is Literal), ())
        reason = f"expected one of {', '.join(choices)}" if choices else _in_plain_words(str(error))
        # A number in quotes is shown with them.
        text = isinstance(value, str) and isinstance(error, msgspec.ValidationError) and not choices
        shown = json_line(value) if text else value
        raise SettingError(setting, shown, reason, f"vae train --help-all explains `{setting[1]}`") from error
    return _one_form_of_size(converted) if setting == ("data", "image_size") and converted is not None else converted


def _one_form_of_size(size: str | int) -> str | int:
    """64 of "64" and "64x64", so that equal sizes are equal settings; "48x64" stays."""
    height, _, width = str(size).partition("x")
    return int(height) if int(width or height) == int(height) else f"{int(height)}x{int(width)}"


def _in_plain_words(expected: str) -> str:
    """What msgspec expected, for people: "Expected `int` >= 1" and "Expected `int | null`, got `str`" name types."""
    parts = expected.lower().partition(", got ")[0].split("`")
    parts[1::2] = (
        " or ".join(TYPES.get(kind, kind) for kind in part.split(" | ") if kind != "null") for part in parts[1::2]
    )
    return "".join(parts)


def _check_by_key(key: str, value: Any) -> None:  # noqa: ANN401 - any setting's value
    """Refuse what bounds in `Meta` cannot express. Raises ValueError."""
    if value is None:
        return
    if key in ("source", "held_out") and not value:
        raise ValueError("expected a name or a path")
    if key == "seed" and value > LARGEST_SEED:  # msgspec's own bounds are signed, one bit short of a seed
        raise ValueError(f"expected a whole number from 0 to {LARGEST_SEED}")
    if key == "channels" and value not in (1, 3):
        raise ValueError("expected 1 (grey) or 3 (colour)")
    if key == "image_size":
        sides = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", str(value), re.ASCII)
        if not sides or not all(0 < int(side) <= LARGEST_SIDE for side in sides.groups() if side):
            raise ValueError(f"expected 64 or 48x64, sides from 1 to {LARGEST_SIDE} pixels")


def draw_seed() -> int:
    """A random seed, short enough to be typed, and exact in every JSON reader."""
    return int.from_bytes(urandom(4), "little")


def with_seed(config: Config, seed: int) -> Config:
    """The same config with this seed."""
    return msgspec.structs.replace(config, training=msgspec.structs.replace(config.training, seed=seed))


def to_json(config: Config) -> bytes:
    """The config as JSON, every value written out. `from_json` gives an equal config back."""
    return msgspec.json.encode(config)


def to_toml(config: Config, recipe: str) -> str:
    """The config as a TOML file, each setting below the sentence that explains it. What is not set is left out.

    `recipe` names the one that the settings are from, which has what is left out.
    """
    lines = ["# The recipe that these settings are from.", f"recipe = {json_line(recipe)}", ""]
    heading = ""
    for (section, key), known in _fields().items():
        value = getattr(getattr(config, section), key)
        if section != heading:
            lines += ["", f"[{section}]"] if heading else [f"[{section}]"]
            heading = section
        lines += textwrap.wrap(known.help, 100, initial_indent="# ", subsequent_indent="# ")
        # JSON's strings, numbers, true and false are TOML's.
        lines.append(f"# {key} =" if value is None else f"{key} = {json_line(value)}")
    return "\n".join(lines) + "\n"


def from_json(content: bytes) -> Config:
    """The config that `to_json` wrote. Raises msgspec.DecodeError or UsageError for anything else."""
    return msgspec.json.decode(content, type=Config)


def check_prior(prior: str, trained: TrainedPrior) -> None:
    """Raise UsageError where the `prior` normal is asked for, and the model was not trained with N(0, I)."""
    if prior == "normal" and trained != "normal":
        raise UsageError("`prior` normal: the model was trained with a VampPrior, not with N(0, I)", "leave it out")
