"""`vae traverse`: what each latent dimension does to a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from vaecli.commands.options import (
    DEFAULT_RUN,
    AnimationOrShow,
    Device,
    Dtype,
    HeldOutOf,
    Invert,
    Json,
    NoClobber,
    Quiet,
    Run,
    Scale,
    Show,
    setting,
)
from vaecli.commands.using import Use
from vaecli.config import LARGEST_SEED
from vaecli.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaecli.inference.latents import Latents, Vector
    from vaecli.inference.model import Model
    from vaecli.pictures.decoding import ImageShape
    from vaecli.pictures.terminal import Shown
    from vaecli.pictures.writing import Output

STEPS, FRAMES = 9, 25  # from one end to the other: in a picture, in an animation
ROWS = 20


def traverse(
    image: Annotated[
        str | None,
        typer.Argument(metavar="IMAGE", help="The picture to start from; left out: the prior's mean."),
    ] = None,
    output: AnimationOrShow = None,
    show: Show = False,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            min=2,
            help="Pictures in a row, both ends among them.",
            show_default=f"{STEPS}; {FRAMES} frames",
        ),
    ] = None,
    dims: Annotated[
        int | None,
        typer.Option("--dims", min=1, help="Rows: so many dimensions.", show_default=f"all, up to {ROWS}"),
    ] = None,
    reach: Annotated[
        float, typer.Option("--range", min=0, metavar="Z", help="Walk from -Z to Z; the prior's spread is 1.")
    ] = 3.0,
    data: HeldOutOf = None,
    data_dir: Annotated[str | None, setting("data", "dir", envvar="VAE_DATA")] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", min=0, max=LARGEST_SEED, help="Start from a draw of the prior.", show_default="its mean"
        ),
    ] = None,
    invert: Invert = False,
    scale: Scale = None,
    dtype: Dtype = None,
    device: Device = "auto",
    run: Run = DEFAULT_RUN,
    no_clobber: NoClobber = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Walk along each latent dimension, those that carry most first. Needs no PyTorch.

    A picture has a row for each dimension; in an animation all of them move at once, in that order.
    """
    if image is not None and seed is not None:
        raise UsageError("--seed: the walk starts from the given picture", "drop --seed, or drop IMAGE")
    if not 0 < reach < math.inf:
        raise UsageError(f"--range {reach}: not a distance to walk", "3 takes in nearly all of the prior")
    use = Use(json=json, quiet=quiet)
    from vaecli.inference import dimensions
    from vaecli.inference.batches import cut
    from vaecli.inference.model import load

    destination = use.output(output, show=show, animates=True, scale=scale, dtype=dtype, clobber=not no_clobber)
    if show and destination.form == "animation":
        raise UsageError("--show: the terminal shows no animation", "drop --show, or name a .png")
    model = load(run, device)
    rows, steps = _size(destination, model, dims, steps)
    if show:
        destination = cast("Shown", destination).in_rows_of(steps)
    start = _start(model, use, image, seed, invert=invert)
    use.runs_on(model.decoder)
    order = dimensions.order(model, use.held_out(model, data, data_dir), reach)
    chosen = order.dimensions[:rows]
    latents = dimensions.along(start, chosen, steps, reach)
    if destination.form == "animation":
        n, shape, pictures = _frames(model, latents, steps)
    else:
        n, shape = len(latents), model.image_shape
        pictures = model.decode_batches(cut(latents, model.batch_size), as_uint8=destination.as_uint8)
    names = [f"dimension-{dimension}-step-{step + 1}" for dimension in chosen for step in range(steps)]
    with destination.open(n, shape, columns=steps, names=names, sources=[image] if image else ()) as writer:
        for images in pictures:
            writer.write(images)
    use.console.note(f"rows from the top, by {order.how}: {order.said(rows)}")
    use.wrote(
        destination,
        writer,
        n,
        dimensions=chosen,
        ordered_by=order.by,
        values=[order.values[dimension] for dimension in chosen],
        steps=steps,
        range=reach,
    )


def _size(destination: Output | Shown, model: Model, rows: int | None, steps: int | None) -> tuple[int, int]:
    """Rows and steps: as asked for; else what one screen has room for where nothing else is made; else many."""
    most = min(rows or ROWS, model.latent_dim)
    if destination.form == "animation":
        return most, steps or FRAMES
    if destination.name is not None:
        return most, steps or STEPS
    screen = destination.screen
    across = screen.across(model.image_shape)
    steps = steps or max(3, min(STEPS, across - (across + 1) % 2))  # odd: then the start is among them
    return most if rows else min(most, screen.down(model.image_shape, steps)), steps


def _frames(model: Model, latents: Latents, steps: int) -> tuple[int, ImageShape, Iterator[NDArray[Any]]]:
    """The walks at the same time: how many frames, their shape, and each as (1, H, W, c), a grid of all walks."""
    from vaecli.pictures.grid import Grid, lay_out

    by_step = latents.reshape(-1, steps, latents.shape[1]).swapaxes(0, 1)  # (steps, walks, d)
    layout = lay_out(by_step.shape[1], model.image_shape, scale=1)

    def frames() -> Iterator[NDArray[Any]]:
        for images in model.decode_batches(iter(by_step), as_uint8=True):
            grid = Grid(layout, model.image_shape[0])
            grid.put(images)
            yield grid.canvas[None]

    return steps, (model.image_shape[0], layout.height, layout.width), frames()


def _start(model: Model, use: Use, image: str | None, seed: int | None, *, invert: bool) -> Vector:
    """Where the walks cross, (d,): the mean of q(z|x) of a picture, a draw of the prior, or its mean."""
    import numpy as np

    if seed is not None:
        from vaecli.inference.latents import draws

        (start,) = next(draws(1, model.latent_dim, use.draw_seed(seed), batch_size=1))
        return cast("Vector", start)
    if image is None:
        return np.zeros(model.latent_dim, np.float32)
    read = use.read([image], model, invert=invert)
    if len(read.images) > 1:
        use.console.note(f"{image}: the first of {len(read.images):,} pictures")
    (start,), _ = model.encode(read.images[:1])
    return cast("Vector", start)
