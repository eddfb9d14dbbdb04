"""`vae evaluate`: how well a model explains pictures."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vaecli import completion, config
from vaecli.commands import options
from vaecli.commands.using import Use
from vaecli.errors import UsageError
from vaecli.model_format import Likelihood

if TYPE_CHECKING:
    from vaecli.console import TextStream
    from vaecli.evaluation.evaluate import Evaluation
    from vaecli.evaluation.samples import SampleComparison
    from vaecli.model import Model
    from vaecli.model_format import ImageShape

EXAMPLES = (
    "vae evaluate",
    "vae evaluate --importance-samples 100 > report.txt",
    "vae evaluate --samples 250",
    "vae evaluate --data pictures/ --image-size 28 --channels 1",
)  # at the top of the help page
SHOWN = 20  # dimensions in the report; JSON has all of them


def evaluate(
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="NAME|PATH",
            autocompletion=completion.data_sources,
            help="Built-in or named data set, folder of images, .npy or .npz.",
            show_default="what it was trained on",
        ),
    ] = None,
    data_dir: options.DataDir = None,
    split: Annotated[
        Literal["held-out", "validation", "train", "all"],
        typer.Option(
            "--split", help="The pictures that training holds out, those of --validation, those it trains on, or all."
        ),
    ] = "held-out",
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
            help="Compare so many samples with as many pictures, at most half of them, by precision, recall and "
            "Fréchet distance in the features of the model's own encoder. These numbers are comparable within one "
            "exported model only.",
            show_default="none",
        ),
    ] = None,
    image_size: options.ImageSize = None,
    channels: options.Channels = None,
    seed: options.FixedSeed = 0,
    batch_size: options.BatchSize = None,
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
        asked = config.resolve(None, {("data", key): value for key, value in fitted.items()}).data
    from vaecli.evaluation.bounds import check_binarize
    from vaecli.evaluation.evaluate import evaluate as evaluate_model

    model = use.load(run, device)
    check_binarize(model, binarize or model.metadata.binarize)
    pictures = model.evaluation_data(asked, data_dir=data_dir, split=split, n=n, on_event=use.console.report)
    use.start(model.decoder)
    use.seed = seed
    result = evaluate_model(
        model,
        pictures,
        importance_samples=importance_samples,
        binarize=binarize,
        prior=prior,
        samples=samples,
        seed=seed,
        batch_size=batch_size,
        on_event=use.console.report,
    )
    _show(result, use, model)
    bits = {name: estimate.bits_per_dimension for name, estimate in result.estimates.items()}
    use.emit(
        data=result.data,
        split=result.split,
        trained_on=result.trained_on,
        chose_epoch=result.chose_epoch,
        n=result.n,
        binarize=result.binarize,
        prior=result.prior,
        importance_samples=result.importance_samples,
        **{name: estimate.nats for name, estimate in result.estimates.items()},
        standard_error={name: estimate.standard_error for name, estimate in result.estimates.items()},
        bits_per_dimension=bits if None not in bits.values() else None,
        effective_samples={"median": result.effective_samples.median, "low": result.effective_samples.low},
        normalised=result.normalised,
        latent_dim=model.latent_dim,
        active_units=result.active_units,
        probes=result.probes,
        kl_per_dimension=result.kl_per_dimension.tolist(),
        mean_variance=result.mean_variance.tolist(),
        samples=None if result.samples is None else asdict(result.samples),
    )


def _show(result: Evaluation, use: Use, model: Model) -> None:
    """The result for people."""
    report, with_bits = use.console.result, result.bound.bits_per_dimension is not None
    split = "" if result.split == "all" else f"{result.split} "
    report.line(f"{model.folder} on {result.n:,} {split}pictures of {result.data}")
    titles = {"negative_elbo": "negative ELBO", "kl": "KL", "bound": f"bound, K = {result.importance_samples}"}
    rows = []
    for name, estimate in result.estimates.items():
        error = "unknown" if estimate.standard_error is None else f"{estimate.standard_error:.3f}"
        row = [titles.get(name, name), f"{estimate.nats:.3f}", error]
        rows.append([*row, f"{estimate.bits_per_dimension:.4f}"] if with_bits else row)
    heading = ["", "nats per image", "standard error", *(["bits per dimension"] if with_bits else [])]
    report.table("evaluation", heading, rows)
    if result.prior == "mixture":
        other = "; --prior normal measures with N(0, I)" if model.trained_prior == "normal" else ""
        report.line(f"prior: the model's mixture, so that the KL is estimated, too{other}")
    if not result.normalised:
        report.line(_not_normalised(result.likelihood, model.image_shape))
    if result.importance_samples > 1:
        effective = result.effective_samples
        report.line(
            f"effective samples of the bound: median {effective.median:.1f} of {result.importance_samples}; "
            f"one picture in twenty has under {effective.low:.1f}"
        )
    kl, variance = result.kl_per_dimension, result.mean_variance
    report.line(f"active units: {result.active_units} of {len(kl)} latent dimensions")
    if (probes := result.probes) is not None:
        report.line(
            f"classes found from the latents: {probes.linear:.1%} by a linear classifier, "
            f"{probes.neighbours:.1%} by five neighbours; always naming the largest class: {probes.largest_class:.1%}"
        )
    order = (-kl).argsort(kind="stable")
    table = [(str(at), f"{kl[at]:.3f}", f"{variance[at]:.3f}") for at in order[:SHOWN]]
    report.table("latent dimensions", ("dimension", "KL in nats", "variance of the mean"), table)
    if len(order) > SHOWN:
        report.line(f"and {len(order) - SHOWN} more dimensions of at most {kl[order[SHOWN]]:.3f} nats")
    if result.samples is not None:
        _show_samples(result.samples, report)
    use.console.note(f"measured in {use.seconds:.1f} s")


def _show_samples(found: SampleComparison, report: TextStream) -> None:
    """Samples beside what would be good."""
    names = {"samples": "samples", "reconstructions": "other pictures, reconstructed", "pictures": "other pictures"}
    table = [
        (names[name], f"{like.precision:.3f}", f"{like.recall:.3f}", f"{like.frechet_distance:.3f}")
        for name, like in found.rows.items()
    ]
    heading = ("", "precision", "recall", "Fréchet distance")
    report.table(f"{found.n:,} samples compared with as many pictures", heading, table)
    report.line("the features are the encoder's means of q(z|x): comparable within one exported model only")


def _not_normalised(likelihood: Likelihood, image_shape: ImageShape) -> str:
    """What the losses are where they bound no probability of the pictures, and what would."""
    if likelihood != "bernoulli":
        return (
            f"{likelihood} is a density: compare it with the same likelihood only, or train with --likelihood logistic"
        )
    if image_shape[0] == 1:
        remedy = "--binarize dynamic or threshold measures bounds, of pixels made 0 or 1"
        return f"grey pixels under a Bernoulli likelihood: these are cross-entropies, not bounds on -log p(x); {remedy}"
    remedy = "a model trained with --likelihood logistic has bounds"
    return f"colour under a Bernoulli likelihood: these are cross-entropies, not bounds on -log p(x); {remedy}"
