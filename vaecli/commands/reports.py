"""What the reports of commands say: of an evaluation, of scores, of a run folder or an exported file, of runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vaecli import recipes
from vaecli.config import Config, setting_keys
from vaecli.events import ChosenBy, Losses
from vaecli.flags import flag_of
from vaecli.model_format import FlowSummary, Likelihood, Metadata, PriorSummary, Reference
from vaecli.run_folder import RunRecord
from vaecli.settings import resolve
from vaecli.wording import how_many, listed, pictures_of_split

if TYPE_CHECKING:
    from vaecli.cli.console import Console
    from vaecli.cli.text_stream import TextStream
    from vaecli.evaluation.evaluate import Evaluation
    from vaecli.evaluation.samples import SampleComparison
    from vaecli.evaluation.score import Scores
    from vaecli.inference.pair import Pair
    from vaecli.inspection import Inspection, RunSummary, SeedSummary
    from vaecli.model_format import ImageShape

SEEDS = 5  # runs that are named
DIMENSIONS = 20  # that are listed; JSON has all of them
CLASSES = 20  # that are named
RUN_COLUMNS = (
    "run", "nats", "recon.", "KL", "active", "bits/dim", "epochs", "exported", "recipe", "data", "likelihood",
    "measured on",
)  # fmt: skip
ALWAYS = ("run", "nats", "epochs")  # columns that are shown even where all runs have the same
SCORES = ("strangeness", "tail", "excess", "bound")  # columns of the list; a table and JSON have all
SCORES_BY_LOCAL = ("local", "local_tail", "excess", "bound")
TAILS = ("tail", "local_tail")


def strangest(rows: Sequence[Mapping[str, Any]], scores: Scores, flag: float | None, console: Console) -> None:
    """The strangest pictures: `rows` are the name and the scores of each."""
    wanted = SCORES_BY_LOCAL if scores.sorted_by == "local" else SCORES
    columns = [column for column in scores.columns if column in wanted]
    title = "strangest" if flag is None else f"flagged at {flag:g}: {len(scores.chosen(flag))} of {len(scores)}"
    lines = [[row["name"], *(_score(column, row[column]) for column in columns)] for row in rows]
    console.result.table(title, ["picture", *columns], lines)
    if rows and rows[0].get(scores.tail) == scores.least_tail:
        least = f"{scores.tail} {_score(scores.tail, scores.least_tail)}"
        console.note(f"{least}: stranger than all {scores.reference} held-out pictures")


def _score(column: str, value: float) -> str:
    """A score for a person. A tail is rounded up: --flag with what is shown takes the picture."""
    if column in TAILS:
        return f"{math.ceil(value * 10**4 - 1e-9) / 10**4:.4f}"
    return f"{value:.2f}"


def evaluation(result: Evaluation, pair: Pair, report: TextStream) -> None:
    """How well a model explains pictures."""
    with_bits = result.bound.bits_per_dimension is not None
    report.line(f"{pair.folder} on {pictures_of_split(result.n, result.split)} of {result.data}")
    report.line(f"likelihood {result.likelihood}, binarize {result.binarize}, seed {result.seed}")
    titles = {
        "negative_elbo": "negative ELBO",
        "kl": "KL",
        "bound": f"bound, K = {result.importance_samples}",
        "negative_elbo_normal": "negative ELBO with N(0, I)",
    }
    rows = []
    for name, estimate in result.estimates.items():
        error = "unknown" if estimate.standard_error is None else f"{estimate.standard_error:.3f}"
        row = [titles.get(name, name), f"{estimate.nats:.3f}", error]
        rows.append([*row, f"{estimate.bits_per_dimension:.4f}"] if with_bits else row)
    heading = ["", "nats per image", "standard error", *(["bits per dimension"] if with_bits else [])]
    report.table("evaluation", heading, rows)
    if result.prior == "mixture":
        other = "; the training had N(0, I)" if pair.trained_prior == "normal" else ""
        report.line(f"prior: the model's mixture, whose KL is a Monte Carlo estimate{other}")
    if pair.conditional:
        report.line("the model is conditional: all of these are of p(x|y), given the class y of each picture")
    if not result.normalised:
        report.line(_not_normalised(result.likelihood, pair.image_shape))
    if result.importance_samples > 1:
        effective = result.effective_samples
        report.line(
            f"effective sample size of the bound: median {effective.median:.1f} of {result.importance_samples}, "
            f"5 % quantile {effective.low:.2f}"
        )
    psnr = "" if result.psnr is None else f", a PSNR of {result.psnr:.2f} dB"
    report.line(f"mean squared error of reconstructions: {result.mean_squared_error:.5f}{psnr}")
    kl, variance = result.kl_per_dimension, result.mean_variance
    report.line(f"active units: {result.active_units} of {len(kl)} latent dimensions")
    if (probes := result.probes) is not None:
        report.line(
            f"classes found from the latents: {probes.linear:.1%} by a linear classifier, "
            f"{probes.neighbours:.1%} by five neighbours; always naming the largest class of the training: "
            f"{probes.largest_class:.1%}"
        )
    order = (-kl).argsort(kind="stable")
    table = [(str(at), f"{kl[at]:.3f}", f"{variance[at]:.3f}") for at in order[:DIMENSIONS]]
    other = "N(0, 1)" if pair.trained_prior == "normal" else "a Gaussian with the prior's mean and std"
    report.table("latent dimensions", ("dimension", f"KL from {other}", "variance of the mean"), table)
    if len(order) > DIMENSIONS:
        report.line(f"and {len(order) - DIMENSIONS} more dimensions of at most {kl[order[DIMENSIONS]]:.3f} nats")
    if result.samples is not None:
        _samples(result.samples, report)


def _samples(found: SampleComparison, report: TextStream) -> None:
    """Samples beside what would be good."""
    names = {"samples": "samples", "reconstructions": "other pictures, reconstructed", "pictures": "other pictures"}
    table = [
        (names[name], f"{like.precision:.3f}", f"{like.recall:.3f}", f"{like.frechet_distance:.3f}")
        for name, like in found.rows.items()
    ]
    heading = ("", "precision", "recall", "Fréchet distance")
    source = {"flow": "the flow", "mixture": "the mixture", "normal": "N(0, I)"}[found.drawn_from]
    report.table(f"{found.n:,} samples of {source} compared with as many pictures", heading, table)
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


def inspection(found: Inspection, report: TextStream) -> None:
    """What a run folder or an exported file is."""
    report.line(f"{found.path}: {'a' if found.kind == 'run folder' else 'an'} {found.kind}")
    if found.training is not None:
        report.facts("training", _facts(found.training, found.training.chosen_by))
    if found.model is not None:
        measured: ChosenBy = "validation" if found.model.metadata.training.validation else "held-out"
        report.facts("exported model", _facts(found.model, measured))
    report.facts("files", [(file.name, f"{file.bytes / 1e3:,.1f} kB") for file in found.files])


def evaluations(
    found: Sequence[tuple[Path, Metadata, Evaluation]],
    seeds: Sequence[SeedSummary],
    *,
    same_data: bool,
    console: Console,
) -> None:
    """How well the models in some folders explain pictures, the best bound first, and the mean bound over seeds.

    `same_data` says that all were measured on the same data set, and not each on that of its training.
    """
    facts = {
        (result.data, result.split, result.n, result.likelihood, result.binarize,
         model.image_shape, bool(model.classes), None if same_data else model.data_hash)
        for _, model, result in found
    }  # fmt: skip
    if len(facts) > 1:
        console.warn("the models differ in data, likelihood or classes: their losses cannot be compared")
    samples = found[0][2].importance_samples
    columns = ("run", f"bound, K = {samples}", "error", "-ELBO", "recon.", "KL", "active", "PSNR", "measured on")
    rows = []
    for folder, _, result in sorted(found, key=lambda one: one[2].bound.nats):
        error = "" if result.bound.standard_error is None else f"{result.bound.standard_error:.2f}"
        nats = [f"{term.nats:.2f}" for term in (result.negative_elbo, result.reconstruction, result.kl)]
        psnr = "" if result.psnr is None else f"{result.psnr:.2f}"
        on = f"{pictures_of_split(result.n, result.split)} of {result.data}"
        rows.append((str(folder), f"{result.bound.nats:.2f}", error, *nats, str(result.active_units), psnr, on))
    same = len({row[-1] for row in rows}) == 1
    title = f"nats per image on {rows[0][-1]}, best first" if same else "nats per image, best first"
    console.result.table(title, columns[: -1 if same else None], [row[: -1 if same else None] for row in rows])
    _over_seeds(seeds, {path: path for path in map(str, (folder for folder, *_ in found))}, console.result, "bound")


def _over_seeds(seeds: Sequence[SeedSummary], names: Mapping[str, str], report: TextStream, what: str = "nats") -> None:
    """The means over seeds, of runs by their `names`."""
    rows = [
        (listed([names[path] for path in one.runs], SEEDS), f"{one.mean:.2f}", f"{one.standard_deviation:.2f}",
         str(len(one.runs)))
        for one in seeds
    ]  # fmt: skip
    if rows:
        report.table("mean over seeds", ("runs", what, "standard deviation", "seeds"), rows)


def runs(found: Sequence[RunSummary], seeds: Sequence[SeedSummary], places: Sequence[Path], report: TextStream) -> None:
    """The runs in some folders and below, and the mean over seeds."""
    rows, columns = [_in_cells(run, places) for run in found], list(RUN_COLUMNS)
    common_settings, differences = _compared_settings(found)
    if any(differences):
        columns.append("settings")
        rows = [[*row, settings] for row, settings in zip(rows, differences, strict=True)]
    same = [at for at, name in enumerate(columns) if name not in ALWAYS and len({row[at] for row in rows}) == 1]
    common = [f"{columns[at]} {rows[0][at]}" for at in same if rows[0][at]] if len(rows) > 1 else []
    common += [f"settings {common_settings}"] if len(rows) > 1 and common_settings else []
    kept = [at for at in range(len(columns)) if at not in same or (len(rows) == 1 and rows[0][at])]
    below = f" below {places[0]}" if len(places) == 1 else ""
    title = f"runs{below}, best first" + (f"; all: {', '.join(common)}" if common else "")
    shown: list[list[str]] = []
    for _, comparable in groupby(zip(found, rows, strict=True), key=lambda pair: pair[0].measured):
        if shown:
            shown.append([""] * len(kept))  # losses above and below are not comparable
        shown += [[row[at] for at in kept] for _, row in comparable]
    report.table(title, [columns[at] for at in kept], shown)
    _over_seeds(seeds, {run.path: row[0] for run, row in zip(found, rows, strict=True)}, report)


def _compared_settings(found: Sequence[RunSummary]) -> tuple[str, list[str]]:
    """The settings that all runs have, and those of each that not all have, as flags; without the pictures' place."""
    each = [[] if run.config is None else [*_settings(run.config, run.recipe)] for run in found]
    known = [set(settings) for settings, run in zip(each, found, strict=True) if run.config is not None]
    common = set[str].intersection(*known) if known else set()
    place = tuple(f"{flag_of(key)} " for key in ("source", "dir"))
    told = [[one for one in settings if not one.startswith(place)] for settings in each]
    shared = " ".join(dict.fromkeys(one for settings in told for one in settings if one in common))
    texts = [" ".join(one for one in settings if one not in common) for settings in told]
    return shared, [text.ljust(max(map(len, texts))) for text in texts] if any(texts) else texts


