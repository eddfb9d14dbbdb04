"""The one source of every setting: its name, type, bounds, default and help. Defaults < file < flags.

The structs are frozen and refuse unknown keys. TOML comes in (`resolve`), JSON goes out and comes back
(`to_json`, `from_json`). A field's `Meta` holds its bounds and the sentence that `vae train --help` shows.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from vaecli.errors import UsageError, VaeError, file_error
from vaecli.model_format import Binarize as Binarize
from vaecli.model_format import Likelihood

Precision: TypeAlias = Literal["auto", "float64", "float32", "bfloat16"]
DeviceChoice: TypeAlias = Literal["auto", "cpu", "cuda"]

Architecture: TypeAlias = Literal["mlp", "conv"]
Activation: TypeAlias = Literal["elu-tanh", "elu", "relu"]
Objective: TypeAlias = Literal["elbo", "iwae", "dreg"]
Schedule: TypeAlias = Literal["constant", "cosine"]

LARGEST_SEED = 2**64 - 1
LARGEST_SIDE = 1024  # pixels: of an image that is trained on
Seed: TypeAlias = Annotated[int, Meta(ge=0, description="Fixes every random number.")]


class DataConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which pictures, and in which order they come."""

    source: Annotated[
        str,
        Meta(description="A name that vae data lists, a folder of images, a .npy or a .npz."),
    ] = "mnist-5k"
    dir: Annotated[
        str | None,
        Meta(description="Where fetched data sets and prepared pictures are kept; left out: the user's cache."),
    ] = None
    image_size: Annotated[
        str | int | None,
        Meta(description="Crop and resize to N or HxW pixels; left out: as the pictures are."),
    ] = None
    channels: Annotated[
        int | None,
        Meta(description="1 for grey, 3 for colour; left out: as the pictures are."),
    ] = None
    binarize: Annotated[
        Binarize,
        Meta(
            description="Make pixels 0 or 1, by a threshold of one half or by a coin each time they are seen; "
            "grey values are no Bernoulli data, so only then are its losses likelihoods."
        ),
    ] = "none"
    shuffle: Annotated[bool, Meta(description="A new order every epoch, or the order of the files.")] = True
    drop_last: Annotated[bool, Meta(description="Leave out an epoch's last batch where it is short.")] = False

    @property
    def size(self) -> tuple[int, int] | None:
        """`image_size` as (height, width)."""
        if self.image_size is None:
            return None
        height, _, width = str(self.image_size).partition("x")
        return int(height), int(width or height)


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The network: an encoder to (mean, std) and its mirror image, a decoder."""

    architecture: Annotated[
        Architecture,
        Meta(description="Dense layers, or residual convolutions for pictures of 16 to 256 pixels a side."),
    ] = "mlp"
    latent_dim: Annotated[int, Meta(ge=1, le=65536, description="Size of the latent z.")] = 20
    hidden: Annotated[int, Meta(ge=1, le=65536, description="mlp: width of each hidden layer.")] = 500
    width: Annotated[
        int, Meta(ge=1, le=1024, description="conv: channels at full size; they double as the size halves.")
    ] = 32
    depth: Annotated[
        int, Meta(ge=1, le=64, description="mlp: hidden layers; conv: residual blocks at each size.")
    ] = 2
    activation: Annotated[
        Activation,
        Meta(description="mlp: what follows a hidden layer; elu-tanh has tanh next to the latent, as the tutorial."),
    ] = "elu-tanh"
    dropout: Annotated[float, Meta(ge=0, lt=1, description="Share of hidden units zeroed while training.")] = 0.1
    likelihood: Annotated[
        Likelihood,
        Meta(description="What the decoder says of a pixel; logistic is over 8-bit values."),
    ] = "bernoulli"
    scale: Annotated[
        Annotated[float, Meta(gt=0, le=10)] | None,
        Meta(description="gaussian: its standard deviation, in [0, 1] units; left out: learnt."),
    ] = None
    output_bias: Annotated[
        bool, Meta(description="Start the decoder's last bias at the mean of the training images.")
    ] = False


class TrainingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the weights are found."""

    epochs: Annotated[int, Meta(ge=1, description="Times through the training images.")] = 100
    batch_size: Annotated[int, Meta(ge=1, description="Images in one step.")] = 128
    learning_rate: Annotated[float, Meta(gt=0, le=1, description="Adam's step size.")] = 1e-3
    objective: Annotated[
        Objective,
        Meta(description="The ELBO, or the importance-weighted bound; dreg has its doubly reparameterised gradient."),
    ] = "elbo"
    importance_samples: Annotated[
        int,
        Meta(
            ge=1,
            le=10000,
            description="Latents drawn for each image in a step; the ELBO's come in opposite pairs, to calm it.",
        ),
    ] = 1
    beta: Annotated[float, Meta(ge=0, description="Weight of the KL term in the loss that is trained.")] = 1.0
    kl_warmup: Annotated[int, Meta(ge=0, description="Epochs in which that weight rises from 0 to beta.")] = 0
    free_bits: Annotated[float, Meta(ge=0, description="Nats of KL in each latent dimension that cost nothing.")] = (
        0.0
    )
    schedule: Annotated[
        Schedule, Meta(description="The learning rate over time: constant, or a half cosine to 0.")
    ] = "constant"
    warmup_steps: Annotated[int, Meta(ge=0, description="Steps in which the learning rate rises from 0.")] = 0
    ema: Annotated[
        float,
        Meta(ge=0, lt=1, description="Decay of the weights' moving average, which is what is kept; 0: none."),
    ] = 0.0
    weight_decay: Annotated[float, Meta(ge=0, le=1, description="Of AdamW, decoupled.")] = 0.0
    clip_gradient: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="Largest norm of a step's gradient; left out: any."),
    ] = None
    patience: Annotated[
        int, Meta(ge=0, description="Stop after so many epochs without a lower held-out loss; 0: never.")
    ] = 0
    precision: Annotated[
        Precision,
        Meta(description="Arithmetic of a step; auto: bfloat16 where the processor has it, else float32."),
    ] = "auto"
    device: Annotated[DeviceChoice, Meta(description="auto: CUDA where it works, else the CPU.")] = "auto"
    previews: Annotated[
        int,
        Meta(ge=0, description="Save a 3x3 picture of reconstructions every so many epochs; 0: never."),
    ] = 1
    seed: Seed | None = None


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything `vae train` can be told."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()

    def __post_init__(self) -> None:
        """Refuse what no single field's bounds can refuse."""
        # msgspec's own bounds are 64 bit signed, one bit short of a seed.
        if self.training.seed is not None and self.training.seed > LARGEST_SEED:
            raise ValueError(f"training.seed: expected an integer from 0 to {LARGEST_SEED}")
        sides = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", str(self.data.image_size), re.ASCII)
        if self.data.image_size is not None and not (
            sides and all(0 < int(side) <= LARGEST_SIDE for side in sides.groups() if side)
        ):
            raise ValueError(f"data.image_size: expected 64 or 48x64, sides from 1 to {LARGEST_SIDE} pixels")
        if self.data.channels not in (None, 1, 3):
            raise ValueError("data.channels: expected 1 (grey) or 3 (colour)")


