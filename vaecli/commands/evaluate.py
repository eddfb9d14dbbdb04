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
from vaecli.errors import UsageError, VaeError
from vaecli.settings import resolve

if TYPE_CHECKING:
    from vaecli.evaluation.evaluate import Evaluation
    from vaecli.inference.pair import Pair
    from vaecli.model_format import Metadata

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
        if not folder.exists():
            raise UsageError(f"{folder}: no such run folder", "check the spelling; vae info FOLDER lists runs")
    different = dict[Path, Path]()
    for folder in runs or [run]:
        different.setdefault(folder.resolve(), folder)
    folders, use.seed = [*different.values()], seed

    def measured(folder: Path) -> tuple[Pair, Evaluation]:
        pair = use.load(folder, device, label).pair
        check_binarize(pair, binarize or pair.metadata.binarize)
        pictures = choose(pair, asked, data_dir, use.console.report, split=split, n=n)
        if not use.started:
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
        return pair, result

    if len(folders) == 1:
        pair, result = measured(folders[0])
        reports.evaluation(result, pair, use.console.result)
        use.console.note(f"measured in {use.seconds:.1f} s")
        use.emit(**_facts(folders[0], pair.metadata, result))
        return
    from vaecli.inspection import over_seeds
    from vaecli.inspection import runs as summaries

    found: list[tuple[Path, Metadata, Evaluation]] = []
    problems: list[VaeError] = []
    for folder in folders:
        use.console.note(f"{folder}:")
        try:
            pair, result = measured(folder)
            found.append((folder, pair.metadata, result))
        except VaeError as error:
            problems.append(error)
            use.console.warn(f"{folder}: left out: {error.message}")
    if not found:
        raise problems[0]
    use.console.note(f"measured in {use.seconds:.1f} s")
    bounds = {str(folder): result.bound.nats for folder, _, result in found}
    seeds = over_seeds(summaries(*bounds), bounds)
    reports.evaluations(found, seeds, same_data=asked is not None, console=use.console)
    use.emit(runs=[_facts(*one) for one in found], over_seeds=seeds)


def _facts(folder: Path, metadata: Metadata, result: Evaluation) -> dict[str, Any]:
    """An evaluation as JSON."""
    return {"run": str(folder), "pair": metadata.pair, "epoch": metadata.training.epoch, **result.facts}
