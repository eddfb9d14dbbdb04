"""`vae score`: pictures ranked by how strange they are to a model."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence
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
    "vae score pictures/ --top 25 --picture strangest.png",
    "vae score pictures/ --flag 0.01 --heatmap heat/",
    "vae score --files-from names.txt -o scores.csv",
)  # at the top of the help page
LISTED, DRAWN = 10, 25  # pictures, where neither --top nor --flag says
DECIMALS = {"tail": 4}  # of a column that is listed; of the others 2
SHOWN = ("strangeness", "tail", "excess", "bound")  # columns of the list; a table and JSON have all
UNTIL_KNOWN = {"strangeness": None, "tail": None}  # the table's columns, before the model is read
ROWS = 1024  # that are written at once


def score(
    inputs: options.InputArguments = None,
    files_from: options.FilesFrom = None,
    data_dir: options.DataDir = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="A table of all pictures: a .csv, .jsonl or .npz, or - for CSV on stdout."),
    ] = None,
    flag: Annotated[
        float | None,
        typer.Option("--flag", help="Only pictures as strange as a share P of held-out ones: 0.01 for one in 100."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            "--top",
            min=1,
            help="List and draw only N.",
            show_default=f"{LISTED} listed, {DRAWN} drawn; with --flag all",
        ),
    ] = None,
    picture: Annotated[
        str | None, typer.Option("--picture", help="Draw the strangest: .png .jpg .webp .npy or folder/.")
    ] = None,
    heatmap: Annotated[
        str | None,
        typer.Option(
            "--heatmap",
            help="Draw where in each picture the model disagrees: folder/ or .npy; .png .jpg .webp as --picture.",
        ),
    ] = None,
    importance_samples: Annotated[
        int | None,
        typer.Option(
            "--importance-samples",
            "-k",
            min=1,
            help="Sort by the importance-weighted bound with K latents for each picture.",
            show_default="by strangeness, with one",
        ),
    ] = None,
    binarize: options.Binarize = None,
    seed: options.FixedSeed = 0,
    invert: options.Invert = False,
    batch_size: options.BatchSize = None,
    label: options.Label = None,
    device: options.Device = "auto",
    run: options.Run = RUN,
    no_clobber: options.NoClobber = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """A picture is strange if the model explains it badly for its looks, or if it looks too plain or too busy itself.

    Looks are brightness, contrast and detail. Both are measured against pictures held out of the training, and the tail
    is the share of those that are at least as strange. Needs no PyTorch.
    """
    use = Use(json=json, quiet=quiet)
    from vaecli.evaluation.bounds import check_binarize
    from vaecli.evaluation.score import check_flag, reference_of
    from vaecli.evaluation.score import score as score_pictures
    from vaecli.processors import cut
    from vaecli.tables import table_output

    table = output and table_output(
        output, UNTIL_KNOWN, on_stdout="csv", clobber=not no_clobber, json=json, sources=inputs or ()
    )
    drawings = {
        parameter: use.pictures(name, clobber=not no_clobber, flag=parameter)
        for parameter, name in (("picture", picture), ("heatmap", heatmap))
        if name is not None
    }
    if any(target.name == "-" for target in drawings.values()):
        raise UsageError("only the scores go to stdout", "name a file or folder/ for `picture` and `heatmap`")
    model = use.load(run, device, label)
    check_binarize(model, binarize or model.metadata.binarize)
    if flag is not None:
        check_flag(flag, reference_of(model, binarize))
    read = use.read(inputs, model, invert=invert, files_from=files_from, data_dir=data_dir)
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
    rows = scores.order if flag is None else scores.flagged(flag)
    listed = rows[: top or (LISTED if flag is None else None)]
    with contextlib.ExitStack() as all_files:  # all are written, or none
        for parameter, target in drawings.items() if len(rows) else ():
            heat = parameter == "heatmap"
            some = DRAWN if flag is None and not (heat and target.form != "picture") else None
            _draw(all_files, target, model, read, rows[: top or some], inputs or (), heat=heat)
        if output == "-":  # whose reader may leave early: the pictures are complete by then
            all_files.close()
        if table:
            writer = all_files.enter_context(table.having(scores.columns).open(len(rows)))
            for part in cut(rows, ROWS):
                numbers = [column[part].round(5) for column in scores.columns.values()]
                writer.write([read.names[row] for row in part], numbers)
    strangest = [{"name": read.names[row], **scores.of(row)} for row in listed]
    if output != "-":
        shown = [column for column in scores.columns if column in SHOWN]
        lines = [
            [row["name"], *(f"{row[column]:.{DECIMALS.get(column, 2)}f}" for column in shown)] for row in strangest
        ]
        title = "strangest" if flag is None else f"flagged at {flag:g}: {len(rows)} of {len(scores)}"
        use.console.result.table(title, ["picture", *shown], lines)
    drawn = {parameter: target.name for parameter, target in drawings.items() if len(rows)}
    for name in (output, *drawn.values()):
        if name and name != "-":
            use.console.note(f"wrote {name}")
    use.console.note(f"scored {len(scores):,} pictures in {use.seconds:.1f} s")
    if inputs and not drawings and output != "-" and files_from is None and "-" not in inputs:
        use.console.note(f"next: vae score{options.run_flag(run)} {shlex.join(inputs)} --picture strangest.png")
    use.emit(
        output=output,
        picture=drawn.get("picture"),
        heatmap=drawn.get("heatmap"),
        n=len(scores),
        sorted_by=scores.sorted_by,
        reference=scores.reference,
        flag=flag,
        flagged=len(rows) if flag is not None else None,
        importance_samples=scores.importance_samples,
        binarize=scores.binarize,
        fitted=read.fitted,
        skipped=read.skipped,
        strangest=strangest,
    )


def _draw(
    files: contextlib.ExitStack,
    target: PictureOutput,
    model: Model,
    read: PictureInputs,
    rows: NDArray[np.int64],
    inputs: Sequence[str],
    *,
    heat: bool,
) -> None:
    """The pictures in `rows` with their reconstructions, or with `heat` where the model disagrees.

    A grid has each original above the other picture. An array or a folder has the originals, numbered by rank; or the
    heat maps, under their pictures' names.
    """
    from vaecli.evaluation.score import heatmaps
    from vaecli.pictures.grid import in_pairs
    from vaecli.processors import cut

    paired = target.form == "picture"
    channels, height, width = model.image_shape
    names = [read.names[row] if heat else f"{rank:04}-{Path(read.names[row]).name}" for rank, row in enumerate(rows, 1)]
    sources = (*inputs, *(name for name in read.names if not name.endswith("]")))  # ] ends an array's row
    count = 2 * len(rows) if paired else len(rows)
    shape = (3 if heat else channels, height, width)
    writer = files.enter_context(target.open(count, shape, stacked=2 if paired else 1, names=names, sources=sources))

    def originals() -> Iterator[NDArray[np.uint8]]:
        return (read.images[part] for part in cut(rows, model.batch_size))

    others = heatmaps(model, originals()) if heat else model.reconstructions(originals(), as_uint8=True)
    for pictures, other in zip(originals(), others, strict=True):
        if paired:
            writer.write(in_pairs(pictures, other))
        else:
            writer.write(other if heat else pictures)
