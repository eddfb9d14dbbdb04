"""What the page shows of a model: encoded pictures as points, the plane through them, the dimensions that matter."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from vaecli.config import TEMPERATURE
from vaecli.errors import UsageError
from vaecli.evaluation.data import EvaluationData, held_out
from vaecli.evaluation.dimensions import EXAMINED, encode, order_by_change, order_by_kl
from vaecli.events import OnEvent
from vaecli.flags import run_flag
from vaecli.inference.geometry import Latents, principal_components
from vaecli.inference.mixture import draw, moments
from vaecli.inference.pair import Pair
from vaecli.model_format import IMAGE
from vaecli.untrusted_text import printable, storable

POINTS = 500  # pictures that are shown as points: each takes up to 2 kB of the page
LARGEST_SIDE = 64  # pixels of a point's picture
QUALITY = 85  # of their WebP, in percent
DRAWN = 500  # draws of the prior that span the plane where there are no pictures
DARK = 128  # grey below which a picture's border counts as dark
BLACK, WHITE = "#000000", "#ffffff"


class Points(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Encoded pictures. Their latents and their pictures are blocks of bytes."""

    count: int
    labels: list[int]  # of each, a place in `classes`; empty where they have none
    classes: list[str]
    columns: int  # pictures in a row of the sheet
    side: tuple[int, int]  # width and height of one of them


NO_POINTS = Points(count=0, labels=[], classes=[], columns=1, side=(1, 1))


