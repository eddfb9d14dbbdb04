"""`vae encode`: pictures to latents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaecli.commands.options import (
    DEFAULT_RUN,
    BatchSize,
    Device,
    Invert,
    Json,
    NoClobber,
    Quiet,
    RequiredInputs,
    Run,
    Seed,
)
from vaecli.commands.using import Use
from vaecli.errors import UsageError


def encode(
    inputs: RequiredInputs,
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="A .npy, .npz, .csv or .jsonl, or - for a .npy on stdout."),
    ],
    std: Annotated[bool, typer.Option("--std", help="The standard deviations of q(z|x) beside its means.")] = False,
    stochastic: Annotated[bool, typer.Option("--stochastic", help="Draws of q(z|x), not its means.")] = False,
    seed: Seed = None,
    invert: Invert = False,
    batch_size: BatchSize = None,
    device: Device = "auto",
    run: Run = DEFAULT_RUN,
    no_clobber: NoClobber = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Encode pictures: one row an INPUT, the mean of q(z|x), under the picture's name. Needs no PyTorch."""
    if seed is not None and not stochastic:
        raise UsageError("--seed: nothing is random without --stochastic", "add --stochastic, or drop --seed")
    use = Use(json=json, quiet=quiet)
    from vaecli import tables
    from vaecli.inference.batches import cut
    from vaecli.inference.latents import draws
    from vaecli.inference.model import load
    from vaecli.model_format import LATENT, MEAN, STD

    wanted = [*([LATENT] if stochastic else []), *([MEAN] if std or not stochastic else []), *([STD] if std else [])]
    tables.output(
        output, dict.fromkeys(wanted), on_stdout="npy", json=json, sources=inputs
    )  # before anything is read
    model = load(run, device)
    read = use.read(inputs, model, invert=invert)
    n, size = len(read.images), batch_size or model.batch_size
    destination = tables.output(
        output,
        dict.fromkeys(wanted, model.latent_dim),
        on_stdout="npy",
        clobber=not no_clobber,
        json=json,
    )
    with destination.open(n) as writer:
        use.runs_on(model.encoder)
        noise = draws(n, model.latent_dim, use.draw_seed(seed), size) if stochastic else None
        start = 0
        with use.console.progress("encoding", n, "pictures") as advance:
            for mean, deviation in model.encode_batches(cut(read.images, size)):
                columns = {MEAN: mean, STD: deviation}
                if noise is not None:
                    columns[LATENT] = mean + deviation * next(noise)
                names = read.names[start : start + len(mean)]
                writer.write(names, [columns[name] for name in wanted])
                start += len(mean)
                advance(len(mean))
    if output != tables.STDOUT:
        what = ", ".join({LATENT: "draws", MEAN: "means", STD: "standard deviations"}[name] for name in wanted)
        use.console.note(f"wrote {output}: {n} rows, {what} of {model.latent_dim} dimensions, in {use.seconds:.1f} s")
    use.emit(
        output=output,
        n=n,
        columns=wanted,
        latent_dim=model.latent_dim,
        form=destination.form,
        fitted=read.fitted,
        bytes=Path(output).stat().st_size if Path(output).is_file() else None,
    )
