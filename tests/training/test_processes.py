"""One training on several processes, which torchrun starts: the same curve, one folder, one report."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

import vaecli
from tests.command_line import PROJECT, vae
from vaecli.flags import flag_of
from vaecli.run_folder import RunFolder, history
from vaecli.training import processes
from vaecli.training.processes import Part, Processes

DENSE = {"architecture": "mlp", "hidden": 16, "latent_dim": 3, "likelihood": "bernoulli", "prior": "normal"}
CONV = {"architecture": "conv", "width": 4, "depth": 1, "latent_dim": 3, "likelihood": "logistic", "prior": "normal"}
# Batches of 50 are 50, 50 and 8 of the 108 images; of 107 they are 107 and 1, which is less than one for each process.
VARIANTS: dict[str, dict[str, Any]] = {
    "dense": {"model": {**DENSE, "dropout": 0.2}, "data": {"binarize": "dynamic"}, "training": {"batch_size": 107}},
    "paired": {"model": {**DENSE, "dropout": 0.2}, "training": {"importance_samples": 2, "ema": 0.9}},
    "free bits": {
        "model": {**CONV, "dropout": 0.2},
        "training": {"free_bits": 0.5, "importance_samples": 2, "clip_gradient": 1.0},
    },
    "weighted": {"model": CONV, "training": {"objective": "dreg", "importance_samples": 3, "batch_size": 107}},
    "vamp": {"model": {**CONV, "prior": "vamp", "pseudo_inputs": 4}},
}


@contextmanager
def torchrun(
    count: int, *command: str | Path, place: Sequence[str] = ("--standalone",)
) -> Iterator[subprocess.Popen[str]]:
    """A command on so many processes, which speak over the loopback device. All are killed after the block."""
    launcher = [sys.executable, "-m", "torch.distributed.run", *place, f"--nproc-per-node={count}"]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen(
        [*launcher, *map(str, command)],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        for child in _children(process.pid):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.kill()
        process.communicate()


def train_command(run: Path, *flags: str | Path) -> Sequence[str | Path]:
    """`vae train` as torchrun takes it. `--` keeps it from reading our flags as its own."""
    return ["-m", "vaecli", "--", "train", "--run", run, *flags]


def settings_of(variant: str, blobs: Path) -> dict[str, Any]:
    """All settings of one of the VARIANTS."""
    chosen = VARIANTS[variant]
    training = {"epochs": 3, "seed": 1, "batch_size": 50, "precision": "float32", "device": "cpu"}
    return {
        "data": {"source": str(blobs), "image_size": 16, **chosen.get("data", {})},
        "model": chosen["model"],
        "training": {**training, "kl_warmup": 0, "warmup_steps": 0, "previews": 0, **chosen.get("training", {})},
    }


@pytest.fixture(scope="module")
def several(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runs of all VARIANTS, by three processes: a batch of 50 has parts of 16 and 17."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "settings.json").write_text(json.dumps({name: settings_of(name, blobs) for name in VARIANTS}))
    with torchrun(3, "tests/training/several.py", folder / "settings.json", folder) as process:
        _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return folder


@pytest.fixture(scope="module")
def alone(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by one process."""
    folder = tmp_path_factory.mktemp("alone")
    for name in VARIANTS:
        vaecli.train(settings_of(name, blobs), folder / name)
    return folder


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_curve_is_that_of_one_process(several: Path, alone: Path, variant: str) -> None:
    """Every random number and every image is the same, so that only rounding differs."""
    found, expected = history(several / variant), history(alone / variant)
    assert [epoch.epoch for epoch in found] == [1, 2, 3]
    for one, other in zip(found, expected, strict=True):
        for losses, reference in ((one.train, other.train), (one.held_out, other.held_out)):
            assert losses.loss == pytest.approx(reference.loss, rel=1e-4)
            assert losses.kl == pytest.approx(reference.kl, rel=1e-3)
        assert one.objective == pytest.approx(other.objective, rel=1e-4)
        assert one.active_units == other.active_units


def test_the_command_reports_once_and_resumes_on_another_number_of_processes(blobs: Path, tmp_path: Path) -> None:
    run, flags = tmp_path / "r", ("--data", blobs, "--config", "tutorial", "--seed", "1", "--precision", "float32")
    small = ("--hidden", "16", "--batch-size", "51", "--device", "cpu")
    with torchrun(2, *train_command(run, *flags, *small, "--epochs", "1", "--json")) as process:
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert [json.loads(line)["event"] for line in out.splitlines()].count("epoch") == 1
    assert err.count("2 processes, each of which takes 25 or 26 of the 51 images in a batch") == 1
    assert err.count("done: ") == 1
    vaecli.train(None, run, flags={("training", "epochs"): 3}, resume=True)
    whole = tmp_path / "whole"
    assert vae("train", "--run", whole, *flags, *small, "--epochs", "3").code == 0
    for one, other in zip(history(run), history(whole), strict=True):
        assert one.held_out.loss == pytest.approx(other.held_out.loss, rel=1e-4)


