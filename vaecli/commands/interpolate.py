"""`vae interpolate`: from one picture to the next, through the latents between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vaecli.commands.options import (
    DEFAULT_RUN,
    AnimationOrShow,
    Columns,
    Device,
    Dtype,
    Inputs,
    Invert,
    Json,
    NoClobber,
    Quiet,
    Run,
    Scale,
    Seed,
    Show,
)
from vaecli.commands.using import Use
from vaecli.errors import UsageError

if TYPE_CHECKING:
    from vaecli.inference.latents import Latents
    from vaecli.inference.model import Model


def interpolate(
    output: AnimationOrShow = None,
    show: Show = False,
    inputs: Inputs = None,
    steps: Annotated[int, typer.Option("--steps", min=2, help="Pictures from one to the next, both among them.")] = 9,
    method: Annotated[
        Literal["slerp", "lerp"],
        typer.Option("--method", help="Along the sphere that latents lie near, or in a straight line."),
    ] = "slerp",
    seed: Seed = None,
    invert: Invert = False,
    columns: Columns = None,
    scale: Scale = None,
    dtype: Dtype = None,
    device: Device = "auto",
    run: Run = DEFAULT_RUN,
    no_clobber: NoClobber = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Walk through the latents of two or more pictures, in order. Needs no PyTorch.

    A picture has a row from each INPUT to the next. Without INPUT: between two draws of the prior.
    """
    if inputs and seed is not None:
        raise UsageError("--seed: nothing is random between given pictures", "drop --seed, or drop the INPUTs")
    use = Use(json=json, quiet=quiet)
    from vaecli.inference.batches import cut
    from vaecli.inference.latents import draws, path, rows
    from vaecli.inference.model import load

    destination = use.output(
        output, show=show, animates=True, columns=columns, scale=scale, dtype=dtype, clobber=not no_clobber
    )
    model = load(run, device)
    if inputs:
        stops = _encoded(inputs, model, use, invert=invert)
    else:
        stops = next(draws(2, model.latent_dim, use.draw_seed(seed), batch_size=2))
    walk = path(stops, steps, method)
    if destination.form == "picture" and columns is None:
        walk = rows(walk, steps)
    with destination.open(len(walk), model.image_shape, columns=steps, sources=inputs or ()) as writer:
        use.runs_on(model.decoder)
        for images in model.decode_batches(cut(walk, model.batch_size), as_uint8=destination.as_uint8):
            writer.write(images)
    use.wrote(destination, writer, len(walk), stops=len(stops), steps=steps, method=method)


def _encoded(inputs: list[str], model: Model, use: Use, *, invert: bool) -> Latents:
    """The means of q(z|x) of the INPUTs, (k, d)."""
    read = use.read(inputs, model, invert=invert)
    if len(read.images) < 2:
        raise UsageError(f"{inputs[0]}: one picture, nothing to go to", "name two or more pictures, or none")
    mean, _ = model.encode(read.images)
    return mean
