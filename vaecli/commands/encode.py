"""`vae encode`: pictures to latents in a file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from vaecli.commands import job, options
from vaecli.commands.using import Reading, Use
from vaecli.config import RUN
from vaecli.errors import UsageError
from vaecli.flags import model_flags
from vaecli.streams import STDOUT
from vaecli.wording import how_many

EXAMPLES = (
    "vae encode pictures/ -o latents.npz",
    "vae encode pictures/ --std -o latents.csv",
    "vae encode 'shards/*.tar' --workers 4 -o latents.parquet/",
)  # at the top of the help page
NAMES = {"latent": "draws", "mean": "means", "std": "standard deviations"}  # of the columns, for a person


def encode(
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help=f"A .npz, .csv, .jsonl, .npy without names, - for .npy on stdout, {options.PARQUET_FOLDER}.",
        ),
    ],
    inputs: options.InputArguments = None,
    split: options.Split = None,
    files_from: options.FilesFrom = None,
    data_dir: options.DataDir = None,
    std: Annotated[bool, typer.Option("--std", help="Add the standard deviations of q(z|x).")] = False,
    stochastic: Annotated[bool, typer.Option("--stochastic", help="Write draws of q(z|x), not its means.")] = False,
    seed: options.Seed = None,
    invert: options.Invert = False,
    batch_size: options.BatchSize = None,
    label: options.Label = None,
    device: options.Device = "auto",
    run: options.Run = RUN,
    workers: options.Workers = None,
    ray: options.Ray = None,
    resume: options.Resume = False,
    no_clobber: options.NoClobber = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Writes one row for each picture, with its name, and its class where that is known. Needs no PyTorch."""
    if seed is not None and not stochastic:
        raise UsageError("`seed`: nothing is random without `stochastic`", "add `stochastic`, or leave out `seed`")
    use = Use(json=json, quiet=quiet)
    reading = Reading(inputs or (), split, files_from, data_dir, invert)
    if asked := job.asked_for(output, workers, ray, resume):
        from vaecli.jobs import Encode

        task = Encode(std=std, seed=asked.seed(use, seed, stochastic=stochastic))
        model = use.load(run, device, label)
        asked.run(use, model, task, reading, batch_size)
        use.console.note(f"next: vae decode{model_flags(run, label)} {shlex.quote(output)} -o decoded.parquet/")
        return
    from vaecli.events import counted
    from vaecli.inference.pair import encoded_columns
    from vaecli.parallel import cut
    from vaecli.tables import table_output

    wanted = encoded_columns(std=std, stochastic=stochastic)
    target = table_output(
        output, dict.fromkeys(wanted), on_stdout="npy", clobber=not no_clobber, json=json, sources=inputs or ()
    )
    model = use.load(run, device, label)
    pair = model.pair
    read = use.read(reading, pair)
    n, size, labels = len(read.images), batch_size or pair.batch_size, use.labels(read.labels, read.names, pair)
    drawn = use.draw_seed(seed) if stochastic else None
    use.start(pair.encoder)
    known = use.known_classes(read, pair)
    target = target.having(wanted, pair.latent_dim, labelled=any(known), model=pair.metadata.pair)
    with target.open(n, read.sources) as table:
        batches = pair.encode_batches(
            counted(cut(read.images, size), use.console.report, "encoding", n, "pictures"), drawn, labels
        )
        for names, classes, encoded in zip(cut(read.names, size), cut(known, size), batches, strict=True):
            table.write(names, [getattr(encoded, name) for name in wanted], classes)
    if output != STDOUT:
        what = ", ".join(NAMES[name] for name in wanted)
        use.console.note(
            f"wrote {output}: {how_many(n, 'row')}, {what} of {pair.latent_dim} dimensions, in {use.seconds:.1f} s"
        )
        if Path(output).is_file():
            use.console.note(f"next: vae decode{model_flags(run, label)} {shlex.quote(output)} -o decoded/")
    use.emit(
        output=output,
        n=n,
        columns=target.written,
        latent_dim=pair.latent_dim,
        form=target.format,
        fitted=read.fitted,
        skipped=read.skipped,
        skipped_names=read.skipped_names,
        bytes=Path(output).stat().st_size if Path(output).is_file() else None,
    )
