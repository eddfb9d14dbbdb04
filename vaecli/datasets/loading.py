"""The pictures of a source as a data set: read, in one shape, split into training and held-out pictures."""

from __future__ import annotations

import dataclasses
import itertools
import os
from pathlib import Path

import msgspec
import numpy as np

from vaecli import events
from vaecli.config import DataConfig
from vaecli.datasets import builtin, cache, classes, dataset, named, preparing
from vaecli.datasets.cache import Cache, data_folder
from vaecli.datasets.dataset import Dataset, Found, ImageSet, NamesOf, split_summary_of
from vaecli.datasets.division import by_table, split
from vaecli.datasets.source import Array, BuiltIn, Folder, Named, Shards, classify, located, overlap
from vaecli.errors import UsageError, VaeError
from vaecli.events import Note, OnEvent, ignore
from vaecli.files import with_home
from vaecli.model_format import ImageShape
from vaecli.pictures import arrays, decoding, places
from vaecli.pictures.folders import left_out_note
from vaecli.pictures.reader import on_all_cores
from vaecli.wording import how_many

RESIZED_EACH_TIME = 10_000  # images that are resized in about a second, and so are not cached


def load(data: DataConfig, on_event: OnEvent = ignore) -> Dataset:
    """The images that `data` asks for. Large ones are mapped, not read; what is missing is downloaded once.

    Raises:
        VaeError: nothing has that name or path; a file is damaged, unreadable or no picture; images are of another
            shape or type; there are too few; a download fails; the data folder cannot be written.
    """
    found, source = _in_shape(data, on_event), classify(data.source)
    if isinstance(source, Folder):
        found = by_table(found, source.path)
    if data.held_out is not None:
        found = _with_held_out(found, data, data.held_out, on_event)
    if len(found.parts) > 1 and (data.held_out is not None or isinstance(source, Array)):
        found = dataclasses.replace(found, summary=split_summary_of(*map(ImageSet, found.parts)))
    return split(found, data.validation)


def prepared_earlier(data: DataConfig, wanted: str) -> Dataset | None:
    """The pictures whose hash is `wanted`, as an earlier training prepared them; None where they are not kept.

    They have no names. Raises VaeError where the data folder cannot be read.
    """
    place = _new_cache(data)
    for entry in place.entries():
        if entry.record is not None and entry.record.summary.hash == wanted:
            prepared = place.open(entry.path.name)
            if prepared is not None:
                found = prepared.found(Path(data.source).name)
                return split(dataclasses.replace(found, names=()), data.validation)
    return None


def _in_shape(data: DataConfig, on_event: OnEvent) -> Found:
    """The images of the source in the shape that is asked for."""
    found = _find(data, on_event)
    if not found.names:
        found = dataclasses.replace(found, names=_numbered(data.source, len(found.parts)))
    _, height, width, channels = found.parts[0].shape
    shape = (data.channels or channels, *(data.size or (height, width)))
    preparing.check_side(f"`source` {data.source}", *shape[1:])
    return found if shape == (channels, height, width) else _fitted(found, shape, data, on_event)


def _with_held_out(found: Found, data: DataConfig, held_out: str, on_event: OnEvent) -> Found:
    """The same images, and those of another source to be held out: in the same shape.

    Raises UsageError where the source has held-out images of its own, or is the other one, too.
    """
    named = f"`held_out` {held_out}"
    if len(found.parts) > 1 or (found.division is not None and found.division.splits is not None):
        raise UsageError(f"{named}: {found.name} has held-out images of its own", "leave it out")
    if overlap(data.source, held_out):
        raise UsageError(f"{named}: some of these are images to train on", "name others, or leave it out")
    _, height, width, channels = found.parts[0].shape
    size = f"{height}x{width}"
    asked = msgspec.structs.replace(data, source=held_out, held_out=None, image_size=size, channels=channels)
    try:
        other = _in_shape(asked, on_event)
    except VaeError as error:
        error.message = error.message.replace("`source`", "`held_out`")
        raise
    count = len(other.parts[-1])  # of the held-out ones, where they are known
    known: classes.Classes | None = None
    no_classes = found.no_classes
    if found.classes is not None and other.classes is not None:
        known = found.classes.followed_by(other.classes[len(other.classes.labels) - count :])
    elif found.classes is not None:
        no_classes = "the held-out images have none"
    held = Note(f"held out: {how_many(count, 'picture')} of {other.name}")
    notes = (*found.notes, held, *(Note(f"held out: {note.text}", note.warning) for note in other.notes))
    parts, versions = (found.parts[0], other.parts[-1]), [found.version, other.version]
    names = (found.names[0], other.names[-1])
    return Found(
        found.name,
        parts,
        versions,
        notes,
        classes=known,
        no_classes=no_classes,
        names=names,
        division=found.division,
    )


