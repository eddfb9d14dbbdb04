"""`vae train`: pictures to weights."""

from __future__ import annotations

from typing import Annotated

import typer

from vaecli import config as configs
from vaecli.cli import completion
from vaecli.cli.console import Console
from vaecli.cli.help_page import show_all
from vaecli.commands import options
from vaecli.commands.options import setting
from vaecli.commands.training_view import TrainingView
from vaecli.errors import PeerError, UsageError
from vaecli.model_format import Likelihood
from vaecli.settings import gather
from vaecli.training.plan import choose_settings
from vaecli.training.processes import launched, wait_for_rank_0_error
from vaecli.training.stage import train as train_run

EXAMPLES = (
    "vae train",
    "vae train --data pictures/ --run runs/mine",
    "vae train --config mnist-mlp --epochs 20 --seed 1",
)  # at the top of the help page


def train(
    context: typer.Context,
    data: Annotated[str | None, setting("data", "source")] = None,
    data_dir: options.DataDir = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            "-c",
            metavar="NAME|FILE",
            autocompletion=completion.recipe_names,
            help="A recipe that vae data lists, or a TOML file of settings. Flags take precedence over it.",
            show_default="chosen by the pictures",
        ),
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print all settings as TOML, to start a file from; train nothing.")
    ] = False,
    run: options.Run = configs.RUN,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the training in --run; with --data, begin it where there is none."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the training in --run.")] = False,
    epochs: Annotated[int | None, setting("training", "epochs")] = None,
    batch_size: Annotated[int | None, setting("training", "batch_size")] = None,
    device: Annotated[configs.DeviceChoice | None, setting("training", "device")] = None,
    precision: Annotated[configs.Precision | None, setting("training", "precision")] = None,
    seed: Annotated[int | None, setting("training", "seed")] = None,
    previews: Annotated[int | None, setting("training", "previews")] = None,
    log: Annotated[configs.Log | None, setting("training", "log")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    help_all: Annotated[
        bool,
        typer.Option("--help-all", is_eager=True, callback=show_all, help="Show this page with every setting."),
    ] = False,
    # Pictures
    image_size: options.ImageSize = None,
    channels: options.Channels = None,
    binarize: Annotated[configs.Binarize | None, setting("data", "binarize")] = None,
    held_out: Annotated[str | None, setting("data", "held_out")] = None,
    validation: Annotated[int | None, setting("data", "validation")] = None,
    shuffle: Annotated[bool | None, setting("data", "shuffle", "--shuffle/--no-shuffle")] = None,
    drop_last: Annotated[bool | None, setting("data", "drop_last", "--drop-last/--keep-last")] = None,
    # Model
    architecture: Annotated[configs.Architecture | None, setting("model", "architecture")] = None,
    prior: Annotated[configs.TrainedPrior | None, setting("model", "prior")] = None,
    pseudo_inputs: Annotated[int | None, setting("model", "pseudo_inputs")] = None,
    conditional: Annotated[bool | None, setting("model", "conditional", "--conditional/--unconditional")] = None,
    latent_dim: Annotated[int | None, setting("model", "latent_dim")] = None,
    map_size: Annotated[int | None, setting("model", "map_size")] = None,
    latent_map: Annotated[int | None, setting("model", "latent_map")] = None,
    hidden: Annotated[int | None, setting("model", "hidden")] = None,
    width: Annotated[int | None, setting("model", "width")] = None,
    patch: Annotated[int | None, setting("model", "patch")] = None,
    depth: Annotated[int | None, setting("model", "depth")] = None,
    activation: Annotated[configs.Activation | None, setting("model", "activation")] = None,
    dropout: Annotated[float | None, setting("model", "dropout")] = None,
    likelihood: Annotated[Likelihood | None, setting("model", "likelihood")] = None,
    scale: Annotated[float | None, setting("model", "scale")] = None,
    scale_per: Annotated[configs.ScalePer | None, setting("model", "scale_per")] = None,
    components: Annotated[int | None, setting("model", "components")] = None,
    output_bias: Annotated[bool | None, setting("model", "output_bias", "--output-bias/--zero-output-bias")] = None,
    # Objective
    objective: Annotated[configs.Objective | None, setting("training", "objective")] = None,
    importance_samples: Annotated[int | None, setting("training", "importance_samples")] = None,
    beta: Annotated[float | None, setting("training", "beta")] = None,
    kl_warmup: Annotated[int | None, setting("training", "kl_warmup")] = None,
    free_bits: Annotated[float | None, setting("training", "free_bits")] = None,
    # Optimisation
    learning_rate: Annotated[float | None, setting("training", "learning_rate")] = None,
    schedule: Annotated[configs.Schedule | None, setting("training", "schedule")] = None,
    warmup_steps: Annotated[int | None, setting("training", "warmup_steps")] = None,
    ema: Annotated[float | None, setting("training", "ema")] = None,
    weight_decay: Annotated[float | None, setting("training", "weight_decay")] = None,
    clip_gradient: Annotated[float | None, setting("training", "clip_gradient")] = None,
    patience: Annotated[int | None, setting("training", "patience")] = None,
) -> None:
    """Without --config, a recipe is chosen from the pictures; other flags change single settings of it.

    Without --data: the data of the recipe; without --config, too, the built-in digits.
    """
    first = launched().first  # of the processes that torchrun started, if it did: the others are silent
    console = Console(json=json and first, quiet=quiet or not first)
    try:
        given = gather(config, options.given_settings(context.params))
        if print_config:
            settings, recipe = choose_settings(given, console.report)
            assert recipe is not None, "one is named, or chosen by the pictures"
            for line in configs.to_toml(settings, recipe).splitlines():
                console.result.line(line)
            console.emit(settings)
            return
        if not resume:
            given.config()  # a mistake in them is told before the view says that work begins
        view = TrainingView(console)
        train_run(given, run, resume=resume, overwrite=overwrite, on_event=view)
    except (UsageError, PeerError, KeyboardInterrupt) as error:
        if first:
            raise
        if not isinstance(error, KeyboardInterrupt):
            wait_for_rank_0_error()
        raise typer.Exit(1) from error
