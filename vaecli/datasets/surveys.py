"""What the pictures of a source are like, from some of them, before they are loaded."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vaecli.config import DataConfig
from vaecli.datasets import builtin
from vaecli.datasets.catalogue import NAMED
from vaecli.datasets.dataset import spread
from vaecli.datasets.source import Array, BuiltIn, Folder, Named, Shards, classify
from vaecli.errors import VaeError
from vaecli.model_format import MAX_PIXEL, ImageShape
from vaecli.pictures import arrays, decoding
from vaecli.pictures.arrays import Pixels
from vaecli.pictures.folders import find_pictures
from vaecli.pictures.reader import on_all_cores
from vaecli.pictures.shards import count_pictures, no_picture_in, read_shard, size_in_tar

SURVEYED = 1000  # pictures of a folder that are looked at before it is read
DECODED = 100  # pictures whose values are looked at
NEARLY = 25  # 8-bit steps from black and from white: values in between are shades of grey


@dataclass(frozen=True)
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
    match classify(data.source):
        case BuiltIn():
            return Survey(10 * builtin.PER_DIGIT, (1, builtin.SIDE, builtin.SIDE), one_size=True)
        case Named(name):
            known = NAMED[name]
            return Survey(known.train + known.held_out, known.shape, one_size=True)
        case Shards(places):
            return _of_shards(places)
        case Folder(path):
            return _of_folder(path)
        case Array(path):
            count, height, width, channels = arrays.open_array(path, data.source).shape
            return Survey(count, (channels, height, width), one_size=True)


def grey_share(data: DataConfig) -> float:
    """The share of the values of some pictures that are shades of grey, neither nearly black nor nearly white.

    Strokes on a plain ground have few, photographs have many. Of named data sets it is 0: they are not looked at.
    Raises VaeError as `survey`.
    """
    match classify(data.source):
        case BuiltIn() | Named():
            return 0.0
        case Shards(places):
            some = [_decoded(io.BytesIO(picture.content)) for picture in islice(read_shard(places[0]), DECODED)]
        case Folder(path):
            files = find_pictures(path)
            some = [_decoded(files[row]) for row in spread(DECODED, len(files))]
        case Array(path):
            array = arrays.open_array(path, data.source)
            rows = np.ascontiguousarray(array[spread(DECODED, len(array))])
            some = [rows] if rows.dtype == np.uint8 else list(arrays.byte_chunks(rows, data.source))
    values = np.concatenate([pixels.ravel() for pixels in some if pixels is not None] or [np.zeros(1, np.uint8)])
    return float(((values > NEARLY) & (values < MAX_PIXEL - NEARLY)).mean())


def _decoded(source: Path | BinaryIO) -> Pixels | None:
    """One picture; None where it cannot be read, which loading them reports."""
    try:
        return decoding.read_picture(source, "")
    except VaeError:
        return None


def _of_folder(path: Path) -> Survey:
    files = find_pictures(path)
    surveyed = on_all_cores(decoding.shape_of, [files[row] for row in spread(SURVEYED, len(files))])
    return _of_shapes([shape for chunk in surveyed for shape in chunk], len(files))


def _of_shards(shards: Sequence[str]) -> Survey:
    """What the first pictures in shards are like. How many there are is estimated from the first one."""
    shapes, size = list[tuple[int, int, int] | None](), 0
    with decoding.quiet_pillow():
        for picture in islice(read_shard(shards[0]), SURVEYED):
            shapes.append(decoding.shape_of(io.BytesIO(picture.content)))
            size += size_in_tar(picture)
    if not shapes:
        raise no_picture_in(shards[0])
    all_read = len(shapes) < SURVEYED
    count = len(shapes) if all_read else count_pictures(shards[0], len(shapes), size)
    return _of_shapes(shapes, count * len(shards))


def _of_shapes(found: Iterable[tuple[int, ...] | None], count: int) -> Survey:
    """What some of `count` pictures are like: the (h, w, c) of each, None where it cannot be read."""
    shapes = {shape for shape in found if shape is not None}
    if not shapes:
        return Survey(count, (1, 1, 1), one_size=False, one_kind=False)  # loading them says what is wrong
    height, width, channels = (max(side) for side in zip(*shapes, strict=True))
    one_size, one_kind = len({shape[:2] for shape in shapes}) == 1, len({shape[2] for shape in shapes}) == 1
    return Survey(count, (channels, height, width), one_size, one_kind)
