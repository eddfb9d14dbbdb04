"""`vae traverse`: what each latent dimension does to a picture."""

from __future__ import annotations

from typing import Annotated

import typer

from vaecli.commands import options
from vaecli.commands.using import Reading, Use
from vaecli.config import LARGEST_SEED, PRIOR, REACH, RUN, STEPS
from vaecli.errors import UsageError

EXAMPLES = (
    "vae traverse -o traversal.png",
    "vae traverse cat.png --dims 8 -o cat.gif",
)  # at the top of the help page
FRAMES = 25  # steps of an animation
ROWS = 20  # dimensions that are walked along, where --dims does not say


def traverse(
    image: Annotated[
        str | None,
        typer.Argument(metavar="IMAGE", help="The picture to start from; left out: the mean of the prior."),
    ] = None,
    output: options.AnimationOrShow = None,
    show: options.Show = False,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", min=2, help="Pictures in a row, both ends included.", show_default=f"{STEPS}; {FRAMES} frames"
        ),
    ] = None,
    dims: Annotated[
        int | None,
        typer.Option("--dims", min=1, help="Rows: how many dimensions.", show_default=f"all, up to {ROWS}"),
    ] = None,
    reach: Annotated[
        float,
        typer.Option(
            "--range",
            min=0,
            metavar="Z",
            help="Vary each dimension by Z standard deviations of the prior to both sides of its mean.",
        ),
    ] = REACH,
    prior: options.Prior = PRIOR,
    data: options.HeldOutOf = None,
    data_dir: options.DataDir = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", min=0, max=LARGEST_SEED, help="Start from a draw of the prior.", show_default="its mean"
        ),
    ] = None,
    invert: options.Invert = False,
    scale: options.Scale = None,
    dtype: options.Dtype = None,
    label: options.Label = None,
    device: options.Device = "auto",
    run: options.Run = RUN,
    clobber: options.Clobber = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """A grid has one row for each dimension. In an animation all rows move at once. Needs no PyTorch."""
    if image is not None and seed is not None:
        raise UsageError("`seed`: the walk starts from the given picture", "leave out `seed`, or IMAGE")
    use = Use(json=json, quiet=quiet)
    from vaecli.evaluation.dimensions import order_dimensions
    from vaecli.inference import walks
    from vaecli.inference.sampling import drawn_from
    from vaecli.parallel import cut
    from vaecli.pictures.grid import Series, frames, lay_out

    target = use.pictures(output, show=show, animates=True, scale=scale, dtype=dtype, clobber=clobber)
    animation = target.form == "animation"
    steps = steps or (FRAMES if animation else STEPS)
    pair = use.load(run, device, label).pair
    walks.check_dims(pair, dims)
    read = None
    if image is not None:
        read = use.read(Reading([image], invert=invert), pair)
        if len(read.images) > 1:
            use.console.note(f"{image}: the first of {len(read.images):,} pictures")
        start, begun = pair.encode(read.images[:1])[0][0], "picture"
    elif seed is None:
        start, begun = walks.starting_point(pair, None, prior), "mean"
    else:
        start, begun = walks.starting_point(pair, use.draw_seed(seed), prior), drawn_from(pair, prior)
    order = order_dimensions(pair, data, data_dir, reach, prior, use.console.report)
    chosen = order.dimensions[: dims or ROWS]
    coordinates, walk = walks.traversal(pair, start, chosen, steps, reach, prior)
    use.console.note(f"rows from the top, by {order.explained}: {order.listed(len(chosen))}")
    names = [f"dimension-{dimension}-step-{step + 1}" for dimension in chosen for step in range(steps)]
    rows = [f"z[{at}]" + (f" {order.values[at]:.2f} nats" if order.by == "kl" else "") for at in chosen]
    sources, channels = read.sources if read else (), pair.image_shape[0]
    series = Series(len(walk), pair.image_shape, columns=steps, names=names, captions=rows, sources=sources)
    if animation:
        frame = lay_out(len(chosen), pair.image_shape, scale=1)
        by_step = walk.reshape(-1, steps, walk.shape[1]).swapaxes(0, 1)  # (steps, rows, d)
        series = Series(steps, (channels, frame.height, frame.width), sources=sources)
    use.write(
        lambda: (
            frames(pair.decode_batches(iter(by_step), as_uint8=True), frame, channels)
            if animation
            else pair.decode_batches(cut(walk, pair.batch_size), as_uint8=target.as_uint8)
        ),
        target,
        series,
        "decoding",
        graph=pair.decoder,
        dimensions=chosen,
        ordered_by=order.by,
        values=[order.values[dimension] for dimension in chosen],
        coordinates=coordinates,
        steps=steps,
        range=reach,
        prior=pair.kind_of(prior),
        start=begun,
    )
