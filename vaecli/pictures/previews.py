"""Small pictures that a training leaves to be looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaecli import files
from vaecli.pictures.grid import Grid, lay_out
from vaecli.pictures.writing import encode


def save_grid(images: NDArray[np.uint8], path: Path) -> None:
    """Save (n, h, w, c) as one PNG, nearly square. Raises VaeError where it cannot be written."""
    n, height, width, channels = images.shape
    grid = Grid(lay_out(n, (channels, height, width)), channels)
    grid.put(images)
    files.make_folder(path.parent)
    files.write_bytes(path, encode(grid.canvas, "PNG"))
