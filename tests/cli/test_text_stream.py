"""Text and tables on a terminal of any width, and where there is no terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import vae
from tests.terminal import on_terminal, vae_on_terminal
from vaecli.cli.console import Console


def test_a_result_is_aligned_on_stdout_also_where_notes_are_unwanted(capsys: pytest.CaptureFixture[str]) -> None:
    Console(quiet=True).result.table("sets", ("name", "train"), [("a", "4,500"), ("longer", "1")])
    Console(quiet=True).result.facts("", [("shape", "1x8x8"), ("on", ["this", "and that"])])
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines() == [
        "sets", "name    train", "a       4,500", "longer      1", "", "shape  1x8x8", "on     this; and that",
    ]  # fmt: skip


@pytest.mark.parametrize("columns", [60, 80])
def test_long_messages_break_between_words_on_a_terminal(columns: int) -> None:
    command = ("info", " ".join(30 * ["folder"]))
    seen = vae_on_terminal(*command, columns=columns, env={"NO_COLOR": "1"})
    lines = seen.screen.splitlines()
    assert max(map(len, lines)) <= columns
    assert len(lines) > 2
    assert " ".join(lines) == " ".join(vae(*command).err.splitlines()), "no word is broken"


def test_a_tables_title_may_be_wider_than_the_table() -> None:
    program = (
        "from vaecli.cli.console import Console; Console().messages.table('a title of words', ('a', 'b'), [('c', 'd')])"
    )
    seen = on_terminal("-c", program, columns=80)
    assert "a title of words" in seen.screen, "not broken to the width of the table"


def test_a_table_that_is_too_wide_for_the_terminal_breaks_inside_no_word() -> None:
    program = (
        "from vaecli.cli.console import Console; Console().messages.table('runs', ('run', 'likelihood', 'nats'), "
        "[('runs/the-name-of-a-run', 'logistic-mixture', '36217.57'), ('runs/b', '', '1.50')])"
    )
    wide = [line.split() for line in on_terminal("-c", program, columns=60).screen.splitlines()]
    assert ["runs/the-name-of-a-run", "logistic-mixture", "36217.57"] in wide
    narrow = on_terminal("-c", program, columns=40, env={"NO_COLOR": "1"}).screen
    lines = [line.rstrip() for line in narrow.splitlines()[1:]]
    assert lines == [
        "runs/the-name-of-a-run",
        "  likelihood logistic-mixture, nats",
        "  36217.57",
        "runs/b",
        "  nats 1.50",
    ]


@pytest.mark.parametrize(("columns", "env"), [(0, {}), (60, {"COLUMNS": "many"}), (60, {"COLUMNS": "0"})])
def test_a_terminal_whose_width_is_not_known(columns: int, env: dict[str, str]) -> None:
    seen = vae_on_terminal("info", "nowhere", columns=columns, env={**env, "NO_COLOR": "1"})
    assert (seen.code, seen.screen.splitlines()[0]) == (1, "error: nowhere: no such file or folder"), seen.screen


def test_a_result_is_drawn_where_columns_is_zero(grey: Path) -> None:
    seen = vae_on_terminal("info", grey, columns=60, env={"COLUMNS": "0", "NO_COLOR": "1"}, piped=False)
    assert "latent" in seen.screen


def test_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    Console().messages.rich.print(":cat:.png", markup=False)
    assert capsys.readouterr().err == ":cat:.png\n"
