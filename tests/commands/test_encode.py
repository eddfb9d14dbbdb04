"""`vae encode` through its command line: every form of table, what is in it, how it refuses."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.command_line import PROJECT, Result, assert_refused, exit_code, heed_interrupts, vae, vae_process
from tests.datasets.set_files import little_mnist
from tests.test_using_without_torch import VAE
from tests.test_using_without_torch import run as run_without_torch
from vaecli import load


def encode(run: Path, *more: str | Path) -> Result:
    return vae("encode", "--run", run, "--device", "cpu", *more)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of five, one of them with a name that tables have trouble with."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in ("1.png", "2.png", "10.png", 'a "b", c.png', "é.png"):
        Image.fromarray(generator.integers(0, 256, (8, 8), np.uint8)).save(folder / name)
    return folder


def expected(run: Path, folder: Path) -> tuple[list[str], NDArray[np.float32], NDArray[np.float32]]:
    names = [f"{folder}/{name}" for name in ("1.png", "2.png", "10.png", 'a "b", c.png', "é.png")]
    images = np.stack([np.asarray(Image.open(name)) for name in names])
    return names, *load(run, "cpu").encode(images)


def test_an_array_of_means(grey: Path, pictures: Path, tmp_path: Path) -> None:
    result = encode(grey, pictures, "-o", tmp_path / "l.npy", "--json")
    _, mean, _ = expected(grey, pictures)
    stored = np.load(tmp_path / "l.npy")
    assert stored.dtype == np.float32
    np.testing.assert_allclose(stored, mean, atol=1e-6)
    assert (
        result.json.items()
        >= {"n": 5, "columns": ["mean"], "latent_dim": 2, "form": "npy", "seed": None, "fitted": 0}.items()
    )
    assert "wrote" in result.err


@pytest.mark.parametrize("command", ["encode", "score", "reconstruct"])
def test_a_data_set_by_name(command: str, grey: Path, tmp_path: Path) -> None:
    """Its held-out pictures, as --data would find them; here, because three commands have it in common."""
    data = little_mnist(tmp_path / "data")
    wanted = len(load(grey, "cpu").read("mnist", data_dir=str(data)).images)
    output = tmp_path / ("a.png" if command == "reconstruct" else "a.csv")
    result = vae(command, "mnist", "--data-dir", data, "--run", grey, "--device", "cpu", "-o", output, "--json")
    assert result.json["n"] == wanted == 56
    assert "56 held-out pictures of mnist" in result.err
    if command == "encode":
        assert output.read_text().splitlines()[1].startswith("mnist-test[0],")


def test_an_archive(grey: Path, pictures: Path, tmp_path: Path) -> None:
    assert encode(grey, pictures, "-o", tmp_path / "l.npz", "--std", "--quiet").code == 0
    names, mean, std = expected(grey, pictures)
    with np.load(tmp_path / "l.npz") as stored:
        assert sorted(stored.files) == ["mean", "model", "name", "std"]
        assert stored["name"].tolist() == names
        np.testing.assert_allclose(stored["mean"], mean, atol=1e-6)
        np.testing.assert_allclose(stored["std"], std, atol=1e-6)


def test_a_table(grey: Path, pictures: Path, tmp_path: Path) -> None:
    encode(grey, pictures, "-o", tmp_path / "l.csv", "--std", "--batch-size", "2")
    names, mean, std = expected(grey, pictures)
    with (tmp_path / "l.csv").open(encoding="utf-8", newline="") as stream:
        heading, *rows = csv.reader(stream)
    assert heading == ["name", "mean_0", "mean_1", "std_0", "std_1"]
    assert [row[0] for row in rows] == names
    numbers = np.array([row[1:] for row in rows], np.float32)
    np.testing.assert_allclose(numbers, np.hstack([mean, std]), atol=1e-6)


def test_lines_of_json(grey: Path, pictures: Path, tmp_path: Path) -> None:
    encode(grey, pictures, "-o", tmp_path / "l.jsonl")
    names, mean, _ = expected(grey, pictures)
    rows = [json.loads(line) for line in (tmp_path / "l.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows] == names
    assert all(set(row) == {"name", "mean"} for row in rows)
    np.testing.assert_allclose([row["mean"] for row in rows], mean, atol=1e-6)


def test_text_keeps_every_bit(grey: Path, pictures: Path, tmp_path: Path) -> None:
    for name in ("l.npy", "l.csv", "l.jsonl"):
        encode(grey, pictures, "-o", tmp_path / name)
    stored = np.load(tmp_path / "l.npy")
    table = np.loadtxt(tmp_path / "l.csv", np.float32, delimiter=",", skiprows=1, usecols=(-2, -1), quotechar='"')
    np.testing.assert_array_equal(table, stored)
    lines = [json.loads(line)["mean"] for line in (tmp_path / "l.jsonl").read_text().splitlines()]
    np.testing.assert_array_equal(np.array(lines, np.float32), stored)


def test_draws_are_those_of_reconstruct(grey: Path, blobs: Path, tmp_path: Path) -> None:
    encode(grey, blobs, "-o", tmp_path / "l.jsonl", "--stochastic", "--std", "--seed", "4")
    row = json.loads((tmp_path / "l.jsonl").read_text().splitlines()[0])
    assert set(row) == {"name", "latent", "mean", "std"}
    assert row["name"] == f"{blobs}[0]"
    decoded = vae("decode", "--run", grey, tmp_path / "l.jsonl", "-o", tmp_path / "a.npy", "--device", "cpu")
    assert decoded.code == 0, decoded.err
    vae(
        "reconstruct",
        blobs,
        "--run",
        grey,
        "--stochastic",
        "--seed",
        "4",
        "-o",
        tmp_path / "b.npy",
        "--device",
        "cpu",
    )
    difference = np.load(tmp_path / "a.npy").astype(int) - np.load(tmp_path / "b.npy")
    assert np.abs(difference).max() <= 1


def test_draws_follow_the_seed_and_no_batch(grey: Path, blobs: Path, tmp_path: Path) -> None:
    drawn = []
    for seed, size in (("1", "7"), ("1", "120"), ("2", "120")):
        result = encode(
            grey, blobs, "-o", tmp_path / "l.npy", "--stochastic", "--seed", seed, "--batch-size", size, "--json"
        )
        assert result.json["seed"] == int(seed)
        assert result.json["columns"] == ["latent"]
        drawn.append(np.load(tmp_path / "l.npy"))
    np.testing.assert_allclose(drawn[0], drawn[1], atol=1e-5)
    assert not np.allclose(drawn[1], drawn[2], atol=0.01)
    unseeded = encode(grey, blobs, "-o", tmp_path / "l.npy", "--stochastic", "--json")
    assert f"seed {unseeded.json['seed']}, drawn" in unseeded.err


def test_a_pipe_from_pictures_to_pictures(grey: Path, blobs: Path, tmp_path: Path) -> None:
    first = vae_process("encode", "--run", grey, "-", "-o", "-", "--device", "cpu", stdin=blobs.read_bytes())
    assert first.stdout.startswith(b"\x93NUMPY")
    assert "wrote" not in first.err
    second = vae_process("decode", "--run", grey, "-", "-o", tmp_path / "o.npy", stdin=first.stdout)
    assert second.code == 0, second.err
    expected_images = load(grey, "cpu").reconstruct(np.load(blobs))
    np.testing.assert_allclose(np.load(tmp_path / "o.npy") / 255, expected_images, atol=0.51 / 255 + 1e-4)


def test_a_pipe_that_nobody_reads(grey: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "many.npy", np.zeros((20_000, 8, 8), np.uint8))
    encode = f'"{sys.executable}" -m vaecli encode --run "{grey}" "{tmp_path}/many.npy" -o -'
    command = f"{encode} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(PROJECT)}
    )
    assert done.returncode == 0
    assert "error" not in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_stdout_on_a_full_disk(grey: Path, blobs: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "vaecli", "encode", "--run", grey, blobs, "-o", "-"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )
    assert_refused(Result(done.returncode, b"", done.stderr.decode()), 1, "stdout: no room left")


@pytest.mark.parametrize("name", ["l.npy", "l.npz", "l.csv", "l.jsonl"])
def test_a_full_disk_leaves_the_old_file(grey: Path, blobs: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"mine")
    done = subprocess.run(
        [sys.executable, "-m", "vaecli", "encode", "--run", grey, blobs, "-o", tmp_path / name],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"},
        # No file of that process may grow beyond this, which is how a full disk shows itself.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500)),
    )
    assert_refused(Result(done.returncode, done.stdout, done.stderr.decode()), 1, "no room left")
    assert (tmp_path / name).read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_names_that_are_not_utf8(grey: Path, pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "strange"
    folder.mkdir()
    strange = os.fsdecode(os.fsencode(folder) + b"/\xff.png")
    (pictures / "1.png").rename(strange)
    for name in ("l.csv", "l.jsonl", "l.npz"):
        assert encode(grey, folder, "-o", tmp_path / name).code == 0
    assert r"strange/\xff.png" in (tmp_path / "l.csv").read_text()
    assert json.loads((tmp_path / "l.jsonl").read_text())["name"].endswith(r"strange/\xff.png")


def test_nothing_is_left_of_what_failed(grey: Path, blobs: Path, tmp_path: Path) -> None:
    for name in ("l.npy", "l.npz", "l.csv", "l.jsonl"):
        assert_refused(encode(grey, blobs, tmp_path / "gone.png", "-o", tmp_path / name), 1, "gone.png")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_replaced_or_not(grey: Path, blobs: Path, tmp_path: Path) -> None:
    (tmp_path / "l.npy").write_bytes(b"old")
    assert_refused(encode(grey, blobs, "-o", tmp_path / "l.npy", "--no-clobber"), 1, "l.npy", "--no-clobber")
    assert (tmp_path / "l.npy").read_bytes() == b"old"
    assert encode(grey, blobs, "-o", tmp_path / "l.npy").code == 0
    assert len(np.load(tmp_path / "l.npy")) == 120


def test_a_file_is_followed_by_the_command_that_decodes_it(grey: Path, blobs: Path, tmp_path: Path) -> None:
    assert f"{tmp_path / 'l.npy'} -o decoded/" in encode(grey, blobs, "-o", tmp_path / "l.npy").err.splitlines()[-1]
    assert "next:" not in encode(grey, blobs, "-o", "/dev/null", "--std").err, "nothing can be read from there"


def test_what_is_read_is_never_written_over(grey: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 8, 8), np.uint8))
    before = (tmp_path / "x.npy").read_bytes()
    assert_refused(encode(grey, tmp_path / "x.npy", "-o", tmp_path / "x.npy"), 2, "x.npy")
    assert (tmp_path / "x.npy").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "l.npy", "--std"), ("l.npy", "mean, std", ".npz")),
        (("-o", "l.txt"), ("l.txt", ".jsonl")),
        (("-o", "-", "--json"), ("--json",)),
        (("-o", "l.npy", "--seed", "1"), ("--seed", "--stochastic")),
        ((), ("--output",)),
    ],
    ids=str,
)
def test_wrong_usage(
    grey: Path, blobs: Path, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    result = vae("encode", "--run", grey, blobs, *arguments)
    if "--json" in arguments:
        assert json.loads(result.out)["exit_code"] == result.code == 2
    else:
        assert_refused(result, 2, *words)


def test_no_input(grey: Path, tmp_path: Path) -> None:
    assert_refused(encode(grey, "-o", tmp_path / "l.npy"), 2, "INPUT")


def test_a_folder_that_is_not_there(grey: Path, blobs: Path, tmp_path: Path) -> None:
    assert_refused(encode(grey, blobs, "-o", tmp_path / "no/l.npy"), 1, "no such folder", f"mkdir -p {tmp_path}/no")


def test_it_needs_no_torch(grey: Path, blobs: Path, tmp_path: Path) -> None:
    done = run_without_torch(VAE, "encode", str(blobs), "--run", grey, "-o", tmp_path / "l.csv", "--quiet")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b""


def test_a_parquet_folder_has_the_means_of_a_table(grey: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "2.png").write_bytes(b"no picture")
    result = encode(grey, pictures, "-o", f"{tmp_path}/l.parquet/", "--workers", "1", "--json")
    assert result.code == 0, result.err
    facts = {"n": 5, "errors": 1, "blocks": 1, "kept": 0, "workers": 1, "form": "parquet"}
    assert result.json.items() >= facts.items()
    assert result.json["columns"] == ["name", "label", "mean", "error"]
    pq = pytest.importorskip("pyarrow.parquet")
    assert pq.read_schema(next((tmp_path / "l.parquet").iterdir())).names == result.json["columns"]
    assert "warning: 1 of 5 rows have an error, in the column error" in result.err
    decoded = encode(grey, pictures, "-o", tmp_path / "l.parquet", "--resume", "--json")
    assert decoded.json["kept"] == 1
    (pictures / "2.png").unlink()
    encode(grey, pictures, "-o", tmp_path / "l.npy")
    for latents, output in (("l.parquet/", "a.npy"), ("l.npy", "b.npy")):
        assert vae("decode", "--run", grey, tmp_path / latents, "-o", tmp_path / output, "--device", "cpu").code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_a_job_that_is_resumed_draws_with_its_seed(grey: Path, pictures: Path, tmp_path: Path) -> None:
    first = encode(grey, pictures, "-o", tmp_path / "l.parquet", "--stochastic", "--workers", "1", "--json")
    again = encode(grey, pictures, "-o", tmp_path / "l.parquet", "--stochastic", "--resume", "--json")
    assert first.json["seed"] == again.json["seed"]
    assert "seed" in first.err
    assert again.json["kept"] == 1


@pytest.mark.parametrize("flag", [("--workers", "2"), ("--ray", "local"), ("--resume",)], ids=str)
def test_flags_of_a_job_are_for_parquet_folders(flag: tuple[str, ...], grey: Path, blobs: Path, tmp_path: Path) -> None:
    assert_refused(encode(grey, blobs, "-o", tmp_path / "l.npy", *flag), 2, flag[0], "NAME.parquet/")


def test_a_job_that_is_interrupted_exits_with_130_and_is_resumed(grey: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "many.npy", np.random.default_rng(0).integers(0, 256, (6_000, 8, 8), np.uint8))
    command = [sys.executable, "-m", "vaecli", "encode", tmp_path / "many.npy", "--run", grey, "--workers", "2"]
    command += ["--batch-size", "1", "--device", "cpu", "-o", tmp_path / "l.parquet"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(
        list(map(str, command)), stderr=subprocess.PIPE, env=environment, preexec_fn=heed_interrupts
    ) as process:
        while process.poll() is None and not list(tmp_path.glob("l.parquet/part*")):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read().decode()
    assert exit_code(process) == 130, said
    assert "of 32 blocks are finished" in said
    assert "Traceback" not in said
    before = len(list(tmp_path.glob("l.parquet/*")))
    assert 0 < before < 32
    resumed = encode(grey, tmp_path / "many.npy", "-o", tmp_path / "l.parquet", "--workers", "2", "--resume", "--json")
    assert resumed.json.items() >= {"n": 6_000, "blocks": 32, "kept": before}.items()


@pytest.mark.parametrize(("package", "flags"), [("pyarrow", ()), ("ray", ("--ray", "local"))])
def test_what_a_job_needs_is_named(
    package: str, flags: tuple[str, ...], grey: Path, blobs: Path, tmp_path: Path
) -> None:
    done = run_without_torch(
        VAE, "encode", str(blobs), "--run", grey, "-o", tmp_path / "l.parquet", *flags, blocked=(package,)
    )
    extra = {"pyarrow": "parquet", "ray": "ray"}[package]
    assert_refused(Result(done.returncode, b"", done.stderr.decode()), 1, f"needs {package}", f"vaecli[{extra}]")
