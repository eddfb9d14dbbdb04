"""The grammar of `-o`: what each name stands for, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from vaecli import outputs
from vaecli.errors import UsageError, VaeError
from vaecli.outputs import ANIMATIONS, DIAGRAMS, FOLDER, PICTURES, TABLES, parse


@pytest.mark.parametrize("formats", [PICTURES, ANIMATIONS, TABLES, DIAGRAMS])
def test_every_ending_has_its_format_in_either_case(formats: Mapping[str, str], tmp_path: Path) -> None:
    for ending, expected in formats.items():
        if ending == FOLDER:
            continue
        for name in (f"{tmp_path}/a.b{ending}", f"{tmp_path}/a{ending.upper()}"):
            destination = parse(name, formats, on_stdout="png")
            assert (destination.name, destination.format, destination.clobber) == (name, expected, None)


def test_the_two_endings_of_jpeg_are_one_format() -> None:
    assert parse("a.jpg", PICTURES, on_stdout="png").format == parse("a.jpeg", PICTURES, on_stdout="png").format


def test_only_an_animation_may_be_a_gif() -> None:
    assert parse("a.gif", ANIMATIONS, on_stdout="png").format == "gif"
    with pytest.raises(UsageError):
        parse("a.gif", PICTURES, on_stdout="png")


def test_a_slash_or_an_existing_folder_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "here.png").mkdir()
    for name in (f"{tmp_path}/new/", str(tmp_path), f"{tmp_path}/here.png"):
        assert parse(name, PICTURES, on_stdout="png").format == "folder"


@pytest.mark.parametrize("formats", [TABLES, DIAGRAMS])
def test_a_table_and_a_diagram_are_no_folders(formats: Mapping[str, str], tmp_path: Path) -> None:
    for name in (f"{tmp_path}/new/", str(tmp_path)):
        with pytest.raises(UsageError) as refusal:
            parse(name, formats, on_stdout="png")
        assert "folder" not in refusal.value.hint


@pytest.mark.parametrize("name", ["", "a", "a.txt", "png", ".png", "a.png.gz"])
def test_other_names_are_refused_with_the_endings_there_are(name: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse(name, PICTURES, on_stdout="png", flag="picture")
    assert refusal.value.message.startswith(f"`picture` {name}")
    for ending in PICTURES:
        assert ending in refusal.value.hint


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a/"])
def test_a_folder_that_is_missing_is_told_at_once(name: str, tmp_path: Path) -> None:
    with pytest.raises(VaeError, match=rf"no such folder: .*none\nhint: create it: mkdir -p {tmp_path}/none"):
        parse(f"{tmp_path}/none/{name}", PICTURES, on_stdout="png")
    (tmp_path / "file").touch()
    with pytest.raises(VaeError, match="is a file, not a folder"):
        parse(f"{tmp_path}/file/{name}", PICTURES, on_stdout="png")


def test_a_minus_is_stdout_in_the_format_that_is_asked_for() -> None:
    destination = parse("-", TABLES, on_stdout="csv")
    assert (destination.name, destination.format) == ("-", "csv")
    assert parse("-", PICTURES, on_stdout="png").format == "png"


def test_a_terminal_takes_text_and_no_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for text in ("csv", "jsonl"):
        assert parse("-", TABLES, on_stdout=text).format == text
    for binary in ("png", "npy", "npz"):
        with pytest.raises(UsageError, match="`output` -: stdout is a terminal"):
            parse("-", PICTURES, on_stdout=binary)


def test_stdout_takes_json_or_the_result() -> None:
    with pytest.raises(UsageError, match="`json` and `output` -"):
        parse("-", TABLES, on_stdout="csv", json=True)
    assert parse("a.csv", TABLES, on_stdout="csv", json=True).format == "csv"


def test_a_file_is_there_once_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with parse(str(path), TABLES, on_stdout="npy").open() as stream:
        stream.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"


def test_stdout_is_written(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with parse("-", TABLES, on_stdout="npy").open(sources=["-"]) as stream:
        stream.write(b"new")
    assert capsysbinary.readouterr().out == b"new"


def test_a_file_that_exists_may_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    destination = parse(str(path), TABLES, on_stdout="npy", clobber=False)
    path.write_bytes(b"old")  # since then
    with pytest.raises(VaeError, match="exists already"), destination.open():
        pass
    assert path.read_bytes() == b"old"
    with pytest.raises(VaeError, match="exists already"):  # before the work
        parse(str(path), TABLES, on_stdout="npy", clobber=False)


def test_what_is_read_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(b"old")
    (tmp_path / "link.npy").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    for name, source in ((str(path), "a.npy"), ("link.npy", str(path)), ("./a.npy", "link.npy")):
        destination = parse(name, TABLES, on_stdout="npy", flag="picture")
        with pytest.raises(UsageError, match=r"`picture`: .*one of the files to read"), destination.open([source]):
            pass
    assert path.read_bytes() == b"old"


def test_a_file_to_read_may_be_a_circle_of_links(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("a.png")
    parse(str(tmp_path / "o.png"), PICTURES, on_stdout="png").refuse([tmp_path / "o.png"], [str(tmp_path / "a.png")])


def test_several_targets_are_looked_at(tmp_path: Path) -> None:
    destination = outputs.parse(f"{tmp_path}/", PICTURES, on_stdout="png")
    targets = [tmp_path / "0001.png", tmp_path / "0002.png"]
    destination.refuse(targets, ["-", str(tmp_path / "other.png")])
    with pytest.raises(UsageError, match=r"0002\.png"):
        destination.refuse(targets, ["-", str(tmp_path / "0002.png")])


def test_a_device_takes_what_stdout_would() -> None:
    destination = parse("/dev/null", PICTURES, on_stdout="png")
    assert destination.format == "png"
    with destination.open() as stream:
        stream.write(b"nobody reads this")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("name", "is_one"), [("l.parquet", True), ("l.PARQUET/", True), ("l.parquet/l.npy", False), ("l/", False)]
)
def test_a_folder_of_parquet_files_is_told_by_its_ending(name: str, is_one: bool) -> None:
    assert outputs.is_parquet_folder(name) == is_one


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_the_device_of_stdout_is_a_minus(name: str) -> None:
    assert parse(name, PICTURES, on_stdout="png").name == "-"
    with pytest.raises(UsageError, match="both write to stdout"):
        parse(name, PICTURES, on_stdout="png", json=True)
