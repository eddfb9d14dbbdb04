"""Diagrams, drawn by matplotlib: the losses of a training, and latents as points in a plane.

    vaecli.plots.losses("runs/mine")
    vaecli.plots.latents(vaecli.load("runs/mine"))

pyplot is not used: it keeps global state.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaecli.errors import VaeError
from vaecli.events import Note, OnEvent, best_epoch, ignore
from vaecli.extras import require
from vaecli.foreign import printable
from vaecli.inference.latents import principal_components
from vaecli.run_folder import RunFolder
from vaecli.wording import how_many

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vaecli.datasets.classes import Classes
    from vaecli.model import Model

Floats: TypeAlias = NDArray[np.floating[Any]]

MOST = 5000  # points in a scatter plot
TRAIN, HELD_OUT, BEST = "#8c8c8c", "#1f5fa8", "#c8501e"
DOTS_PER_INCH = 160  # of a .png
DISTINCT_COLOURS = 10  # of the colour map tab10, which are easy to tell apart
START = 0.1  # of the epochs, which the axes need not show
MARGIN = 0.06  # of the range of values, above and below it
LEGEND_ROWS = 16
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
        """The bytes of a file of it: png, svg or pdf."""
        import matplotlib

        buffer = io.BytesIO()
        with matplotlib.rc_context(STYLE), warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)  # `latents` tells it
            self.figure.savefig(buffer, format=file_format, dpi=DOTS_PER_INCH, metadata=UNDATED[file_format])
        return buffer.getvalue()


def losses(run: str | Path) -> Diagram:
    """Loss, reconstruction and KL over the epochs of a training, in nats per image, each in a panel.

    The axes fit the values after the first tenth of the epochs: the loss falls so steeply in the first epochs that
    the later ones would look like a flat line. The facts are `epochs`, `best_epoch` and `best_loss`.

    Raises:
        VaeError: `run` has no epoch of a training, its metrics are damaged, or matplotlib is not installed.
    """
    require("plot", "a diagram")
    folder = RunFolder(run)
    epochs = folder.read_metrics()
    record = folder.read_record() if folder.config.exists() else None
    best = best_epoch(epochs, record.config.training.kl_warmup if record else 0)
    measured = "validation" if record and record.data.validation else "held out"
    if best is None:
        raise VaeError(f"{folder.metrics}: no epoch in it", "train at least one epoch")
    x = [epoch.epoch for epoch in epochs]
    terms = {"loss": "loss, nats per image", "reconstruction": "reconstruction", "kl": "KL"}
    with _figure(10, 3.2, f"{run}: {how_many(len(epochs), 'epoch')}") as figure:
        panels = figure.subplots(1, len(terms))
        for axes, (term, name) in zip(panels, terms.items(), strict=True):
            values = np.array([(getattr(epoch.train, term), getattr(epoch.held_out, term)) for epoch in epochs])
            marker = "o" if len(epochs) == 1 else ""
            axes.plot(x, values[:, 0], color=TRAIN, linewidth=1.2, label="training", marker=marker)
            axes.plot(x, values[:, 1], color=HELD_OUT, linewidth=1.6, label=measured, marker=marker)
            axes.set_title(name)
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            if len(epochs) == 1:
                axes.set_xticks(x)
            shown = values[int(START * len(values)) :]
            shown = shown[np.isfinite(shown)]
            if shown.size:
                margin = MARGIN * np.ptp(shown) or 1.0
                axes.set_ylim(shown.min() - margin, shown.max() + margin)
        kept = f"kept: {best.held_out.loss:.2f} after epoch {best.epoch}"
        panels[0].plot([best.epoch], [best.held_out.loss], "o", color=BEST, markersize=5, label=kept)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    facts = {"epochs": len(epochs), "best_epoch": best.epoch, "best_loss": best.held_out.loss}
    return Diagram(figure, facts)


def latents(model: Model, data: str | None = None, data_dir: str | None = None, on_event: OnEvent = ignore) -> Diagram:
    """The means of q(z|x) of at most MOST held-out pictures as points, coloured by class where classes are known.

    `data` is a data set, folder or array: left out, what the model was trained on, else the built-in digits. One
    latent dimension is drawn against its standard deviation, more than two by their two principal components. The
    facts are `n`, `data`, `labelled` and, of principal components, their `variance_shares`.

    Raises:
        VaeError: there are no pictures or only one, they cannot be read, or matplotlib is not installed.
    """
    from vaecli.evaluation.data import held_out  # data sets, which the losses do not need

    require("plot", "a diagram")
    pictures = held_out(model, data, data_dir, MOST, on_event)
    if pictures is None:
        raise VaeError(f"{model.folder}: the pictures that it was trained on are not here", "name pictures with `data`")
    if len(pictures.pictures) < 2:
        raise VaeError(f"{pictures.name}: one held-out picture is too few", "name more pictures with `data`")
    labels = model.labels_of(pictures.pictures.classes)
    encoded = list(model.encode_batches(pictures.batches(model.batch_size), labels=labels))
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
    with _figure(6.4, 5.4, title) as figure:
        axes = figure.subplots()
        look: dict[str, Any] = {"s": 4 + 200 / np.sqrt(len(points)), "linewidths": 0, "alpha": 0.8}
        if classes is None:
            axes.scatter(points[:, 0], points[:, 1], color=HELD_OUT, **look)
        else:
            colours = _colours(len(classes.names))
            order = np.random.default_rng(0).permutation(len(points))  # else the last class would hide the others
            axes.scatter(points[order, 0], points[order, 1], c=colours[classes.labels[order]], **look)
            for name, colour in zip(classes.names, colours, strict=True):
                axes.scatter([], [], color=colour, label=printable(name), s=25, linewidths=0)
            columns = -(-len(classes.names) // LEGEND_ROWS)
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.1, ncols=columns)
        axes.set_xlabel(axes_names[0])
        axes.set_ylabel(axes_names[1])
        axes.set_aspect("equal", adjustable="datalim")
    return figure


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
