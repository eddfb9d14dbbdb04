"""Pictures to learn from: a `source` as uint8 images. Built in, known by name, a folder, shards, or an array."""

from __future__ import annotations

import dataclasses
import difflib
import io
import shlex
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import platformdirs

from vaecli import events
from vaecli.config import DataConfig
from vaecli.datasets import builtin, cache, classes, dataset, folder, named
from vaecli.datasets.cache import Cache
from vaecli.datasets.catalogue import NAMED
from vaecli.datasets.classes import Classes
from vaecli.datasets.dataset import ONLY_ONE, Dataset, Found, ImageSet, split, spread
from vaecli.errors import VaeError
from vaecli.events import OnEvent, ignore
from vaecli.model_format import ImageShape
from vaecli.pictures import arrays, decoding, places
from vaecli.pictures.places import expand, is_address, is_pattern
from vaecli.pictures.reading import find_pictures, left_out_note, on_all_cores, pictures_or_shards
from vaecli.pictures.shards import SUFFIXES as SHARDS
from vaecli.pictures.shards import count_pictures, find_shards, is_shard, read_shard, size_in_tar

FEW = 10_000  # images that are resized in about a second, and so are not cached
TABLES_OF_PIXELS = (".csv", ".tsv", ".mat", ".h5", ".hdf5", ".pkl")  # that are not read
SURVEYED = 1000  # pictures of a folder that are looked at before it is read

__all__ = [
    "Dataset", "ImageSet", "KnownSet", "Survey", "data_folder", "data_sets", "is_here", "load", "located",
    "survey",
]  # fmt: skip


def data_folder(directory: str | Path | None, *, made: bool = False) -> Path:
    """Where named data sets and prepared pictures are kept: `directory`, or the user's cache folder.

    Raises VaeError where `directory` is a file, or does not exist and will not be `made`.
    """
    if directory is None:
        return platformdirs.user_cache_path("vaecli")
    path = Path(directory).expanduser()
    if not path.is_dir() and not (made and not path.exists()):
        problem = "is a file, not a folder" if path.exists() else "no such folder"
        hint = f"name a folder, or create it: mkdir -p {shlex.quote(str(directory))}"
        raise VaeError(f"`dir` {directory}: {problem}", hint)
    return path


def located(source: str) -> str:
    """The source as it can be found from any folder: a path becomes absolute, a name stays."""
    named = source in (builtin.NAME, *NAMED) or is_address(source)
    return source if named else str(Path(source).expanduser().absolute())


def load(data: DataConfig, on_event: OnEvent = ignore) -> Dataset:
    """The images that `data` asks for. Large ones are mapped, not read; what is missing is downloaded once.

    Raises:
        VaeError: nothing has that name or path; a file is damaged, unreadable or no picture; images are of another
            shape or type; there are too few; a download fails; the data folder cannot be written.
    """
    found = _find(data, on_event)
    _, height, width, channels = found.parts[0].shape
    shape = (data.channels or channels, *(data.size or (height, width)))
    folder.check_side(f"`source` {data.source}", *shape[1:])
    if shape != (channels, height, width):
        found = _fitted(found, shape, data, on_event)
    return split(found, data.validation)


@dataclasses.dataclass(frozen=True)
class Survey:
    """What the pictures of a source are like, from looking at some of them."""

    count: int
    image_shape: ImageShape  # (channels, height, width) of the largest; 3 channels where some are in colour
    one_size: bool  # whether all have this height and width
    one_kind: bool = True  # whether all are grey, or all in colour


def survey(data: DataConfig) -> Survey:
    """Look at the pictures that `data` asks for, before they are loaded: downloads and prepares nothing.

    Of a folder SURVEYED pictures are opened, evenly spaced. Raises VaeError where nothing has that name or path.
    """
    source, path = data.source, Path(data.source).expanduser()
    if source == builtin.NAME:
        return Survey(10 * builtin.PER_DIGIT, (1, builtin.SIDE, builtin.SIDE), one_size=True)
    if source in NAMED:
        known = NAMED[source]
        return Survey(known.train + known.held_out, known.shape, one_size=True)
    if shards := _shards(source):
        return _survey_of_shards(shards)
    if path.is_dir():
        files = find_pictures(path)
        surveyed = on_all_cores(decoding.shape_of, [files[row] for row in spread(SURVEYED, len(files))])
        return _survey_of([shape for chunk in surveyed for shape in chunk], len(files))
    if not (path.exists() and arrays.is_array(path)):
        raise _no_pictures(source, path)
    count, height, width, channels = arrays.open_array(path, source).shape
    return Survey(count, (channels, height, width), one_size=True)


