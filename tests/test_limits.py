"""What a file may ask of this machine: sizes are refused before anything is unpacked, devices before they are read."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.command_line import assert_refused, vae, vae_process
from tests.datasets.set_files import idx_bytes, little_mnist
from vaecli import limits
from vaecli.errors import UsageError, VaeError

MILLION = 10**6


def squeezed(path: Path, **arrays: np.ndarray) -> Path:
    """An .npz that is much smaller than what it holds."""
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # NumPy's own stub takes no mapping of arrays
    return path


def test_what_is_packed_may_not_be_much_larger_than_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    limits.check_unpacked(limits.UNPACKED, 1, "x")
    limits.check_unpacked(100 * limits.UNPACKED, 10 * limits.UNPACKED, "x")  # hardly packed
    with pytest.raises(VaeError, match=r"x: unpacks to 2,000 MB, from 1\.0 MB\nhint: .*VAE_MAX_MEGABYTES=2000"):
        limits.check_unpacked(2000 * MILLION, MILLION, "x")
    monkeypatch.setenv("VAE_MAX_MEGABYTES", "2000")
    limits.check_unpacked(2000 * MILLION, MILLION, "x")
    monkeypatch.setenv("VAE_MAX_MEGABYTES", "many")
    with pytest.raises(UsageError, match="VAE_MAX_MEGABYTES many: expected a whole number"):
        limits.check_unpacked(1, 1, "x")


@pytest.mark.parametrize("variable", ["VAE_MAX_MEGAPIXELS", "VAE_MAX_MEGABYTES"])
def test_a_limit_is_a_number_or_not_set(
    variable: str, grey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    command = ("encode", tmp_path, "--run", grey, "-o", tmp_path / "a.npy")
    monkeypatch.setenv(variable, "abc")
    assert_refused(vae(*command), 2, f"{variable} abc: expected a whole number")
    monkeypatch.setenv(variable, "")
    assert vae(*command).code == 0


def test_a_stream_is_read_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAE_MAX_MEGABYTES", "2")
    assert limits.read_stream(io.BytesIO(bytes(2 * MILLION)), "x") == bytes(2 * MILLION)
    endless = io.BytesIO(bytes(9 * MILLION))
    with pytest.raises(VaeError, match="x: more than 2 MB come out of it"):
        limits.read_stream(endless, "x")
    assert endless.tell() < 4 * MILLION


@pytest.mark.parametrize("what", ["pictures", "labels", "latents", "names"])
def test_an_archive_is_refused_before_it_is_unpacked(
    what: str, grey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAE_MAX_MEGABYTES", "1")
    many, output = np.zeros((20_000, 8, 8), np.uint8), tmp_path / "o.npy"
    if what == "pictures":
        path = squeezed(tmp_path / "a.npz", x=many)
        result = vae("encode", path, "--run", grey, "-o", output)
    elif what == "labels":
        path = squeezed(tmp_path / "a.npz", x=many[:100], y=np.zeros(2 * MILLION, np.uint8))
        result = vae("evaluate", "--data", path, "--run", grey, "--importance-samples", "1")
        assert result.code == 0, result.err  # the pictures can be had without them
        return
    elif what == "latents":
        path = squeezed(tmp_path / "a.npz", latent=np.zeros((100_000, 2)))
        result = vae("decode", path, "--run", grey, "-o", output)
    else:
        path = squeezed(tmp_path / "a.npz", latent=np.zeros((1, 2)), name=np.array(["a" * MILLION]))
        result = vae("decode", path, "--run", grey, "-o", output)
    assert_refused(result, 1, f"{path}", "unpacks to", "VAE_MAX_MEGABYTES=")
    assert not output.exists()


def test_a_header_cannot_hide_how_much_is_unpacked(grey: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 8, 8)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(100))
    assert_refused(vae("encode", path, "--run", grey, "-o", tmp_path / "o.npy"), 1, "a.npz: damaged array file")


def test_a_gzipped_idx_file_is_unpacked_up_to_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = little_mnist(tmp_path) / "MNIST" / "raw"
    (raw / "train-images-idx3-ubyte").unlink()
    packed = raw / "train-images-idx3-ubyte.gz"
    packed.write_bytes(gzip.compress(idx_bytes(np.zeros((4000, 28, 28), np.uint8))))
    monkeypatch.setenv("VAE_MAX_MEGABYTES", "3")
    result = vae("train", "--data", "mnist", "--data-dir", tmp_path, "--run", tmp_path / "run", "--epochs", "1")
    assert_refused(result, 1, f"{packed}: more than 3 MB come out of it")


def test_a_checkpoint_is_refused_before_it_is_unpacked(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"zeros": torch.zeros(10**6)}, run / "plain.pt")
    with (
        zipfile.ZipFile(run / "plain.pt") as plain,
        zipfile.ZipFile(run / "best.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for part in plain.infolist():
            packed.writestr(part.filename, plain.read(part))
    monkeypatch.setenv("VAE_MAX_MEGABYTES", "1")
    assert_refused(vae("export", "--run", run), 1, "best.pt: unpacks to 4 MB")


@pytest.mark.parametrize(
    "command",
    [
        ("encode", "/dev/zero", "-o", "o.npy"),
        ("encode", "a.png", "-o", "o.npy"),
        ("encode", "a.npy", "-o", "o.npy"),
        ("encode", "a.npz", "-o", "o.npy"),
        ("encode", "--files-from", "list.txt", "-o", "o.npy"),
        ("score", "--files-from", "/dev/zero"),
        ("decode", "/dev/zero", "-o", "o.png"),
        ("decode", "a.npy", "-o", "o.png"),
        ("evaluate", "--data", "a.npy"),
        ("evaluate", "--data", "a.png"),
        ("train", "--config", "/dev/zero", "--print-config"),
        ("info", "decoder.onnx"),
    ],
)
def test_devices_are_refused_wherever_a_file_is_named(
    command: tuple[str, ...], grey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAE_RUN", str(grey))
    for name in ("a.png", "a.npy", "a.npz", "decoder.onnx"):
        Path(name).symlink_to("/dev/zero")
    Path("list.txt").write_text("a.png\n")
    assert_refused(vae(*command), 1, "is a device or a pipe, not a file")


def test_nothing_in_a_run_folder_is_waited_for(run: Path) -> None:
    for name in ("config.json", "metrics.jsonl", "best.pt", "encoder.onnx"):
        (run / name).unlink()
        os.mkfifo(run / name)
    for command in ("info", "export", "evaluate"):
        result = vae(command, *(["--run"] if command != "info" else []), run)
        assert "is a device or a pipe, not a file" in result.err, command


def test_a_pipe_is_read_up_to_the_limit(grey: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), pipe.open("wb") as stream:
            for _ in range(9):
                stream.write(bytes(MILLION))

    writer = threading.Thread(target=write)
    writer.start()
    result = vae_process("encode", pipe, "--run", grey, "-o", tmp_path / "o.npy", env={"VAE_MAX_MEGABYTES": "3"})
    writer.join()
    assert_refused(result, 1, f"{pipe}: more than 3 MB come out of it")
