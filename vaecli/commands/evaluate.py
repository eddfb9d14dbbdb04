"""`vae evaluate`: how well a model explains pictures."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaecli import config
from vaecli.cli import completion
from vaecli.commands import options, reports
from vaecli.commands.using import Use
from vaecli.errors import UsageError
from vaecli.settings import resolve

if TYPE_CHECKING:
    from vaecli.evaluation.evaluate import Evaluation
    from vaecli.inference.pair import Pair

EXAMPLES = (
    "vae evaluate",
    "vae evaluate --importance-samples 100 > report.txt",
    "vae evaluate --samples 250",
    "vae evaluate --data pictures/ --image-size 28 --channels 1",
    "vae evaluate runs/beta-* --data test/",
)  # at the top of the help page


def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN...", help="Run folders; several are compared, with means over seeds. [default: --run]"
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="NAME|PATH",
            autocompletion=completion.data_sources,
            help="A data set by name, a folder of pictures, a .npy or .npz, or shards.",
            show_default="what it was trained on",
        ),
    ] = None,
    data_dir: options.DataDir = None,
    split: Annotated[
        config.Split | None,
        typer.Option(
            "--split",
            help="The pictures that training holds out, those of --validation, those it trains on, or all.",
            show_default="held-out; all of data without test images that the model was not trained on",
        ),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option("--n", "-n", min=1, help="Only N of the pictures, evenly spaced.", show_default="all"),
    ] = None,
    importance_samples: Annotated[
        int,
        typer.Option(
            "--importance-samples", "-k", min=1, help="Latents drawn for each picture; more tighten the bound."
        ),
    ] = config.IMPORTANCE_SAMPLES,
    binarize: options.Binarize = None,
    prior: options.Prior = config.PRIOR,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            min=2,
            help="Compare N samples with N held-out pictures (at most half of these), by precision, recall and "
            "Fréchet distance in the features of the model's own encoder. These numbers are comparable within one "
            "exported model only.",
            show_default="none",
        ),
    ] = None,
    image_size: options.ImageSize = None,
    channels: options.Channels = None,
    seed: options.FixedSeed = 0,
    batch_size: options.BatchSize = None,
    label: options.Label = None,
    device: options.Device = "auto",
    run: options.Run = config.RUN,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """All losses are in nats per image. The bound is the importance-weighted one of Burda et al. (2016).

    Several runs are listed by their bound, best first. Needs no PyTorch.
    """
    use = Use(json=json, quiet=quiet)
    asked: str | config.DataConfig | None = data
    if image_size is not None or channels is not None:
        if data is None:
            raise UsageError("`image_size` and `channels`: without `data` there is nothing to fit", "add `data`")
        fitted = {"source": data, "image_size": image_size, "channels": channels}
        asked = resolve(None, {("data", key): value for key, value in fitted.items()}).data
    from vaecli.datasets import builtin
    from vaecli.datasets.catalogue import NAMED
    from vaecli.evaluation.bounds import check_binarize
    from vaecli.evaluation.data import choose
    from vaecli.evaluation.evaluate import evaluate as evaluate_pair
    from vaecli.run_folder import RunFolder

    for folder in runs or ():
        if not RunFolder(folder).occupied and (folder.exists() or str(folder) in (builtin.NAME, *NAMED)):
            raise UsageError(f"{folder}: no run folder", f"did you mean --data {shlex.quote(str(folder))}?")
    use.seed = seed
    found: list[tuple[Pair, Evaluation]] = []
    folders = use.exported(runs or [run])
    for folder in folders:
        if len(folders) > 1:
            use.console.note(f"{folder}:")
        pair = use.load(folder, device, label).pair
        check_binarize(pair, binarize or pair.metadata.binarize)
        pictures = choose(pair, asked, data_dir, use.console.report, split=split, n=n)
        if not found:
            use.start(pair.decoder)
        result = evaluate_pair(
            pair,
            pictures,
            importance_samples=importance_samples,
            binarize=binarize,
            prior=prior,
            samples=samples,
            seed=seed,
            batch_size=batch_size,
            on_event=use.console.report,
        )
        found.append((pair, result))
    use.console.note(f"measured in {use.seconds:.1f} s")
    facts = [_facts(pair, result) for pair, result in found]
    if len(found) == 1:
        reports.evaluation(*found[0][::-1], use.console.result)
        use.emit(**facts[0])
        return
    from vaecli.inspection import over_seeds
    from vaecli.inspection import runs as summaries

    bounds = {str(pair.folder): result.bound.nats for pair, result in found}
    seeds = over_seeds(summaries(*bounds), bounds)
    reports.evaluations(found, seeds, use.console)
    use.emit(runs=facts, over_seeds=seeds)


def _facts(pair: Pair, result: Evaluation) -> dict[str, Any]:
    """An evaluation as JSON."""
    known = pair.metadata
    return {"run": str(pair.folder), "pair": known.pair, "epoch": known.training.epoch, **result.facts}
