"""Pictures drawn in a terminal: their pixels, their colours, and the place of each picture."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.segment import Segments

from tests.terminal import pixels
from vaecli.errors import UsageError, VaeError
from vaecli.pictures.grid import BACKGROUND, Series
from vaecli.pictures.terminal import MOST, segments
from vaecli.pictures.writing import picture_output

GREY = (1, 28, 28)


class Terminal(io.TextIOWrapper):
    """A terminal whose bytes are kept."""

    def isatty(self) -> bool:
        return True


def console(
    width: int = 80,
    *,
    colours: str | None = "truecolor",
    encoding: str = "utf-8",
    no_color: bool = False,
) -> Console:
    return Console(
        file=Terminal(io.BytesIO(), encoding, newline=""),
        width=width,
        height=24,
        color_system=colours,  # type: ignore[arg-type]  # a Literal
        force_terminal=True,
        no_color=no_color,
        legacy_windows=False,
        _environ={},
    )


def written(on: Console) -> str:
    on.file.flush()
    assert isinstance(on.file, io.TextIOWrapper)
    assert isinstance(on.file.buffer, io.BytesIO)
    return on.file.buffer.getvalue().decode(on.encoding)


def drawn(picture: NDArray[np.uint8], on: Console) -> str:
    on.print(Segments(segments(picture, on)), end="")
    return written(on)


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_pixel_is_seen_in_its_colour(channels: int) -> None:
    picture = noise(12, 80, channels)
    picture[4:8, 10:40] = picture[4, 10]  # equal neighbours are one segment
    assert np.array_equal(pixels(drawn(picture, console())), np.broadcast_to(picture, (12, 80, 3)))


def test_the_last_row_of_an_odd_height_fills_its_line() -> None:
    picture = noise(5, 7, 3)
    assert np.array_equal(pixels(drawn(picture, console())), np.concatenate([picture, picture[-1:]]))


@pytest.mark.parametrize(
    ("colours", "black", "white"), [("256", "\x1b[48;5;16m", "\x1b[48;5;231m"), ("standard", "\x1b[40m", "\x1b[107m")]
)
def test_fewer_colours(colours: str, black: str, white: str) -> None:
    dark, light = np.zeros((2, 1, 1), np.uint8), np.full((2, 1, 1), 255, np.uint8)
    assert drawn(dark, console(colours=colours)) == f"{black} \x1b[0m\n"
    assert drawn(light, console(colours=colours)) == f"{white} \x1b[0m\n"
    assert "8;2;" not in drawn(noise(8, 8, 3), console(colours=colours))


@pytest.mark.parametrize(
    "on", [console(no_color=True), console(colours=None), console(colours=None, encoding="latin-1")]
)
def test_without_colours_brighter_pixels_are_fuller_characters(on: Console) -> None:
    ramp = np.arange(256, dtype=np.uint8).repeat(2).reshape(256, 2).T[:, ::13, np.newaxis]  # (2, 20, 1)
    (line,) = drawn(ramp, on).splitlines()
    assert "\x1b" not in line
    order = " .:-=+*#%@" if on.encoding == "latin-1" else " ░▒▓█"
    levels = [order.index(character) for character in line]
    assert levels == sorted(levels)
    assert set(levels) == set(range(len(order)))


def test_without_half_blocks_a_cell_has_the_mean_colour() -> None:
    picture = np.array([[10], [30]], np.uint8)[:, :, np.newaxis]
    assert drawn(picture, console(encoding="latin-1")) == "\x1b[48;2;20;20;20m \x1b[0m\n"


@dataclass(frozen=True)
class Drawn:
    """What is seen on a terminal."""

    canvas: NDArray[np.uint8]  # (h, w, 3)
    facts: dict[str, Any]
    summary: str


def shown(images: NDArray[Any], width: int = 80, opening: dict[str, Any] | None = None, **asked: Any) -> Drawn:
    """Show images (n, h, w, c) on a terminal `width` characters wide, written in batches of 50."""
    on, (n, height, wide, channels) = console(width), images.shape
    with picture_output(None, screen=on, **asked).open(
        Series(n, (channels, height, wide), **(opening or {}))
    ) as writer:
        for start in range(0, n, 50):
            writer.write(images[start : start + 50])
    return Drawn(pixels(written(on)), writer.facts, writer.summary())


def places(canvas: NDArray[np.uint8]) -> list[list[tuple[int, int]]]:
    """(height, width) of each picture in a drawn grid of black pictures, row by row."""

    def runs(line: NDArray[np.bool_]) -> list[tuple[int, int]]:
        """Start and length of each run of True."""
        edges = np.flatnonzero(np.diff(line.astype(int), prepend=0, append=0)).tolist()
        return [(start, end - start) for start, end in zip(edges[::2], edges[1::2], strict=True)]

    dark = (canvas == 0).all(axis=2)
    rows = runs(dark[:, 0])
    height = rows[0][1]  # of the last row one more may be seen: an odd number of pixels fills its line
    return [[(height, width) for _, width in runs(dark[top])] for top, _ in rows]


def black(n: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.zeros((n, height, width, 1), np.uint8)


def test_nine_digits_are_a_square_grid_as_wide_as_the_terminal() -> None:
    grid = shown(black(9, 28, 28))
    assert places(grid.canvas) == [[(26, 26)] * 3] * 3
    assert grid.canvas.shape == (80, 80, 3)
    assert (grid.facts, grid.summary) == ({"shown": 9}, "")


@pytest.mark.parametrize("width", [20, 80, 250])
@pytest.mark.parametrize("n", [1, 20, 1000])
@pytest.mark.parametrize("shape", [(28, 28), (64, 48), (8, 8), (20, 200), (200, 20)])
def test_never_wider_than_the_terminal(width: int, n: int, shape: tuple[int, int]) -> None:
    grid = shown(black(n, *shape), width)
    assert grid.canvas.shape[1] <= width
    rows = places(grid.canvas)
    assert sum(map(len, rows)) == grid.facts["shown"] == (n if n < MOST else len(rows) * len(rows[0]))
    assert grid.facts["shown"] <= MOST


def test_the_grid_is_the_one_that_is_written(tmp_path: Path) -> None:
    images, on = noise(10, 28, 28, 1), console(400)
    with picture_output(f"{tmp_path}/a.png", scale=1, screen=on).open(Series(10, GREY, stacked=2)) as writer:
        writer.write(images)
    grid, file = pixels(written(on)), np.asarray(Image.open(tmp_path / "a.png"))
    left = [column * 29 for column in range(3)], [column * 30 for column in range(3)]
    for column, written_column in zip(*left, strict=True):  # 3 columns: gaps of 1 pixel drawn, of 2 written
        assert np.array_equal(grid[:28, column : column + 28, 0], file[:28, written_column : written_column + 28])
    assert writer.summary() == "3x4 pictures, 88x124 pixels"
    assert list(writer.facts) == ["width", "height", "columns", "scale", "shown"]


def test_pictures_that_fit_are_shown_pixel_by_pixel() -> None:
    picture = noise(2, 28, 28, 3)
    canvas = shown(picture, 57).canvas
    assert np.array_equal(canvas[:, :28], picture[0])
    assert np.array_equal(canvas[:, 29:], picture[1])
    assert (canvas[:, 28] == BACKGROUND).all()


def test_small_pictures_are_enlarged_by_whole_pixels_where_there_is_room() -> None:
    assert places(shown(black(1, 8, 8)).canvas) == [[(32, 32)]]
    assert places(shown(black(4, 8, 8), 50).canvas) == [[(24, 24)] * 2] * 2
    assert places(shown(black(4, 8, 8), 20).canvas) == [[(8, 8)] * 2] * 2


def test_pictures_are_shrunk_only_as_far_as_needed() -> None:
    assert places(shown(black(1, 100, 50)).canvas) == [[(100, 50)]]
    assert places(shown(black(1, 100, 50), 40).canvas) == [[(80, 40)]]


def test_scale_is_how_many_pixels_a_pixel_becomes() -> None:
    picture = noise(1, 8, 8, 1)
    canvas = shown(picture, scale=2).canvas
    assert canvas.shape == (16, 16, 3)
    assert np.array_equal(canvas[::2, ::2, :1], picture[0])
    assert places(shown(black(1, 8, 8), scale=64).canvas) == [[(80, 80)]]


def test_pairs_stay_together() -> None:
    images = np.stack([np.full((8, 8, 1), value, np.uint8) for value in (10, 20, 30, 40)])
    canvas = shown(images, opening={"stacked": 2, "columns": 2}, scale=1).canvas[:, :, 0]
    assert [canvas[top, left] for left in (0, 9) for top in (0, 9)] == [10, 20, 30, 40]


@pytest.mark.parametrize(
    ("asked", "opening"), [({"columns": 9}, {}), ({}, {"columns": 9}), ({"columns": 9}, {"columns": 2})]
)
def test_columns_that_were_asked_for_hold(asked: dict[str, int], opening: dict[str, int]) -> None:
    assert places(shown(black(18, 28, 28), 60, opening, **asked).canvas) == [[(5, 5)] * 9] * 2
    with pytest.raises(UsageError, match="`show`: 50 pictures do not fit into 60"):
        shown(black(100, 28, 28), 60, columns=50)


def test_pictures_without_gaps_have_none_on_the_screen() -> None:
    assert places(shown(black(4, 4, 4), 20, {"gap": 0}, scale=1).canvas) == [[(8, 8)]]


@pytest.mark.parametrize("columns", [9, 120])
def test_of_many_the_first_whole_rows_are_shown(columns: int) -> None:
    grid = shown(noise(10_000, 2, 2, 1), 300, columns=columns)
    number = {9: 99, 120: 120}[columns]
    assert grid.facts == {"shown": number}
    assert grid.summary == f"the first {number} of 10,000 are shown"


def test_floats_and_bytes_look_the_same() -> None:
    picture = noise(2, 28, 28, 1)
    assert np.array_equal(shown(picture).canvas, shown(picture / np.float32(255)).canvas)


def test_nothing_is_drawn_where_the_file_cannot_be_written(tmp_path: Path) -> None:
    on = console()
    with pytest.raises(VaeError, match=r"a\.png"):
        picture_output(str(tmp_path / "none" / "a.png"), screen=on)
    (tmp_path / "full.png").symlink_to("/dev/full")
    with (
        pytest.raises(VaeError, match="no room left"),
        picture_output(str(tmp_path / "full.png"), screen=on).open(Series(1, GREY)) as writer,
    ):
        writer.write(noise(1, 28, 28, 1))
    assert written(on) == ""


@pytest.mark.parametrize(
    ("name", "asked", "problem"),
    [
        ("a.gif", {"animates": True}, "the terminal shows no animation"),
        (None, {"dtype": "float32"}, "`dtype`: nothing is written"),
        ("a.npy", {"columns": 3}, "`columns`: a.npy has none"),
    ],
)
def test_what_cannot_be_shown_is_refused(name: str | None, asked: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        picture_output(name, screen=console(), **asked)


def test_no_terminal_no_drawing() -> None:
    with pytest.raises(UsageError, match="stderr is not a terminal"):
        picture_output(None, screen=Console(file=io.StringIO(), force_terminal=True))
