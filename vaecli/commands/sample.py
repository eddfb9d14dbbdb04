"""`vae sample`: images from draws of the prior."""

from __future__ import annotations

from typing import Annotated

import typer

from vaecli.commands import options
from vaecli.commands.using import Use
from vaecli.config import PRIOR, RUN, TEMPERATURE

EXAMPLES = (
    "vae sample --n 9 -o grid.png",
    "vae sample --n 4 --seed 1 --show",
    "vae sample --n 100000 -o samples.npy",
)  # at the top of the help page


def sample(
    output: options.OutputOrShow = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many pictures; any number.")] = 9,
    show: options.Show = False,
    seed: options.Seed = None,
    temperature: Annotated[
        float,
        typer.Option(
            "--temperature",
            min=0,
            help="Scale of the noise within a component of the prior: below 1 more typical and less varied. "
            "Of N(0, I) it scales the whole latent, which does not help.",
        ),
    ] = TEMPERATURE,
    prior: options.Prior = PRIOR,
    columns: options.Columns = None,
    scale: options.Scale = None,
    dtype: options.Dtype = None,
    batch_size: options.BatchSize = None,
    device: options.Device = "auto",
    run: options.Run = RUN,
    no_clobber: options.NoClobber = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Needs no PyTorch."""
    use = Use(json=json, quiet=quiet)
    target = use.pictures(output, show=show, columns=columns, scale=scale, dtype=dtype, clobber=not no_clobber)
    model = use.load(run, device)
    drawn = use.draw_seed(seed)
    images = model.samples(
        n, drawn, temperature=temperature, prior=prior, batch_size=batch_size, as_uint8=target.as_uint8
    )
    use.write(
        lambda: images,
        target,
        n,
        model.image_shape,
        "sampling",
        graph=model.decoder,
        temperature=temperature,
        prior="normal" if model.prior_summary is None else prior,
    )
