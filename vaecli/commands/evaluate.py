"""`vae evaluate`: how well a model explains pictures."""

from __future__ import annotations

from typing import Annotated

import typer

from vaecli import config
from vaecli.cli import completion
from vaecli.commands import options, reports
from vaecli.commands.using import Use
from vaecli.errors import UsageError
from vaecli.settings import resolve

EXAMPLES = (
    "vae evaluate",
    "vae evaluate --importance-samples 100 > report.txt",
    "vae evaluate --samples 250",
    "vae evaluate --data pictures/ --image-size 28 --channels 1",
)  # at the top of the help page


def evaluate(
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

    Needs no PyTorch.
    """
    use = Use(json=json, quiet=quiet)
    asked: str | config.DataConfig | None = data
    if image_size is not None or channels is not None:
        if data is None:
            raise UsageError("`image_size` and `channels`: without `data` there is nothing to fit", "add `data`")
        fitted = {"source": data, "image_size": image_size, "channels": channels}
        asked = resolve(None, {("data", key): value for key, value in fitted.items()}).data
    from vaecli.evaluation.bounds import check_binarize
    from vaecli.evaluation.data import choose
    from vaecli.evaluation.evaluate import evaluate as evaluate_pair

    pair = use.load(run, device, label).pair
    check_binarize(pair, binarize or pair.metadata.binarize)
    pictures = choose(pair, asked, data_dir, use.console.report, split=split, n=n)
    use.start(pair.decoder)
    use.seed = seed
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
    reports.evaluation(result, pair, use.console.result)
    use.console.note(f"measured in {use.seconds:.1f} s")
    known = pair.metadata
    use.emit(run=str(run), pair=known.pair, epoch=known.training.epoch, **result.facts)
