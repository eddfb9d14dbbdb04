"""Shards of small pictures, and a folder of pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pictures.packing import tar
from vaecli.pictures.writing import encode

MakeShards = Callable[..., list[Path]]


@pytest.fixture
def make_shards(tmp_path: Path) -> MakeShards:
    """A folder `shards/` of .tar files of 8x8 pictures, all different, with names from 0000.png on."""

    def make(shards: int = 3, each: int = 5) -> list[Path]:
        (tmp_path / "shards").mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (shards * each, 8, 8, 1), np.uint8)
        names = [f"{row:04}.png" for row in range(len(pixels))]
        parts = [range(start, start + each) for start in range(0, len(pixels), each)]
        return [
            tar(tmp_path / f"shards/{number}.tar", {names[row]: encode(pixels[row], "png") for row in part})
            for number, part in enumerate(parts)
        ]

    return make


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 70 pictures, more than a block of a small job."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, pixels in enumerate(np.random.default_rng(1).integers(0, 256, (70, 8, 8), np.uint8)):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder
