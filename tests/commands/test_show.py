"""`--show`: the picture of sample, reconstruct, interpolate and traverse, drawn in the terminal they run in."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import assert_refused, vae
from tests.terminal import vae_on_terminal

COMMANDS = ["sample", "reconstruct", "interpolate", "traverse"]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals of this kind")


def test_what_is_shown_is_what_would_be_written(grey: Path, tmp_path: Path) -> None:
    """The grid of a picture file, each 8x8 picture four times enlarged."""
    assert vae("sample", "--run", grey, "--n", "3", "--seed", "5", "-o", tmp_path / "o.npy").code == 0
    seen = vae_on_terminal("sample", "--run", grey, "--n", "3", "--seed", "5", "--show", columns=120, lines=40)
    assert (seen.code, seen.stdout) == (0, "")
    picture = seen.picture[:, :, 0]
    assert picture.shape[1] == 2 * 33 - 1
    corners = ((0, 0), (0, 33), (33, 0))
    shown = np.stack([picture[top : top + 32 : 4, left : left + 32 : 4] for top, left in corners])
    assert np.array_equal(shown, np.load(tmp_path / "o.npy"))
    assert [path.name for path in tmp_path.iterdir()] == ["o.npy"]


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_written(command: str, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen = vae_on_terminal(command, "--run", digits, "--show", "--json", columns=60)
    record = json.loads(seen.stdout)
    assert seen.code == 0
    assert record["output"] is None
    assert record["shown"] >= 6
    assert seen.picture.shape[1] <= 60
    assert list(tmp_path.iterdir()) == []


def test_shown_and_written(grey: Path, tmp_path: Path) -> None:
    seen = vae_on_terminal("sample", "--run", grey, "--n", "3", "--seed", "5", "--show", "-o", tmp_path / "o.npy")
    assert seen.code == 0
    assert np.load(tmp_path / "o.npy").shape == (3, 8, 8)
    assert seen.picture.size
    assert f"wrote {tmp_path}/o.npy" in seen.screen.replace("\n", "")


def test_quiet_still_shows(grey: Path) -> None:
    seen = vae_on_terminal("sample", "--run", grey, "--show", "--quiet")
    assert seen.code == 0
    assert seen.picture.shape[0] == 2 * len(seen.screen.splitlines())


def test_no_color_is_honoured(grey: Path) -> None:
    seen = vae_on_terminal("sample", "--run", grey, "--show", "--quiet", env={"NO_COLOR": "1"})
    assert seen.code == 0
    assert "\x1b" not in seen.screen
    assert set(seen.screen) <= set(" ░▒▓█\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_off_a_terminal_there_is_nothing_to_draw_on(command: str, digits: Path) -> None:
    assert_refused(vae(command, "--run", digits, "--show"), 2, "--show", "not a terminal", "--output")


@pytest.mark.parametrize("command", COMMANDS)
def test_neither_shown_nor_written(command: str, digits: Path) -> None:
    assert_refused(vae(command, "--run", digits), 2, "--output", "--show")


def test_a_type_without_a_file(grey: Path) -> None:
    assert_refused(vae("sample", "--run", grey, "--show", "--dtype", "float32"), 2, "--dtype", "nothing is written")


def test_too_many_columns(grey: Path) -> None:
    seen = vae_on_terminal("sample", "--run", grey, "--n", "90", "--columns", "60", "--show", columns=60)
    assert seen.code == 2
    assert "60 pictures do not fit" in " ".join(seen.screen.split())


@pytest.mark.parametrize("columns", [60, 200])
def test_a_traversal_keeps_its_rows_on_any_terminal(digits: Path, columns: int) -> None:
    seen = vae_on_terminal("traverse", "--run", digits, "--show", "--json", columns=columns)
    assert json.loads(seen.stdout)["steps"] == 9
    assert seen.picture.shape[1] <= columns
    asked = vae_on_terminal("traverse", "--run", digits, "--show", "--steps", "20", columns=79)
    assert asked.picture.shape[1] == 20 * 4 - 1


def test_the_terminal_shows_no_animation(digits: Path, tmp_path: Path) -> None:
    seen = vae_on_terminal("traverse", "--run", digits, "--show", "-o", tmp_path / "a.gif")
    assert seen.code == 2
    assert "animation" in seen.screen
