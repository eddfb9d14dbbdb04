"""`vae score`: pictures ranked by how strange they are to a model."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaecli.commands import job, options, reports
from vaecli.commands.using import Reading, Use
from vaecli.config import RUN
from vaecli.errors import UsageError
from vaecli.flags import model_flags
from vaecli.streams import STDIN, STDOUT
from vaecli.wording import how_many

if TYPE_CHECKING:
    from vaecli.inference.pair import Pair

EXAMPLES = (
    "vae score pictures/ --top 25 --picture strangest.png",
    "vae score pictures/ --flag 0.01 --heatmap heat/",
    "vae score parts/ --by local --top 25 --heatmap defects.png",
    "vae score --files-from names.txt -o scores.csv",
    "vae score 'shards/*.tar' --workers 4 -o scores.parquet/",
)  # at the top of the help page
LISTED = 10  # pictures, where neither --top nor --flag says
UNTIL_KNOWN = {"strangeness": None, "tail": None}  # the table's columns, before the model is read


def score(
    inputs: options.InputArguments = None,
    split: options.Split = None,
    files_from: options.FilesFrom = None,
    data_dir: options.DataDir = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="A table of all pictures, with --flag of those flagged: .csv, .jsonl, .npz, - for CSV on stdout, "
            f"{options.PARQUET_FOLDER}.",
        ),
    ] = None,
    by: options.SortedBy = None,
    flag: options.Flagged = None,
    top: options.Top = None,
    picture: options.StrangePicture = None,
    heatmap: options.Heatmap = None,
    importance_samples: options.SortingSamples = None,
    binarize: options.Binarize = None,
    seed: options.FixedSeed = 0,
    invert: options.Invert = False,
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
    """The strangeness compares a picture with those held out of the training. Needs no PyTorch.

    It is high if the loss is higher than that of held-out pictures of similar brightness, contrast and
    detail, or if these three are unusual. The tail is the share of held-out pictures that are at least as strange.
    A small defect hardly changes the loss of a whole picture: --by local finds it by the strangest area.
    """
    use = Use(json=json, quiet=quiet)
    reading = Reading(inputs or (), split, files_from, data_dir, invert)
    if asked := job.asked_for(
        output, workers, ray, resume, by=by, flag=flag, top=top, picture=picture, heatmap=heatmap, clobber=clobber
    ):
        from vaecli.jobs import Score

        task = Score(importance_samples=importance_samples, binarize=binarize, seed=seed)
        use.seed, model = seed, use.load(run, device, label)
        _warn_of_training(reading, model.pair, use)
        asked.run(use, model, task, reading, batch_size)
        return
    from vaecli.commands.score_files import write
    from vaecli.evaluation.bounds import check_binarize
    from vaecli.evaluation.score import check_flag, reference_of
    from vaecli.evaluation.score import score as score_pictures
    from vaecli.events import Note
    from vaecli.tables import table_output

    table = None
    if output is not None:
        table = table_output(output, UNTIL_KNOWN, on_stdout="csv", clobber=clobber, json=json, sources=inputs or ())
    drawings = {
        parameter: use.pictures(name, clobber=clobber, flag=parameter)
        for parameter, name in (("picture", picture), ("heatmap", heatmap))
        if name is not None
    }
    if any(target.name == STDOUT for target in drawings.values()):
        raise UsageError("only the scores go to stdout", "name a file or folder/ for `picture` and `heatmap`")
    pair = use.load(run, device, label).pair
    check_binarize(pair, binarize or pair.metadata.binarize)
    if flag is not None:
        check_flag(flag, reference_of(pair, binarize))
    read = use.read(reading, pair)
    _warn_of_training(reading, pair, use)
    labels, known = use.labels(read.labels, read.names, pair), use.known_classes(read, pair)
    use.start(pair.decoder)
    use.seed = seed
    scores = score_pictures(
        pair,
        read.images,
        by=by,
        labels=labels,
        importance_samples=importance_samples,
        binarize=binarize,
        seed=seed,
        batch_size=batch_size,
        on_event=use.console.report,
    )
    write(pair, read, scores, flag, table=table, drawings=drawings, top=top, labels=labels, known=known)
    rows = scores.chosen(flag)
    listed = rows[: top or (LISTED if flag is None else None)]
    strangest = [{"name": read.names[row], **scores.of(row)} for row in listed]
    if output != STDOUT:
        reports.strangest(strangest, scores, flag, use.console)
    drawn = {parameter: target.name for parameter, target in drawings.items() if len(rows)}
    for target in drawings.values() if not len(rows) else ():
        old = target.name is not None and Path(target.name).exists()
        kept = ": what is there is of an earlier command" if old else ""
        use.console.report(Note(f"nothing is flagged, so {target.name} was not written{kept}", warning=old))
    for name in (output, *drawn.values()):
        if name and name != STDOUT:
            use.console.note(f"wrote {name}")
    use.console.note(f"scored {how_many(len(scores), 'picture')} in {use.seconds:.1f} s")
    plain = split is None and files_from is None and not drawings and output != STDOUT
    if plain and strangest and inputs and STDIN not in inputs:
        use.console.note(f"next: vae score{model_flags(run, label)} {shlex.join(inputs)} --picture strangest.png")
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
        prior=pair.kind_of(pair.trained_prior),
        fitted=read.fitted,
        skipped=read.skipped,
        skipped_names=read.skipped_names,
        strangest=strangest,
    )


def _warn_of_training(reading: Reading, pair: Pair, use: Use) -> None:
    """Warn where one of the inputs is, or is within, what the model was trained on."""
    from vaecli.inference.training_data import includes_trained_on

    files = [name for name in reading.inputs if name != STDIN and Path(name).exists()]
    if files and reading.split is None and includes_trained_on(pair, files):
        use.console.warn("the model was trained on these pictures, so their losses are too low: see --split held-out")
