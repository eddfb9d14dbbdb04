"""Pictures written to what `-o` names, whole or not at all, and drawn in the terminal.

A picture file holds a grid, a .gif an animation, a .npy an array, a folder one PNG for each image. Images arrive in
batches; arrays and folders take any number of them with flat memory.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaecli import files, outputs
from vaecli.errors import UsageError, VaeError, file_error
from vaecli.outputs import Destination
from vaecli.pictures import captions
from vaecli.pictures.arrays import Pixels, npy_header
from vaecli.pictures.grid import LARGEST_SCALE, Grid, Series, check_area, enlarge, lay_out
from vaecli.pictures.places import split_row_name
from vaecli.streams import STDOUT
from vaecli.wording import how_many, some_of

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console

    from vaecli.pictures.terminal import Drawing

Form: TypeAlias = Literal["picture", "animation", "array", "folder"]
Dtype: TypeAlias = Literal["uint8", "float32"]

EASY_TO_SEE = 280  # pixels: the longer side of an animation, approximately
FRAME_MS = 100
END_MS = 600  # the first and the last image of an animation
WRITER = "vae"  # in a PNG
LONGEST_STEM = 200  # bytes of a file's name, without its number and ending


@dataclass(frozen=True)
class Sink:
    """A file or a folder that takes images."""

    write: Callable[[NDArray[Any]], object]
    summary: str
    facts: dict[str, Any]
    note: str = ""


@dataclass(frozen=True)
class PictureWriter:
    """Writes the same images to every sink."""

    sinks: Sequence[Sink | Drawing]

    def write(self, images: NDArray[Any]) -> None:
        """Take the next images (b, h, w, c), of the output's dtype."""
        for sink in self.sinks:
            sink.write(images)

    def summary(self) -> str:
        """What is written, for a person. Empty where all images are only shown."""
        return ", ".join(sink.summary for sink in self.sinks if sink.summary)

    @property
    def notes(self) -> list[str]:
        """What a person should know of it, once it is written."""
        return [sink.note for sink in self.sinks if sink.note]

    @property
    def facts(self) -> dict[str, Any]:
        """What is written, for JSON."""
        return {key: fact for sink in self.sinks for key, fact in sink.facts.items()}


@dataclass(frozen=True)
class PictureOutput:
    """Where pictures go: to a destination, onto a terminal, or both. Nothing is opened yet."""

    destination: Destination | None  # None: nothing is written, only shown
    columns: int | None = None
    scale: int | None = None
    dtype: Dtype = "uint8"
    screen: Console | None = None  # the terminal that pictures are drawn on

    @property
    def name(self) -> str | None:
        """The name of the destination, as it was given."""
        return self.destination.name if self.destination else None

    @property
    def form(self) -> Form:
        """What is written. Of pictures that are only shown: a picture."""
        return FORMATS[self.destination.format].form if self.destination else "picture"

    @property
    def as_uint8(self) -> bool:
        """Whether it takes uint8 images. Else it takes floats in [0, 1]."""
        return self.dtype == "uint8"

    @contextlib.contextmanager
    def open(self, series: Series) -> Iterator[PictureWriter]:
        """Open it for a series of images. It is complete once the block ends well; else nothing changes.

        `scale` and `dtype` are those that were asked for, and so is `columns` if it was.

        Raises:
            UsageError: it would be larger than its format allows, wider than the terminal, or replace a source.
            VaeError: it cannot be written, or exists and is not to be replaced.
        """
        series = replace(series, scale=self.scale, dtype=self.dtype)
        if self.columns is not None:  # then rows are no longer what the captions and the wrapping are for
            series = replace(series, columns=self.columns, wraps_rows=False, captions=())
        drawings = []
        if self.screen is not None:
            from vaecli.pictures.terminal import Drawing

            drawings = [Drawing(self.screen, series)]
        if self.destination is None:
            yield PictureWriter(drawings)
        else:
            with FORMATS[self.destination.format].write(self.destination, series) as sink:
                yield PictureWriter([sink, *drawings])
        for drawing in drawings:
            drawing.show()


