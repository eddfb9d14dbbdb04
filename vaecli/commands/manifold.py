"""`vae manifold`: the plane of all pictures that two latent dimensions make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vaecli.commands.options import (
    DEFAULT_RUN,
    Device,
    Dtype,
    HeldOutOf,
    Json,
    NoClobber,
    Output,
    Quiet,
    Run,
    Scale,
    setting,
)
from vaecli.commands.using import Use
from vaecli.errors import UsageError

if TYPE_CHECKING:
    from vaecli.inference.model import Model


def manifold(
    output: Output,
    steps: Annotated[int, typer.Option("--steps", min=2, max=1000, help="Pictures on each side of the plane.")] = 20,
    dims: Annotated[
        tuple[int, int] | None,
        typer.Option(
            "--dims",
            metavar="I J",
            help="The dimensions that go across and up, numbered from 0.",
            show_default="those of the largest KL",
        ),
    ] = None,
    data: HeldOutOf = None,
    data_dir: Annotated[str | None, setting("data", "dir", envvar="VAE_DATA")] = None,
    scale: Scale = None,
    dtype: Dtype = None,
    device: Device = "auto",
    run: Run = DEFAULT_RUN,
    no_clobber: NoClobber = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw the plane of two latent dimensions, each picture standing for the same share of the prior.

    The places are equally spaced quantiles of the normal distribution. All other dimensions stay at its mean.
    """
    use = Use(json=json, quiet=quiet)
    from vaecli.inference import dimensions
    from vaecli.inference.batches import cut
    from vaecli.inference.model import load
    from vaecli.pictures import writing

    destination = writing.output(output, scale=scale, dtype=dtype, clobber=not no_clobber, json=json)
    model = load(run, device)
    _check(model, dims)
    use.runs_on(model.decoder)
    if dims is None and model.latent_dim > 2:
        order = dimensions.order(model, use.held_out(model, data, data_dir))
        use.console.note(f"two of {model.latent_dim} dimensions, by {order.how}: {order.said(2)}")
        dims = order.dimensions[0], order.dimensions[1]
    across, up = dims or (0, 1)
    plane = dimensions.plane(model.latent_dim, across, up, steps)
    with destination.open(len(plane), model.image_shape, columns=steps, gap=0) as writer:
        images = model.decode_batches(cut(plane, model.batch_size), as_uint8=destination.as_uint8)
        use.write(images, writer, len(plane), "decoding")
    use.console.note(f"dimension {across} grows to the right, dimension {up} upwards")
    use.wrote(destination, writer, len(plane), dimensions=[across, up], steps=steps)


def _check(model: Model, dims: tuple[int, int] | None) -> None:
    """Refuse dimensions that the model does not have. Raises UsageError."""
    if model.latent_dim < 2:
        raise UsageError(
            f"{model.folder}: the model has one latent dimension, no plane", "vae traverse walks along it"
        )
    if dims is not None and (dims[0] == dims[1] or not all(0 <= value < model.latent_dim for value in dims)):
        raise UsageError(
            f"--dims {dims[0]} {dims[1]}: not two of the model's dimensions",
            f"name two different ones from 0 to {model.latent_dim - 1}",
        )
