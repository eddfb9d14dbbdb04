"""Reading latents: every format that `vae encode` writes, what other programs write, and files of something else."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.pictures.packing import parquet
from vaecli.errors import UsageError, VaeError
from vaecli.inference.latent_files import StoredLatents, read_latents
from vaecli.tables import table_output

LATENTS = np.array([[0.5, -1.25], [2, 3e-5], [-7, 0]], np.float32)
ROWS = "0.5,-1.25\n2,3e-5\n-7,0\n"


def assert_read(stored: StoredLatents, names: list[str] | None = None) -> None:
    for size in (1, 2, 10):
        batches = list(stored.batches(size))
        assert all(batch.dtype == np.float32 and len(batch) <= size for batch in batches)
        np.testing.assert_array_equal(np.concatenate(batches), LATENTS)
    assert stored.names == names
    assert len(stored) == 3


@pytest.mark.parametrize(
    "text",
    [
        ROWS,
        "z1,z2\n" + ROWS,
        "mean_1,std_0,mean_0\n-1.25,9,0.5\n3e-5,9,2\n0,9,-7\n",
        "mean_0,latent_0,latent_1\n9,0.5,-1.25\n9,2,3e-5\n9,-7,0\n",
        ROWS.replace("\n", "\r\n"),
        "z0,std_0,z1\n0.5,9,-1.25\n2,9,3e-5\n-7,9,0\n",
        "\ufeff" + ROWS,
        "\ufeff[[0.5, -1.25], [2, 3e-5], [-7, 0]]",
        "\n0.5,-1.25\n\n2,3e-5\n-7,0",
        "[0.5, -1.25]\n[2, 3e-5]\n\n[-7, 0]\n",
        "[[0.5, -1.25], [2, 3e-5], [-7, 0]]",
        '{"mean": [9, 9], "latent": [0.5, -1.25]}\n{"latent": [2, 3e-5]}\n{"mean": [-7, 0]}\n',
    ],
    ids=range(12),
)
def test_text_without_names(tmp_path: Path, text: str) -> None:
    (tmp_path / "l").write_text(text, newline="", encoding="utf-8")
    assert_read(read_latents(str(tmp_path / "l"), 2))


@pytest.mark.parametrize(
    "text",
    [
        'name,mean_0,mean_1\n"a,b",0.5,-1.25\nc,2,3e-5\né,-7,0\n',
        'mean_0,name,mean_1\n0.5,"a,b",-1.25\n2,c,3e-5\n-7,é,0\n',
        '"a,b",0.5,-1.25\nc,2,3e-5\né,-7,0\n',
        '{"name": "a,b", "mean": [0.5, -1.25]}\n{"name": "c", "mean": [2, 3e-5]}\n{"mean": [-7, 0], "name": "é"}\n',
    ],
    ids=range(4),
)
def test_text_with_names(tmp_path: Path, text: str) -> None:
    (tmp_path / "l").write_text(text, encoding="utf-8")
    assert_read(read_latents(str(tmp_path / "l"), 2), ["a,b", "c", "é"])


def test_arrays(tmp_path: Path) -> None:
    path = tmp_path / "l.npy"
    for array in (LATENTS, LATENTS.astype(np.float64), np.asfortranarray(LATENTS)):
        np.save(path, array)
        assert_read(read_latents(str(path), 2))
    np.save(path, np.arange(6).reshape(3, 2))
    assert next(read_latents(str(path), 2).batches(1)).tolist() == [[0, 1]]


def test_archives(tmp_path: Path) -> None:
    path, others = tmp_path / "l.npz", LATENTS + 1
    np.savez(path, LATENTS)
    assert_read(read_latents(str(path), 2))
    np.savez_compressed(path, std=others, mean=LATENTS)
    assert_read(read_latents(str(path), 2))
    np.savez(path, mean=others, latent=LATENTS, name=np.array(["a", "b", "c"]))
    assert_read(read_latents(str(path), 2), ["a", "b", "c"])


@pytest.mark.parametrize("ending", ["npy", "npz", "csv", "jsonl"])
def test_stdin_is_told_apart_by_its_first_bytes(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    if ending == "npy":
        np.save(content, LATENTS)
    elif ending == "npz":
        np.savez(content, latent=LATENTS)
    else:
        content.write({"csv": ROWS, "jsonl": json.dumps(LATENTS.tolist())}[ending].encode())
    content.seek(0)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content))
    assert_read(read_latents("-", 2))


def test_one_dimension(tmp_path: Path) -> None:
    for text in ("mean_0\n0.5\n2\n", "0.5\n2\n", "name,mean_0\na,0.5\nb,2\n", "a,0.5\nb,2\n"):
        (tmp_path / "l").write_text(text)
        assert np.concatenate(list(read_latents(str(tmp_path / "l"), 1).batches(9))).tolist() == [[0.5], [2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no latents"),
        (" \n\n", "holds no latents"),
        ("mean_0,mean_1\n", "holds no latents"),
        ("[]\n", "holds no latents"),
        ("to whom it may concern", "holds no latents"),
        ("0.5,1,2\n", "have 3 dimensions, this model's 2"),
        ("0.5,1\n2\n", "latent 1 (from 0): 1 cells, the first line has 2"),
        ("a,b\n0.5,1\n2,x\n", "latent 1 (from 0): could not convert string to float: 'x'"),
        ("0.5,1\n2,\n", "latent 1 (from 0): could not convert"),
        ('0.5,1\n2,"3', "latent 1 (from 0): unexpected end of data"),
        ("[0.5, 1]\n\n[2]\n", "latent 1 (from 0): 1 numbers, those before it have 2"),
        ("[0.5, 1]\n[2, null]\n", "latent 1 (from 0): Expected float | array, got null - at $[1]"),
        ("[0.5, 1]\n[2, true]\n", "latent 1 (from 0): Expected float | array, got bool - at $[1]"),
        ("[0.5, 1]\n[2, 3\n", "latent 1 (from 0): Input data was truncated"),
        ("[0.5, 1]\nx\n", "latent 1 (from 0): JSON is malformed"),
        ('{"std": [0.5, 1]}\n', "holds no latents"),
        ('{"mean": [0.5, 1]}\n{"std": [2, 3]}\n', "latent 1 (from 0): 0 numbers, those before it have 2"),
        ('{"mean": "0.5, 1"}\n', "latent 0 (from 0): Expected array, got str - at $.mean"),
        ("[" * 100_000, "latent 0 (from 0): Expected float, got array - at $[0][0]"),
        ('{"x": ' + "[" * 100_000, "latent 0 (from 0): maximum recursion depth"),
        ("[[0.5, 1], [2]]\n", "latent 1 (from 0): 1 numbers, those before it have 2"),
        ("[[0.5, 1], 2]\n", "latent 1 (from 0): 1 numbers, those before it have 2"),
        ("[1, 2" + "0" * 400 + "]", "latent 0 (from 0): Number out of range"),
        ('{"name": "a", "mean": [0.5, 1]}\n{"mean": [2, 3]}\n', "1 names for 2 latents"),
    ],
    ids=range(24),
)
def test_text_that_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(VaeError) as refusal:
        read_latents(str(tmp_path / "l.csv"), 2)
    assert message in refusal.value.message
    assert str(tmp_path / "l.csv") in refusal.value.message


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros(2), "shape (2,)"),
        (np.zeros((3, 8, 8)), "shape (3, 8, 8)"),
        (np.zeros((0, 2)), "no latents"),
        (np.zeros((3, 5)), "5 dimensions"),
        (np.zeros((3, 2), np.complex64), "complex64"),
        (np.zeros((3, 2), bool), "bool"),
        (np.array([["a", "b"]]), "<U1"),
    ],
    ids=range(7),
)
def test_arrays_that_are_refused(tmp_path: Path, array: np.ndarray, word: str) -> None:
    np.save(tmp_path / "l.npy", array)
    with pytest.raises(VaeError) as refusal:
        read_latents(str(tmp_path / "l.npy"), 2)
    assert word in refusal.value.message


def test_archives_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.npz"
    np.savez(path, a=LATENTS, b=LATENTS)
    with pytest.raises(VaeError) as refusal:
        read_latents(str(path), 2)
    assert "a, b" in refusal.value.message
    np.savez(path, mean=LATENTS, name=np.array(["a"]))
    with pytest.raises(VaeError) as refusal:
        read_latents(str(path), 2)
    assert "1 names for 3" in refusal.value.message


class Trap:
    """Unpickling it writes to stdout."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("sprung",)


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_nothing_is_unpickled(
    tmp_path: Path, ending: str, piped: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, trap = tmp_path / "l", np.array([[Trap()]], dtype=object)
    with path.open("wb") as stream:
        np.save(stream, trap, allow_pickle=True) if ending == "npy" else np.savez(stream, mean=trap)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    with pytest.raises(VaeError):
        read_latents("-" if piped else str(path), 1)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_files_cut_short(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "l"
    with path.open("wb") as stream:
        np.save(stream, LATENTS) if ending == "npy" else np.savez(stream, mean=LATENTS)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(VaeError) as refusal:
        read_latents(str(path), 2)
    assert "damaged" in refusal.value.message


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("name", ["l.npy", "l.csv"])
def test_numbers_that_are_not_finite(tmp_path: Path, bad: float, name: str) -> None:
    rows = np.zeros((5, 2))
    rows[3, 1] = bad
    if name == "l.npy":
        np.save(tmp_path / name, rows)
    else:
        np.savetxt(tmp_path / name, rows, delimiter=",")
    stored = read_latents(str(tmp_path / name), 2)
    with pytest.raises(VaeError) as refusal:
        list(stored.batches(2))
    assert "latent 3" in refusal.value.message


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    with pytest.raises(VaeError) as refusal:
        read_latents(str(tmp_path / "l.csv"), 2)
    assert "neither an array nor text" in refusal.value.message


def test_no_such_file_a_folder_and_no_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, word in ((tmp_path / "gone.csv", "no such file"), (tmp_path, "folder")):
        with pytest.raises(VaeError) as refusal:
            read_latents(str(path), 2)
        assert word in refusal.value.message
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError):
        read_latents("-", 2)


def test_a_pipe_with_a_name(tmp_path: Path) -> None:
    """What a shell makes of <(vae encode …): it can be read only once, from its beginning."""
    os.mkfifo(tmp_path / "pipe")
    content = io.BytesIO()
    np.save(content, LATENTS)
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(content.getvalue(),))
    writer.start()
    stored = read_latents(str(tmp_path / "pipe"), 2)
    writer.join()
    assert_read(stored)


