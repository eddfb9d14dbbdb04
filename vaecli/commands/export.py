"""`vae export`: weights to encoder.onnx and decoder.onnx."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from vaecli.commands import options
from vaecli.config import RUN
from vaecli.console import Console
from vaecli.exporting.stage import ABSOLUTE, RELATIVE, WeightsChoice
from vaecli.exporting.stage import export as export_run

if TYPE_CHECKING:
    from vaecli.exporting.held_out import HeldOutCheck


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
    """Nothing is written where a graph differs from PyTorch by more than --atol + --rtol · |value|: exit code 4.

    Neither where held-out pictures have another loss than in PyTorch, or than training recorded.
    """
    console = Console(json=json, quiet=quiet)
    with console.waiting("exporting"):
        result = export_run(run, weights=weights, atol=atol, rtol=rtol)
    console.messages.table(
        "largest difference from PyTorch",
        ("output", "|difference|"),
        [(name, f"{value:.2g}") for name, value in result.max_abs_difference.items()],
    )
    console.note(_held_out(result.held_out))
    console.note(f"wrote {result.encoder} and {result.decoder}, from epoch {result.epoch}")
    console.emit(
        {
            "encoder": str(result.encoder),
            "decoder": str(result.decoder),
            "max_abs_difference": result.max_abs_difference,
            "opset": result.opset,
            "epoch": result.epoch,
            "providers": result.providers,
            "held_out": result.held_out and dataclasses.asdict(result.held_out),
        }
    )


def _held_out(check: HeldOutCheck | None) -> str:
    if check is None:
        return "the pictures of the training are not on this machine: the held-out loss was not compared"
    return (
        f"held-out loss: {check.loss:.3f} nats per image on {check.pictures} pictures, "
        f"{check.difference:.1g} from PyTorch's; training recorded {check.recorded:.3f} on all, with other latents"
    )
