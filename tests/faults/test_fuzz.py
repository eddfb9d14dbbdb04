"""A short pass of the fuzz bench, what it has found before, and that it finds what it looks for."""

from __future__ import annotations

import shutil
import sys
import time
import warnings
from pathlib import Path

import pytest

from tests.command_line import Result
from tests.faults import fuzz
from tests.faults.formats import Format, all_formats

FOUND = sorted((Path(__file__).parent / "found").iterdir())
CASES = 200

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured through /proc")


@pytest.fixture(scope="session")
def bench(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `fuzz.prepare` makes."""
    base = tmp_path_factory.mktemp("fuzz")
    shutil.copytree(trained, base / "run")
    return base


@pytest.fixture(scope="session")
def formats(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Format]:
    return {one.name: one for one in all_formats(tmp_path_factory.mktemp("formats"), bench / "run")}


@pytest.mark.slow
def test_damaged_files_end_as_the_specification_says(bench: Path) -> None:
    ends = list(fuzz.fuzz(0, 0, CASES, bench, until=time.monotonic() + 600))
    assert [(one.number, one.name, one.faults) for one in ends if isinstance(one, fuzz.Finding)] == []
    codes = [one for one in ends if isinstance(one, int)]
    assert len(codes) > 0.9 * CASES  # slow formats have fewer turns
    assert {0, 1} <= set(codes)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.name)
def test_what_was_found_is_mended(
    path: Path, formats: dict[str, Format], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file's name is that of its format, and what was wrong."""
    kind = formats[path.name.partition("--")[0].replace("_", " ")]
    with warnings.catch_warnings(action="error"):
        for number, command in enumerate(kind.commands):
            case = fuzz.Case(kind, path.read_bytes(), command)
            result, made = fuzz.run_case(case, tmp_path / str(number) / "in")
            assert fuzz.faults_of(result, made) == [], f"{command}: {result.err}"
    assert capfd.readouterr() == ("", ""), "a library wrote this"


def test_a_whole_file_of_every_format_can_be_read(formats: dict[str, Format], tmp_path: Path) -> None:
    for kind in formats.values():
        command = kind.commands[0]
        result, made = fuzz.run_case(fuzz.Case(kind, kind.whole[0], command), tmp_path / kind.name / "in")
        assert fuzz.faults_of(result, made) == []
        assert result.code == (1 if kind.name == "mat" else 0), (kind.name, result.err)  # it is not the published one


@pytest.mark.parametrize(
    ("result", "made", "fault"),
    [
        (Result(5, b"", "error: a\nhint: b\n"), set(), "exit code 5"),
        (Result(1, b"", "error: unexpected KeyError: 'x'\nhint: b\n"), set(), "a traceback or an unexpected error"),
        (Result(1, b"", "Traceback (most recent call last)\nerror: a\nhint: b\n"), set(), "a traceback or an unexp"),
        (Result(0, b"\x1b[31m", ""), set(), "the control character '\\x1b'"),
        (Result(1, b"", "error: a\n"), set(), "no error of two lines"),
        (Result(1, b"", "error: a\nhint: b\nerror: a\nhint: b\n"), set(), "more than one error"),
        (Result(1, b"", "error: a: Unable to allocate 5 EiB\nhint: b\n"), set(), "memory"),
        (Result(0, b"", ""), {"in/.o.npy.1234.part"}, "left in/.o.npy.1234.part"),
        (Result(1, b"", "error: a\nhint: b\n"), {"in/out.npy"}, "left in/out.npy"),
    ],
)
def test_what_is_not_allowed_is_found(result: Result, made: set[str], fault: str) -> None:
    assert any(found.startswith(fault) for found in fuzz.faults_of(result, made))
    assert fuzz.faults_of(Result(0, b"4 pictures\n", "note\n"), {"in/out.npy"}) == []
    assert fuzz.faults_of(Result(1, b"", "note\nerror: a\nhint: b\n"), set()) == []