def _in_cells(run: RunSummary, places: Sequence[Path]) -> list[str]:
    """A run as a row of the table."""
    bits = "" if run.bits_per_dimension is None else f"{run.bits_per_dimension:.3f}"
    name = run.path if len(places) > 1 else str(Path(run.path).relative_to(places[0]))
    exported = "no" if not run.exported else "yes" if run.exported_epoch == run.best_epoch else "another epoch"
    likelihood = f"{run.likelihood}{'' if run.binarize == 'none' else f', {run.binarize}'}"
    likelihood += " p(x|y)" if run.conditional else ""
    terms = ["" if value is None else f"{value:.2f}" for value in (run.loss, run.reconstruction, run.kl)]
    active = "" if run.active_units is None else str(run.active_units)
    about = [run.recipe or "", run.data, likelihood, run.chosen_by]
    return [name, *terms, active, bits, str(run.epochs), exported, *about]


def _facts(record: msgspec.Struct, measured: ChosenBy) -> Iterator[tuple[str, str]]:
    """The fields of a record as names and values; those of the record or metadata in it as its own.

    `measured` is what the losses called `held_out` are of.
    """
    for name, value in msgspec.structs.asdict(record).items():
        if name == "last" and value == getattr(record, "best", None):
            continue
        if isinstance(value, RunRecord | Metadata):
            yield from _facts(value, measured)
        elif isinstance(value, Config):
            yield "settings", ", ".join(_settings(value, getattr(record, "recipe", None)))
        elif isinstance(value, PriorSummary):
            yield name, _in_words(value, measured) + _gain(value, record)
        elif name == "prior" and value is None and getattr(record, "trained_prior", "normal") == "vamp":
            apart = ", except to draw from its flow" if getattr(record, "flow", None) else ""
            yield name, f"not here; the model needs it{apart}"
        elif (value is not None and value != ()) or name == "prior":
            title = name.replace("held_out", measured) if "loss" in name or isinstance(value, Losses) else name
            yield title.replace("_", " "), _in_words(value, measured)


