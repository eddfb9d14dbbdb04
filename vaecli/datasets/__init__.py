"""Pictures to learn from: SPEC to uint8 images. Built in, known by name, a folder, or an array."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from vaecli.config import LARGEST_SIDE, DataConfig
from vaecli.datasets import builtin, folder, named
from vaecli.datasets import cache as caches
from vaecli.datasets.cache import Cache, Prepared, stretches
from vaecli.datasets.dataset import RESIDENT_BYTES, Content, Dataset, Images, Progress, split
from vaecli.errors import VaeError, file_error
from vaecli.pictures import arrays, decoding
from vaecli.pictures.arrays import Pixels
from vaecli.pictures.decoding import ImageShape
from vaecli.pictures.reading import on_all_cores

FEW = 10_000  # images that are resized in a second or so: not worth a file

__all__ = ["Dataset", "Images", "KnownSet", "Progress", "data_folder", "known_sets", "labels", "load"]


def data_folder(directory: str | None) -> Path:
    """Where named data sets and prepared pictures are kept: `directory`, or the user's cache folder.

    Raises:
        VaeError: `directory` is not there, or is no folder.
    """
    if directory is None:
        return platformdirs.user_cache_path("vaecli")
    path = Path(directory).expanduser()
    if not path.is_dir():
        problem = "is a file, not a folder" if path.exists() else "no such folder"
        raise VaeError(f"--data-dir {directory}: {problem}", f"name a folder, or create it: mkdir -p {directory}")
    return path


@dataclass(frozen=True)
class _Found:
    """The images of a SPEC as they lie there: training and test images, or one heap."""

    name: str
    parts: Sequence[Pixels]  # each (n, h, w, c)
    stamp: object  # changes when they do
    notes: tuple[str, ...] = ()
    known: Content | None = None


def load(data: DataConfig, progress: Progress) -> Dataset:
    """The images that `data` asks for. Large ones are mapped, not read; what is missing is fetched once.

    Raises:
        VaeError: nothing of that name or path; a file is damaged, unreadable or no picture; images of another
            shape or type; too few; the network is not there; the data folder cannot be written.
    """
    found = _find(data, progress)
    _, height, width, channels = found.parts[0].shape
    shape = (data.channels or channels, *(data.size or (height, width)))
    if max(shape[1:]) > LARGEST_SIDE:
        raise VaeError(
            f"--data {data.source}: {height}x{width} pixels, more than the {LARGEST_SIDE} a side may have",
            "--image-size 64 crops and resizes every picture to 64x64; HxW works too",
        )
    if shape != (channels, height, width):
        found = _fitted(found, shape, data, progress)
    return split(found.name, found.parts, found.notes, found.known)


def labels(data: DataConfig) -> NDArray[np.int64] | None:
    """The class of each held-out image, (n,), in their order; None where it is not known. Fetches nothing.

    Raises:
        VaeError: the data folder is not there, or a file in it is damaged.
    """
    if data.source == builtin.NAME:
        return builtin.labels()
    if data.source not in named.NAMED:
        return None
    root, files = data_folder(data.dir), named.NAMED[data.source].files
    if isinstance(files, named.Idx):
        return named.idx_labels(files, root)
    prepared = Cache(root).open(_unpacked_key(data.source))
    return None if prepared is None else np.array(prepared.record.labels, dtype=np.int64)


@dataclass(frozen=True)
class KnownSet:
    """A data set that a name stands for, as a person or a script sees it."""

    name: str
    title: str
    train: int
    held_out: int
    shape: tuple[int, int, int]  # (height, width, channels)
    here: bool  # nothing has to be fetched


def known_sets(root: Path) -> list[KnownSet]:
    """All names that a SPEC may be; `root` is the data folder."""
    kept = 10 * builtin.HELD_OUT_PER_DIGIT
    digits = KnownSet(
        builtin.NAME, builtin.TITLE, 10 * builtin.PER_DIGIT - kept, kept, (builtin.SIDE, builtin.SIDE, 1), here=True
    )
    others = []
    for name, known in named.NAMED.items():
        channels, height, width = known.shape
        here = named.is_here(known.files, root) or Cache(root).has(_unpacked_key(name))
        others.append(KnownSet(name, known.title, known.train, known.held_out, (height, width, channels), here))
    return [digits, *others]


def _find(data: DataConfig, progress: Progress) -> _Found:
    source = data.source
    path = Path(source).expanduser()
    shadowed = (f"{source} is the data set of that name; the path is ./{source}",) if path.exists() else ()
    if source == builtin.NAME:
        return _Found(source, builtin.digits(), source, shadowed)
    if source in named.NAMED:
        return _find_named(data, progress, shadowed)
    if path.is_dir():
        prepared = folder.prepare(path, data, Cache(data_folder(data.dir)), progress)
        return _opened(path.resolve().name, prepared)
    if arrays.is_array(path) and path.exists():
        return _find_array(path, data, progress)
    if path.exists():
        decoding.read_picture(path, source)
        raise VaeError(
            f"--data {source}: only one picture, and one must be held out",
            "name the folder it is in, or an array",
        )
    if _looks_like_a_path(source):
        raise VaeError(f"--data {source}: no such file or folder", "check the spelling; vae data lists the names")
    close = difflib.get_close_matches(source.lower(), [builtin.NAME, *named.NAMED], n=3)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise VaeError(f"--data {source}: no data set, file or folder of this name", f"{hint}vae data lists the names")


def _looks_like_a_path(source: str) -> bool:
    """Whether a SPEC is meant as a path, judged by its looks."""
    return "/" in source or "\\" in source or Path(source).suffix != ""


def _find_named(data: DataConfig, progress: Progress, notes: tuple[str, ...]) -> _Found:
    name, root = data.source, data_folder(data.dir)
    files, place = named.NAMED[name].files, Cache(root)
    if isinstance(files, named.Idx):
        train, held_out, fetched = named.idx_arrays(name, files, root, progress)
        return _Found(name, (train, held_out), _stamps(*named.idx_paths(files, root)), notes + fetched)
    prepared = place.open(_unpacked_key(name))
    if prepared is not None:
        return _opened(name, prepared, notes)
    train, held_out, classes, fetched = named.unpacked_arrays(name, files, root, progress)
    chunks = (chunk for part in (train, held_out) for chunk in Images(part).chunks())
    try:
        prepared = place.make(_unpacked_key(name), name, chunks, train=len(train), labels=classes)
    except VaeError as error:  # the files are there, but nothing can be written beside them
        return _Found(name, (train, held_out), name, (*notes, f"{name} is unpacked anew each time: {error.message}"))
    return _opened(name, prepared, notes + fetched)


def _unpacked_key(name: str) -> str:
    return caches.key("unpacked", name)


def _find_array(path: Path, data: DataConfig, progress: Progress) -> _Found:
    array = arrays.open_array(path, data.source)
    stamp = _stamps(path)
    if array.dtype == np.uint8:
        return _Found(path.name, (array,), stamp)
    if array.size <= RESIDENT_BYTES:
        return _Found(path.name, (arrays.read_array(path, data.source),), stamp)
    place, key = Cache(data_folder(data.dir)), caches.key("array", stamp)
    prepared = place.open(key)
    if prepared is None:
        with progress(f"converting {path.name}", len(array), "images") as advance:
            chunks = _counted(arrays.byte_chunks(array, data.source), advance)
            prepared = place.make(key, data.source, chunks)
    return _opened(path.name, prepared)


def _fitted(found: _Found, shape: ImageShape, data: DataConfig, progress: Progress) -> _Found:
    """The same images in another shape: many are kept in the cache, a few are made anew each time."""
    total = sum(len(part) for part in found.parts)

    def images() -> Iterator[Pixels]:
        rows = (image for part in found.parts for chunk in Images(part).chunks() for image in chunk)
        with progress(f"resizing {found.name}", total, "images") as advance:
            yield from _counted(stretches(on_all_cores(lambda image: decoding.fit(image, shape), rows)), advance)

    channels, height, width = shape
    note = f"all images were cropped, resized or converted to {height}x{width}x{channels}"
    train = len(found.parts[0]) if len(found.parts) == 2 else None
    if total <= FEW and total * channels * height * width <= RESIDENT_BYTES:
        array = np.concatenate(list(images()))
        parts = (array,) if train is None else (array[:train], array[train:])
        return _Found(found.name, parts, found.stamp, (*found.notes, note))
    place, key = Cache(data_folder(data.dir)), caches.key("fitted", found.stamp, shape)
    prepared = place.open(key) or place.make(key, data.source, images(), (note,), train=train)
    return _opened(found.name, prepared, found.notes)


def _opened(name: str, prepared: Prepared, notes: tuple[str, ...] = ()) -> _Found:
    images, record = prepared.images, prepared.record
    parts = (images,) if record.train is None else (images[: record.train], images[record.train :])
    return _Found(name, parts, record.hash, notes + record.notes, record.content)


def _counted(chunks: Iterator[Pixels], advance: Callable[[int], None]) -> Iterator[Pixels]:
    for chunk in chunks:
        yield chunk
        advance(len(chunk))


def _stamps(*paths: Path) -> list[tuple[str, int, int]]:
    """What tells whether files changed: place, bytes, nanoseconds since 1970."""
    stamps = []
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise file_error(path, error) from error
        stamps.append((str(path.resolve()), status.st_size, status.st_mtime_ns))
    return stamps
