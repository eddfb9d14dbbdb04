"""`vae manifold`: the plane of two latent dimensions."""

from __future__ import annotations

from typing import Annotated

import typer

from vaecli.commands import options
from vaecli.commands.using import Use
from vaecli.config import MANIFOLD_STEPS, PRIOR, RUN

EXAMPLES = (
    "vae manifold -o plane.png",
    "vae manifold --dims 3 7 --steps 16 --show",
)  # at the top of the help page


def manifold(
    output: options.OutputOrShow = None,
    show: options.Show = False,
    steps: Annotated[
        int, typer.Option("--steps", min=2, max=1000, help="Pictures on each side of the plane.")
    ] = MANIFOLD_STEPS,
    dims: Annotated[
        tuple[int, int] | None,
        typer.Option(
            "--dims",
            metavar="I J",
            help="The dimensions that grow to the right and upwards, numbered from 0.",
            show_default="those of the largest KL",
        ),
    ] = None,
    prior: options.Prior = PRIOR,
    data: options.HeldOutOf = None,
    data_dir: options.DataDir = None,
    scale: options.Scale = None,
    dtype: options.Dtype = None,
    label: options.Label = None,
    device: options.Device = "auto",
    run: options.Run = RUN,
    clobber: options.Clobber = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """The rows and columns are at equally spaced quantiles of the prior.

    The other dimensions take likely values given these two (0 for N(0, I)). Needs no PyTorch.
    """
    use = Use(json=json, quiet=quiet)
    from vaecli.evaluation.dimensions import choose_plane
    from vaecli.inference.geometry import plane
    from vaecli.parallel import cut
    from vaecli.pictures.grid import Series

    target = use.pictures(output, show=show, scale=scale, dtype=dtype, clobber=clobber)
    pair = use.load(run, device, label).pair
    chosen, order = choose_plane(pair, dims, data, data_dir, prior, use.console.report)
    if order is not None:
        use.console.note(f"two of {pair.latent_dim} dimensions, by {order.explained}: {order.listed(2)}")
    across, up = chosen
    latents, columns, rows = plane(pair.latent_dim, chosen, steps, pair.choose_prior(prior))
    use.console.note(f"dimension {across} grows to the right, dimension {up} upwards")
    use.write(
        lambda: pair.decode_batches(cut(latents, pair.batch_size), as_uint8=target.as_uint8),
        target,
        Series(len(latents), pair.image_shape, columns=steps, gap=0),
        "decoding",
        graph=pair.decoder,
        dimensions=[across, up],
        coordinates=[columns, rows],
        steps=steps,
        prior=pair.kind_of(prior),
    )
