"""`vae export`: weights to encoder.onnx and decoder.onnx, and priors to prior.onnx and flow.onnx."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from vaecli.cli.console import Console
from vaecli.commands import options
from vaecli.config import RUN
from vaecli.exporting.stage import ABSOLUTE, FLOW_STEPS, MOST_FLOW_STEPS, RELATIVE, PriorFit, WeightsChoice
from vaecli.exporting.stage import export as export_run
from vaecli.flags import run_flag
from vaecli.wording import how_many

if TYPE_CHECKING:
    from vaecli.exporting.held_out import HeldOutCheck

EXAMPLES = (
    "vae export",
    "vae export --run runs/mine --weights last",
    "vae export --prior flow",
)  # at the top of the help page


def export(
    run: options.Run = RUN,
    weights: Annotated[
        WeightsChoice, typer.Option("--weights", help="Export the weights of the best epoch or of the last one.")
    ] = "best",
    prior: Annotated[
        PriorFit,
        typer.Option(
            "--prior",
            help="mixture: Gaussians fitted to the latents of the training pictures; flow: also a new flow-matching "
            "model, which takes minutes and then draws the samples; normal: N(0, I), refused for a model with a "
            "VampPrior; auto: a mixture where those pictures are on this machine, and for latent maps of 256 numbers "
            "or more also a flow, unless there is one of the same weights. mixture and normal remove an earlier flow.",
        ),
    ] = "auto",
    flow_steps: Annotated[
        int | None,
        typer.Option(
            "--flow-steps",
            min=1,
            max=MOST_FLOW_STEPS,
            help="With --prior flow: train it for at most so many steps of 32 latents. It ends earlier where the loss "
            "on held-out latents does not fall any more.",
            show_default=str(FLOW_STEPS),
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="PATH", help="Where the pictures of the training are now, if they have moved."),
    ] = None,
    held_out: Annotated[
        str | None,
        typer.Option(
            "--held-out", metavar="PATH", help="Where the pictures of --held-out are now, if they have moved."
        ),
    ] = None,
    data_dir: options.DataDir = None,
    atol: Annotated[float, typer.Option("--atol", min=0, help="Absolute difference from PyTorch to allow.")] = ABSOLUTE,
    rtol: Annotated[float, typer.Option("--rtol", min=0, help="The same, relative to PyTorch's value.")] = RELATIVE,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """If a graph differs from PyTorch by more than --atol + --rtol · |value|, nothing is written: exit code 4.

    The same holds if the held-out loss differs from PyTorch's, or by more than chance from what the training recorded.
    A flow is checked last, and the model is written before it.
    """
    console = Console(json=json, quiet=quiet)
    with console.waiting("exporting"):
        result = export_run(
            run,
            weights=weights,
            prior=prior,
            flow_steps=flow_steps,
            data=data,
            held_out=held_out,
            data_dir=data_dir,
            atol=atol,
            rtol=rtol,
            on_event=console.report,
        )
    output, largest = max(result.max_abs_difference.items(), key=lambda item: item[1])
    console.note(f"ONNX Runtime computes what PyTorch does: outputs differ by at most {largest:.1g} ({output})")
    console.note(_held_out(result.held_out))
    fitted = result.prior_summary
    if fitted is not None:
        gain = f"it gains {fitted.gain:.2f} nats over N(0, I) on latents of held-out pictures"
        if result.trained_prior == "vamp":
            gain = "the model was trained with a VampPrior"
        pictures = how_many(fitted.pictures, "training picture")
        console.note(f"prior: {fitted.described}, fitted to the latents of {pictures}; {gain}")
    flow = result.flow_summary
    if flow is not None:
        fitted_to = f"fitted to the latents of {how_many(flow.pictures, 'training picture')}"
        error = f"the mean squared error of its velocities is {flow.loss:.3g} on held-out pictures"
        best = f"the best weights were those after {how_many(flow.steps, 'step')}"
        console.note(f"flow: {fitted_to}; {best}; {error}; vae sample draws with it")
    written = (result.encoder, result.decoder, result.prior, result.flow)
    *others, last = (str(path) for path in written if path is not None)
    console.note(f"wrote {', '.join(others)} and {last}, from epoch {result.epoch}")
    flag = run_flag(run)
    console.note(f"next: vae reconstruct{flag} -o pairs.png, and vae sample{flag} --n 9 -o samples.png")
    console.emit(
        {
            "encoder": str(result.encoder),
            "decoder": str(result.decoder),
            "prior": str(result.prior) if result.prior is not None else None,
            "prior_summary": fitted,
            "flow": str(result.flow) if result.flow is not None else None,
            "flow_summary": flow,
            "max_abs_difference": result.max_abs_difference,
            "opset": result.opset,
            "epoch": result.epoch,
            "providers": result.providers,
            "held_out": result.held_out and dataclasses.asdict(result.held_out),
            "reference": result.reference,
        }
    )


def _held_out(check: HeldOutCheck | None) -> str:
    if check is None:
        return "the held-out loss was not compared with that of the training, whose pictures are not here"
    some = "" if check.pictures == check.measured else f"{check.pictures} of "
    here = f"{check.loss:.3f} nats per image on {some}{how_many(check.measured, 'picture')}"
    on_all = f" on all {check.measured:,}" if some else ""
    there = f"the training recorded {check.recorded:.3f}{on_all}, with other random latents"
    return f"{check.chosen_by} {check.of}: {here}, in PyTorch the same to within {check.difference:.1g}; {there}"
