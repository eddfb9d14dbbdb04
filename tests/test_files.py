"""Atomic writing: the new file whole, or the old one untouched."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_line import PROJECT
from vaecli import files, load
from vaecli.errors import VaeError
from vaecli.run_folder import RunFolder


def test_replaces_a_file_and_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o640)
    files.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def _break_off(path: Path, error: BaseException) -> None:
    with files.replacing(path) as stream:
        stream.write(b"half")
        raise error


def test_a_failure_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(VaeError, match="no room left"):
        _break_off(path, OSError(errno.ENOSPC, "No space left on device"))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        _break_off(path, KeyboardInterrupt())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    files.write_bytes(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_links_in_a_circle_are_replaced_like_a_link_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    files.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_no_clobber_refuses(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(VaeError, match="exists already"), files.replacing(path, clobber=False) as stream:
        stream.write(b"new")
    assert path.read_bytes() == b"old"


def _write_late(path: Path) -> None:
    with files.replacing(path, clobber=False) as stream:
        stream.write(b"late")
        path.write_bytes(b"first")


@pytest.mark.parametrize("links", [True, False])
def test_no_clobber_refuses_a_file_that_is_made_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not links:  # as on FAT
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "a"
    with files.replacing(path, clobber=False) as stream:
        stream.write(b"first")
    path.unlink()
    with pytest.raises(VaeError, match="exists already"):
        _write_late(path)
    assert contents(tmp_path) == {"a": b"first"}


def _fill_late(folder: Path) -> None:
    with files.filling(folder, clobber=False) as late:
        (late / "a").write_bytes(b"late")
        _fill(folder, "a")


def test_no_clobber_refuses_a_folder_that_is_filled_meanwhile(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with pytest.raises(VaeError, match="folder/a: exists already"):
        _fill_late(folder)
    assert contents(folder) == {"a": b"new"}
    assert list(tmp_path.rglob(".*")) == []


@pytest.mark.parametrize(("name", "reason"), [("none/a", "no such folder"), (".", "is a folder"), ("f/a", "")])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(VaeError) as caught:
        files.write_bytes(tmp_path / name, b"x")
    assert str(tmp_path / name) in caught.value.message
    assert reason in caught.value.message


def test_a_device_is_written_directly() -> None:
    with pytest.raises(VaeError, match="/dev/full: no room left"):
        files.write_bytes(Path("/dev/full"), b"x")
    assert Path("/dev/full").is_char_device()


def test_a_folder_that_is_not_there_gets_its_name_once_the_block_ends_well(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with files.filling(folder) as aside:
        (aside / "a").write_bytes(b"a")
        (aside / "b").write_bytes(b"b")
        assert not folder.exists()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": b"a", "b": b"b"}
    assert list(tmp_path.iterdir()) == [folder]


def test_filling_replaces_files_of_the_same_name_and_keeps_the_others(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "mine").write_bytes(b"mine")
    with files.filling(tmp_path) as aside:
        (aside / "a").write_bytes(b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"new", "mine": b"mine"}


def _fill(folder: Path, *names: str, error: BaseException | None = None) -> None:
    with files.filling(folder) as aside:
        for name in names:
            (aside / name).write_bytes(b"new")
        if error is not None:
            raise error


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, ""),
        (VaeError("a picture is damaged", "take another"), VaeError, "a picture is damaged"),
        (OSError(errno.ENOSPC, "No space left on device"), VaeError, "new: no room left"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/gone/in.png"), VaeError, "/gone/in.png: no such file"),
    ],
)
def test_a_folder_that_is_not_filled_to_the_end_is_as_before(
    tmp_path: Path, error: BaseException, raised: type[BaseException], words: str
) -> None:
    with pytest.raises(raised) as caught:
        _fill(tmp_path / "new", "a", error=error)
    assert words in str(caught.value)
    assert not (tmp_path / "new").exists()
    old = tmp_path / "old"
    old.mkdir()
    (old / "a").write_bytes(b"old")
    with pytest.raises(raised):
        _fill(old, "a", error=error)
    assert {path.name: path.read_bytes() for path in old.iterdir()} == {"a": b"old"}


def test_a_folder_that_cannot_be_filled_is_named(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    for name, reason in (
        ("f", "is a file"),
        ("none/new", "no such folder"),
        ("f/new", "a part of this path is a file"),
    ):
        with pytest.raises(VaeError, match=reason) as caught, files.filling(tmp_path / name):
            pass
        assert str(tmp_path / name) in caught.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_make_folder(tmp_path: Path) -> None:
    files.make_folder(tmp_path / "a/b")
    files.make_folder(tmp_path / "a/b")
    assert (tmp_path / "a/b").is_dir()
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(VaeError, match="is a file"):
        files.make_folder(tmp_path / "f")


def test_what_a_killed_writer_left_is_removed_by_the_next_one_of_the_same_file(tmp_path: Path) -> None:
    (tmp_path / ".a.png.01234567.part").write_bytes(b"half")
    (tmp_path / ".a.png.89abcdef.part").mkdir()
    others = [".a.png.part", ".a.png.0123456.part", ".b.png.01234567.part", "a.png.01234567.part"]
    for name in others:
        (tmp_path / name).touch()
    files.write_bytes(tmp_path / "a.png", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "a.png"])


def test_two_writers_of_the_same_file_leave_each_other_alone(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with files.replacing(path) as slow:
        slow.write(b"slow")
        files.write_bytes(path, b"quick")
        assert path.read_bytes() == b"quick"
    assert path.read_bytes() == b"slow"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("new", [True, False])
def test_two_that_fill_the_same_folder_both_succeed(tmp_path: Path, new: bool) -> None:
    folder = tmp_path / "folder"
    if not new:
        folder.mkdir()
    with files.filling(folder) as slow:
        (slow / "a").write_bytes(b"slow")
        with files.filling(folder) as quick:
            for name in "ab":
                (quick / name).write_bytes(b"quick")
        assert contents(folder) == {"a": b"quick", "b": b"quick"}
    assert contents(folder) == {"a": b"slow", "b": b"quick"}
    assert list(tmp_path.rglob(".*")) == []


FILL = """
import sys
from vaecli import files
folder, content = files.Path(sys.argv[1]), sys.argv[2]
for _ in range(int(sys.argv[3])):
    with files.filling(folder) as aside:
        for number in range(100):
            (aside / str(number)).write_text(content)
