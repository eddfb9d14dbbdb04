"""Where any of its file events fails, a command says so in two lines, and leaves what was there."""

from __future__ import annotations

import errno
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import vaecli
from tests.command_line import Result, assert_refused, vae
from tests.conftest import TINY
from tests.faults.events import failing, strays
from tests.faults.test_kills import COMMANDS, content, write
from tests.tiny_model import write_pair
from vaecli import files
from vaecli.errors import VaeError
from vaecli.run_folder import RunFolder

TOLD = {errno.ENOSPC: "no room left to write it", errno.EIO: "Input/output error"}


@pytest.mark.parametrize("error", TOLD)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_writer_leaves_what_was_there(grey: Path, tmp_path: Path, name: str, error: int) -> None:
    place, results = tmp_path / "place", list[Result]()
    place.mkdir()
    write(grey, place, name, 1)
    old, number = content(place / name), 1
    while failing(place, number, error, lambda: results.append(write(grey, place, name, 2))):
        assert_refused(results[-1], 1, TOLD[error], str(place))
        assert content(place / name) == old or "are new, the others as before" in results[-1].err
        assert strays(place) == []
        number += 1
    assert number > 4
    assert results[-1].code == 0, results[-1].err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 16 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here: that is for root on Linux")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_is_really_full_or_read_only(grey: Path, small_disk: Path, name: str) -> None:
    assert write(grey, small_disk, name, 1).code == 0
    old = content(small_disk / name)
    (small_disk / "filling").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    assert_refused(write(grey, small_disk, name, 2), 1, TOLD[errno.ENOSPC], str(small_disk))
    assert content(small_disk / name) == old

    (small_disk / "filling").unlink()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert_refused(write(grey, small_disk, name, 2), 1, "is read-only", str(small_disk))
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert content(small_disk / name) == old
    assert strays(small_disk) == []


def test_a_training_keeps_its_last_epoch(blobs: Path, tmp_path: Path) -> None:
    def train(run: Path, *more: str) -> Result:
        return vae(
            "train", "--data", blobs, "--run", run, "--epochs", "2", "--seed", "7", "--previews", "0", *more, *TINY
        )

    assert train(tmp_path / "whole").code == 0
    expected = [epoch.held_out for epoch in RunFolder(tmp_path / "whole").read_metrics()]
    number, results, refused = 1, list[Result](), 0
    while failing(run := tmp_path / str(number), number, errno.ENOSPC, lambda: results.append(train(run))):
        if results[-1].code:  # else it was a folder that was there already
            by_torch = "could not be written" in results[-1].err  # which does not tell why it failed
            assert_refused(results[-1], 1, str(run), "disk space" if by_torch else TOLD[errno.ENOSPC])
            refused += 1
        if run.exists():
            assert strays(run) == []
            assert train(run, *(("--resume",) if (run / "config.json").exists() else ())).code == 0
            assert [epoch.held_out for epoch in RunFolder(run).read_metrics()] == expected
        number += 2  # each takes two trainings
    assert refused > 15


def test_an_export_leaves_the_old_model_or_the_new_one(tmp_path: Path) -> None:
    run, other, told = write_pair(tmp_path / "run", seed=1), write_pair(tmp_path / "other", seed=2), ""
    new = {file.name: file.read_bytes() for file in other.iterdir()}
    models = [vaecli.load(folder).sample(2, seed=1) for folder in (run, other)]

    def replace() -> None:
        nonlocal told
        try:
            with RunFolder(run).locked():
                files.replace_together(run, new)
        except VaeError as error:
            told = error.message

    number, refused = 1, 0
    while failing(run, number, errno.ENOSPC, replace):
        assert told == "" or TOLD[errno.ENOSPC] in told
        found = vaecli.load(run).sample(2, seed=1)
        assert any(np.array_equal(found, model) for model in models)
        assert strays(run) == []
        refused, told, number = refused + bool(told), "", number + 1
        write_pair(run, seed=1)
    assert refused > 5
