"""Loading the data sets of the catalogue from the data folder; files that are missing are downloaded once.

A folder that torchvision has filled is used as it is, and its files are never overwritten.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from vaecli.datasets import idx
from vaecli.datasets.cache import Cache, entry_name
from vaecli.datasets.catalogue import NAMED, Archives, IdxFiles, PublishedFiles
from vaecli.datasets.classes import Classes, KnownClasses, of_numbers
from vaecli.datasets.dataset import Found, ImageSet
from vaecli.datasets.published import READERS, is_published
from vaecli.errors import VaeError, file_error
from vaecli.events import Note, OnEvent
from vaecli.pictures import places


def is_here(name: str, root: Path) -> bool:
    """Whether a data set can be loaded from the data folder `root` without network."""
    files = NAMED[name].storage.files
    return all(idx.find(root / file) for file in files) or Cache(root).open(_entry_name(name)) is not None


def load(name: str, root: Path, on_event: OnEvent) -> Found:
    """The images of a data set, mapped. What is missing in the data folder `root` is downloaded into it.

    Raises:
        VaeError: the download fails; a file is damaged; torchvision is needed and not installed.
    """
    storage = NAMED[name].storage
    if not isinstance(storage, IdxFiles):
        return dataclasses.replace(_load_unpacked(name, storage, root, on_event), validation=NAMED[name].validation)
    notes: tuple[Note, ...] = ()
    if not is_here(name, root):
        from vaecli.datasets import fetching  # it loads the network's modules, which most runs do not need

        fetching.fetch_idx(name, storage, root, on_event)
        notes = (Note(f"fetched {name} into {root / storage.folder}"),)
    paths = [root / file for file in storage.files]
    parts = []
    for path in paths:
        images = idx.read(path)
        if images.ndim != 3 or images.dtype != np.uint8:
            raise VaeError(f"{path}: no images in it", "remove it; it will be fetched again")
        parts.append((images.swapaxes(1, 2) if storage.transposed else images)[..., np.newaxis])
    classes = _idx_classes(name, storage, root)
    if classes is not None and len(classes.labels) != sum(map(len, parts)):
        notes = (
            *notes,
            Note(f"{root / storage.folder} does not have as many labels as images: its classes are not known"),
        )
        classes = None
    versions = [places.version(str(idx.find(path) or path)) for path in paths]
    return Found(name, tuple(parts), versions, notes, classes=classes)


def _idx_classes(name: str, storage: IdxFiles, root: Path) -> Classes | None:
    """The classes of all images; None where their files are missing."""
    paths = [root / storage.folder / file for file in storage.labels]
    if not all(idx.find(path) for path in paths):
        return None
    columns = []
    for path in paths:
        values = idx.read(path)
        if values.ndim not in (1, 2):
            raise VaeError(f"{path}: no labels in it", "remove it; it will be fetched again")
        columns.append(values if values.ndim == 1 else values[:, 0])
    return of_numbers(np.concatenate(columns).astype(np.int64), NAMED[name].classes)


def _load_unpacked(name: str, storage: Archives | PublishedFiles, root: Path, on_event: OnEvent) -> Found:
    cache = Cache(root)
    prepared = cache.open(_entry_name(name))
    if prepared is not None:
        return prepared.found(name)
    from vaecli.datasets import fetching  # as above

    missing = not all((root / file).is_file() for file in storage.files)
    if isinstance(storage, Archives):
        train, held_out, classes = fetching.unpack(name, storage, root, on_event)
    else:
        if missing:
            fetching.fetch_published(name, storage, root, on_event)
        _check_published(storage, root)
        train, held_out, classes = READERS[name]([root / file for file in storage.files])
    notes = (Note(f"fetched {name} into {root}"),) if missing else ()
    chunks = (chunk for part in (train, held_out) for chunk in ImageSet(part).chunks())
    try:
        prepared = cache.make(_entry_name(name), name, chunks, train=len(train), classes=lambda: KnownClasses(classes))
    except VaeError as error:  # the images are there all the same
        note = Note(f"{name} is unpacked anew each time: {error.message}")
        return Found(name, (train, held_out), name, (*notes, note), classes=classes)
    return prepared.found(name, notes)


def _check_published(storage: PublishedFiles, root: Path) -> None:
    """Raise VaeError where a file is not the published one: no other is unpacked."""
    for download in storage.downloads:
        path = root / download.file
        try:
            whole = is_published(path, download.checksum)
        except OSError as error:
            raise file_error(path, error) from error
        if not whole:
            raise VaeError(f"{path}: is not the file that was published", "remove it; it will be fetched again")


def _entry_name(name: str) -> str:
    return entry_name("unpacked", name)