"""


def test_processes_that_fill_the_same_folder_do_not_mix_their_files(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    command = [sys.executable, "-c", FILL, str(folder)]
    writers = [subprocess.Popen([*command, content, "30"], cwd=PROJECT) for content in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert set(contents(folder).values()) in ({b"a"}, {b"b"})
    assert len(list(folder.iterdir())) == 100


def test_a_folder_that_others_write_to_for_long_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    with RunFolder(tmp_path).locked(), pytest.raises(VaeError, match=f"{tmp_path}: another command writes to it"):
        _fill(tmp_path, "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["n" * 249 + ".png", "ä" * 125 + ".png", ".hidden"])
def test_any_name_that_the_disk_takes(tmp_path: Path, name: str) -> None:
    files.write_bytes(tmp_path / name, b"one")
    files.write_bytes(tmp_path / name, b"two")
    assert (tmp_path / name).read_bytes() == b"two"
    with files.filling(tmp_path / f"{name[:-1]}_") as aside:
        (aside / "a").write_bytes(b"a")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, f"{name[:-1]}_"])


def test_a_name_that_the_encoding_of_file_names_lacks(tmp_path: Path) -> None:
    """Python reads it as other characters then; that of the new file beside it is written with the same."""
    program = "import sys; from vaecli import files; files.write_bytes(files.Path(sys.argv[1]), b'new')"
    path = tmp_path / ("wé" * 84 + ".a")  # 254 bytes
    subprocess.run(
        [sys.executable, "-c", program, path],
        cwd=PROJECT,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        check=True,
    )
    assert contents(tmp_path) == {path.name: b"new"}


def test_what_is_durable_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(str(Path(f"/proc/self/fd/{file}").readlink())))
    files.write_bytes(tmp_path / "a", b"new")
    assert synced == []
    files.write_bytes(tmp_path / "a", b"new", durable=True)
    assert [Path(name).suffix for name in synced] == [".part", ""]
    assert synced[1] == str(tmp_path), "and then the folder, which has the name"


def test_filling_says_what_it_has_replaced_where_it_cannot_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(b"old")
    replace = Path.replace

    def refused(self: Path, target: Path) -> Path:
        if target.name == "b":
            raise PermissionError(errno.EPERM, "Operation not permitted", str(self), None, str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(VaeError) as caught:
        _fill(tmp_path, *"abc")
    told = f"{tmp_path}: 1 of 3 files are new, the others as before: {tmp_path / 'b'}: permission denied"
    assert caught.value.message == told
    assert contents(tmp_path) == {"a": b"new", "b": b"old", "c": b"old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


OLD: dict[str, bytes | None] = {"encoder.onnx": b"old e", "decoder.onnx": b"old d", "prior.onnx": b"old p"}
NEW: dict[str, bytes | None] = {"encoder.onnx": b"new e", "decoder.onnx": b"new d", "prior.onnx": None}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def test_a_full_disk_leaves_all_of_them_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.replace_together(tmp_path, OLD)
    calls = iter([None, OSError(errno.ENOSPC, "No space left on device")])

    def full(_: int) -> None:
        if error := next(calls):
            raise error

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(VaeError, match="no room left"):
        files.replace_together(tmp_path, NEW)
    assert contents(tmp_path) == OLD
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(OLD)


def test_permissions_stay_where_files_are_replaced_together(tmp_path: Path) -> None:
    files.replace_together(tmp_path, OLD)
    (tmp_path / "encoder.onnx").chmod(0o640)
    files.replace_together(tmp_path, NEW)
    assert (tmp_path / "encoder.onnx").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("content", [b"", b"theirs"])
def test_nothing_outside_the_folder_is_touched(tmp_path: Path, content: bytes) -> None:
    """A folder from somebody else may have links, also in the place of what is on its way."""
    mine, folder = tmp_path / "mine", tmp_path / "theirs"
    mine.write_bytes(b"mine")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"mine")
    (folder / files.PENDING).mkdir(parents=True)
    (folder / "encoder.onnx").symlink_to(mine)
    (folder / files.PENDING / "encoder.onnx").write_bytes(content)
    files.finish_pending_moves(folder)
    assert mine.read_bytes() == b"mine"
    (folder / files.PENDING).symlink_to(tmp_path / "photos")
    files.finish_pending_moves(folder)
    assert (tmp_path / "photos" / "a.png").exists()


def test_a_link_among_files_that_move_changes_no_permissions_of_what_it_points_to(tmp_path: Path) -> None:
    mine, folder = tmp_path / "mine", tmp_path / "theirs"
    mine.write_bytes(b"mine")
    mine.chmod(0o600)
    (folder / files.PENDING).mkdir(parents=True)
    (folder / files.PENDING / "decoder.onnx").symlink_to(mine)
    (folder / "decoder.onnx").write_bytes(b"theirs")
    (folder / "decoder.onnx").chmod(0o666)
    files.finish_pending_moves(folder)
    assert mine.stat().st_mode & 0o777 == 0o600
    assert (folder / "decoder.onnx").is_symlink()


def test_files_are_written_where_what_is_open_cannot_be_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, which has no flock either, and opens no folder."""

    def no_descriptor(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(os, "open", no_descriptor)
    files.write_bytes(tmp_path / "a", b"new", durable=True)
    assert (tmp_path / "a").read_bytes() == b"new"
    files.replace_together(tmp_path, NEW)
    written = {name: content for name, content in NEW.items() if content is not None}
    assert contents(tmp_path) == {**written, "a": b"new"}
    with files.filling(tmp_path) as folder:
        (folder / "a").write_bytes(b"newer")
    assert contents(tmp_path) == {**written, "a": b"newer"}


@pytest.mark.parametrize("made", [Path.touch, lambda path: path.symlink_to("elsewhere")], ids=["file", "link"])
def test_what_stands_in_the_way_of_files_that_move_is_named(tmp_path: Path, made: Callable[[Path], None]) -> None:
    """Before the work that they come from: an export takes seconds."""
    made(tmp_path / files.PENDING)
    with pytest.raises(VaeError, match=r"\.pending: is a file or a link, not a folder"):
        files.replace_together(tmp_path, NEW)
    with pytest.raises(VaeError, match=r"\.pending: is a file or a link"), files.filling(tmp_path):
        pytest.fail("the work was begun")
    with pytest.raises(VaeError, match=r"\.pending: is a file or a link"), RunFolder(tmp_path).locked():
        pytest.fail("the work was begun")


def test_a_model_that_was_on_its_way_is_found(trained: Path, tmp_path: Path) -> None:
    """An export is killed after its one step: whoever opens the model next finds the new one."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    pending = run / files.PENDING
    pending.mkdir()
    for name in ("encoder.onnx", "decoder.onnx"):
        (run / name).rename(pending / name)
        (run / name).write_bytes(b"halves of another model")
    assert load(run).sample(1, seed=1).shape == (1, 8, 8)
    assert not pending.exists()
