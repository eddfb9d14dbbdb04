"""`vae score`: pictures ranked by how badly a model explains them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaecli.commands import options
from vaecli.commands.using import Use
from vaecli.config import RUN
from vaecli.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vaecli.model import Model
    from vaecli.pictures.reading import PictureInputs
    from vaecli.pictures.writing import PictureOutput

EXAMPLES = (
    "vae score pictures/",
    "vae score pictures/ -o scores.csv --top 25",
)  # at the top of the help page
TOP = 25  # pictures that are drawn, where --top does not say
LISTED = 10  # pictures that are listed, where --top does not say
ROWS = 1024  # that are written at once


def score(
    inputs: options.RequiredInputs,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="All scores: a .csv, .jsonl or .npz, or - for CSV on stdout."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option("--top", min=1, help=f"Also draw the N strangest pictures; {TOP} with --picture."),
    ] = None,
    picture: Annotated[
        str | None,
        typer.Option(
            "--picture",
            help="Where they are drawn: .png .jpg .webp .npy or folder/.",
            show_default="beside -o, as .png",
        ),
    ] = None,
    importance_samples: Annotated[
        int | None,
        typer.Option(
            "--importance-samples",
            "-k",
            min=1,
            help="Sort by the importance-weighted bound with K latents for each picture.",
            show_default="by the negative ELBO, with one",
        ),
    ] = None,
    binarize: options.Binarize = None,
    seed: options.FixedSeed = 0,
    invert: options.Invert = False,
    batch_size: options.BatchSize = None,
    device: options.Device = "auto",
    run: options.Run = RUN,
    no_clobber: options.NoClobber = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Scores are in nats: the negative ELBO with its two terms, and the bound where one is asked for.

    Pictures simpler than those of the training, such as empty ones, score low: they are at the end of the list.
    Needs no PyTorch.
    """
    use = Use(json=json, quiet=quiet)
    from vaecli.evaluation.bounds import check_binarize
    from vaecli.evaluation.score import column_names
    from vaecli.evaluation.score import score as score_pictures
    from vaecli.processors import cut
    from vaecli.tables import table_output

    columns = dict.fromkeys(column_names(importance_samples))
    table = output and table_output(output, columns, on_stdout="csv", clobber=not no_clobber, json=json, sources=inputs)
    sheet = _sheet(use, output, top, picture, clobber=not no_clobber)
    model = use.load(run, device)
    check_binarize(model, binarize or model.metadata.binarize)
    read = use.read(inputs, model, invert=invert)
    use.start(model.decoder)
    use.seed = seed
    scores = score_pictures(
        model,
        read.images,
        importance_samples=importance_samples,
        binarize=binarize,
        seed=seed,
        batch_size=batch_size,
        on_event=use.console.report,
    )
    count = min(top or TOP, len(scores))
    with contextlib.ExitStack() as both:  # both files are written, or none
        if table:
            writer = both.enter_context(table.open(len(scores)))
            for rows in cut(scores.order, ROWS):
                nats = [column[rows].round(4) for column in scores.columns.values()]
                writer.write([read.names[row] for row in rows], nats)
        if sheet:
            _draw(sheet, model, read, scores.order[:count], inputs)
    strangest = [{"name": read.names[row], **scores.of(row)} for row in scores.order[: top or LISTED]]
    if output != "-":
        titles = {"negative_elbo": "negative ELBO", "kl": "KL"}
        lines = [[row["name"], *(f"{row[column]:.2f}" for column in columns)] for row in strangest[:LISTED]]
        use.console.result.table("strangest", ["picture", *(titles.get(column, column) for column in columns)], lines)
    for name in (output, sheet and sheet.name):
        if name and name != "-":
            use.console.note(f"wrote {name}")
    use.console.note(f"scored {len(scores):,} pictures in {use.seconds:.1f} s")
    use.emit(
        output=output,
        picture=sheet.name if sheet else None,
        n=len(scores),
        sorted_by=scores.sorted_by,
        importance_samples=scores.importance_samples,
        binarize=scores.binarize,
        fitted=read.fitted,
        skipped=read.skipped,
        strangest=strangest,
        **({"top": count} if sheet else {}),
    )


def _sheet(
    use: Use, output: str | None, top: int | None, picture: str | None, *, clobber: bool
) -> PictureOutput | None:
    """Where the strangest pictures are drawn; None where nobody asked for it. Raises UsageError."""
    if top is None and picture is None:
        return None
    if picture is None:
        if output is None or output == "-":
            raise UsageError("`top`: the picture has no place", "add `picture` strangest.png")
        picture = str(Path(output).with_suffix(".png"))
    if picture == "-":
        raise UsageError("`picture` -: only the scores go to stdout", "name a file, or a folder/")
    return use.pictures(picture, clobber=clobber, flag="picture")


def _draw(sheet: PictureOutput, model: Model, read: PictureInputs, rows: NDArray[np.int64], inputs: list[str]) -> None:
    """The pictures in `rows`: in a grid above their reconstructions, else alone, numbered by rank."""
    from vaecli.pictures.grid import in_pairs

    paired = sheet.form == "picture"
    names = [f"{rank:04}-{Path(read.names[row]).name}" for rank, row in enumerate(rows, 1)]
    files = (*inputs, *(name for name in read.names if not name.endswith("]")))  # ] ends an array's row
    count = 2 * len(rows) if paired else len(rows)
    with sheet.open(count, model.image_shape, stacked=2 if paired else 1, names=names, sources=files) as writer:
        originals = read.images[rows]
        writer.write(
            in_pairs(originals, next(model.reconstructions([originals], as_uint8=True))) if paired else originals
        )
