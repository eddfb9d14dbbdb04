"""`vae reconstruct`: pictures, and the model's reconstructions of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaecli.commands import job, options
from vaecli.commands.using import Reading, Use
from vaecli.config import RUN
from vaecli.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaecli.datasets.classes import Classes
    from vaecli.inference.pair import Pair
    from vaecli.pictures.inputs import PictureInputs

EXAMPLES = (
    "vae reconstruct -o pairs.png",
    "vae reconstruct cat.png dog.png -o pets.png",
    "vae reconstruct pictures/ -o reconstructed/",
    "vae reconstruct 'shards/*.tar' --workers 4 -o new.parquet/",
)  # at the top of the help page
EXAMPLES_DRAWN = 20  # held-out pictures, where no INPUT is given


def reconstruct(
    output: options.PicturesOrParquet = None,
    show: options.Show = False,
    inputs: options.InputArguments = None,
    split: options.Split = None,
    files_from: options.FilesFrom = None,
    data_dir: options.DataDir = None,
    stochastic: Annotated[bool, typer.Option("--stochastic", help="Decode a draw of q(z|x), not its mean.")] = False,
    seed: options.Seed = None,
    invert: options.Invert = False,
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
    """Arrays and folders hold the reconstructions alone. Without INPUT: held-out pictures of the training's data.

    Needs no PyTorch.
    """
    if seed is not None and not stochastic:
        raise UsageError("`seed`: nothing is random without `stochastic`", "add `stochastic`, or leave out `seed`")
    use = Use(json=json, quiet=quiet)
    reading = Reading(inputs or (), split, files_from, data_dir, invert)
    if asked := job.asked_for(
        output, workers, ray, resume, show=show, columns=columns, scale=scale, dtype=dtype, clobber=clobber
    ):
        from vaecli.jobs import Reconstruct

        task = Reconstruct(seed=asked.seed(use, seed, stochastic=stochastic))
        model = use.load(run, device, label)
        asked.run(use, model, task, reading, batch_size)
        return
    from vaecli.parallel import cut
    from vaecli.pictures.grid import Series, in_pairs

    target = use.pictures(output, show=show, columns=columns, scale=scale, dtype=dtype, clobber=clobber)
    model = use.load(run, device, label)
    pair = model.pair
    there = bool(inputs or files_from or split)
    if there:
        read = use.read(reading, pair)
        labels = use.labels(read.labels, read.names, pair)
    else:
        read, classes = _held_out(pair, data_dir, use)
        labels = pair.labels_of(classes)
        if invert:
            read = replace(read, images=255 - read.images)
    drawn = use.draw_seed(seed) if stochastic else None
    size = batch_size or pair.batch_size
    paired = target.form == "picture"

    def images() -> Iterator[NDArray[Any]]:
        results = pair.reconstructions(cut(read.images, size), drawn, labels=labels, as_uint8=target.as_uint8)
        for originals, reconstructions in zip(cut(read.images, size), results, strict=True):
            yield in_pairs(originals, reconstructions) if paired else reconstructions

    n = len(read.images)
    use.write(
        images,
        target,
        Series(
            2 * n if paired else n,
            pair.image_shape,
            stacked=2 if paired else 1,
            columns=None if there else 10,
            wraps_rows=True,
            names=read.names,
            sources=read.sources,
        ),
        "reconstructing",
        graph=pair.decoder,
        n=n,
        stochastic=stochastic,
        fitted=read.fitted,
        skipped=read.skipped,
        skipped_names=read.skipped_names,
    )


def _held_out(pair: Pair, data_dir: str | None, use: Use) -> tuple[PictureInputs, Classes | None]:
    """Some pictures that the training held out, and their classes. Raises UsageError where they are not here."""
    from vaecli.evaluation.data import held_out  # data sets, which given pictures do not need
    from vaecli.pictures.inputs import NO_INPUT_HINT, PictureInputs

    found = held_out(pair, None, data_dir, EXAMPLES_DRAWN, use.console.report)
    if found is None:
        problem = "no INPUT, and the pictures that the model was trained on are not here"
        raise UsageError(problem, NO_INPUT_HINT)
    use.console.note(f"no INPUT: {found}")
    images = found.pictures[:]
    names = found.pictures.names()
    return PictureInputs(images, names, sources=(*found.sources, *names)), found.pictures.classes
