"""`vae export`: weights to encoder.onnx and decoder.onnx."""

from __future__ import annotations

from typing import Annotated

import typer

from vaecli.commands import options
from vaecli.config import RUN
from vaecli.console import Console
from vaecli.exporting.stage import ABSOLUTE, RELATIVE, WeightsChoice
from vaecli.exporting.stage import export as export_run


def export(
    run: options.Run = RUN,
    weights: Annotated[
        WeightsChoice, typer.Option("--weights", help="Of the best epoch, which train chose, or of the last one.")
    ] = "best",
    atol: Annotated[float, typer.Option("--atol", min=0, help="Absolute difference from PyTorch to allow.")] = ABSOLUTE,
    rtol: Annotated[float, typer.Option("--rtol", min=0, help="The same, relative to PyTorch's value.")] = RELATIVE,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Nothing is written where a graph differs from PyTorch by more than --atol + --rtol · |value|: exit code 4."""
    console = Console(json=json, quiet=quiet)
    with console.waiting("exporting"):
        result = export_run(run, weights=weights, atol=atol, rtol=rtol)
    console.messages.table(
        "largest difference from PyTorch",
        ("output", "|difference|"),
        [(name, f"{value:.2g}") for name, value in result.max_abs_difference.items()],
    )
    console.note(f"wrote {result.encoder} and {result.decoder}, from epoch {result.epoch}")
    console.emit(
        {
            "encoder": str(result.encoder),
            "decoder": str(result.decoder),
            "max_abs_difference": result.max_abs_difference,
            "opset": result.opset,
            "epoch": result.epoch,
        }
    )
