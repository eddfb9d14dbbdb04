"""Pictures drawn in a terminal: which pixels are seen, in which colours, and where each picture stands."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from rich.segment import Segments

from tests.terminal import pixels
from vaecli.errors import UsageError, VaeError
from vaecli.pictures import writing
from vaecli.pictures.grid import Layout
from vaecli.pictures.terminal import GAP, LEGIBLE, MOST, Screen, Shown, screen, segments

GREY = (1, 28, 28)


def console(
    width: int = 80,
    height: int = 24,
    *,
    colours: str | None = "truecolor",
    encoding: str = "utf-8",
    no_color: bool = False,
) -> Console:
    return Console(
        file=io.TextIOWrapper(io.BytesIO(), encoding, newline=""),
        width=width,
        height=height,
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
    picture[4:8, 10:40] = picture[4, 10]  # neighbours alike are drawn as one
    assert np.array_equal(pixels(drawn(picture, console())), np.broadcast_to(picture, (12, 80, 3)))


def test_of_an_odd_height_the_last_row_fills_its_line() -> None:
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
def test_without_colours_the_brighter_is_the_fuller(on: Console) -> None:
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


def size(layout: Layout) -> tuple[int, int]:
    """Characters across and lines down."""
    return layout.width, (layout.height + 1) // 2


@pytest.mark.parametrize("width", [20, 60, 80, 133, 250])
@pytest.mark.parametrize("n", [1, 2, 9, 20, 1000])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 48), (1, 8, 8), (3, 20, 200), (3, 256, 256)])
def test_never_wider_than_the_terminal(width: int, n: int, shape: tuple[int, int, int]) -> None:
    layout = Screen(console(width)).lay_out(n, shape)
    assert layout.width <= width
    assert layout.n == min(n, MOST)
    assert layout.columns * layout.rows >= layout.n


@pytest.mark.parametrize("window", [(80, 24), (60, 30), (120, 40), (200, 60)])
def test_nine_digits_are_on_one_screen_and_legible(window: tuple[int, int]) -> None:
    layout = Screen(console(*window)).lay_out(9, GREY)
    across, down = size(layout)
    assert across <= window[0]
    assert down <= window[1] - 2
    assert layout.picture_height >= LEGIBLE


def test_pictures_are_never_larger_than_they_are() -> None:
    layout = Screen(console(400, 100)).lay_out(4, GREY)
    assert (layout.picture_height, layout.picture_width) == (28, 28)


def test_small_pictures_are_enlarged() -> None:
    layout = Screen(console()).lay_out(1, (1, 8, 8))
    assert (layout.picture_height, layout.picture_width) == (32, 32)


def test_many_pictures_scroll_and_stay_legible() -> None:
    layout = Screen(console(80, 24)).lay_out(80, GREY)
    assert layout.picture_width >= LEGIBLE
    assert size(layout)[1] > 24
    assert layout.columns == (80 + GAP) // (LEGIBLE + GAP)


def test_pairs_stay_together() -> None:
    layout = Screen(console(60, 30)).lay_out(40, GREY, stacked=2)
    assert layout.n == 40
    (top, left), (below, under) = layout.corner(0), layout.corner(1)
    assert (below, under) == (top + layout.picture_height + GAP, left)


def test_a_row_as_the_command_means_it_where_it_is_legible() -> None:
    assert Screen(console(200, 50)).lay_out(18, GREY, columns=9).columns == 9
    assert Screen(console(60, 50)).lay_out(18, GREY, columns=9).columns < 9


def test_columns_that_were_asked_for_hold() -> None:
    assert Screen(console(60, 50), columns=9).lay_out(18, GREY).columns == 9
    with pytest.raises(UsageError, match="50 pictures do not fit into 60"):
        Screen(console(60, 50), columns=50).lay_out(100, GREY)


def test_of_many_rows_whole_ones_are_shown() -> None:
    assert Screen(console(60, 50), columns=9).lay_out(180, GREY).n == 99
    assert Screen(console(300, 50), columns=120).lay_out(240, GREY).n == 120


def test_scale_is_how_many_pixels_a_pixel_becomes() -> None:
    on = console(80, 40)
    picture = noise(1, 8, 8, 1)
    with Screen(on, scale=2).open(1, (1, 8, 8)) as drawing:
        drawing.write(picture)
    assert np.array_equal(pixels(written(on))[::2, ::2, :1], picture[0])


def test_floats_and_bytes_look_the_same() -> None:
    picture, seen = noise(2, 28, 28, 1), []
    for images in (picture, picture / np.float32(255)):
        on = console(100, 40)
        with Screen(on).open(2, GREY) as drawing:
            drawing.write(images[:1])
            drawing.write(images[1:])
        seen.append(written(on))
    assert seen[0] == seen[1]
    assert np.array_equal(pixels(seen[0])[:, :28, 0], picture[0, :, :, 0])
    assert np.array_equal(pixels(seen[0])[:, 28 + GAP :, 0], picture[1, :, :, 0])


def test_of_many_the_first_are_shown() -> None:
    on = console(80, 24)
    with Screen(on).open(10_000, (1, 2, 2)) as drawing:
        for _ in range(100):
            drawing.write(noise(100, 2, 2, 1))
    assert drawing.facts == {"shown": MOST}
    assert drawing.said() == f"the first {MOST} of 10,000 are shown"


def test_nothing_is_drawn_where_the_file_cannot_be_written(tmp_path: Path) -> None:
    on = console()
    shown = Shown(Screen(on), writing.output(str(tmp_path / "none" / "a.png")))
    with pytest.raises(VaeError, match=r"a\.png"), shown.open(1, GREY):
        pass
    assert written(on) == ""


def test_no_terminal_no_screen() -> None:
    with pytest.raises(UsageError, match="stderr is not a terminal"):
        screen(console())
