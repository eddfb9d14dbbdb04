"""Grids: where each picture stands, and how large it becomes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vaecli.errors import UsageError
from vaecli.pictures.grid import BACKGROUND, EASY_TO_SEE, LARGEST_AREA, Grid, enlarge, in_pairs, lay_out

Pixels = NDArray[np.uint8]


def numbered(n: int, *shape: int) -> Pixels:
    """Pictures of one value each: 1, 2, 3 …"""
    return np.stack([np.full(shape, number + 1, np.uint8) for number in range(n)])


def drawn(images: Pixels, **layout: Any) -> Pixels:
    n, height, width, channels = images.shape
    grid = Grid(lay_out(n, (channels, height, width), **layout), channels)
    grid.put(images)
    return grid.canvas


def cells(canvas: Pixels) -> list[list[int]]:
    """The values of a grid of one-valued pictures, row by row, without what lies between them."""
    plain = canvas[..., 0].astype(int)
    rows = [row[row != BACKGROUND] for row in plain if (row != BACKGROUND).any()]
    return [list(dict.fromkeys(row.tolist())) for row in list({row.tobytes(): row for row in rows}.values())]


def test_pictures_stand_in_reading_order() -> None:
    assert cells(drawn(numbered(6, 3, 2, 1), columns=3)) == [[1, 2, 3], [4, 5, 6]]


def test_the_last_row_may_be_short() -> None:
    assert cells(drawn(numbered(5, 2, 2, 1), columns=3)) == [[1, 2, 3], [4, 5]]


def test_stacked_pictures_stand_under_each_other() -> None:
    """1 above 2, 3 above 4, 5 above 6; then the next row of groups."""
    canvas = drawn(numbered(10, 2, 2, 1), columns=3, stacked=2, scale=1)
    assert cells(canvas) == [[1, 3, 5], [2, 4, 6], [7, 9], [8, 10]]
    gaps = np.diff(np.flatnonzero(canvas[:, 0, 0] != BACKGROUND))
    assert gaps.max() > sorted(set(gaps.tolist()))[1]  # groups lie further apart than what belongs together


@pytest.mark.parametrize(
    ("n", "shape", "columns"), [(1, (1, 28, 28), 1), (9, (1, 28, 28), 3), (10, (1, 28, 28), 4), (8, (3, 10, 20), 2)]
)
def test_a_grid_is_nearly_square(n: int, shape: tuple[int, int, int], columns: int) -> None:
    assert lay_out(n, shape).columns == columns


def test_rows_of_pairs_are_of_equal_length_where_they_can_be() -> None:
    assert [lay_out(2 * pairs, (3, 64, 64), stacked=2).columns for pairs in (1, 2, 3, 4, 6, 9)] == [1, 2, 3, 2, 3, 5]


def test_columns_are_never_more_than_the_pictures() -> None:
    layout = lay_out(3, (1, 8, 8), columns=10, scale=1)
    assert (layout.columns, layout.width) == (3, 3 * 8 + 2 * 2)


@pytest.mark.parametrize("n", [1, 4, 9, 20, 100])
def test_a_grid_of_digits_is_easy_to_see(n: int) -> None:
    layout = lay_out(n, (1, 28, 28))
    assert EASY_TO_SEE * 0.7 < max(layout.width, layout.height) < EASY_TO_SEE * 1.4


def test_large_pictures_are_never_made_smaller() -> None:
    layout = lay_out(9, (3, 1024, 1024))
    assert layout.scale == 1
    assert layout.width > 3 * 1024


def test_one_picture_alone_has_no_frame() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 5, 4, 3), np.uint8)
    assert np.array_equal(drawn(image, scale=1), image[0])
    assert np.array_equal(drawn(image, scale=3)[::3, ::3], image[0])


def test_enlarging_makes_squares_of_pixels() -> None:
    image = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    assert np.array_equal(enlarge(image, 4), np.kron(image, np.ones((4, 4, 1), np.uint8)))


def test_a_grid_that_nothing_would_open_is_refused() -> None:
    lay_out(10_000, (1, 28, 28))
    with pytest.raises(UsageError, match="more than 67 million") as caught:
        lay_out(1_000_000, (1, 28, 28))
    assert ".npy" in caught.value.hint
    with pytest.raises(UsageError):
        lay_out(1, (1, 1024, 1024), scale=64)
    assert lay_out(1, (1, 8192, 8192)).width ** 2 == LARGEST_AREA


def test_pairs_alternate() -> None:
    numbers = numbered(6, 2, 3, 1)
    assert in_pairs(numbers[:3], numbers[3:])[:, 0, 0, 0].tolist() == [1, 4, 2, 5, 3, 6]
