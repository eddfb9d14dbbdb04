"""A run folder: what counts as occupied, what is removed, and how its records are read."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import vaecli
from tests.command_line import PROJECT, assert_refused, vae
from vaecli import files
from vaecli.errors import VaeError
from vaecli.events import EpochMetrics
from vaecli.run_folder import RunFolder


def test_an_empty_or_missing_folder_is_free(tmp_path: Path) -> None:
    assert not RunFolder(tmp_path).occupied
    assert not RunFolder(tmp_path / "none").occupied


@pytest.mark.parametrize(
    "name", ["config.json", "metrics.jsonl", "checkpoint.pt", "best.pt", "encoder.onnx", "decoder.onnx"]
)
def test_each_file_of_a_run_makes_a_folder_occupied(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert RunFolder(tmp_path).occupied


@pytest.mark.parametrize(("name", "occupied"), [("data.png", True), ("epoch-0001.png", True), ("holiday.png", False)])
def test_only_pictures_of_a_training_make_it_occupied(tmp_path: Path, name: str, occupied: bool) -> None:
    (tmp_path / "previews").mkdir()
    (tmp_path / "previews" / name).touch()
    assert RunFolder(tmp_path).occupied is occupied


def test_clearing_removes_what_a_run_wrote_and_nothing_else(run: Path) -> None:
    (run / "notes.txt").write_text("mine")
    (run / "previews" / "holiday.png").write_text("mine")
    RunFolder(run).clear()
    assert sorted(str(path.relative_to(run)) for path in run.rglob("*")) == [
        "notes.txt",
        "previews",
        "previews/holiday.png",
    ]


def test_clearing_does_not_follow_a_link(run: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (run / "previews").rename(elsewhere)
    (elsewhere / "mine.png").touch()
    (run / "previews").symlink_to(elsewhere)
    RunFolder(run).clear()
    assert (elsewhere / "mine.png").exists()
    assert (run / "previews").is_symlink()


def test_clearing_keeps_the_model_where_no_preview_could_be_written(run: Path) -> None:
    (run / "previews").rename(run / "elsewhere")
    (run / "previews").touch()
    kept = sorted(run.iterdir())
    with pytest.raises(VaeError, match=r"previews/data\.png: a part of this path is a file"):
        RunFolder(run).clear()
    assert sorted(run.iterdir()) == kept


def test_clearing_keeps_the_model_where_a_preview_cannot_be_removed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name == "epoch-0001.png":
            raise PermissionError(errno.EACCES, "", str(path))
        remove(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(VaeError, match=r"epoch-0001\.png: permission denied"):
        RunFolder(run).clear()
    assert all(file.exists() for file in RunFolder(run).files if file.name not in ("prior.onnx", "flow.onnx"))


def test_a_last_line_that_was_cut_off_is_left_out(run: Path) -> None:
    folder = RunFolder(run)
    whole = folder.read_metrics()
    folder.metrics.write_bytes(folder.metrics.read_bytes()[:-20])
    assert folder.read_metrics() == whole[:-1]


def test_a_damaged_line_elsewhere_is_an_error(run: Path) -> None:
    folder = RunFolder(run)
    lines = folder.metrics.read_text().splitlines()
    folder.metrics.write_text("\n".join([lines[0], lines[1][:-5], lines[2]]))
    with pytest.raises(VaeError, match=r"metrics\.jsonl: line 2 is damaged"):
        folder.read_metrics()


def test_a_line_that_is_nested_too_deep_is_damaged(run: Path) -> None:
    folder = RunFolder(run)
    folder.metrics.write_bytes(b"[" * 9999 + b"\n" + folder.metrics.read_bytes())
    with pytest.raises(VaeError, match=r"metrics\.jsonl: line 1 is damaged"):
        folder.read_metrics()


def test_metrics_are_cut_to_the_checkpoint(run: Path) -> None:
    folder = RunFolder(run)
    folder.cut_metrics(2)
    assert [epoch.epoch for epoch in folder.read_metrics()] == [1, 2]


@pytest.mark.parametrize("content", [b"{}", b"{", b"\xff", b"[" * 9999, b'{"config": {"training": {"epochs": 0}}}'])
def test_a_damaged_config_is_named(run: Path, content: bytes) -> None:
    (run / "config.json").write_bytes(content)
    with pytest.raises(VaeError, match=r"config\.json: not the config of a run"):
        RunFolder(run).read_record()


def test_an_arithmetic_that_nobody_knows_is_damage(run: Path) -> None:
    head, found, tail = (run / "config.json").read_text().rpartition('"precision": "float32"')
    assert found
    (run / "config.json").write_text(f'{head}"precision": "float-1"{tail}')
    with pytest.raises(VaeError, match=r"config\.json: not the config of a run.*float-1"):
        RunFolder(run).read_record()


def test_without_a_training_the_error_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(VaeError, match="vae train") as caught:
        RunFolder(tmp_path).read_record()
    assert "config.json: no such file" in caught.value.message


HOLD = """
import sys, time
from vaecli.run_folder import RunFolder
with RunFolder(sys.argv[1]).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_refused_until_the_first_one_ends_however_it_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        second = RunFolder(tmp_path / "run").locked()
        named = f", process {holder.pid}" if Path("/proc/locks").exists() else ""
        with pytest.raises(VaeError, match=f"another training or export is writing to it{named}"), second:
            pass
        holder.kill()
    with RunFolder(tmp_path / "run").locked():
        assert list((tmp_path / "run").iterdir()) == []


