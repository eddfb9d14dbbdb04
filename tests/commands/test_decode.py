"""`vae decode` through its command line: from every form of latents to every form of pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.command_line import Result, assert_refused, vae, vae_process
from tests.pictures.packing import parquet
from tests.test_using_without_torch import VAE
from tests.test_using_without_torch import run as run_without_torch
from tests.tiny_model import write_pair
from vaecli import load


def decode(run: Path, *more: str | Path) -> Result:
    return vae("decode", "--run", run, "--device", "cpu", *more)


@pytest.fixture
def latents(tmp_path: Path) -> Path:
    path = tmp_path / "latents.npy"
    np.save(path, np.random.default_rng(0).standard_normal((6, 2)).astype(np.float32))
    return path


@pytest.mark.parametrize("form", ["npy", "npz", "csv", "jsonl"])
def test_the_way_back_from_what_encode_writes(grey: Path, blobs: Path, tmp_path: Path, form: str) -> None:
    assert vae("encode", blobs, "--run", grey, "-o", tmp_path / f"l.{form}", "--device", "cpu").code == 0
    expected = load(grey, "cpu").reconstruct(np.load(blobs))
    result = decode(grey, tmp_path / f"l.{form}", "-o", tmp_path / "o.npy", "--dtype", "float32", "--json")
    assert result.json["n"] == 120
    assert result.json["provider"] == "CPUExecutionProvider"
    np.testing.assert_allclose(np.load(tmp_path / "o.npy"), expected, atol=1e-6)
    piped = vae_process(
        "decode", "-", "--run", grey, "-o", tmp_path / "p.npy", stdin=(tmp_path / f"l.{form}").read_bytes()
    )
    assert piped.code == 0, piped.err
    assert np.abs(np.load(tmp_path / "p.npy") / 255 - expected).max() < 0.51 / 255 + 1e-4


def test_every_form_of_pictures(colour: Path, latents: Path, tmp_path: Path) -> None:
    for name in ("o.png", "o.jpg", "o.webp"):
        result = decode(colour, latents, "-o", tmp_path / name, "--columns", "3", "--scale", "2", "--json")
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (3 * 24 + 4, 2 * 20 + 2) == (result.json["width"], result.json["height"])
    decode(colour, latents, "-o", tmp_path / "o.npy")
    assert np.load(tmp_path / "o.npy").shape == (6, 10, 12, 3)
    decode(colour, latents, "-o", f"{tmp_path}/out/")
    assert len(list((tmp_path / "out").glob("*.png"))) == 6
    stdout = decode(colour, latents, "-o", "-").stdout
    assert stdout.startswith(b"\x89PNG")


def test_names_are_kept(grey: Path, tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("name,mean_0,mean_1\npics/cat.jpg,0,1\npics/dog.png,1,0\nx.npy[7],2,2\n")
    decode(grey, tmp_path / "l.csv", "-o", f"{tmp_path}/out/")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["cat.png", "dog.png", "x-0007.png"]


def test_no_batch_size_changes_a_picture(grey: Path, latents: Path, tmp_path: Path) -> None:
    for size in ("1", "4", "100"):
        decode(grey, latents, "-o", tmp_path / f"{size}.npy", "--batch-size", size, "--dtype", "float32")
    one = np.load(tmp_path / "1.npy")
    for size in ("4", "100"):
        np.testing.assert_allclose(np.load(tmp_path / f"{size}.npy"), one, atol=1e-6)


def test_nothing_is_left_of_what_failed(grey: Path, tmp_path: Path) -> None:
    rows = np.zeros((700, 2), np.float32)
    rows[600] = np.nan
    np.save(tmp_path / "l.npy", rows)
    for name in ("o.png", "o.npy", "out/"):
        result = decode(grey, tmp_path / "l.npy", "-o", f"{tmp_path}/{name}", "--batch-size", "100")
        assert_refused(result, 1, "l.npy", "latent 600")
    assert [path.name for path in tmp_path.iterdir()] == ["l.npy"]


def test_the_latents_are_never_written_over(grey: Path, latents: Path) -> None:
    before = latents.read_bytes()
    assert_refused(decode(grey, latents, "-o", latents), 2, "latents.npy")
    assert latents.read_bytes() == before


def test_latents_of_another_model(grey: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", np.zeros((3, 20), np.float32))
    assert_refused(decode(grey, tmp_path / "l.npy", "-o", tmp_path / "o.png"), 1, "20 dimensions", "model's 2")


def test_latents_that_another_model_has_encoded_are_told(grey: Path, blobs: Path, tmp_path: Path) -> None:
    other = write_pair(tmp_path / "other", seed=1)
    told = "warning: another model has encoded these latents"
    for form in ("l.npz", "l.parquet/"):
        assert vae("encode", blobs, "--run", grey, "-o", f"{tmp_path}/{form}").code == 0
        for output in ("o.npy", "o.parquet/"):
            assert told not in decode(grey, f"{tmp_path}/{form}", "-o", f"{tmp_path}/{form[2:5]}-own-{output}").err
            assert told in decode(other, f"{tmp_path}/{form}", "-o", f"{tmp_path}/{form[2:5]}-{output}", "-q").err
    pattern = f"{tmp_path}/l.parquet/*.parquet"
    assert told in decode(other, pattern, "-o", tmp_path / "by-pattern.npy", "-q").err


def test_a_second_export_of_the_same_weights_is_the_same_model(run: Path, blobs: Path, tmp_path: Path) -> None:
    assert vae("encode", blobs, "--run", run, "-o", f"{tmp_path}/l.parquet/").code == 0
    assert vae("export", "--run", run, "--prior", "normal").code == 0
    for output in ("o.npy", "o.parquet/"):
        assert "another model" not in decode(run, f"{tmp_path}/l.parquet/", "-o", f"{tmp_path}/{output}").err


def test_wrong_usage(grey: Path, latents: Path, tmp_path: Path) -> None:
    assert_refused(decode(grey, "-o", tmp_path / "o.png"), 2, "LATENTS")
    assert_refused(decode(grey, latents), 2, "--output")
    assert_refused(decode(grey, latents, "-o", tmp_path / "o.gif"), 2, "o.gif")
    assert_refused(decode(grey, tmp_path / "gone.csv", "-o", tmp_path / "o.png"), 1, "gone.csv")
    assert_refused(decode(grey, latents, "-o", tmp_path / "o.npy", "--scale", "2"), 2, "--scale")


def test_it_needs_no_torch(grey: Path, latents: Path, tmp_path: Path) -> None:
    done = run_without_torch(VAE, "decode", str(latents), "--run", grey, "-o", tmp_path / "o.png", "--json")
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["n"] == 6


def test_rows_without_a_latent_are_skipped_with_a_warning(grey: Path, tmp_path: Path) -> None:
    parquet(tmp_path / "l.parquet", mean=[[1.0, 2.0], None, [0.0, 1.0]], name=["a.png", "b.png", "c.png"])
    result = decode(grey, tmp_path / "l.parquet", "-o", f"{tmp_path}/out/", "--json", "--quiet")
    assert (result.json["n"], result.json["skipped"]) == (2, 1)
    assert result.err == "warning: skipped 1 of 3 rows without a latent\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    np.save(tmp_path / "l.npy", np.zeros((3, 2)))
    assert decode(grey, tmp_path / "l.npy", "-o", tmp_path / "o.npy", "--json").json["skipped"] == 0


def test_a_parquet_folder_of_pictures(grey: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", np.zeros((3, 2)))
    command = ("decode", "--run", grey, "--device", "cpu", tmp_path / "l.npy", "--workers", "1")
    result = vae(*command, "-o", f"{tmp_path}/d.parquet/", "--json")
    assert (result.json["n"], result.json["errors"], result.json["columns"]) == (3, 0, ["name", "image", "error"])
    assert len(load(grey, "cpu").read(tmp_path / "d.parquet").images) == 3
    assert_refused(vae(*command, "-o", f"{tmp_path}/e.parquet/", "--scale", "2"), 2, "--scale", "NAME.parquet/")
