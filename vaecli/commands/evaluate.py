"""`vae evaluate`: how good a model is, measured on its exported pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vaecli import config
from vaecli.commands.options import (
    DEFAULT_RUN,
    BatchSize,
    Binarize,
    Device,
    Json,
    Quiet,
    Run,
    Seed,
    setting,
)
from vaecli.commands.using import Use
from vaecli.errors import UsageError

if TYPE_CHECKING:
    from vaecli.console import Console
    from vaecli.inference.evaluation import Estimate, Evaluation
    from vaecli.inference.evaluation_data import EvaluationData
    from vaecli.inference.model import Model

SHOWN = 20  # dimensions in the table for people; JSON has all of them


def evaluate(
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="Built-in or named data set, folder of images, .npy or .npz.",
            show_default="what it was trained on",
        ),
    ] = None,
    data_dir: Annotated[str | None, setting("data", "dir", envvar="VAE_DATA")] = None,
    split: Annotated[
        Literal["held-out", "train", "all"],
        typer.Option("--split", help="The pictures that training holds out of a data set, the others, or all."),
    ] = "held-out",
    n: Annotated[
        int | None,
        typer.Option("--n", "-n", min=1, help="So many of them, spread evenly.", show_default="all of them"),
    ] = None,
    importance_samples: Annotated[
        int,
        typer.Option(
            "--importance-samples", "-k", min=1, help="Latents drawn for each picture; more tighten the bound."
        ),
    ] = 10,
    binarize: Binarize = None,
    image_size: Annotated[str | None, setting("data", "image_size")] = None,
    channels: Annotated[int | None, setting("data", "channels")] = None,
    seed: Seed = None,
    batch_size: BatchSize = None,
    device: Device = "auto",
    run: Run = DEFAULT_RUN,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model on held-out pictures: ELBO, a bound on -log p(x), what the latents carry. Needs no PyTorch.

    Everything is in nats per image. The bound is the importance-weighted one of Burda et al. (2016).
    """
    use = Use(json=json, quiet=quiet)
    if data is None and (image_size is not None or channels is not None):
        raise UsageError("--image-size and --channels: without --data there is nothing to fit", "add --data")
    flags = {("data", "source"): data, ("data", "image_size"): image_size, ("data", "channels"): channels}
    asked = None if data is None else config.resolve(None, flags).data
    from vaecli.inference import evaluation, evaluation_data
    from vaecli.inference.model import load

    model = load(run, device)
    binarize = binarize or model.metadata.binarize
    evaluation.check_binarize(model, binarize)
    dataset = evaluation_data.open_data(model, asked, data_dir, use.console.progress)
    chosen = evaluation_data.choose(dataset, model, split, n)
    _state(chosen, split, binarize, model, use.console)
    use.runs_on(model.decoder)
    tally = evaluation.Tally(model)
    stretches = evaluation.measure(
        model,
        chosen.pictures,
        samples=importance_samples,
        seed=use.draw_seed(seed),
        binarize=binarize,
        batch_size=batch_size,
    )
    with use.console.progress("evaluating", len(chosen.pictures), "pictures") as advance:
        for terms in stretches:
            tally.add(terms)
            advance(len(terms))
    result = tally.result()
    _show(result, importance_samples, use)
    use.emit(
        data=chosen.name,
        split=split,
        trained_on=chosen.trained_on,
        n=result.n,
        binarize=binarize,
        importance_samples=importance_samples,
        **{name: estimate.nats for name, estimate in _estimates(result).items()},
        standard_error={name: estimate.standard_error for name, estimate in _estimates(result).items()},
        bits_per_dimension={name: estimate.bits_per_dimension for name, estimate in _estimates(result).items()}
        if result.bound.bits_per_dimension is not None
        else None,
        normalised=result.normalised,
        latent_dim=model.latent_dim,
        active_units=result.active_units,
        kl_per_dimension=result.kl_per_dimension.tolist(),
        mean_variance=result.mean_variance.tolist(),
    )


def _estimates(result: Evaluation) -> dict[str, Estimate]:
    return {
        "negative_elbo": result.negative_elbo,
        "reconstruction": result.reconstruction,
        "kl": result.kl,
        "bound": result.bound,
    }


def _state(chosen: EvaluationData, split: str, binarize: config.Binarize, model: Model, console: Console) -> None:
    """What is measured, before it is."""
    for note in chosen.notes:
        console.note(note)
    if not chosen.trained_on:
        others = "" if split == "all" else "; --split all takes every picture of it"
        console.warn(
            f"{chosen.name} is not the data set this model was trained on, {model.metadata.data_name}{others}"
        )
    count, kind = len(chosen.pictures), "" if split == "all" else f"{split} "
    some = f"{count:,} of {chosen.available:,}" if count < chosen.available else f"{count:,}"
    made = {"none": "", "threshold": ", pixels made 0 or 1 at one half", "dynamic": ", pixels made 0 or 1 by a coin"}
    console.note(f"data: {chosen.name}, {some} {kind}pictures{made[binarize]}")


def _show(result: Evaluation, samples: int, use: Use) -> None:
    """The result for people."""
    with_bits = result.bound.bits_per_dimension is not None
    said = {"negative_elbo": "negative ELBO", "kl": "KL", "bound": f"bound, K = {samples}"}
    rows = []
    for name, estimate in _estimates(result).items():
        error = "unknown" if estimate.standard_error is None else f"{estimate.standard_error:.3f}"
        row = [said.get(name, name), f"{estimate.nats:.3f}", error]
        rows.append([*row, f"{estimate.bits_per_dimension:.4f}"] if with_bits else row)
    heading = ["", "nats per image", "standard error", *(["bits per dimension"] if with_bits else [])]
    use.console.table("evaluation", heading, rows)
    if not result.normalised:
        use.console.note(
            "grey pixels under a Bernoulli likelihood: these are cross-entropies, and no bound on -log p(x); "
            "--binarize dynamic or threshold makes them one"
        )
    use.console.note(f"active units: {result.active_units} of {len(result.kl_per_dimension)} latent dimensions")
    _show_dimensions(result, use.console)
    use.console.note(f"measured in {use.seconds:.1f} s")


def _show_dimensions(result: Evaluation, console: Console) -> None:
    kl, variance = result.kl_per_dimension, result.mean_variance
    order = (-kl).argsort(kind="stable")
    if console.animated:
        rows = [(str(at), f"{kl[at]:.3f}", f"{variance[at]:.3f}") for at in order[:SHOWN]]
        console.table("latent dimensions", ("dimension", "KL, nats", "variance of the mean"), rows)
    else:
        listed = ", ".join(f"{at}: {kl[at]:.3f}" for at in order[:SHOWN])
        console.note(f"KL of each dimension, largest first: {listed}")
    if len(order) > SHOWN:
        console.note(f"and {len(order) - SHOWN} more dimensions of at most {kl[order[SHOWN]]:.3f} nats")