def test_what_a_killed_writer_left_unfinished_is_removed(tmp_path: Path) -> None:
    (tmp_path / "previews").mkdir()
    unfinished = [".best.pt.0123abcd.part", ".encoder.onnx.89abcdef.part", "previews/.epoch-0003.png.01234567.part"]
    others = [".mine.0123abcd.part", ".best.pt.part", "previews/.holiday.png.01234567.part"]
    for name in unfinished + others:
        (tmp_path / name).touch()
    with RunFolder(tmp_path).locked():
        pass
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == sorted(others)


def test_a_folder_that_stays_empty_is_not_left_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyError), RunFolder(tmp_path / "run").locked():
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_running_training_is_neither_resumed_nor_exported(run: Path) -> None:
    refused = []

    def try_others(event: object) -> None:
        if isinstance(event, EpochMetrics):
            for call in (lambda: vaecli.train(None, run, resume=True), lambda: vaecli.export(run)):
                with pytest.raises(VaeError, match="another training") as caught:
                    call()
                refused.append(caught.value.exit_code)

    vaecli.train(None, run, flags={("training", "epochs"): 4}, resume=True, on_event=try_others)
    assert refused == [1, 1]
    vaecli.export(run)


def test_an_epoch_is_on_the_disk_before_it_is_reported(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a power cut does not lose it: each file before it gets its name, then the folder."""
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink().name))

    def on_event(event: object) -> None:
        if isinstance(event, EpochMetrics):
            names = [name.removeprefix(".").partition(".pt")[0] for name in synced]
            assert names == ["best", "run", "metrics.jsonl", "checkpoint", "run"]
        synced.clear()

    flags = {("training", "epochs"): 1, ("training", "previews"): 0, ("model", "hidden"): 16}
    vaecli.train({"data": {"source": str(blobs)}}, tmp_path / "run", flags=flags, on_event=on_event)


def test_epochs_that_are_kept_are_on_the_disk_before_the_others_are_dropped(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink().name))
    RunFolder(run).cut_metrics(2)
    assert [epoch.epoch for epoch in RunFolder(run).read_metrics()] == [1, 2]
    assert [name.removeprefix(".").partition(".")[0] for name in synced] == ["metrics", "run"]


def test_a_folder_that_others_made_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = files.lock

    def replaced(descriptor: int) -> bool | None:
        (tmp_path / "run").rename(tmp_path / "away")
        (tmp_path / "run").mkdir()
        return real(descriptor)

    monkeypatch.setattr(files, "lock", replaced)
    with pytest.raises(VaeError, match="another program removed the folder"), RunFolder(tmp_path / "run").locked():
        pytest.fail("it was locked")
    assert (tmp_path / "run").is_dir()


def test_an_empty_folder_that_another_one_has_locked_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process makes the folder, and another one locks it first."""
    monkeypatch.setattr(files, "lock", lambda descriptor: False)
    with pytest.raises(VaeError, match="another training or export"), RunFolder(tmp_path / "run").locked():
        pytest.fail("it was locked")
    assert (tmp_path / "run").is_dir()


def test_where_a_folder_of_runs_is_named_one_of_them_is_proposed(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "runs" / "b")
    for command in (("evaluate", "--run"), ("plot", "loss", "-o", tmp_path / "o.png", "--run"), ("export", "--run")):
        refused = vae(*command, tmp_path / "runs")
        assert_refused(refused, 1, f"name one of the runs below it, such as {tmp_path}/runs/b")
