"""Diagrams, drawn by matplotlib: losses of trainings, the KL of latent dimensions, latents as points in a plane.

    vaecli.plots.losses("runs/one", "runs/two")
    vaecli.plots.kl(vaecli.load("runs/one"), vaecli.load("runs/two"))
    vaecli.plots.latents(vaecli.load("runs/one"))

pyplot is not used: it keeps global state.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaecli.errors import UsageError, VaeError
from vaecli.events import EpochMetrics, Note, OnEvent, best_epoch, warn
from vaecli.extras import require
from vaecli.inference.geometry import principal_components
from vaecli.run_folder import RunFolder, RunRecord
from vaecli.settings import without_seed
from vaecli.untrusted_text import printable
from vaecli.wording import how_many

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vaecli.datasets.classes import Classes
    from vaecli.evaluation.data import EvaluationData
    from vaecli.model import Model

Floats: TypeAlias = NDArray[np.floating[Any]]

MOST = 5000  # points in a scatter plot
NUMBERED = 40  # latent dimensions whose numbers fit below their bars
TRAIN, HELD_OUT, BEST = "#8c8c8c", "#1f5fa8", "#c8501e"
DOTS_PER_INCH = 160  # of a .png
DISTINCT_COLOURS = 10  # of the colour map tab10, which are easy to tell apart
START = 0.1  # of the epochs, which the axes need not show
MARGIN = 0.06  # of the range of values, above and below it
LEGEND_ROWS = 16  # of the classes beside a scatter plot
LONGEST_LABEL = 32  # characters of a name in a legend; longer ones are cut in the middle
LETTER = 0.085  # inches that a character of a legend takes
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "text.parse_math": False,  # a $ in a name is no formula
    "svg.hashsalt": "vaecli",  # equal diagrams are equal files
}
# Of each format of `outputs.DIAGRAMS`: metadata without a date, so that equal diagrams are equal files.
UNDATED: dict[str, dict[str, None]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


@dataclass(frozen=True)
class Diagram:
    """A diagram and the numbers behind it. A notebook shows it."""

    figure: Figure
    facts: dict[str, Any] = field(repr=False)  # values of JSON

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return self.content("png")

    def content(self, file_format: str) -> bytes:
        """The bytes of a file of it: png, svg or pdf. Raises UsageError for another format."""
        if file_format not in UNDATED:
            raise UsageError(f"`output`: a diagram cannot be a {file_format}", f"it can be {', '.join(UNDATED)}")
        import matplotlib

        buffer = io.BytesIO()
        with matplotlib.rc_context(STYLE), warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)  # `latents` tells it
            self.figure.savefig(buffer, format=file_format, dpi=DOTS_PER_INCH, metadata=UNDATED[file_format])
        return buffer.getvalue()


@dataclass(frozen=True)
class _Training:
    """The epochs of a run, and what their losses are losses of."""

    name: str  # printable
    epochs: list[EpochMetrics]
    best: EpochMetrics
    record: RunRecord | None  # None where config.json is missing

    @property
    def measured(self) -> str:
        """The label of the second curve, beside that of the training loss."""
        return "validation" if self.record and self.record.data.validation else "held out"

    @property
    def kept(self) -> str:
        """The epoch that is kept, in words."""
        return f"kept: {self.best.held_out.loss:.2f} after epoch {self.best.epoch}"

    @property
    def facts(self) -> dict[str, Any]:
        """How many epochs, and the one that is kept."""
        return {"epochs": len(self.epochs), "best_epoch": self.best.epoch, "best_loss": self.best.held_out.loss}

    def values(self, term: str) -> Floats:
        """The negative ELBO, or a term of it, of the training pictures and of the others: (epochs, 2).

        What a training minimises may weigh the KL, and cannot be compared with what is held out.
        """
        if term == "negative_elbo":
            return self.values("reconstruction") + self.values("kl")
        return np.array([(getattr(epoch.train, term), getattr(epoch.held_out, term)) for epoch in self.epochs])


class _Look(NamedTuple):
    """How a training is drawn: the line of its training pictures, that of the others, and the epoch that is kept."""

    colours: Sequence[Any]  # of matplotlib
    dashes: str  # of the first line
    labels: Sequence[str | None]


def losses(run: str | Path, *more: str | Path, on_event: OnEvent = warn) -> Diagram:
    """Negative ELBO, reconstruction and KL over the epochs of trainings, in nats per image, each in a panel.

    The axes fit the values after the first tenth of the epochs: the loss falls so steeply in the first epochs that
    the later ones would look like a flat line. Runs that differ in their seed only have one colour. The facts are
    `epochs`, `best_epoch` and `best_loss`. Those of several runs are a list, `runs`, each with the name of its `run`.
    Where their losses cannot be compared, a note says why.

    Raises:
        VaeError: a run has no epoch of a training, its metrics are damaged, or matplotlib is not installed.
    """
    require("plot", "a diagram")
    trainings = _read_all((run, *more), on_event)
    if difference := _difference(trainings):
        on_event(Note(f"the runs differ in {difference}: their losses cannot be compared", warning=True))
    alone = len(trainings) == 1
    settings = _by_setting(trainings)
    if alone:
        title = f"{trainings[0].name}: {how_many(len(trainings[0].epochs), 'epoch')}"
        looks = [_Look((TRAIN, HELD_OUT, BEST), "-", ("training", trainings[0].measured, trainings[0].kept))]
    else:
        measured = " or ".join(sorted({training.measured for training in trainings}))
        title = f"{len(trainings)} runs: training dotted, {measured} solid"
        names = _names_of_settings(trainings, settings)
        colours = _colours(len(names))[settings]
        first = [settings.index(setting) == at for at, setting in enumerate(settings)]  # has the label
        looks = [
            _Look((colour, colour, colour), ":", (None, names[setting] if labelled else None, None))
            for colour, setting, labelled in zip(colours, settings, first, strict=True)
        ]
    terms = {"negative_elbo": "negative ELBO, nats per image", "reconstruction": "reconstruction", "kl": "KL"}
    width = 10.0
    columns = len(terms) if alone else _legend_columns(names, width)
    rows = -(-len(set(settings)) // columns)
    with _figure(width, 3.0 + 0.2 * rows, title) as figure:
        panels = figure.subplots(1, len(terms))
        for axes, (term, name) in zip(panels, terms.items(), strict=True):
            _draw_losses(axes, trainings, term, looks)
            axes.set_title(name)
        for training, look in zip(trainings, looks, strict=True):
            at, label = ([training.best.epoch], [training.best.held_out.loss]), look.labels[2]
            panels[0].plot(*at, "o", color=look.colours[2], markersize=5, label=label)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns)
    if alone:
        return Diagram(figure, trainings[0].facts)
    return Diagram(figure, {"runs": [{"run": training.name, **training.facts} for training in trainings]})


def _by_setting(trainings: Sequence[_Training]) -> list[int]:
    """The number of the setting of each training: equal where they differ in their seed only, in order of mention."""
    numbers, seen = dict[object, int](), set[object]()
    found = []
    for at, training in enumerate(trainings):
        key: object = at
        if (record := training.record) is not None:
            same = (record.data.hash, len(training.epochs), without_seed(record.config))
            if (same, record.config.training.seed) not in seen:  # else it is a copy
                seen.add((same, record.config.training.seed))
                key = same
        found.append(numbers.setdefault(key, len(numbers)))
    return found


def _names_of_settings(trainings: Sequence[_Training], settings: Sequence[int]) -> list[str]:
    """What the legend says of each setting: its runs, and the loss of the epoch that is kept."""
    short = _without_common_folder([training.name for training in trainings])
    names = []
    for setting in dict.fromkeys(settings):
        rows = [at for at, other in enumerate(settings) if other == setting]
        losses = [trainings[at].best.held_out.loss for at in rows]
        if len(rows) == 1:
            names.append(f"{short[rows[0]]}, {trainings[rows[0]].kept}")
        else:
            others = how_many(len(rows) - 1, "more seed")
            names.append(f"{short[rows[0]]} and {others}, kept: {mean(losses):.2f} ± {stdev(losses):.2f}")
    return names


def _draw_losses(axes: Axes, trainings: Sequence[_Training], term: str, looks: Sequence[_Look]) -> None:
    """The negative ELBO of each training over the epochs, or a `term` of it."""
    shown = []
    for training, look in zip(trainings, looks, strict=True):
        x, values = [epoch.epoch for epoch in training.epochs], training.values(term)
        marker = "o" if len(x) == 1 else ""
        axes.plot(
            x, values[:, 0], look.dashes, color=look.colours[0], linewidth=1.2, label=look.labels[0], marker=marker
        )
        axes.plot(x, values[:, 1], color=look.colours[1], linewidth=1.6, label=look.labels[1], marker=marker)
        shown.append(values[int(START * len(values)) :])
    axes.set_xlabel("epoch")
    axes.locator_params(axis="x", integer=True)
    if all(len(training.epochs) == 1 for training in trainings):
        axes.set_xticks(sorted({training.best.epoch for training in trainings}))
    finite = np.concatenate(shown)
    finite = finite[np.isfinite(finite)]
    if finite.size:
        margin = MARGIN * np.ptp(finite) or 1.0
        axes.set_ylim(finite.min() - margin, finite.max() + margin)


def _read_all(runs: Sequence[str | Path], on_event: OnEvent) -> list[_Training]:
    """The trainings; of several, one without an epoch or with damaged files is left out, with a warning."""
    trainings, errors = list[_Training](), list[VaeError]()
    for run in runs:
        try:
            trainings.append(_read(run))
        except VaeError as error:
            errors.append(error)
    if not trainings:
        raise errors[0]
    for problem in errors:
        on_event(Note(f"left out: {problem.message}", warning=True))
    return trainings


def _read(run: str | Path) -> _Training:
    folder = RunFolder(run)
    if folder.config.exists() and not folder.metrics.exists():
        raise folder.no_epoch
    epochs = folder.read_metrics()
    record = folder.read_record() if folder.config.exists() else None
    best = best_epoch(epochs, record.config.training.kl_warmup if record else 0)
    if best is None:
        raise VaeError(f"{folder.metrics}: no epoch in it", "train at least one epoch")
    return _Training(printable(str(run)), epochs, best, record)


def _difference(trainings: Sequence[_Training]) -> str:
    """What makes the losses of trainings incomparable; empty where nothing does."""
    records = [training.record for training in trainings if training.record]
    compared: dict[str, set[Any]] = {
        "data": {record.data.hash for record in records},
        "the size of their pictures": {record.data.image_shape for record in records},
        "likelihood": {record.config.model.likelihood for record in records},
        "binarisation": {record.config.data.binarize for record in records},
        "whether they know the class": {record.config.model.conditional for record in records},
        "the pictures that measure them": {record.data.chosen_by for record in records},
    }
    return " and ".join(name for name, values in compared.items() if len(values) > 1)


def kl(
    model: Model,
    *more: Model,
    data: str | Path | None = None,
    data_dir: str | None = None,
    on_event: OnEvent = warn,
) -> Diagram:
    """The KL of each latent dimension of models on held-out pictures, in nats, those that carry most first.

    A dimension near 0 carries nothing: its posterior has collapsed to the prior. `data` is as in `latents`. The facts
    are, in the order of the dimensions, `kl_per_dimension` and `mean_variance`, and the number of `active_units`; those
    of several models are a list, `runs`, each with the name of its `run`.

    Raises:
        VaeError: there are no pictures, they cannot be read, or matplotlib is not installed.
    """
    require("plot", "a diagram")
    models, every, measured_on, digests = (model, *more), list[dict[str, Any]](), list[str](), list[str]()
    for each in models:
        pictures = _held_out(each, data, data_dir, on_event)
        every.append(_kl_facts(each, pictures))
        measured_on.append(str(pictures))
        if more:  # they are read once more, to see whether all models have the same
            digests.append(pictures.digest(each.pair.batch_size))
    names = [printable(str(each.folder)) for each in models]
    for other, name, digest in zip(measured_on[1:], names[1:], digests[1:], strict=True):
        if digest != digests[0]:
            text = f"{names[0]} is measured on {measured_on[0]}, {name} on {other}, which are not the same pictures"
            on_event(Note(f"{text}: `data` may name pictures for all", warning=True))
    alone, largest = len(models) == 1, max(each.latent_dim for each in models)
    title = f"{names[0]}: KL on {measured_on[0]}" if alone else f"KL on {' or '.join(dict.fromkeys(measured_on))}"
    labels = []
    for name, facts in zip(_without_common_folder(names), every, strict=True):
        values = facts["kl_per_dimension"]
        told = f"{sum(values):.2f} nats, {facts['active_units']} of {len(values)} dimensions active"
        labels.append(told if alone else f"{name}: {told}")
    width = max(6.4, 1 + LETTER * max(map(len, labels)))
    with _figure(width, 3.4 if alone else 3.2 + 0.2 * len(models), title) as figure:
        axes = figure.subplots()
        for label, facts, colour in zip(labels, every, _colours(len(models)), strict=True):
            values = -np.sort(-np.array(facts["kl_per_dimension"]))
            look: dict[str, Any] = {"label": label}
            if alone:
                axes.bar(range(1, len(values) + 1), values, color=HELD_OUT, **look)
            else:
                axes.plot(range(1, len(values) + 1), values, "o-", color=colour, markersize=3, linewidth=1.2, **look)
        axes.set_ylabel("KL, nats per image")
        axes.set_xlabel("latent dimensions, the largest KL first")
        axes.locator_params(axis="x", integer=True)
        if alone and largest <= NUMBERED:
            order = np.argsort(-np.array(every[0]["kl_per_dimension"]), kind="stable")
            axes.set_xticks(range(1, largest + 1), [str(dimension) for dimension in order], fontsize=7)
            axes.set_xlabel("number of the latent dimension")
            axes.grid(visible=False, axis="x")
        axes.set_ylim(bottom=0)
        if alone:
            axes.legend(loc="upper right")
        else:
            figure.legend(loc="outside lower center", ncols=1)
    if alone:
        return Diagram(figure, every[0])
    return Diagram(figure, {"runs": [{"run": name, **facts} for name, facts in zip(names, every, strict=True)]})


def _kl_facts(model: Model, pictures: EvaluationData) -> dict[str, Any]:
    """What the encoder makes of pictures, of each dimension."""
    from vaecli.evaluation.dimensions import active, encode, kl

    encoded = list(encode(model.pair, pictures))
    means = np.concatenate([part.mean for part in encoded])
    variance = means.var(axis=0, dtype=np.float64)
    return {
        "n": len(means),
        "data": pictures.name,
        "kl_per_dimension": kl(model.pair, encoded).tolist(),
        "mean_variance": variance.tolist(),
        "active_units": int(active(model.pair, variance).sum()),
    }


def _held_out(model: Model, data: str | Path | None, data_dir: str | None, on_event: OnEvent) -> EvaluationData:
    """At most MOST pictures to examine a model with. Raises VaeError where there are none."""
    from vaecli.evaluation.data import held_out  # data sets, which the losses do not need

    pictures = held_out(model.pair, data, data_dir, MOST, on_event)
    if pictures is None:
        raise VaeError(f"{model.folder}: the pictures that it was trained on are not here", "name pictures with `data`")
    return pictures


def latents(
    model: Model, data: str | Path | None = None, data_dir: str | None = None, on_event: OnEvent = warn
) -> Diagram:
    """The means of q(z|x) of at most MOST held-out pictures as points, coloured by class where classes are known.

    `data` is a data set, folder or array: left out, what the model was trained on, else the built-in digits. One
    latent dimension is drawn against its standard deviation, more than two by their two principal components. The
    facts are `n`, `data`, `labelled` and, of principal components, their `variance_shares`.

    Raises:
        VaeError: there are no pictures or only one, they cannot be read, or matplotlib is not installed.
    """
    from vaecli.evaluation.dimensions import encode

    require("plot", "a diagram")
    pictures = _held_out(model, data, data_dir, on_event)
    if len(pictures.pictures) < 2:
        raise VaeError(f"{pictures.name}: one held-out picture is too few", "name more pictures with `data`")
    encoded = list(encode(model.pair, pictures))
    means, stds = (np.concatenate([getattr(part, name) for part in encoded]) for name in ("mean", "std"))
    facts: dict[str, Any] = {"n": len(means), "data": pictures.name, "labelled": pictures.pictures.classes is not None}
    if model.latent_dim == 1:
        points, names = np.concatenate([means, stds], axis=1), ["mean", "std"]
    elif model.latent_dim == 2:
        points, names = means, ["dimension 0", "dimension 1"]
    else:
        centre, directions, shares = principal_components(means)
        points = (means - centre) @ directions.T
        names = [f"principal component {i}, {share:.0%} of the variance" for i, share in enumerate(shares, 1)]
        facts["variance_shares"] = shares
    classes, title = pictures.pictures.classes, f"{model.folder}: the latents of {pictures}"
    if lacking := _lacking("".join((title, *(classes.names if classes else ())))):
        on_event(Note(f"matplotlib's font lacks {' '.join(lacking)}: boxes are drawn in their places"))
    return Diagram(scatter(points, classes, names, title), facts)


def scatter(points: Floats, classes: Classes | None, axes_names: Sequence[str], title: str) -> Figure:
    """Points (n, 2), coloured by their `classes` where they are known."""
    names = [] if classes is None else [_cut(printable(name)) for name in classes.names]
    columns = -(-len(names) // LEGEND_ROWS)
    legend = columns * (0.3 + LETTER * max(map(len, names), default=0))  # inches
    with _figure(5.4 + max(1.0, legend), 5.4, title) as figure:
        axes = figure.subplots()
        look: dict[str, Any] = {"s": 4 + 200 / np.sqrt(len(points)), "linewidths": 0, "alpha": 0.8}
        if classes is None:
            axes.scatter(points[:, 0], points[:, 1], color=HELD_OUT, **look)
        else:
            colours = _colours(len(classes.names))
            order = np.random.default_rng(0).permutation(len(points))  # else the last class would hide the others
            axes.scatter(points[order, 0], points[order, 1], c=colours[classes.labels[order]], **look)
            for name, colour in zip(names, colours, strict=True):
                axes.scatter([], [], color=colour, label=name, s=25, linewidths=0)
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.1, ncols=columns)
        axes.set_xlabel(axes_names[0])
        axes.set_ylabel(axes_names[1])
        axes.set_aspect("equal", adjustable="datalim")
    return figure


def _without_common_folder(names: Sequence[str]) -> list[str]:
    """The names of runs without the folders that all of them are in; cut where they stay different."""
    parts = [Path(name).parts for name in names]
    shared = 0
    while all(len(part) > shared + 1 and part[shared] == parts[0][shared] for part in parts) and len(parts) > 1:
        shared += 1
    short = [str(Path(*part[shared:])) for part in parts]
    cut = [_cut(name) for name in short]
    return cut if len(set(cut)) == len(cut) else short


def _cut(name: str) -> str:
    """A name of at most LONGEST_LABEL characters, without its middle where it is longer."""
    half = (LONGEST_LABEL - 1) // 2
    return name if len(name) <= LONGEST_LABEL else f"{name[:half]}…{name[-half:]}"


def _legend_columns(labels: Sequence[str], width: float) -> int:
    """How many columns of a legend fit into a figure, up to two."""
    return 2 if len(labels) > 1 and 2 * (0.5 + LETTER * max(map(len, labels))) <= width else 1


def _colours(count: int) -> NDArray[np.float64]:
    """`count` colours as RGBA, (count, 4)."""
    import matplotlib

    if count <= DISTINCT_COLOURS:
        return np.asarray(matplotlib.colormaps["tab10"](np.arange(count)))
    return np.asarray(matplotlib.colormaps["nipy_spectral"](np.linspace(0.05, 0.95, count)))


def _lacking(text: str) -> list[str]:
    """The characters of a text that the font of a diagram does not have."""
    from matplotlib import font_manager

    font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))
    return sorted({one for one in printable(text) if not font.get_char_index(ord(one))})


@contextlib.contextmanager
def _figure(width: float, height: float, title: str) -> Iterator[Figure]:
    """An empty figure, its sides in inches. The style applies to what is drawn inside the block."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.suptitle(printable(title), x=0.01, horizontalalignment="left", fontsize=10)
        yield figure
