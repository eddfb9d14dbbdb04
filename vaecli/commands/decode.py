"""`vae decode`: images from latents in a file."""

from __future__ import annotations

from typing import Annotated

import typer

from vaecli.commands import job, options
from vaecli.commands.using import Reading, Use
from vaecli.config import RUN

EXAMPLES = (
    "vae decode latents.npy -o decoded/",
    "vae decode latents.csv --show",
    "vae decode latents.parquet/ --workers 4 -o new.parquet/",
)  # at the top of the help page


def decode(
    latents: Annotated[
        str,
        typer.Argument(
            metavar="LATENTS",
            help="A .npy, .npz, .csv, .jsonl or .parquet, the address of one (s3://…), NAME.parquet/, or - for one of "
            "the first four on stdin.",
        ),
    ],
    output: options.PicturesOrParquet = None,
    show: options.Show = False,
    columns: options.Columns = None,
    scale: options.Scale = None,
    dtype: options.Dtype = None,
    batch_size: options.BatchSize = None,
    label: options.Label = None,
    device: options.Device = "auto",
    run: options.Run = RUN,
    workers: options.Workers = None,
    ray: options.Ray = None,
    resume: options.Resume = False,
    clobber: options.Clobber = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """LATENTS is what vae encode wrote, or an array of your own, one latent a row. Needs no PyTorch.

    A conditional model takes each latent's class from the column label, or one for all by --label.
    """
    use = Use(json=json, quiet=quiet)
    if asked := job.asked_for(
        output, workers, ray, resume, show=show, columns=columns, scale=scale, dtype=dtype, clobber=clobber
    ):
        from vaecli.jobs import Decode

        asked.run(use, use.load(run, device, label), Decode(), Reading([latents]), batch_size)
        return
    from vaecli.inference.latent_files import ANOTHER_MODEL, read_latents
    from vaecli.pictures.grid import Series

    target = use.pictures(output, show=show, columns=columns, scale=scale, dtype=dtype, clobber=clobber)
    pair = use.load(run, device, label).pair
    stored = read_latents(latents, pair.latent_dim)
    if stored.models - {pair.metadata.pair}:
        use.console.report(ANOTHER_MODEL)
    if stored.skipped:
        use.console.warn(f"skipped {stored.skipped:,} of {len(stored) + stored.skipped:,} rows without a latent")
    labels = None
    if stored.labels is not None:
        labels = use.labels([label or None for label in stored.labels], stored.names, pair)
    size = batch_size or pair.batch_size
    use.write(
        lambda: pair.decode_batches(stored.batches(size), labels, as_uint8=target.as_uint8),
        target,
        Series(len(stored), pair.image_shape, names=stored.names, sources=[latents]),
        "decoding",
        graph=pair.decoder,
        skipped=stored.skipped,
    )