def _in_words(value: object, measured: ChosenBy) -> str:
    if value is None:
        return "N(0, I)"
    if isinstance(value, PriorSummary):
        return f"{value.kind} of {value.components}{_known(value)}"
    if isinstance(value, FlowSummary):
        trained = f"{how_many(value.steps, 'step')}, loss {value.loss:.3g} on held-out latents"
        return f"draws the samples; {trained}{_known(value)}"
    if isinstance(value, Losses):
        # No equation: the loss of a training may have another KL weight, or be an importance-weighted bound.
        return f"{value.loss:.2f} nats per image ({value.reconstruction:.2f} reconstruction, {value.kl:.2f} KL)"
    if isinstance(value, Reference):
        return f"{len(value)} held-out pictures, for vae score"
    if isinstance(value, msgspec.Struct):
        return ", ".join(f"{name} {text}" for name, text in _facts(value, measured))
    if isinstance(value, tuple):
        return listed(value, CLASSES) if isinstance(value[0], str) else "x".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _known(summary: PriorSummary | FlowSummary) -> str:
    """The classes that a prior or a flow knows."""
    return f", {len(summary.classes)} classes: {listed(summary.classes, CLASSES)}" if summary.classes else ""


def _gain(prior: PriorSummary, record: msgspec.Struct) -> str:
    """What a prior gains over N(0, I), where the model was trained with that."""
    if getattr(record, "trained_prior", "normal") != "normal":
        return ""
    return f"; gains {prior.gain:.2f} nats over N(0, I) on held-out latents"


def _settings(config: Config, recipe: str | None) -> Iterator[str]:
    """Each setting that differs from the recipe, or where there is none from its default, as a flag."""
    base = resolve(recipe if recipe in recipes.names() else None)
    for section, key in setting_keys():
        value = getattr(getattr(config, section), key)
        if value == getattr(getattr(base, section), key):
            continue
        if isinstance(value, bool):
            yield flag_of(key) if value else flag_of(f"no_{key}")
        elif value is not None:
            yield f"{flag_of(key)} {value}"
