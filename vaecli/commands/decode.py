"""`vae decode`: latents to pictures."""

from __future__ import annotations

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
    Show,
)
from vaecli.commands.using import Use


def decode(
    latents: Annotated[
        str,
        typer.Argument(metavar="LATENTS", help="A .npy, .npz, .csv or .jsonl, or - for any of them on stdin."),
    ],
    output: OutputOrShow = None,
    show: Show = False,
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
    """Decode latents, one picture a row: from `vae encode`, or from a program of your own. Needs no PyTorch."""
    use = Use(json=json, quiet=quiet)
    from vaecli.inference.latent_files import read_latents
    from vaecli.inference.model import load

    destination = use.output(output, show=show, columns=columns, scale=scale, dtype=dtype, clobber=not no_clobber)
    model = load(run, device)
    stored = read_latents(latents, model.latent_dim)
    n = len(stored)
    with destination.open(n, model.image_shape, names=stored.names, sources=[latents]) as writer:
        use.runs_on(model.decoder)
        batches = stored.batches(batch_size or model.batch_size)
        use.write(model.decode_batches(batches, as_uint8=destination.as_uint8), writer, n, "decoding")
    use.wrote(destination, writer, n)
