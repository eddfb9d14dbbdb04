"""`vae interpolate`: from one picture to the next, through the latents between them."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from vaecli.commands import options
from vaecli.commands.using import Reading, Use
from vaecli.config import RUN, STEPS
from vaecli.errors import UsageError

EXAMPLES = (
    "vae interpolate -o strip.gif",
    "vae interpolate cat.png dog.png -o between.png --steps 12",
)  # at the top of the help page


def interpolate(
    output: options.AnimationOrShow = None,
    show: options.Show = False,
    inputs: options.InputArguments = None,
    files_from: options.FilesFrom = None,
    data_dir: options.DataDir = None,
    steps: Annotated[
        int, typer.Option("--steps", min=2, help="Pictures from one INPUT to the next, both included.")
    ] = STEPS,
    method: Annotated[
        Literal["string", "slerp", "lerp"] | None,
        typer.Option(
            "--method",
            help="string: a path of high prior density, in steps whose pictures differ equally; slerp: an arc; lerp: a "
            "straight line.",
            show_default="string if the fitted prior has at least as many components as dimensions, else slerp",
        ),
    ] = None,
    seed: options.Seed = None,
    invert: options.Invert = False,
    columns: options.Columns = None,
    scale: options.Scale = None,
    dtype: options.Dtype = None,
    label: options.Label = None,
    device: options.Device = "auto",
    run: options.Run = RUN,
    clobber: options.Clobber = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """A grid has one row for each pair of consecutive INPUTs. Without INPUT: between two draws of the prior.

    Needs no PyTorch.
    """
    given = bool(inputs or files_from)
    if given and seed is not None:
        raise UsageError("`seed`: nothing is random between given pictures", "leave out `seed`, or the INPUTs")
    use = Use(json=json, quiet=quiet)
    from vaecli.inference import geometry, walks
    from vaecli.inference.sampling import draws
    from vaecli.parallel import cut
    from vaecli.pictures.grid import Series

    target = use.pictures(output, show=show, animates=True, columns=columns, scale=scale, dtype=dtype, clobber=clobber)
    pair = use.load(run, device, label).pair
    read = None
    if given:
        read = use.read(Reading(inputs or (), None, files_from, data_dir, invert), pair)
        if len(read.images) < 2:
            raise UsageError(f"{read.names[0]}: only one picture", "name two or more pictures, or none")
        stops, _ = pair.encode(read.images)
    else:
        stops, _ = draws(pair, use.draw_seed(seed))(0, 2)
    method = walks.choose_method(pair, method)
    walk = walks.through(pair, stops, steps, method)
    if target.form == "picture" and columns is None:
        walk = geometry.rows(walk, steps)
    sources = read.sources if read else ()
    use.write(
        lambda: pair.decode_batches(cut(walk, pair.batch_size), as_uint8=target.as_uint8),
        target,
        Series(len(walk), pair.image_shape, columns=steps, wraps_rows=len(stops) == 2, sources=sources),
        "decoding",
        graph=pair.decoder,
        stops=len(stops),
        steps=steps,
        method=method,
        fitted=read.fitted if read else 0,
        skipped=read.skipped if read else 0,
        skipped_names=read.skipped_names if read else (),
    )