class Field(msgspec.Struct, frozen=True):
    """One setting, seen from outside: where it stands, what it means, what it is when left out."""

    section: str
    key: str
    help: str
    default: Any


def field(section: str, key: str) -> Field:
    """Look up a setting by its place, as in `field("model", "latent_dim")`. Raises KeyError for no such one."""
    return _fields()[section, key]


@functools.cache  # looking at types is slow, and every start of the program asks for every setting
def _fields() -> dict[tuple[str, str], Field]:
    return {
        (section.name, info.name): Field(section.name, info.name, _description(info.type), info.default)
        for section in msgspec.structs.fields(Config)
        for info in msgspec.structs.fields(section.type)
    }


def _description(annotation: Any) -> str:  # noqa: ANN401 - annotations have no common type
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        for meta in getattr(candidate, "__metadata__", ()):
            if isinstance(meta, Meta) and meta.description:
                return meta.description
    raise KeyError(f"no description on {annotation}")


Flags: TypeAlias = Mapping[tuple[str, str], Any]  # by (section, key); None where a flag was not given


def draw_seed() -> int:
    """A seed nobody chose: short enough to be typed again, and exact in every JSON reader."""
    return int.from_bytes(os.urandom(4), "little")


def with_seed(config: Config, seed: int) -> Config:
    """The same config with this seed in it."""
    return msgspec.structs.replace(config, training=msgspec.structs.replace(config.training, seed=seed))


def flag_of(section: str, key: str) -> str:
    """The command-line flag of a setting: its key, but for those of [data], which say whose they are."""
    named = {("data", "source"): "--data", ("data", "dir"): "--data-dir"}
    return named.get((section, key), "--" + key.replace("_", "-"))


def flags(parameters: Mapping[str, Any]) -> Flags:
    """The settings among a command's parameters: each is called as its flag is, with underscores."""
    return {
        (section.name, key.name): parameters.get(flag_of(section.name, key.name)[2:].replace("-", "_"))
        for section in msgspec.structs.fields(Config)
        for key in msgspec.structs.fields(section.type)
    }


def resolve(file: Path | None, flags: Flags) -> Config:
    """Defaults, then the TOML `file`, then `flags` by (section, key); a flag of None was not given.

    Raises:
        VaeError: the file cannot be read, is not TOML, has an unknown key or a value out of range.
        UsageError: a flag's value is out of range.
    """
    return _agreeing(msgspec.convert(_given(file, flags), Config))


# What may change when a run goes on; anything else would make it another run.
CHANGEABLE = {("training", "epochs"), ("training", "device"), ("training", "previews"), ("data", "dir")}


