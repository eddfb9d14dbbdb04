"""stdout and stderr that are closed, full or not read: the work is done, and the exit code is that of Unix's tools."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import PROJECT
from vaecli import streams

CLOSED = "error: stdout: is closed\nhint: reopen it, or redirect it to a file\n"
FULL = "error: stdout: no room left to write it\nhint: free some disk space, or write to another disk\n"


def in_shell(command: str, redirection: str, folder: Path, before: str = "") -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command in a shell, where they are redirected. `before` is for the shell."""
    done = subprocess.run(
        ["bash", "-c", f'{before}"$0" -m vaecli {command} {redirection}', sys.executable],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("redirection", "told"), [(">&-", CLOSED), (">/dev/full", FULL), ("<&- >&- 2>&-", "")])
@pytest.mark.parametrize("command", ["--version", "info ."])
def test_a_report_that_cannot_be_written_is_a_failure(grey: Path, command: str, redirection: str, told: str) -> None:
    assert in_shell(command, redirection, grey) == (1, "", told)


@pytest.mark.parametrize(("redirection", "told"), [(">&-", CLOSED), (">/dev/full", FULL)])
def test_completions_that_cannot_be_written_are_an_error(redirection: str, told: str, tmp_path: Path) -> None:
    stays = "; exit $?"  # bash, whose name it looks for, would else become the command
    assert in_shell("--show-completion", redirection + stays, tmp_path) == (1, "", told)


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full", "2>&-", "2>/dev/full", "<&- >&- 2>&-", "2>&1 | true"])
def test_who_writes_nothing_to_stdout_needs_none_and_notes_are_not_needed(
    grey: Path, tmp_path: Path, redirection: str
) -> None:
    code, out, err = in_shell(f"sample --run {grey} --seed 1 -o a.png", redirection, tmp_path)
    assert (code, out) == (0, ""), err
    assert "Traceback" not in err
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_json_that_cannot_be_written_is_told_once_the_work_is_done(grey: Path, tmp_path: Path) -> None:
    code, out, err = in_shell(f"sample --run {grey} --seed 1 -o a.png --json", ">/dev/full", tmp_path)
    assert (code, out) == (1, "")
    assert err.splitlines()[1].startswith("wrote a.png")
    assert err.endswith(FULL)


def test_a_training_goes_on_where_its_events_cannot_be_written(blobs: Path, tmp_path: Path) -> None:
    settings = "--epochs 2 --hidden 16 --latent-dim 3 --device cpu --json"
    code, _, err = in_shell(f"train --data {blobs} --run run {settings}", ">/dev/full", tmp_path)
    assert code == 1
    assert err.endswith(FULL)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2


def test_without_stderr_stdout_has_the_result_alone(grey: Path, tmp_path: Path) -> None:
    code, out, _ = in_shell(f"sample --run {grey} --seed 1 -o a.png --json", "2>&-", tmp_path)
    assert code == 0
    assert out.startswith('{"output":"a.png"')
    assert out.count("\n") == 1


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", ">&- 2>&-", ">/dev/full"])
def test_an_error_keeps_its_exit_code(redirection: str, tmp_path: Path) -> None:
    assert in_shell("sample --run none -o a.svg", redirection, tmp_path)[0] == 2


def test_what_the_encoding_of_a_stream_lacks_is_spelled_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert "error: Gr\\xf6\\xdfe: no such file" in in_shell("info Größe", "", tmp_path)[2]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_json_is_valid_in_every_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    out = in_shell("info é😀 --json", "", tmp_path)[1]
    assert out.isascii()
    assert json.loads(out)["error"] == "é😀: no such file or folder"


def test_bytes_on_stdout(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with streams.binary_output() as stream:
        stream.write(b"\x00\xff")
    assert capsysbinary.readouterr().out == b"\x00\xff"


def _write_to_stdout(redirection: str) -> str:
    """What is raised, and what else is on stderr, where a process writes a megabyte to a stdout of some kind."""
    script = (
        "import sys\n"
        "from vaecli import errors, streams\n"
        "try:\n"
        "    with streams.binary_output() as stream:\n"
        "        for _ in range(1000): stream.write(bytes(1000))\n"
        "except errors.VaeError as error: sys.stderr.write(f'{error.message}, exit code {error.exit_code}')\n"
    )
    command = f'"{sys.executable}" -c "$0" {redirection}'
    done = subprocess.run(
        ["bash", "-c", command, script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    return done.stderr


def test_a_stdout_whose_reader_has_left_is_no_failure() -> None:
    assert _write_to_stdout("| true") == "stdout: its reader has left, exit code 0"


def test_what_others_write_to_stderr_is_shown_while_a_library_is_silenced() -> None:
    script = (
        "import os, sys\n"
        "from vaecli import streams\n"
        "streams.prepare()\n"
        "with open(os.devnull, 'wb') as nowhere, streams.diverted(nowhere.fileno()):\n"
        "    os.write(2, b'of a library')\n"
        "    print('ours', file=sys.stderr, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(PROJECT)}
    )
    assert done.stderr == b"ours\n"


def test_a_stdout_on_a_full_disk_is_one_error() -> None:
    assert _write_to_stdout("> /dev/full") == "stdout: no room left to write it, exit code 1"


@pytest.mark.parametrize("unbuffered", ["", "1"])  # as PYTHONUNBUFFERED, which images of containers set
def test_a_stdout_that_takes_a_part_of_a_picture_is_an_error(
    grey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unbuffered: str
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    command = f"sample --run {grey} --n 4 --scale 32 --seed 1 -q -o -"
    code, _, err = in_shell(command, '>"$PWD/a.png"', tmp_path, before="ulimit -f 1; ")
    assert (code, err) == (1, FULL)


def test_an_unbuffered_stdout_has_each_line_at_once() -> None:
    script = "from vaecli import streams; import os; streams.prepare(); print('a line'); os._exit(0)"
    done = subprocess.run(
        [sys.executable, "-u", "-c", script],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    assert done.stdout == b"a line\n"


def test_an_error_about_another_file_is_not_one_about_stdout(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), streams.binary_output():
        (tmp_path / "none").read_bytes()
