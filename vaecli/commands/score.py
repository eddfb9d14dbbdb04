"""`vae score`: which pictures a model finds strange."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaecli.commands.options import (
    DEFAULT_RUN,
    BatchSize,
    Binarize,
    Device,
    Invert,
    Json,
    NoClobber,
    Quiet,
    RequiredInputs,
    Run,
    Seed,
)
from vaecli.commands.using import Use
from vaecli.errors import UsageError, VaeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaecli import tables
    from vaecli.inference.model import Model
    from vaecli.pictures import writing
    from vaecli.pictures.reading import Inputs

TOP = 25  # pictures of the strangest, where only their place was named
LISTED = 10  # of them are listed for people and in JSON, where --top names no other number
ROWS = 1024  # that are written at once
ELBO, RECONSTRUCTION, KL, BOUND = "negative_elbo", "reconstruction", "kl", "bound"


def score(
    inputs: RequiredInputs,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="All scores: a .csv, .jsonl or .npz, or - for CSV on stdout."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option("--top", min=1, help=f"Also write a picture of so many of the strangest; {TOP} with --picture."),
    ] = None,
    picture: Annotated[
        str | None,
        typer.Option(
            "--picture",
            help="Where that goes: .png .jpg .webp .npy or folder/.",
            show_default="beside -o, as .png",
        ),
    ] = None,
    importance_samples: Annotated[
        int | None,
        typer.Option(
            "--importance-samples",
            "-k",
            min=1,
            help="Sort by the importance-weighted bound with so many latents for each picture.",
            show_default="by the negative ELBO, with one",
        ),
    ] = None,
    binarize: Binarize = None,
    seed: Seed = None,
    invert: Invert = False,
    batch_size: BatchSize = None,
    device: Device = "auto",
    run: Run = DEFAULT_RUN,
    no_clobber: NoClobber = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score pictures by how badly the model explains them, strangest first: outliers, mislabelled data.

    Scores are in nats: the negative ELBO with its two terms, and the bound where one is asked for.
    Pictures simpler than those learnt from, such as empty ones, score low: look at the list's other end, too.
    Needs no PyTorch.
    """
    use = Use(json=json, quiet=quiet)
    from vaecli import tables
    from vaecli.inference import evaluation
    from vaecli.inference.model import load

    columns = [ELBO, RECONSTRUCTION, KL, *([BOUND] if importance_samples else [])]
    destination = output and tables.output(
        output, dict.fromkeys(columns), on_stdout="csv", clobber=not no_clobber, json=json, sources=inputs
    )
    sheet = _sheet(output, top, picture, clobber=not no_clobber)
    model = load(run, device)
    binarize = binarize or model.metadata.binarize
    evaluation.check_binarize(model, binarize)
    read = use.read(inputs, model, invert=invert)
    use.runs_on(model.decoder)
    scores = _measured(
        model,
        read,
        importance_samples or 1,
        columns,
        use,
        binarize=binarize,
        seed=use.draw_seed(seed),
        batch_size=batch_size,
    )
    order = (-scores[columns[-1] if importance_samples else ELBO]).argsort(kind="stable")
    with contextlib.ExitStack() as both:  # neither file is there before both are whole
        if destination:
            _write(both.enter_context(destination.open(len(order))), read.names, scores, order)
        facts = _draw(both, sheet, model, read, order, inputs) if sheet else {}
    strangest = [
        {"name": read.names[row], **{column: float(scores[column][row]) for column in columns}}
        for row in order[: top or LISTED]
    ]
    if output != tables.STDOUT:
        _show(strangest[:LISTED], columns, use)
    for name in filter(None, (output, sheet and sheet.output.name)):
        if name != tables.STDOUT:
            use.console.note(f"wrote {name}")
    use.console.note(f"scored {len(order):,} pictures in {use.seconds:.1f} s")
    use.emit(
        output=output,
        picture=sheet.output.name if sheet else None,
        n=len(order),
        sorted_by=BOUND if importance_samples else ELBO,
        importance_samples=importance_samples or 1,
        binarize=binarize,
        fitted=read.fitted,
        strangest=strangest,
        **facts,
    )