class Facts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the page knows, as JSON. `web/embedded.js` has the same names."""

    name: str
    run: str  # what a command needs to name the run: ` --run FOLDER`, or nothing
    shape: tuple[int, int, int]  # channels, height, width
    latent_dim: int
    conditional: bool
    classes: list[str]
    class_sizes: list[int]
    flow_shares: list[float]  # of the classes that the flow knows; empty where it knows none
    has_encoder: bool
    components: int  # of the mixture that is the prior; 0: N(0, I)
    has_flow: bool
    facts: list[str]
    order: list[int]
    importance: list[float]
    ordered_by: str
    mean: list[float]
    std: list[float]
    centre: list[float]
    axes: list[list[float]]
    spread: float
    source: str
    points: Points
    paper: str
    temperature: float


@dataclass(frozen=True)
class Contents:
    """What a page shows of a model, beside its graphs."""

    facts: Facts
    latents: Latents  # (count, d) of the points
    sheet: bytes  # their pictures as one WebP, row by row; empty where there are none


def gather(model: Pair, data: str | Path | None, data_dir: str | None, run: Path, on_event: OnEvent) -> Contents:
    """Look at a model: its dimensions, and where held-out pictures are in its latent space.

    `data` and `data_dir` are as in `Model.traverse`. Without pictures the plane is that of draws of the prior.

    Raises:
        VaeError: `data` cannot be read, or a graph fails.
        UsageError: `data` is named, and there is no encoder.
    """
    if data is not None and not model.has_encoder:
        raise UsageError(f"`data` {data}: {model.folder} has no encoder, so pictures cannot be encoded", "leave it out")
    model.decoder.run((IMAGE,), np.zeros((1, model.latent_dim), np.float32), np.zeros(1, np.int64))  # whether it works
    mixture = model.choose_prior()
    pictures = held_out(model, data, data_dir, EXAMINED, on_event)
    seen = _with_classes(model, pictures)
    if pictures is None:
        dimensions = order_by_change(seen, mixture=mixture)
        latents, points, sheet, paper = np.zeros((0, model.latent_dim), np.float32), NO_POINTS, b"", BLACK
    else:
        encoded = list(encode(seen, pictures))
        dimensions = order_by_kl(seen, pictures, encoded)
        latents, points, sheet, paper = _points(pictures, np.concatenate([batch.mean for batch in encoded]))
    mean, std = moments(mixture, model.latent_dim)
    spanning = latents if len(latents) > 1 else draw(mixture, 0, 0, DRAWN, model.latent_dim)
    centre, axes, shares = principal_components(spanning)
    summary = model.prior_summary
    class_sizes = [] if summary is None else list(summary.class_sizes)
    flow_shares = model.class_shares.tolist() if model.has_flow and model.flow.classes else []
    facts = Facts(
        name=_shown(model.metadata.data_name),
        run=_shown(run_flag(run)),
        shape=model.image_shape,
        latent_dim=model.latent_dim,
        conditional=model.conditional,
        classes=[_shown(name) for name in model.classes],
        class_sizes=class_sizes,
        flow_shares=flow_shares,
        has_encoder=model.has_encoder,
        components=0 if summary is None else summary.components,
        has_flow=model.has_flow,
        facts=_sentences(model),
        order=dimensions.dimensions,
        importance=dimensions.values,
        ordered_by=_shown(dimensions.explained),
        mean=mean.tolist(),
        std=std.tolist(),
        centre=centre.tolist(),
        axes=axes.tolist(),
        spread=sum(shares) or 1.0,
        source="" if pictures is None else _shown(f"{pictures.split} pictures of {pictures.name}"),
        points=points,
        paper=paper,
        temperature=TEMPERATURE,
    )
    return Contents(facts, latents, sheet)


def _with_classes(model: Pair, pictures: EvaluationData | None) -> Pair:
    """The model; where it needs the class of each picture and they do not tell it, given its first class."""
    if not model.conditional:
        return model
    known = None if pictures is None else pictures.pictures.classes
    if known is not None and {known.names[label] for label in known.labels.tolist()} <= {*model.classes}:
        return model
    return model.given_place(0)


def _points(pictures: EvaluationData, latents: Latents) -> tuple[Latents, Points, bytes, str]:
    """Some of the pictures, whose latents are (n, d): as points, and the colour at the border of most."""
    from vaecli.datasets.dataset import spread

    count = len(pictures.pictures)
    rows = spread(POINTS, count)
    images = pictures.pictures[rows]
    classes = pictures.pictures.classes
    sheet, columns, side = _sheet(images)
    points = Points(
        count=len(rows),
        labels=[] if classes is None else classes.labels[rows].tolist(),
        classes=[] if classes is None else [_shown(name) for name in classes.names],
        columns=columns,
        side=side,
    )
    border = np.concatenate([images[:, 0].ravel(), images[:, -1].ravel()])
    return latents[rows], points, sheet, BLACK if np.median(border) < DARK else WHITE


def _sheet(images: NDArray[np.uint8]) -> tuple[bytes, int, tuple[int, int]]:
    """Pictures (n, h, w, c) in one WebP, row by row: its bytes, the pictures in a row, width and height of each."""
    from PIL import Image

    _, height, width, _ = images.shape
    shrunk = min(1.0, LARGEST_SIDE / max(height, width))
    side = max(1, round(width * shrunk)), max(1, round(height * shrunk))
    columns = max(1, round(len(images) ** 0.5))
    sheet = Image.new("RGB", (columns * side[0], -(-len(images) // columns) * side[1]))
    for index, image in enumerate(images):
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        if picture.size != side:
            picture = picture.resize(side, Image.Resampling.LANCZOS)
        sheet.paste(picture, (index % columns * side[0], index // columns * side[1]))
    stream = io.BytesIO()
    sheet.save(stream, "webp", quality=QUALITY)
    return stream.getvalue(), columns, side


def _sentences(model: Pair) -> list[str]:
    """The model in short sentences."""
    metadata = model.metadata
    channels, height, width = metadata.image_shape
    training = metadata.training
    kind = "validation" if training.validation else "held-out"
    sentences = [
        f"trained on {_shown(metadata.data_name)}, {height}x{width} pixels, {'grey' if channels == 1 else 'colour'}",
        f"epoch {training.epoch} of {training.epochs}, {kind} loss {training.held_out_loss:.1f} nats per image",
    ]
    summary = model.prior_summary
    flow = ["samples: drawn by a flow"] if model.has_flow else []
    return [*sentences, f"prior: {'N(0, I)' if summary is None else summary.described}", *flow]


def _shown(text: str) -> str:
    """Text by somebody else, for the page."""
    return printable(storable(text))
