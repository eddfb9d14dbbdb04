"""What people see and machines read: notes, warnings, progress, JSON, errors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.command_line import PROJECT, vae, vae_process
from tests.terminal import on_terminal, vae_on_terminal
from vaecli import console
from vaecli.console import Console
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


def test_a_result_is_aligned_on_stdout_also_where_notes_are_unwanted(capsys: pytest.CaptureFixture[str]) -> None:
    Console(quiet=True).result.table("sets", ("name", "train"), [("a", "4,500"), ("longer", "1")])
    Console(quiet=True).result.facts("", [("shape", "1x8x8"), ("on", ["this", "and that"])])
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines() == [
        "sets", "name    train", "a       4,500", "longer      1", "", "shape  1x8x8", "on     this; and that",
    ]  # fmt: skip


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


@pytest.mark.parametrize("columns", [60, 80])
def test_long_messages_break_between_words_on_a_terminal(columns: int) -> None:
    command = ("data", "--data-dir", " ".join(30 * ["folder"]))
    seen = vae_on_terminal(*command, columns=columns, env={"NO_COLOR": "1"})
    lines = seen.screen.splitlines()
    assert max(map(len, lines)) <= columns
    assert len(lines) > 2
    assert " ".join(lines) == " ".join(vae(*command).err.splitlines()), "no word is broken"


def test_a_tables_title_may_be_wider_than_the_table() -> None:
    program = (
        "from vaecli.console import Console; Console().messages.table('a title of words', ('a', 'b'), [('c', 'd')])"
    )
    seen = on_terminal("-c", program, columns=80)
    assert "a title of words" in seen.screen, "not broken to the width of the table"


def test_a_table_that_is_too_wide_for_the_terminal_breaks_inside_no_word() -> None:
    program = (
        "from vaecli.console import Console; Console().messages.table('runs', ('run', 'likelihood', 'nats'), "
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


TRAINING = """
import sys
import time
from vaecli.console import Console, TrainingView
from vaecli.events import EpochMetrics, Losses, Note, Step, TrainingDone, TrainingStarted
view = TrainingView(Console())
time.sleep(0.3)
view(Note("recipe tutorial"))
view(TrainingStarted(
    run="my runs/a", data="d", train=100, held_out=10, validation=0, image_shape=(1, 8, 8), value_range=(0, 255),
    parameters=1, latent_dim=2, device="cpu", precision="float32", path="autograd", seed=1, epochs=int(sys.argv[1]),
    resumed_after=0, images_in_epoch=100,
))
view(Note("few pictures"))
losses = Losses(loss=90.0, reconstruction=80.0, kl=10.0)
for epoch in range(1, 26):
    view(Step(epoch, 50))
    if epoch == 2:
        time.sleep(0.3)
        view(Step(epoch, 60))
        time.sleep(0.3)
    view(EpochMetrics(
        epoch=epoch, seconds=1, images_per_second=100, train=losses, held_out=losses, active_units=2,
    ))
view(TrainingDone(
    run="my runs/a", epochs=25, best_epoch=3, best_loss=90.0, chosen_by="held-out", seconds=1, device="cpu",
    precision="float32", seed=1,
))
"""


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("epochs", [25, 1000])
def test_a_training_on_a_terminal(columns: int, epochs: int) -> None:
    seen = on_terminal("-c", TRAINING, str(epochs), columns=columns, lines=14, env={"NO_COLOR": "1"})
    assert seen.code == 0, seen.screen
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.screen)
    lines = re.split(r"[\r\n]+", screen)
    assert max(map(len, lines)) <= columns
    assert "reading pictures, importing PyTorch" in screen[: screen.index("recipe tutorial")], "a sign of life first"
    assert any(re.match(rf"epoch 2/{epochs}, loss 90\.00 .*\d:\d\d", line) for line in lines), (
        "the bar of the whole training"
    )
    lines = [line for line in lines if not re.match(r"epoch \d", line)]  # without the bar
    heads = [index for index, line in enumerate(lines) if line.split()[:2] == ["epoch", "loss"]]
    assert lines.index("few pictures") < heads[0], "notes do not interrupt the table"
    assert all(line.endswith(" 100") for line in lines if f"/{epochs} " in line), "nothing is cut off"
    assert len(heads) == 3, "the head comes again while a long table scrolls by"
    for head in heads:
        assert "training" in lines[head - 1]
        assert "held out" in lines[head - 1]
        row = next(line for line in lines[head:] if re.match(rf" *\d+/{epochs} ", line))
        assert len(row) == len(lines[head]), "figures stand under their heads"
    assert "next: vae export --run 'my runs/a'" in lines


def test_the_first_line_of_a_training_needs_no_torch(tmp_path: Path) -> None:
    for name in ("torch", "numpy", "PIL"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('imported')")
    env = {"PYTHONPATH": f"{tmp_path}:{PROJECT}"}
    assert vae_process("train", env=env, cwd=tmp_path).err.splitlines()[0] == "reading pictures, importing PyTorch"