def picture_output(
    name: str | None,
    *,
    animates: bool = False,
    columns: int | None = None,
    scale: int | None = None,
    dtype: Dtype | None = None,
    clobber: bool | None = None,
    json: bool = False,
    screen: Console | None = None,
    flag: str = "output",
) -> PictureOutput:
    """Understand the name of a picture, animation, array or folder, and what was asked about it.

    `animates` allows animations, `json` says that JSON goes to stdout, `flag` is the parameter that gave the name.

    Raises:
        UsageError: neither name nor screen; no format has that name; a parameter has no meaning for the format;
            `screen` is no terminal.
    """
    if name is None and screen is None:
        raise UsageError(f"`{flag}` is missing", "name a file or folder/, - for stdout; or `show` draws here")
    if name is None and dtype is not None:
        raise UsageError("`dtype`: nothing is written", f"add `{flag}` with the name of a .npy")
    destination = None
    if name is not None:
        animated = animates or Path(name).suffix.lower() == ".gif"  # which is refused below, with who makes them
        formats = outputs.ANIMATIONS if animated else outputs.PICTURES
        destination = outputs.parse(name, formats, on_stdout="png", clobber=clobber, json=json, flag=flag)
    output = PictureOutput(destination, columns, scale, dtype or "uint8", screen)
    if output.form == "animation" and not animates:
        problem = f"`{flag}` {name}: only interpolate and traverse make animations"
        raise UsageError(problem, "name a .png, .npy or folder/")
    if output.form in ("array", "folder") and scale is not None:
        raise UsageError(f"`scale`: {name} is never enlarged", "leave it out, or name a picture")
    if output.form != "picture" and columns is not None:
        raise UsageError(f"`columns`: {name} has none", "leave it out, or name a picture")
    if output.form != "array" and dtype is not None:
        raise UsageError(f"`dtype`: {name} is not an array", "leave it out, or name a .npy")
    if screen is not None and output.form == "animation":
        raise UsageError("`show`: the terminal shows no animation", "leave out `show`, or name a .png")
    if screen is not None and not screen.file.isatty():
        raise UsageError("`show`: stderr is not a terminal", f"name a file with `{flag}` instead")
    return output


def save_grid(images: Pixels, path: Path, *, columns: int | None = None, scale: int | None = None) -> None:
    """Save images (n, h, w, c) as one picture file, whose format is its ending. Missing folders are made.

    Raises:
        UsageError: no picture format has that ending, or the grid is too large.
        VaeError: it cannot be written.
    """
    endings = {ending: name for ending, name in outputs.PICTURES.items() if FORMATS[name].form == "picture"}
    files.make_folder(path.parent)
    destination = outputs.parse(str(path), endings, on_stdout="png", flag="path")
    n, height, width, channels = images.shape
    with PictureOutput(destination, columns, scale).open(Series(n, (channels, height, width))) as writer:
        writer.write(images)


@contextlib.contextmanager
def _grid(destination: Destination, series: Series) -> Iterator[Sink]:
    """A grid, in memory until it is complete."""
    layout = lay_out(
        series.n, series.image_shape, columns=series.columns, scale=series.scale, stacked=series.stacked, gap=series.gap
    )
    strip, whole = captions.draw(series.captions, layout)
    width = strip.shape[1] + layout.width
    _check_side(layout.height, width, destination)
    grid = Grid(layout, series.image_shape[0])
    facts = {"width": width, "height": layout.height, "columns": layout.columns, "scale": layout.scale}
    enlarged = f", {layout.scale} times enlarged" if layout.scale > 1 else ""
    summary = f"{layout.columns}x{layout.rows} pictures{enlarged}, {width}x{layout.height} pixels"
    note = "" if whole else f"no font here has all letters of the rows; from the top: {', '.join(series.captions)}"
    with destination.open(series.sources) as stream:
        yield Sink(grid.put, summary, facts, note)
        picture = grid.canvas
        if series.captions:
            texts = np.broadcast_to(strip, (*strip.shape[:2], series.image_shape[0]))
            picture = np.concatenate([texts, picture], axis=1)
        stream.write(encode(picture, destination.format))


@contextlib.contextmanager
def _array(destination: Destination, series: Series) -> Iterator[Sink]:
    """A .npy, streamed: the header is written first, because the number of images is known."""
    channels, height, width = series.image_shape
    shape = (series.n, height, width) if channels == 1 else (series.n, height, width, channels)
    summary = f"{' x '.join(map(str, shape))} {series.dtype}"
    if destination.name != STDOUT:
        files.check_room(Path(destination.name), math.prod(shape) * np.dtype(series.dtype).itemsize)
    with destination.open(series.sources) as stream:
        stream.write(npy_header(shape, series.dtype))
        facts = {"shape": shape, "dtype": series.dtype}
        yield Sink(lambda batch: stream.write(np.ascontiguousarray(batch, series.dtype).data), summary, facts)