def test_several_machines_train_one_model(blobs: Path, tmp_path: Path) -> None:
    """Two launchers stand for the machines. They share no folder: the first process writes to the one it has."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    place = ("--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-endpoint={address}", "--rdzv-id=test")
    settings: dict[tuple[str, str], Any] = {
        ("data", "source"): str(blobs),
        ("model", "hidden"): 16,
        ("training", "epochs"): 2,
        ("training", "seed"): 1,
        ("training", "precision"): "float32",
        ("training", "device"): "cpu",
    }
    given = [word for (_, key), value in settings.items() for word in (flag_of(key), str(value))]
    flags = ("--config", "tutorial", *given)
    folders = [tmp_path / "one", tmp_path / "other"]
    with ExitStack() as machines:
        started = [
            machines.enter_context(torchrun(1, *train_command(folder, *flags), place=place)) for folder in folders
        ]
        ends = [process.communicate(timeout=100)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], ends
    (run,) = [folder for folder in folders if folder.exists()]
    vaecli.train("tutorial", tmp_path / "alone", flags=settings)
    for found, expected in zip(history(run), history(tmp_path / "alone"), strict=True):
        assert found.held_out.loss == pytest.approx(expected.held_out.loss, rel=1e-4)


def test_a_refusal_is_told_once(trained: Path, blobs: Path, tmp_path: Path) -> None:
    before = RunFolder(trained).checkpoint.read_bytes()
    with torchrun(2, *train_command(trained, "--data", blobs)) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.count("there is a training in it already") == 1
    assert RunFolder(trained).checkpoint.read_bytes() == before


def test_wrong_usage_is_told_by_the_first_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that torchrun sets are set here: torchrun itself would take seconds to start."""
    monkeypatch.setattr(processes, "ERROR_GRACE_SECONDS", 0)
    for name in ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    results = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", rank)
        results.append(vae("train", "--run", tmp_path / "r", "--epochs", "-1"))
    assert results[0].err.startswith("error: --epochs -1")
    assert [result.code for result in results] == [2, 1]
    assert results[1].err == ""


def test_torchrun_starts_all_again_after_one_was_killed_and_the_last_time_there_is_an_error(
    blobs: Path, tmp_path: Path
) -> None:
    run = tmp_path / "r"
    command = train_command(run, "--data", blobs, "--config", "tutorial", "--seed", "1", "--epochs", "100000")
    more = ("--hidden", "16", "--device", "cpu", "--previews", "0", "--quiet")
    with torchrun(2, "--max-restarts=1", *command, *more) as process:
        _wait_for_epoch(run, 3)
        os.kill(_second_process(process.pid), signal.SIGKILL)
        _wait_for_epoch(run, len(history(run)) + 3)
        os.kill(_second_process(process.pid), signal.SIGKILL)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    # Which of the two the first process meets first is chance: the closed connection, or torchrun's SIGTERM.
    told = re.findall("^error: (.*)$", err, re.MULTILINE)
    assert len(told) == 2
    for one in told:
        assert re.fullmatch(r"another process of this training has ended|interrupted: epoch \d+ is kept", one)
    assert [epoch.epoch for epoch in history(run)] == list(range(1, len(history(run)) + 1))
    assert torch.load(RunFolder(run).checkpoint)["weights"]["epoch"] >= 3


def _wait_for_epoch(run: Path, epoch: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        metrics = RunFolder(run).metrics
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= epoch:
            return
        time.sleep(0.05)
    pytest.fail(f"epoch {epoch} did not come")


def _second_process(launcher: int) -> int:
    """The process of rank 1."""
    for child in _children(launcher):
        if b"\0RANK=1\0" in b"\0" + Path(f"/proc/{child}/environ").read_bytes():
            return child
    raise AssertionError("no second process")


def _children(launcher: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()]
    except FileNotFoundError:  # it has ended
        return []


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("whole", [1, 2, 7, 128])
def test_every_row_is_counted_once(count: int, whole: int) -> None:
    parts = [Processes(rank, count).part(whole) for rank in range(count)]
    counted = [row for part in parts for row in range(part.start, part.start + part.counted)]
    assert counted == list(range(whole))
    assert sum(part.weight for part in parts) == pytest.approx(1)
    assert all(part.start < part.stop <= whole for part in parts), "each has something to compute with"


def test_rows_are_those_of_the_part() -> None:
    batch = torch.arange(24).view(2, 6, 2)
    assert torch.equal(Part(2, 5, 6, 3).rows(batch, 1), batch[:, 2:5])
    assert Part(0, 6, 6, 6).rows(batch, 1) is batch