@pytest.mark.parametrize("ending", ["npy", "npz", "csv", "parquet", "parquet/"])
@pytest.mark.parametrize("options", ["", "?a=b"])
def test_latents_at_an_address(tmp_path: Path, ending: str, options: str) -> None:
    path, names = tmp_path / f"l.{ending}", None if ending == "npy" else list("abc")
    if ending.startswith("parquet"):
        for part in range(3 if ending.endswith("/") else 1):
            rows = slice(part, part + 1) if ending.endswith("/") else slice(3)
            file = path / f"{part}.parquet" if ending.endswith("/") else path
            file.parent.mkdir(exist_ok=True)
            parquet(file, mean=LATENTS[rows].tolist(), name="abc"[rows])
    else:
        with table_output(str(path), {"mean": 2}, on_stdout="npy").open(3) as writer:
            writer.write("abc", [LATENTS])
    assert_read(read_latents(f"file://{tmp_path}/l.{ending}{options}", 2), names)
    with pytest.raises(VaeError, match=f"file://{tmp_path}/no.{ending}{re.escape(options)}: "):
        read_latents(f"file://{tmp_path}/no.{ending}{options}", 2)


def test_rows_without_a_latent_are_counted(tmp_path: Path) -> None:
    parquet(tmp_path / "l.parquet", mean=[None, *LATENTS.tolist(), None], name="xabcy")
    stored = read_latents(str(tmp_path / "l.parquet"), 2)
    assert_read(stored, list("abc"))
    assert stored.skipped == 2


def test_a_pattern_of_parquet_files(tmp_path: Path) -> None:
    for part, name in enumerate("abc"):
        parquet(tmp_path / f"{part}.parquet", mean=LATENTS[part : part + 1].tolist(), name=name)
    assert_read(read_latents(f"{tmp_path}/*.parquet", 2), list("abc"))


def test_a_name_that_is_no_text_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "l.jsonl").write_text('{"name": 1, "mean": [0.5, -1.25]}\n[2, 3e-5]\n[-7, 0]\n')
    assert_read(read_latents(str(tmp_path / "l.jsonl"), 2))


@pytest.mark.parametrize("ending", ["npy", "npz", "csv", "jsonl"])
def test_what_a_table_holds_is_read_back(tmp_path: Path, ending: str) -> None:
    path, names = tmp_path / f"l.{ending}", ["a,b.png", "c.png", "é.png"]
    columns: dict[str, int | None] = {"mean": 2} if ending == "npy" else {"mean": 2, "std": 2}
    with table_output(str(path), columns, on_stdout="npy").open(3) as writer:
        writer.write(names, [LATENTS, LATENTS + 1][: len(columns)])
    assert_read(read_latents(str(path), 2), None if ending == "npy" else names)