@contextlib.contextmanager
def _animation(destination: Destination, series: Series) -> Iterator[Sink]:
    """A .gif that goes forwards and backwards without end."""
    from PIL import Image

    _, height, width = series.image_shape
    scale = series.scale or max(1, min(LARGEST_SCALE, round(EASY_TO_SEE / max(height, width))))
    height, width = scale * height, scale * width
    _check_side(height, width, destination)
    check_area(series.n * height, width, f"{series.n} frames")
    durations = [FRAME_MS] * max(series.n, 2 * series.n - 2)  # both ends appear once
    durations[0] = durations[series.n - 1] = END_MS
    frames, milliseconds = len(durations), sum(durations)
    facts = {"width": width, "height": height, "scale": scale, "frames": frames, "milliseconds": milliseconds}
    summary = f"{frames} frames, forwards and backwards in {milliseconds / 1000:.1f} s"
    pictures: list[Pixels] = []
    with destination.open(series.sources) as stream:
        yield Sink(pictures.extend, summary, facts)
        forwards = [_image(enlarge(picture, scale)) for picture in pictures]
        if forwards[0].mode == "RGB":  # one palette for all frames, else colours flicker
            palette = _image(np.concatenate(pictures)).quantize(256, Image.Quantize.MEDIANCUT)
            forwards = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in forwards]
        first, *others = forwards + forwards[-2:0:-1]
        buffer = io.BytesIO()
        first.save(buffer, "GIF", save_all=True, append_images=others, duration=durations, loop=0, optimize=False)
        stream.write(buffer.getvalue())


@contextlib.contextmanager
def _folder(destination: Destination, series: Series) -> Iterator[Sink]:
    """A PNG file for each image."""
    folder = Path(destination.name)

    # Names that are numbers are not kept, because there may be millions; of the inputs' names a list is kept anyway.
    named = None if series.names is None else list(_file_names(series))

    def file_names() -> Iterator[tuple[str, str | None]]:
        return _file_names(series) if named is None else iter(named)

    def targets() -> Iterator[Path]:
        return (folder / name for name, _ in file_names())

    destination.refuse(targets(), series.sources)
    clobber = destination.clobber is not False
    there = None if clobber else next(filter(Path.exists, targets()), None)
    if there is not None:
        raise files.exists_already(there)
    others = _others(folder, (name for name, _ in file_names()))
    destination.refuse([folder, *map(folder.joinpath, others)] if others else (), series.sources)
    _refuse_folders_of_pictures(folder)
    if kept := [name for name in others if not (destination.clobber and _is_ours(folder / name))]:
        listed = some_of(kept)
        remedy = (
            "they were not written there by vae" if destination.clobber else "`clobber` removes those that vae wrote"
        )
        raise VaeError(
            f"{folder}: holds other pictures, which would stay beside the new ones: {listed}",
            f"name another folder, or remove them; {remedy}",
        )
    with files.filling(folder, clobber=clobber) as aside:
        names = file_names()

        def write(batch: NDArray[Any]) -> None:
            for image in batch:
                name, _ = next(names)
                (aside / name).write_bytes(encode(image, "png", title=_title(name)))

        summary, facts = how_many(series.n, "PNG file"), dict[str, Any]()
        if renamed := {name: source for name, source in file_names() if source}:
            facts["renamed"] = renamed
            pairs = [f"{name} is {source}" for name, source in renamed.items()]
            summary += f" (some inputs have the same name: {some_of(pairs)})"
        if others:
            facts["removed"] = others
            summary += f", {len(others)} older removed"
        yield Sink(write, summary, facts)
        for name in others:
            (aside / name).touch()  # an empty file stands for one that is removed


