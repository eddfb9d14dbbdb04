"""`vae plot`: losses of trainings, the KL of latent dimensions or latents, as a diagram."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
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
    "vae plot kl runs/beta-* -o kl.pdf",
    "vae plot latents -o latents.svg",
)  # at the top of the help page
MATPLOTLIB_FOLDER = "MPLCONFIGDIR"  # the variable that matplotlib reads, and sets where it makes a folder


def plot(
    what: Annotated[
        Literal["loss", "kl", "latents"],
        typer.Argument(
            metavar="loss|kl|latents",
            help="The losses of every epoch, the KL of each latent dimension on held-out pictures, or these pictures "
            "as points by their latents.",
        ),
    ],
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN...", help="Run folders; for loss and kl several, in one diagram. [default: --run]"),
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
    """In the diagram of losses, runs that differ in their seed only have one colour.

    In that of latents, colours are classes; more than two dimensions are reduced to two principal components. Needs
    matplotlib, and no PyTorch.
    """
    if what == "loss" and data is not None:
        raise UsageError("`data`: the losses are those of the training", "leave it out, or plot kl or latents")
    folders = runs or [run]
    if what == "latents" and len(folders) > 1:
        raise UsageError(f"{folders[1]}: a diagram of latents has one run", "draw one for each run")
    use = Use(json=json, quiet=quiet)
    target = outputs.parse(output, outputs.DIAGRAMS, on_stdout="png", clobber=not no_clobber, json=json)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it would announce that it builds its font cache
    from vaecli import plots

    with _without_leftovers():
        if what == "loss":
            diagram = plots.losses(*folders, on_event=use.console.report)
        else:
            models = [use.load(folder, device) for folder in _exported(folders, use)]
            use.start(models[0].pair.encoder)
            tell = use.console.report
            if what == "kl":
                diagram = plots.kl(*models, data=data, data_dir=data_dir, on_event=tell)
            else:
                diagram = plots.latents(models[0], data, data_dir, tell)
        with target.open() as stream:
            stream.write(diagram.content(target.format))
    if output != STDOUT:
        use.console.note(f"wrote {output}")
    use.console.emit({"output": output, "what": what, **diagram.facts})


@contextlib.contextmanager
def _without_leftovers() -> Iterator[None]:
    """Remove the folder that matplotlib makes for its font cache where the home folder cannot be written.

    It would remove it as Python shuts down, for which `cli.main` does not wait.
    """
    before = os.environ.get(MATPLOTLIB_FOLDER)
    try:
        yield
    finally:
        made = os.environ.get(MATPLOTLIB_FOLDER)
        if made is not None and made != before:
            shutil.rmtree(made, ignore_errors=True)


def _exported(folders: list[Path], use: Use) -> list[Path]:
    """The runs that are exported; where there are some, a warning says which are not."""
    from vaecli.run_folder import RunFolder

    exported = [folder for folder in folders if RunFolder(folder).encoder.exists()]
    if not exported:
        return folders  # the first says what is missing
    for folder in folders:
        if folder not in exported:
            use.console.warn(f"{folder}: left out, because it is not exported")
    return exported
