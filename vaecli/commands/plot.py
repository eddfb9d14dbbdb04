"""`vae plot`: a training's losses or a model's latents, as a diagram."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Literal

import typer

from vaecli import outputs
from vaecli.commands import options
from vaecli.commands.using import Use
from vaecli.config import RUN
from vaecli.errors import UsageError
from vaecli.streams import STDOUT

EXAMPLES = (
    "vae plot loss -o loss.png",
    "vae plot loss runs/beta-* -o loss.png",
    "vae plot latents -o latents.svg",
)  # at the top of the help page


def plot(
    what: Annotated[
        Literal["loss", "latents"],
        typer.Argument(
            metavar="loss|latents", help="The losses of every epoch, or held-out pictures as points by their latents."
        ),
    ],
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN...", help="For loss: run folders, to draw several trainings in one diagram. [default: --run]"
        ),
    ] = None,
    *,
    output: Annotated[str, typer.Option("--output", "-o", help="A .png, .svg or .pdf, or - for PNG on stdout.")],
    data: options.HeldOutOf = None,
    data_dir: options.DataDir = None,
    device: options.Device = "auto",
    run: options.Run = RUN,
    no_clobber: options.NoClobber = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """With more than two latent dimensions, the first two principal components are shown. Colours are classes.

    Needs matplotlib, and no PyTorch.
    """
    if what == "loss" and data is not None:
        raise UsageError("`data`: the losses are those of the training", "leave it out, or plot latents")
    if what == "latents" and runs:
        raise UsageError(f"{runs[0]}: a diagram of latents has one run", "name it with `run`")
    use = Use(json=json, quiet=quiet)
    target = outputs.parse(output, outputs.DIAGRAMS, on_stdout="png", clobber=not no_clobber, json=json)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it would announce that it builds its font cache
    from vaecli import plots

    if what == "loss":
        diagram = plots.losses(*(runs or [run]), on_event=use.console.report)
    else:
        model = use.load(run, device)
        use.start(model.pair.encoder)
        diagram = plots.latents(model, data, data_dir, use.console.report)
    with target.open() as stream:
        stream.write(diagram.content(target.format))
    if output != STDOUT:
        use.console.note(f"wrote {output}")
    use.console.emit({"output": output, "what": what, **diagram.facts})