def resume(recorded: Config, file: Path | None, flags: Flags) -> Config:
    """The config of a run that goes on: as recorded, but for what may change.

    Raises:
        VaeError: the file cannot be used.
        UsageError: the file or a flag asks for something else than the run was begun with.
    """
    settings = msgspec.to_builtins(recorded)
    for section, keys in _given(file, flags).items():
        for key, value in keys.items():
            if (section, key) not in CHANGEABLE and value != settings[section][key]:
                raise UsageError(
                    f"{flag_of(section, key)} {value}: the run was begun with {settings[section][key]}",
                    "leave it out to go on as begun, or train anew with --overwrite or another --run",
                )
            settings[section][key] = value
    return _agreeing(msgspec.convert(settings, Config))


def _agreeing(config: Config) -> Config:
    """The config itself, where its settings go together. Raises UsageError where two do not."""
    model, training = config.model, config.training
    weighted = training.objective != "elbo"
    plain = training.beta == 1 and not training.kl_warmup and not training.free_bits
    if weighted and not plain:
        raise UsageError(
            f"--objective {training.objective}: knows no --beta, --kl-warmup or --free-bits, which weigh a KL term",
            "leave them out, or use --objective elbo",
        )
    if model.scale is not None and model.likelihood != "gaussian":
        raise UsageError(
            f"--scale {model.scale}: a {model.likelihood} likelihood has none to give",
            "use --likelihood gaussian",
        )
    if config.data.binarize != "none" and model.likelihood != "bernoulli":
        raise UsageError(
            f"--binarize {config.data.binarize}: makes pixels 0 or 1, not for --likelihood {model.likelihood}",
            "use --likelihood bernoulli, or leave --binarize out",
        )
    return config


def _given(file: Path | None, flags: Flags) -> dict[str, dict[str, Any]]:
    """What was asked for, by section and key, checked piece by piece so that an error names its place."""
    settings: dict[str, dict[str, Any]] = {}
    if file is not None:
        settings = _read_toml(file)
    for (section, key), value in flags.items():
        if value is None:
            continue
        try:
            msgspec.convert({section: {key: value}}, Config)
        except msgspec.ValidationError as error:
            flag = flag_of(section, key)
            raise UsageError(f"{flag} {value}: {_reason(error)}", f"see vae train --help for {flag}") from error
        settings.setdefault(section, {})[key] = value
    return settings


def _read_toml(file: Path) -> dict[str, dict[str, Any]]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise file_error(file, error) from error
    try:
        settings = msgspec.toml.decode(content)
    except msgspec.DecodeError as error:
        raise VaeError(f"{file}: not valid TOML: {error}", "see examples/ for files that work") from error
    try:
        msgspec.convert(settings, Config)
    except msgspec.ValidationError as error:
        place, unknown = _place(error)
        raise VaeError(f"{file}: {place}: {_reason(error)}", _remedy(place, unknown)) from error
    assert isinstance(settings, dict)
    return settings


_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"unknown field `(?P<key>[^`]*)`")
_OWN = re.compile(r"^(?P<section>\w+)\.(?P<key>\w+): ")  # how __post_init__ names a place


def _place(error: msgspec.ValidationError) -> tuple[str, str | None]:
    """Where in the file an error stands, as `[section] key`, and the key's name where it is unknown."""
    text = str(error)
    at = _AT.search(text)
    parts = at["path"].split(".") if at and at["path"] else []
    unknown = _UNKNOWN.search(text)
    if unknown:
        parts.append(unknown["key"])
    elif own := _OWN.match(text):
        parts = [own["section"], own["key"]]
    if not parts:
        return "top level", None
    if len(parts) == 1:
        return (parts[0] if unknown else f"[{parts[0]}]"), unknown and unknown["key"]
    return f"[{parts[0]}] {parts[1]}", unknown and unknown["key"]


def _reason(error: msgspec.ValidationError) -> str:
    """What is wrong, in msgspec's words without its path."""
    text = _OWN.sub("", _AT.sub("", str(error)))
    if _UNKNOWN.search(text):
        return "unknown key"
    return text.replace("`", "").lower()


def _remedy(place: str, unknown: str | None) -> str:
    sections = {
        info.name: [key.name for key in msgspec.structs.fields(info.type)] for info in msgspec.structs.fields(Config)
    }
    section = place.removeprefix("[").partition("]")[0] if place.startswith("[") else ""
    known = sections.get(section, list(sections))
    if unknown is None:
        return "vae train --help says what each setting may be"
    close = difflib.get_close_matches(unknown, known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    where = f"[{section}] knows" if section else "the sections are"
    return f"{where} {', '.join(known)}"


def to_json(config: Config) -> bytes:
    """The config as JSON, every value written out. `from_json` gives an equal config back."""
    return msgspec.json.encode(config)


def from_json(content: bytes) -> Config:
    """The config that `to_json` wrote. Raises msgspec.DecodeError for anything else."""
    return msgspec.json.decode(content, type=Config)
