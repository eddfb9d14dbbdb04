"""`vae plot`: how a training went, or where pictures lie among the latents, as a diagram."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vaecli import files
from vaecli.commands import extras
from vaecli.commands.options import DEFAULT_RUN, Device, HeldOutOf, Json, NoClobber, Quiet, Run, setting
from vaecli.commands.using import Use
from vaecli.errors import UsageError, VaeError

if TYPE_CHECKING:
    from vaecli.config import DeviceChoice
    from vaecli.plots import Format

STDOUT = "-"
MOST = 5000  # points in a scatter


def plot(
    what: Annotated[
        Literal["loss", "latents"],
        typer.Argument(
            metavar="loss|latents", help="The losses of every epoch, or held-out pictures as points by their latents."
        ),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="A .png, .svg or .pdf, or - for PNG on stdout.")],
    data: HeldOutOf = None,
    data_dir: Annotated[str | None, setting("data", "dir", envvar="VAE_DATA")] = None,
    device: Device = "auto",
    run: Run = DEFAULT_RUN,
    no_clobber: NoClobber = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Plot a training's losses, or the latents of held-out pictures. Needs matplotlib, and no PyTorch.

    Of more than two latent dimensions, the two principal components are shown. Colours are classes, where known.
    """
    if what == "loss" and data is not None:
        raise UsageError("--data: the losses are those of the training", "leave it out, or plot latents")
    use = Use(json=json, quiet=quiet)
    file_format = _format(output, json=json)
    extras.require_plotting("vae plot")
    if what == "loss":
        content, facts = _losses(run, file_format)
    else:
        content, facts = _latents(use, run, device, data, data_dir, file_format)
    if output == STDOUT:
        with files.standard_output() as stream:
            stream.write(content)
    else:
        files.write_bytes(Path(output), content, clobber=not no_clobber)
        use.console.note(f"wrote {output}")
    use.console.emit({"output": output, "what": what, **facts})


def _format(output: str, *, json: bool) -> Format:
    """The format that `-o` asks for. Raises UsageError where there is none."""
    from vaecli.plots import FORMATS

    if output == STDOUT:
        files.check_standard_output(json=json, binary=True, instead="write the diagram to a file")
        return "png"
    file_format = FORMATS.get(Path(output).suffix.lower())
    if file_format is None:
        raise UsageError(f"--output {output}: no form of diagram has that name", "name a .png, .svg or .pdf")
    return file_format


def _losses(run: Path, file_format: Format) -> tuple[bytes, dict[str, Any]]:
    from vaecli import plots
    from vaecli.run_folder import RunFolder

    folder = RunFolder(run)
    epochs = folder.read_metrics()
    if not epochs:
        raise VaeError(f"{folder.metrics}: no epoch in it", "train at least one epoch")
    best = min(epochs, key=lambda epoch: epoch.held_out.loss)
    content = plots.losses(epochs, f"{run}: {len(epochs)} epochs", file_format)
    return content, {"epochs": len(epochs), "best_epoch": best.epoch, "best_loss": best.held_out.loss}


def _latents(
    use: Use, run: Path, device: DeviceChoice, data: str | None, data_dir: str | None, file_format: Format
) -> tuple[bytes, dict[str, Any]]:
    """The means of q(z|x) of held-out pictures, as points."""
    import numpy as np

    from vaecli import plots
    from vaecli.inference.model import load

    model = load(run, device)
    use.runs_on(model.encoder)
    pictures = use.held_out(model, data, data_dir, most=MOST)
    if pictures is None:
        raise VaeError(f"{run}: the pictures that it was trained on are not here", "name pictures with --data")
    if len(pictures.rows) < 2:
        raise VaeError(f"{pictures.source}: one held-out picture makes no cloud", "name more pictures with --data")
    encoded = list(model.encode_batches(pictures.batches(model.batch_size)))
    means, stds = (np.concatenate(parts) for parts in zip(*encoded, strict=True))
    facts: dict[str, Any] = {"n": len(means), "data": pictures.source, "labelled": pictures.labels is not None}
    if model.latent_dim == 1:
        points, names = np.concatenate([means, stds], axis=1), ("mean", "std")
    elif model.latent_dim == 2:
        points, names = means, ("dimension 0", "dimension 1")
    else:
        points, shares = plots.principal_components(means)
        first, second = (
            f"principal component {index + 1}, {share:.0%} of the variance" for index, share in enumerate(shares)
        )
        names = first, second
        facts["variance_shares"] = shares
    title = f"{run}: the latents of {pictures}"
    return plots.scatter(points, pictures.labels, names, title, file_format), facts