def _shards(source: str) -> list[str]:
    """The shards that a source is: one of them, a pattern or address of some, or a folder. Else none.

    Raises VaeError where a pattern or an address stands for other files, or for none.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        if not find_shards(path):  # else every folder of pictures would be walked once more
            return []
        found = pictures_or_shards(path)
        return [str(shard) for shard in found] if isinstance(found[0], str) else []
    if not is_address(source) and not is_pattern(source):
        return [source] if is_shard(source) and path.is_file() else []
    found = expand(source, SHARDS)
    if others := [place for place in found if not is_shard(place)]:
        raise VaeError(f"`source` {source}: {others[0]} is no shard", "name .tar or .parquet files, or a folder")
    return found


def _survey_of_shards(shards: list[str]) -> Survey:
    """What the first pictures in shards are like. How many there are is estimated from the first one."""
    shapes, size = list[tuple[int, int, int] | None](), 0
    with decoding.quiet_pillow():
        for picture in islice(read_shard(shards[0]), SURVEYED):
            shapes.append(decoding.shape_of(io.BytesIO(picture.content)))
            size += size_in_tar(picture)
    all_read = len(shapes) < SURVEYED
    count = len(shapes) if all_read else count_pictures(shards[0], len(shapes), size)
    return _survey_of(shapes, count * len(shards))


def _survey_of(found: Iterable[tuple[int, ...] | None], count: int) -> Survey:
    """What some of `count` pictures are like: the (h, w, c) of each, None where it cannot be read."""
    shapes = {shape for shape in found if shape is not None}
    if not shapes:
        return Survey(count, (1, 1, 1), one_size=False, one_kind=False)  # loading them says what is wrong
    height, width, channels = (max(side) for side in zip(*shapes, strict=True))
    one_size, one_kind = len({shape[:2] for shape in shapes}) == 1, len({shape[2] for shape in shapes}) == 1
    return Survey(count, (channels, height, width), one_size, one_kind)


def is_here(data: DataConfig) -> bool:
    """Whether the images can be loaded without network. Raises VaeError where the data folder does not exist."""
    if data.source in NAMED:
        return named.is_here(data.source, data_folder(data.dir))
    if is_address(data.source) or is_pattern(data.source):
        return bool(_shards(data.source))
    return data.source == builtin.NAME or Path(data.source).expanduser().exists()


@dataclasses.dataclass(frozen=True)
class KnownSet:
    """A data set that a name stands for, as a person or a script sees it."""

    name: str
    title: str
    train: int
    held_out: int
    shape: tuple[int, int, int]  # (height, width, channels)
    here: bool  # it can be loaded without network


def data_sets(directory: str | Path | None = None) -> list[KnownSet]:
    """Every name that `source` may be.

    Raises:
        VaeError: the data folder `directory` does not exist, or is a file.
    """
    root = data_folder(directory)
    held_out, side = 10 * builtin.HELD_OUT_PER_DIGIT, builtin.SIDE
    train = 10 * builtin.PER_DIGIT - held_out
    sets = [KnownSet(builtin.NAME, builtin.TITLE, train, held_out, (side, side, 1), here=True)]
    for name, known in NAMED.items():
        channels, height, width = known.shape
        here = named.is_here(name, root)
        sets.append(KnownSet(name, known.title, known.train, known.held_out, (height, width, channels), here))
    return sets


def _find(data: DataConfig, on_event: OnEvent) -> Found:
    source = data.source
    path = Path(source).expanduser()
    if source == builtin.NAME or source in NAMED:
        note = f"{source} is the data set of that name; the path is ./{source}"
        shadowed = (note,) if path.exists() else ()
        if source == builtin.NAME:
            return Found(source, builtin.digits(), source, shadowed, classes=builtin.classes())
        found = named.load(source, data_folder(data.dir), on_event)
        return dataclasses.replace(found, notes=shadowed + found.notes)
    if shards := _shards(source):
        place = Cache(data_folder(data.dir, made=True))
        return folder.prepare_shards(located(source), shards, data, place, on_event).found(path.name)
    if path.is_dir():
        left_out: list[str] = []
        prepared = folder.prepare(path, data, Cache(data_folder(data.dir, made=True)), on_event, left_out)
        return prepared.found(path.resolve().name, left_out_note(left_out))
    if path.exists() and arrays.is_array(path):
        return _find_array(path, data, on_event)
    raise _no_pictures(source, path)


def _no_pictures(source: str, path: Path) -> VaeError:
    """Why there is nothing to train on. Raises VaeError where the file is no picture either."""
    if path.suffix.lower() in TABLES_OF_PIXELS and path.is_file():
        hint = "save its pictures with NumPy: np.savez('pictures.npz', x=pictures, y=classes)"
        return VaeError(f"`source` {source}: neither a picture nor an array", hint)
    if path.exists():
        decoding.read_picture(path, source)
        return VaeError(f"`source` {source}: {ONLY_ONE}", "name the folder it is in, or an array")
    if "/" in source or "\\" in source or path.suffix:
        return VaeError(f"`source` {source}: no such file or folder", "check the spelling; vae data lists the names")
    folders = [folder.name for folder in Path().glob("*/")]
    close = difflib.get_close_matches(source, folders, n=1) or difflib.get_close_matches(
        source.lower(), [builtin.NAME, *NAMED], n=3
    )
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return VaeError(f"`source` {source}: no data set, file or folder of this name", f"{hint}vae data lists the names")


def _find_array(path: Path, data: DataConfig, on_event: OnEvent) -> Found:
    array = arrays.open_array(path, data.source)
    known = [places.version(str(path))]
    if array.dtype != np.uint8 and array.size > dataset.RESIDENT_BYTES:
        place, name = Cache(data_folder(data.dir, made=True)), cache.entry_name("array", known)
        chunks = arrays.byte_chunks(array, data.source)
        counted = events.counted(chunks, on_event, f"converting {path.name}", len(array), "images")
        prepared = place.open(name) or place.make(name, data.source, counted)
        return dataclasses.replace(prepared.found(path.name), classes=_array_classes(path, len(array)))
    if array.dtype != np.uint8:
        array = arrays.read_array(path, data.source)
    return Found(path.name, (array,), known, classes=_array_classes(path, len(array)))


def _array_classes(path: Path, count: int) -> Classes | None:
    """The classes in an .npz beside its `count` images; None where there are none for them."""
    labels = arrays.read_labels(path)
    return classes.of_numbers(labels) if labels is not None and labels.shape == (count,) else None


def _fitted(found: Found, shape: ImageShape, data: DataConfig, on_event: OnEvent) -> Found:
    """The same images in another shape: many are kept in the cache, a few are resized each time."""
    total = sum(len(part) for part in found.parts)
    images = (image for part in found.parts for chunk in ImageSet(part).chunks() for image in chunk)
    resized = on_all_cores(lambda image: decoding.fit(image, shape), images)
    chunks = map(np.stack, events.counted(resized, on_event, f"resizing {found.name}", total, "images"))
    channels, height, width = shape
    note = f"all images were cropped, resized or converted to {height}x{width}x{channels}"
    train = len(found.parts[0]) if len(found.parts) == 2 else None
    if total <= FEW and total * channels * height * width <= dataset.RESIDENT_BYTES:
        array = np.concatenate(list(chunks))
        parts = (array,) if train is None else (array[:train], array[train:])
        return dataclasses.replace(found, parts=parts, notes=(*found.notes, note), summary=None)
    place, name = Cache(data_folder(data.dir, made=True)), cache.entry_name("fitted", found.version, shape)
    prepared = place.open(name) or place.make(name, data.source, chunks, lambda: (note,), train=train)
    return dataclasses.replace(
        prepared.found(found.name, found.notes), validation=found.validation, classes=found.classes
    )
