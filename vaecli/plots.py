"""Diagrams, drawn by matplotlib: the losses of a training, and latents as points in a plane.

Figures are made and drawn as objects: pyplot and its global state stay out.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaecli.metrics import EpochMetrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Format: TypeAlias = Literal["png", "svg", "pdf"]
FORMATS: dict[str, Format] = {".png": "png", ".svg": "svg", ".pdf": "pdf"}

TRAIN, HELD_OUT, BEST = "#8c8c8c", "#1f5fa8", "#c8501e"
DOTS_PER_INCH = 160  # of a .png
FEW_CLASSES = 10  # so many colours are told apart at a glance
SETTLED = 10  # the first of so many parts of a training does not decide what the axes show
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
    "svg.hashsalt": "vaecli",  # the same diagram, the same bytes
}
UNDATED: dict[Format, dict[str, None]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def losses(epochs: Sequence[EpochMetrics], title: str, file_format: Format) -> bytes:
    """Loss, reconstruction and KL over the epochs, in nats per image, each in a panel; as the bytes of a file.

    The axes fit what came after the first tenth of the epochs: a loss falls so far in the first few that
    nothing could be seen of the rest.
    """
    with _figure(10, 3.2, title) as figure:
        best = min(epochs, key=lambda epoch: epoch.held_out.loss)
        panels = figure.subplots(1, 3)
        terms = {"loss": "loss, nats per image", "reconstruction": "of it reconstruction", "kl": "of it KL"}
        for axes, (term, name) in zip(panels, terms.items(), strict=True):
            values = np.array([(getattr(epoch.train, term), getattr(epoch.held_out, term)) for epoch in epochs])
            look: dict[str, Any] = {"marker": "o" if len(epochs) == 1 else ""}
            x = [epoch.epoch for epoch in epochs]
            axes.plot(x, values[:, 0], color=TRAIN, linewidth=1.2, label="training, as it was trained", **look)
            axes.plot(x, values[:, 1], color=HELD_OUT, linewidth=1.6, label="held out", **look)
            axes.set_title(name)
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set_ylim(*_range(values[len(values) // SETTLED :]))
        lowest = f"lowest: {best.held_out.loss:.2f} after epoch {best.epoch}"
        panels[0].plot([best.epoch], [best.held_out.loss], "o", color=BEST, markersize=5, label=lowest)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return _drawn(figure, file_format)


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    """From below the smallest to above the largest value that is a number."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def scatter(
    points: NDArray[np.floating[Any]],
    labels: NDArray[np.int64] | None,
    axes_names: tuple[str, str],
    title: str,
    file_format: Format,
) -> bytes:
    """Points (n, 2), coloured by `labels` (n,) where they are known; as the bytes of a file."""
    with _figure(6.4, 5.4, title) as figure:
        axes = figure.subplots()
        look: dict[str, Any] = {"s": 4 + 200 / np.sqrt(len(points)), "linewidths": 0, "alpha": 0.8}
        if labels is None:
            axes.scatter(points[:, 0], points[:, 1], color=HELD_OUT, **look)
        else:
            classes, which = np.unique(labels, return_inverse=True)
            colours = _colours(len(classes))
            order = np.random.default_rng(0).permutation(len(points))  # else the last class would lie on top
            axes.scatter(points[order, 0], points[order, 1], c=colours[which[order]], **look)
            for value, colour in zip(classes, colours, strict=True):
                axes.scatter([], [], color=colour, label=str(value), s=25, linewidths=0)
            columns = -(-len(classes) // LEGEND_ROWS)
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.1, ncols=columns)
        axes.set_xlabel(axes_names[0])
        axes.set_ylabel(axes_names[1])
        axes.set_aspect("equal", adjustable="datalim")
        return _drawn(figure, file_format)


def principal_components(latents: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], list[float]]:
    """Latents (n, d) along the two directions in which they vary most, (n, 2); and the variance's share in each.

    `n` is 2 or more. By the singular values of the centred latents (Jolliffe, Principal component analysis, 2002,
    section 3.5). A direction's largest coefficient is made positive, because which way it points is arbitrary.
    """
    centred = latents - latents.mean(axis=0, dtype=np.float64)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])
    components = centred @ (signs[:, np.newaxis] * directions)[:2].T
    variances = lengths**2
    return components, (variances[:2] / max(variances.sum(), np.finfo(float).tiny)).tolist()


def _colours(count: int) -> NDArray[np.float64]:
    """So many colours, (count, 4)."""
    import matplotlib

    if count <= FEW_CLASSES:
        return np.asarray(matplotlib.colormaps["tab10"](np.arange(count)))
    return np.asarray(matplotlib.colormaps["nipy_spectral"](np.linspace(0.05, 0.95, count)))


@contextlib.contextmanager
def _figure(width: float, height: float, title: str) -> Iterator[Figure]:
    """An empty figure of so many inches, to be filled and drawn while the style holds."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # that it makes a cache of fonts is not worth a line
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=10)
        yield figure


def _drawn(figure: Figure, file_format: Format) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=file_format, dpi=DOTS_PER_INCH, metadata=UNDATED[file_format])
    return buffer.getvalue()
