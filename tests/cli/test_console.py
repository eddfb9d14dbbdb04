"""What people see and machines read: notes, warnings, progress, JSON, errors."""

from __future__ import annotations

import json

import pytest

from vaecli.cli import console
from vaecli.cli.console import Console
from vaecli.errors import UsageError
from vaecli.events import Note, Progress


def test_notes_go_to_stderr_and_not_where_they_are_unwanted(capsys: pytest.CaptureFixture[str]) -> None:
    Console().report(Note("`latent_dim` 20 would suffice"))
    Console(quiet=True).report(Note("not wanted"))
    Console(quiet=True).report(Note("look out", warning=True))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "--latent-dim 20 would suffice\nwarning: look out\n"


def test_progress_is_silent_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for done in (0, 5, 10):
        Console().report(Progress("reading", done, 10, "pictures"))
    assert capsys.readouterr() == ("", "")


def test_characters_that_control_a_terminal_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    Console().note("evil\x1b[31m\nerror: not real")
    Console().messages.table("t", ("a", "b"), [("x\x1b]0;title\x07", "y")])
    Console().result.facts("f", [("name\r", "fact\x9b")])
    console.show_error(UsageError("a\x1b[2Jb", "c\nd"), json=False)
    captured = capsys.readouterr()
    assert captured.out == "f\nname?  fact?\n\n"
    assert captured.err.splitlines() == [
        "evil?[31m?error: not real",
        "t: x?]0;title?: b y",
        "error: a?[2Jb",
        "hint: c d",
    ]


def test_an_error_is_two_lines_and_with_json_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_error(UsageError("`seed` -1: too small", "take 0 or more"), json=True)
    captured = capsys.readouterr()
    assert captured.err == "error: --seed -1: too small\nhint: take 0 or more\n"
    assert json.loads(captured.out) == {"error": "--seed -1: too small", "hint": "take 0 or more", "exit_code": 2}


def test_work_is_announced_before_it_begins(capsys: pytest.CaptureFixture[str]) -> None:
    with Console().waiting("exporting"):
        assert capsys.readouterr().err == "exporting\n"
    with Console(quiet=True).waiting("exporting"):
        assert capsys.readouterr().err == ""


def test_with_json_stdout_has_json_alone(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(json=True)
    console.result.line("for people")
    console.result.table("t", ("a", "b"), [("c", "d")])
    console.result.facts("f", [("a", "b")])
    console.emit({"a": 1})
    assert capsys.readouterr() == ('{"a":1}\n', "")