def _find(data: DataConfig, on_event: OnEvent) -> Found:
    """The images of the source as they are, before they are cropped, resized or split."""
    source = data.source
    match classify(source):
        case BuiltIn():
            return Found(source, builtin.digits(), source, _shadowed(source), classes=builtin.classes())
        case Named(name):
            shadowed = _shadowed(name)
            found = named.load(name, data_folder(data.dir), on_event)
            return dataclasses.replace(found, notes=shadowed + found.notes)
        case Shards(shards):
            prepared = preparing.prepare_shards(located(source), shards, data, _new_cache(data), on_event)
            return prepared.found(with_home(source).name, (), shards)
        case Folder(path):
            left_out: list[str] = []
            prepared = preparing.prepare(path, data, _new_cache(data), on_event, left_out)
            return prepared.found(path.resolve().name, left_out_note(left_out), [str(path)])
        case Array(path):
            return _find_array(path, data, on_event)


def _numbered(source: str, parts: int) -> tuple[NamesOf, ...]:
    """Names by the row of a picture: `a.npz[17]`; of test images that are apart `a-test.npz[17]`.

    The rows are those of the source, whichever of them are held out.
    """

    def names_of(place: str) -> NamesOf:
        return lambda rows: [places.row_name(place, row) for row in rows.tolist()]

    stem, suffix = os.path.splitext(source)  # noqa: PTH122 - a Path would lose ./
    return tuple(map(names_of, [source] if parts == 1 else [source, f"{stem}-test{suffix}"]))


def _shadowed(name: str) -> tuple[Note, ...]:
    """A note where a path has the name of a data set, which is taken; else none."""
    note = Note(f"{name} means the data set; write ./{name} for the file or folder")
    return (note,) if Path(name).exists() else ()


def _new_cache(data: DataConfig) -> Cache:
    """The cache of prepared pictures, in a data folder that may not exist yet."""
    return Cache(data_folder(data.dir))


def _find_array(path: Path, data: DataConfig, on_event: OnEvent) -> Found:
    array = arrays.open_array(path, data.source)
    known = [places.version(str(path))]
    test = arrays.test_images(path, data.source)
    if test is not None and test.shape[1:] != array.shape[1:]:
        problem = f"its test images have the shape {test.shape[1:]}, the others {array.shape[1:]}"
        raise VaeError(f"{data.source}: {problem}", "save them in one shape")
    if array.dtype != np.uint8 and array.size > dataset.RESIDENT_BYTES:
        place, name = _new_cache(data), cache.entry_name("array", known)
        total = len(array) + (0 if test is None else len(test))
        chunks = itertools.chain(arrays.byte_chunks(array, data.source), [] if test is None else [test])
        counted = events.counted(chunks, on_event, f"converting {path.name}", total, "images")
        train = None if test is None else len(array)
        prepared = place.open(name) or place.make(name, located(data.source), counted, train=train)
        return _with_labels(prepared.found(path.name), path)
    if array.dtype != np.uint8:
        array = arrays.read_array(path, data.source)
    return _with_labels(Found(path.name, (array,) if test is None else (array, test), known), path)


def _with_labels(found: Found, path: Path) -> Found:
    """The same images with their classes, if the file has any, or with a note why they cannot be used."""
    names = (arrays.LABEL_NAMES, arrays.TEST_LABEL_NAMES)
    labels = [arrays.read_labels(path, len(part), known) for part, known in zip(found.parts, names, strict=False)]
    problems = [each.problem for each in labels if each.problem]
    if not problems and any(each.values is None for each in labels) and any(each.values is not None for each in labels):
        problems = ["one of y_train and y_test is missing"]
    values = [each.values for each in labels if each.values is not None]
    known = classes.of_numbers(np.concatenate(values)) if len(values) == len(labels) else None
    return dataclasses.replace(found, classes=known, no_classes="; ".join(problems))


def _fitted(found: Found, shape: ImageShape, data: DataConfig, on_event: OnEvent) -> Found:
    """The same images in another shape: many are kept in the cache, a few are resized each time."""
    total = sum(len(part) for part in found.parts)
    images = (image for part in found.parts for chunk in ImageSet(part).chunks() for image in chunk)
    resized = on_all_cores(lambda image: decoding.fit(image, shape), images)
    chunks = map(np.stack, events.counted(resized, on_event, f"resizing {found.name}", total, "images"))
    channels, height, width = shape
    note = Note(f"all images were cropped, resized or converted to {height}x{width}x{channels}")
    train = len(found.parts[0]) if len(found.parts) == 2 else None
    if total <= RESIZED_EACH_TIME and total * channels * height * width <= dataset.RESIDENT_BYTES:
        array = np.concatenate(list(chunks))
        parts = (array,) if train is None else (array[:train], array[train:])
        return dataclasses.replace(found, parts=parts, notes=(*found.notes, note), summary=None)
    place, name = _new_cache(data), cache.entry_name("fitted", found.version, shape)
    prepared = place.open(name) or place.make(name, located(data.source), chunks, lambda: (note,), train=train)
    fitted = prepared.found(found.name, found.notes)
    return dataclasses.replace(
        found, parts=fitted.parts, version=fitted.version, notes=fitted.notes, summary=fitted.summary
    )