def _others(folder: Path, names: Iterator[str]) -> list[str]:
    """The names of the pictures in a folder that would stay beside the new ones. Raises VaeError."""
    from vaecli.pictures.decoding import SUFFIXES  # an array is written without Pillow

    try:
        files_there = list(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise file_error(folder, error) from error
    held = {file.name for file in files_there if file.name.lower().endswith(SUFFIXES)}
    return sorted(held.difference(names)) if held else []


def _refuse_folders_of_pictures(folder: Path) -> None:
    """Raise VaeError where a subfolder has pictures that are not ours: the folder is somebody's data, with classes."""
    from vaecli.pictures.folders import is_picture_name

    for subfolder in folder.glob("[!.]*/"):
        first = next(filter(is_picture_name, subfolder.glob("[!.]*")), None)
        if first is not None and not _is_ours(first):
            problem = f"{folder}: has pictures in its subfolders, such as {first.relative_to(folder)}"
            raise VaeError(problem, "name another folder, as new pictures would become a part of that set")


def _is_ours(picture: Path) -> bool:
    """Whether `_folder` wrote this file under this name: a picture that was copied or renamed is somebody's choice.

    Raises VaeError.
    """
    try:
        with picture.open("rb") as file:
            beginning = file.read(2048)
    except OSError as error:
        raise file_error(picture, error) from error
    title = _title(picture.name).encode()
    return b"tEXtSoftware\0" + WRITER.encode() in beginning and b"tEXtTitle\0" + title in beginning


def _file_names(series: Series) -> Iterator[tuple[str, str | None]]:
    """0001.png and so on; or the inputs' own names, all different, where `digits.npy[17]` becomes digits-0017.png.

    Where another input has that name already, the name is numbered, and the input comes with it.
    """
    if series.names is None:
        digits = max(4, len(str(series.n)))
        yield from ((f"{number:0{digits}}.png", None) for number in range(1, series.n + 1))
        return
    taken: set[str] = set()
    numbers: dict[str, int] = {}  # the last one that was given, for each name that several inputs have
    for name in series.names:
        picture, row = split_row_name(name)
        stem = "stdin" if picture == STDOUT else _stem(picture)
        unique = stem = stem if row is None else f"{stem}-{row:04}"
        folded = stem.casefold()  # some file systems ignore case
        while unique.casefold() in taken:
            numbers[folded] = numbers.get(folded, 1) + 1
            unique = f"{stem}-{numbers[folded]}"
        taken.add(unique.casefold())
        yield f"{unique}.png", name if unique != stem else None


def _stem(name: str) -> str:
    """A name of a picture as that of a file, without its ending. Names in somebody's archive may be anything."""
    stem = Path(name.replace("\0", "")).stem.lstrip(".") or "picture"
    while len(os.fsencode(stem)) > LONGEST_STEM:
        stem = stem[:-1]
    return stem


@dataclass(frozen=True)
class PictureFormat:
    """The facts about a format that `-o` may name."""

    form: Form
    write: Callable[[Destination, Series], AbstractContextManager[Sink]]
    longest_side: float = float("inf")  # pixels that the format, or its library, allows
    options: dict[str, Any] = field(default_factory=dict)  # for Pillow


FORMATS = {  # by the names in `outputs.ANIMATIONS`
    "png": PictureFormat("picture", _grid),
    "jpeg": PictureFormat("picture", _grid, 65500, {"quality": 95, "subsampling": 0}),
    "webp": PictureFormat("picture", _grid, 16383, {"lossless": True}),
    "gif": PictureFormat("animation", _animation, 65535),
    "npy": PictureFormat("array", _array),
    "folder": PictureFormat("folder", _folder),
}


def _title(name: str) -> str:
    """The name of a file as the text of a PNG."""
    return name.encode("ascii", "backslashreplace").decode()


def encode(image: Pixels, image_format: str, title: str | None = None) -> bytes:
    """One picture (h, w, c) as the bytes of a file. A PNG has its writer and `title` as the format's texts."""
    options = dict(FORMATS[image_format].options)
    if image_format == "png":
        from PIL.PngImagePlugin import PngInfo

        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_text("Software", WRITER)
        if title is not None:
            options["pnginfo"].add_text("Title", title)
    buffer = io.BytesIO()
    # Pillow imports one plug-in to save to a name, and five to save in a format. That makes a process that saves one
    # PNG 6.6 ms shorter (of 136, medians of 100, Pillow 13).
    buffer.name = f"buffer.{image_format}"
    _image(image).save(buffer, **options)
    return buffer.getvalue()


def _image(pixels: Pixels) -> Image.Image:
    from PIL import Image  # an array is written without it

    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _check_side(height: int, width: int, destination: Destination) -> None:
    longest = FORMATS[destination.format].longest_side
    if max(height, width) > longest:
        raise UsageError(
            f"`{destination.flag}`: {width}x{height} pixels; a side of a .{destination.format} has at most {longest}",
            "name a .png, a .npy or a folder/, or lower `scale`",
        )
