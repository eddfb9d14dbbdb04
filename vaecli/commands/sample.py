"""`vae sample`: new pictures, drawn from the prior."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from vaecli.commands.options import (
    DEFAULT_RUN,
    BatchSize,
    Columns,
    Device,
    Dtype,
    Json,
    NoClobber,
    OutputOrShow,
    Quiet,
    Run,
    Scale,
    Seed,
    Show,
)
from vaecli.commands.using import Use
from vaecli.errors import UsageError


def sample(
    output: OutputOrShow = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many pictures; any number.")] = 9,
    show: Show = False,
    seed: Seed = None,
    temperature: Annotated[
        float,
        typer.Option("--temperature", min=0, help="Below 1: more alike and cleaner; above: wilder."),
    ] = 1.0,
    columns: Columns = None,
    scale: Scale = None,
    dtype: Dtype = None,
    batch_size: BatchSize = None,
    device: Device = "auto",
    run: Run = DEFAULT_RUN,
    no_clobber: NoClobber = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw new pictures from an exported model. Needs no PyTorch."""
    if not math.isfinite(temperature):
        raise UsageError(f"--temperature {temperature}: not a finite number", "1 is the prior's own spread")
    use = Use(json=json, quiet=quiet)
    from vaecli.inference.model import load

    destination = use.output(output, show=show, columns=columns, scale=scale, dtype=dtype, clobber=not no_clobber)
    model = load(run, device)
    with destination.open(n, model.image_shape) as writer:
        use.runs_on(model.decoder)
        images = model.samples(
            n,
            use.draw_seed(seed),
            temperature=temperature,
            batch_size=batch_size,
            as_uint8=destination.as_uint8,
        )
        use.write(images, writer, n, "sampling")
    use.wrote(destination, writer, n, temperature=temperature)
