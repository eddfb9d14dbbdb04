"""`vae export`: weights to encoder.onnx and decoder.onnx."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from vaecli.commands import extras
from vaecli.commands.options import DEFAULT_RUN, Json, Quiet, Run
from vaecli.console import Console
from vaecli.run_folder import RunFolder


def export(
    run: Run = DEFAULT_RUN,
    weights: Annotated[
        Literal["best", "last"],
        typer.Option("--weights", help="Those of the lowest held-out loss, or of the last epoch."),
    ] = "best",
    atol: Annotated[float, typer.Option("--atol", min=0, help="Absolute difference from PyTorch to allow.")] = 1e-5,
    rtol: Annotated[float, typer.Option("--rtol", min=0, help="The same, relative to PyTorch's value.")] = 1e-4,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Export a trained model to ONNX, and check both graphs against PyTorch."""
    console = Console(json=json, quiet=quiet)
    folder = RunFolder(run)
    record = folder.read_record()
    extras.require_training("vae export")
    extras.require_runtime("vae export")
    from vaecli.exporting.export import export as export_pair
    from vaecli.exporting.parity import Tolerance
    from vaecli.training.checkpoint import load_weights

    chosen = load_weights(folder.best if weights == "best" else folder.checkpoint)
    with console.waiting("exporting"):
        exported = export_pair(chosen, record, folder, Tolerance(atol, rtol))
    console.table(
        "largest difference from PyTorch",
        ("output", "|difference|"),
        [(name, f"{value:.2g}") for name, value in exported.max_abs_difference.items()],
    )
    console.note(f"wrote {exported.encoder} and {exported.decoder}, from epoch {exported.epoch}")
    console.emit(
        {
            "encoder": str(exported.encoder),
            "decoder": str(exported.decoder),
            "max_abs_difference": exported.max_abs_difference,
            "opset": exported.opset,
            "epoch": exported.epoch,
        }
    )
