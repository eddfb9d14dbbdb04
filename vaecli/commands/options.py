"""The options that commands share, each written once as an Annotated type."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vaecli import config
from vaecli.cli import completion
from vaecli.cli.help_page import ADVANCED
from vaecli.files import with_home
from vaecli.flags import flag_of

Run = Annotated[
    Path,
    typer.Option(
        "--run",
        "-r",
        envvar="VAE_RUN",
        callback=with_home,
        autocompletion=completion.run_folders,
        help="The folder where a training and its exported model are kept.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No notes and no progress: the result, warnings and errors only.")
]
Device = Annotated[
    config.DeviceChoice,
    typer.Option("--device", help="auto takes CUDA where it works, else the CPU; cuda never falls back."),
]
_INPUTS = (
    "Image files, folders, .npy or .npz files, .tar shards (WebDataset), .parquet files of image bytes, 'patterns*' "
    "and addresses (s3://…) of these, - for stdin, or the name of a data set (see vae data): its held-out pictures. A "
    "file takes precedence over a data set of the same name. Limits: 89 million pixels a picture (WebP: half of that); "
    "537 MB from stdin or unpacked from a file, or 16 times the size of the file. The variables VAE_MAX_MEGAPIXELS and "
    "VAE_MAX_MEGABYTES raise them."
)
InputArguments = Annotated[list[str] | None, typer.Argument(metavar="INPUT...", help=_INPUTS)]
FilesFrom = Annotated[
    str | None,
    typer.Option("--files-from", help="Read the names of more INPUTs, one a line, from this file; - for stdin."),
]
Split = Annotated[
    config.Split | None,
    typer.Option(
        "--split",
        help="Take the pictures that the training holds out, those of its --validation, those it trains on, or all. "
        "Without INPUT: of the training's data; else of one data set, folder or array, split as training does.",
        show_default="every picture of INPUT",
    ),
]
_PICTURES = "A picture (.png .jpg .webp), array (.npy), folder/ for one PNG each, or - for PNG on stdout."
_PICTURES_OR_ANIMATION = _PICTURES.replace("array (", "animation (.gif), array (")
PARQUET_FOLDER = "or NAME.parquet/, a folder of Parquet files"  # of what the commands of a job write
_UNLESS_SHOWN = "none; required unless --show is given"
_PICTURES_OR_PARQUET = _PICTURES.replace(", or - for PNG on stdout.", f", - for PNG on stdout, {PARQUET_FOLDER}.")
PicturesOrParquet = Annotated[
    str | None, typer.Option("--output", "-o", help=_PICTURES_OR_PARQUET, show_default=_UNLESS_SHOWN)
]
OutputOrShow = Annotated[str | None, typer.Option("--output", "-o", help=_PICTURES, show_default=_UNLESS_SHOWN)]
AnimationOrShow = Annotated[
    str | None, typer.Option("--output", "-o", help=_PICTURES_OR_ANIMATION, show_default=_UNLESS_SHOWN)
]
Show = Annotated[bool, typer.Option("--show", help="Draw the picture in this terminal; without -o nothing is written.")]
HeldOutOf = Annotated[
    str | None,
    typer.Option(
        "--data",
        autocompletion=completion.data_sources,
        help="Use this data set, folder or array: its held-out pictures where the model was trained on it.",
        show_default="what the model was trained on, else the built-in digits",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        min=0,
        max=config.LARGEST_SEED,
        help="Seed of the random numbers.",
        show_default="drawn at random and printed",
    ),
]
FixedSeed = Annotated[
    int,
    typer.Option("--seed", min=0, max=config.LARGEST_SEED, help="Seed of the random numbers."),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        help="Pictures in a batch. The same seed gives the same latents for any number.",
        show_default="chosen by the size of the pictures",
    ),
]
Clobber = Annotated[
    bool | None,
    typer.Option(
        "--clobber/--no-clobber",
        help="--clobber empties a folder/ of what vae wrote there before; --no-clobber never replaces a file.",
        show_default=False,
    ),
]
NoClobber = Annotated[bool, typer.Option("--no-clobber", help="Never replace a file that exists.")]
Scale = Annotated[
    int | None,
    typer.Option(
        "--scale",
        min=1,
        max=64,
        help="Enlarge pictures by whole pixels.",
        show_default="chosen so that small pictures are easy to see",
    ),
]
Columns = Annotated[
    int | None,
    typer.Option("--columns", min=1, help="Pictures in a row of the grid.", show_default="as many as suit"),
]
Dtype = Annotated[
    Literal["uint8", "float32"] | None,
    typer.Option("--dtype", help="Type of a .npy: uint8, or float32 in [0, 1].", show_default="uint8"),
]
Binarize = Annotated[
    config.Binarize | None,
    typer.Option(
        "--binarize",
        help="Make pixels 0 or 1: by a threshold of 0.5, or at random with the grey value as probability.",
        show_default="as in training",
    ),
]
SortingSamples = Annotated[
    int | None,
    typer.Option(
        "--importance-samples",
        "-k",
        min=1,
        help="Sort by the importance-weighted bound with K latents for each picture, not by strangeness.",
        show_default="sort by strangeness, with 1 latent",
    ),
]
SortedBy = Annotated[
    config.Criterion | None,
    typer.Option(
        "--by",
        help="Sort by the strangeness of the whole picture, by that of its strangest area (local), by the excess loss, "
        "or with -k by the bound.",
        show_default="strangeness",
    ),
]
Flagged = Annotated[
    float | None,
    typer.Option(
        "--flag",
        help="Only pictures whose tail is at most X: 0.01 means as strange as the strangest 1 % of held-out pictures. "
        "With --by local it is the local_tail.",
    ),
]
Top = Annotated[
    int | None,
    typer.Option("--top", min=1, help="List and draw only N.", show_default="10 listed, 25 drawn; with --flag all"),
]
StrangePicture = Annotated[
    str | None,
    typer.Option(
        "--picture",
        help="Draw the strangest, above their reconstructions (.png .jpg .webp) or alone (.npy or folder/).",
    ),
]
Heatmap = Annotated[
    str | None,
    typer.Option(
        "--heatmap",
        help="Draw heat maps of where the model disagrees with each picture: a folder/, .npy, or .png .jpg .webp.",
    ),
]
Prior = Annotated[
    config.PriorChoice,
    typer.Option(
        "--prior",
        help="model: the mixture that vae export has fitted, else N(0, I); samples are drawn from the flow if there is "
        "one. mixture: samples from the mixture, too. normal: N(0, I), refused for a model with a VampPrior.",
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        "--label",
        metavar="CLASS",
        help="Conditional models only: use this class for all pictures, whatever folder they are in. "
        "vae info lists the classes.",
        show_default=False,
    ),
]
_PROCESSES = "Several processes, for -o NAME.parquet/"
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Processes that share the work.",
        show_default="one for each processor; on a GPU one",
        rich_help_panel=_PROCESSES,
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Share the work out on a Ray cluster: HOST:PORT; auto: that of this machine; local: a new one here.",
        rich_help_panel=_PROCESSES,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Keep the blocks that an earlier run has finished, and do the rest.",
        rich_help_panel=_PROCESSES,
    ),
]
Invert = Annotated[bool, typer.Option("--invert", help="Invert the pictures first: for black on white.")]


# The settings that most people change. The others are on the page of --help-all.
MAIN_SETTINGS = {
    "source", "dir", "image_size", "channels", "architecture", "prior", "conditional", "latent_dim", "hidden",
    "likelihood", "epochs", "batch_size", "learning_rate", "beta", "device", "seed",
}  # fmt: skip
METAVARS = {
    "source": "NAME|PATH",
    "held_out": "NAME|PATH",
    "dir": "FOLDER",
    "image_size": "N|HxW",
}  # of a value, where its type does not say it
PANELS = {"data": "pictures", "model": "model", "training": "training"}


def setting(section: str, key: str, *names: str, envvar: str | None = None) -> Any:  # noqa: ANN401 - as typer's
    """The flag of a setting: its name, help and default are those of the config."""
    known = config.field(section, key)
    # Of most settings the recipe has the value that holds without the flag.
    defaults = {
        "seed": "drawn at random and printed",
        "source": f"that of the recipe; without --config {known.default}",
        "device": str(known.default),
    }
    panel = PANELS[section].capitalize() if key in MAIN_SETTINGS else f"{ADVANCED}: {PANELS[section]}"
    return typer.Option(
        *(names or (flag_of(key),)),
        metavar=METAVARS.get(key),
        autocompletion=completion.data_sources if key in ("source", "held_out") else None,
        help=known.help,
        show_default=defaults.get(key, False),
        envvar=envvar,
        rich_help_panel=panel,
    )


def given_settings(parameters: dict[str, Any]) -> dict[config.SettingKey, Any]:
    """The settings among a command's parameters, which have the names of their flags with underscores."""
    return {
        (section, key): parameters.get(flag_of(key)[2:].replace("-", "_")) for section, key in config.setting_keys()
    }


DataDir = Annotated[str | None, setting("data", "dir", envvar="VAE_DATA")]
ImageSize = Annotated[str | None, setting("data", "image_size")]
Channels = Annotated[int | None, setting("data", "channels")]