@dataclass(frozen=True)
class _Sheet:
    """The picture of the strangest."""

    output: writing.Output
    top: int


def _sheet(output: str | None, top: int | None, picture: str | None, *, clobber: bool) -> _Sheet | None:
    if top is None and picture is None:
        return None
    from vaecli.pictures import writing

    if picture is None:
        if output is None or output == writing.STDOUT:
            raise UsageError("--top: the picture has no place", "add --picture strangest.png")
        picture = str(Path(output).with_suffix(".png"))
    if picture == writing.STDOUT:
        raise UsageError("--picture -: only the scores go to stdout", "name a file, or a folder/")
    with _of_picture():
        return _Sheet(writing.output(picture, clobber=clobber), top or TOP)


@contextlib.contextmanager
def _of_picture() -> Iterator[None]:
    """What is wrong with the picture's place is wrong with --picture."""
    try:
        yield
    except VaeError as error:
        error.message = error.message.replace("--output", "--picture", 1)
        raise


def _measured(
    model: Model,
    read: Inputs,
    samples: int,
    columns: list[str],
    use: Use,
    **how: Any,  # noqa: ANN401 - as evaluation.measure has them
) -> dict[str, NDArray[Any]]:
    """The scores of every picture by column, each (n,) float64."""
    import numpy as np

    from vaecli.inference import evaluation

    parts = []
    with use.console.progress("scoring", len(read.images), "pictures") as advance:
        for terms in evaluation.measure(model, read.images, samples=samples, **how):
            by_name = {
                ELBO: terms.negative_elbo,
                RECONSTRUCTION: terms.reconstruction,
                KL: terms.kl.sum(axis=1),
                BOUND: terms.bound,
            }
            parts.append([by_name[column] for column in columns])
            advance(len(terms))
    return dict(zip(columns, map(np.concatenate, zip(*parts, strict=True)), strict=True))


def _write(writer: tables.Writer, names: list[str], scores: dict[str, NDArray[Any]], order: NDArray[Any]) -> None:
    """All rows, in order, nats to four decimals."""
    from vaecli.inference.batches import cut

    for rows in cut(order, ROWS):
        writer.write([names[row] for row in rows], [column[rows].round(4) for column in scores.values()])


def _draw(
    both: contextlib.ExitStack, sheet: _Sheet, model: Model, read: Inputs, order: NDArray[Any], inputs: list[str]
) -> dict[str, Any]:
    """The strangest pictures: in a picture each above its reconstruction, else they alone, numbered by rank."""
    from vaecli.inference.batches import cut
    from vaecli.pictures.grid import in_pairs

    rows = order[: sheet.top]
    beside = sheet.output.form == "picture"
    with _of_picture():
        writer = both.enter_context(
            sheet.output.open(
                2 * len(rows) if beside else len(rows),
                model.image_shape,
                stacked=2 if beside else 1,
                names=[f"{rank:04}-{Path(read.names[row]).name}" for rank, row in enumerate(rows, 1)],
                sources=(*inputs, *(name for name in read.names if not name.endswith("]"))),  # ] ends an array's row
            )
        )
        for originals in (read.images[some] for some in cut(rows, ROWS)):
            if beside:
                (reconstructed,) = model.reconstructions([originals], as_uint8=True)
                writer.write(in_pairs(originals, reconstructed))
            else:
                writer.write(originals)
    return {"top": len(rows)}


def _show(strangest: list[dict[str, Any]], columns: list[str], use: Use) -> None:
    said = {ELBO: "negative ELBO", KL: "KL"}
    rows = [[record["name"], *(f"{record[column]:.2f}" for column in columns)] for record in strangest]
    use.console.table("strangest", ["picture", *(said.get(column, column) for column in columns)], rows)
