"""Tables of numbers in every format: what is in them, that rows are streamed, what is refused."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vaecli.errors import UsageError, VaeError
from vaecli.inference.latent_files import read_latents
from vaecli.tables import Columns, table_output

ENDINGS = ["npy", "npz", "csv", "jsonl"]
NAMES = ["1.png", 'a "b", c.png', "é\n.png"]
MEANS = np.array([[0.1, -1.5], [2, 3e-5], [-7, 1 / 3]], np.float32)
SCORES = np.array([1.25, 100.0625, -3e7], np.float64)


def write(path: Path, columns: Columns, *values: NDArray[Any], names: list[str] = NAMES, at_once: int = 2) -> None:
    output = table_output(str(path), columns, on_stdout="npy")
    with output.open(len(names)) as writer:
        for start in range(0, len(names), at_once):
            rows = slice(start, start + at_once)
            writer.write(names[rows], [column[rows] for column in values])


def test_an_array_is_of_the_numbers_alone(tmp_path: Path) -> None:
    for columns, values, expected in (({"mean": 2}, MEANS, MEANS), ({"kl": None}, SCORES, SCORES.astype(np.float32))):
        write(tmp_path / "t.npy", columns, values)
        stored = np.load(tmp_path / "t.npy")
        assert stored.dtype == np.float32
        np.testing.assert_array_equal(stored, expected)


def test_an_archive_has_an_array_a_column_and_one_of_names(tmp_path: Path) -> None:
    write(tmp_path / "t.npz", {"mean": 2, "kl": None}, MEANS, SCORES)
    with np.load(tmp_path / "t.npz") as stored:
        assert sorted(stored.files) == ["kl", "mean", "name"]
        assert stored["name"].tolist() == NAMES
        np.testing.assert_array_equal(stored["mean"], MEANS)
        np.testing.assert_array_equal(stored["kl"], SCORES.astype(np.float32))


def test_a_csv_has_headings_and_a_column_a_number(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", {"mean": 2, "kl": None}, MEANS, SCORES)
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as stream:
        heading, *rows = csv.reader(stream)
    assert heading == ["name", "mean_0", "mean_1", "kl"]
    assert [row[0] for row in rows] == NAMES
    np.testing.assert_array_equal(np.array([row[1:3] for row in rows], np.float32), MEANS)
    assert [float(row[3]) for row in rows] == SCORES.tolist()


def test_every_name_in_a_csv_is_read_back(tmp_path: Path) -> None:
    names = ["a\r.png", "\r", "b\r\nc"]
    write(tmp_path / "t.csv", {"mean": 2}, MEANS, names=names)
    stored = read_latents(str(tmp_path / "t.csv"), 2)
    assert stored.names == names
    np.testing.assert_array_equal(np.float32(stored.rows), MEANS)
    assert (tmp_path / "t.csv").read_bytes().startswith(b"name,mean_0,mean_1\n")


def test_a_jsonl_has_an_object_a_row(tmp_path: Path) -> None:
    write(tmp_path / "t.jsonl", {"mean": 2, "kl": None}, MEANS, SCORES)
    rows = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [list(row) for row in rows] == 3 * [["name", "mean", "kl"]]
    assert [row["name"] for row in rows] == NAMES
    np.testing.assert_array_equal(np.array([row["mean"] for row in rows], np.float32), MEANS)
    assert [row["kl"] for row in rows] == SCORES.tolist()


def test_numbers_have_as_few_digits_as_tell_float32_apart(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", {"mean": 2}, MEANS)
    write(tmp_path / "t.jsonl", {"mean": 2}, MEANS)
    assert "0.1,-1.5" in (tmp_path / "t.csv").read_text(encoding="utf-8")
    assert "0.33333334\n" in (tmp_path / "t.csv").read_text(encoding="utf-8")
    assert '"mean":[0.1,-1.5]' in (tmp_path / "t.jsonl").read_text(encoding="utf-8")
    assert "0.33333334]" in (tmp_path / "t.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_text_keeps_every_bit(tmp_path: Path, ending: str) -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 2000, np.uint32).view(np.float32)
    numbers = bits[np.isfinite(bits)]
    write(tmp_path / f"t.{ending}", {"kl": None}, numbers, names=["x"] * len(numbers), at_once=500)
    text = (tmp_path / f"t.{ending}").read_text()
    if ending == "csv":
        read = [row[1] for row in csv.reader(io.StringIO(text))][1:]
    else:
        read = [json.loads(line)["kl"] for line in text.splitlines()]
    np.testing.assert_array_equal(np.array(read, np.float32), numbers)


def test_a_number_that_is_not_finite_is_valid_json(tmp_path: Path) -> None:
    write(tmp_path / "t.jsonl", {"kl": None}, np.array([np.nan, np.inf, 1]))
    assert [json.loads(line)["kl"] for line in (tmp_path / "t.jsonl").read_text().splitlines()] == [None, None, 1]


@pytest.mark.parametrize("ending", ["npz", "csv", "jsonl"])
def test_names_that_are_not_utf8(tmp_path: Path, ending: str) -> None:
    strange = os.fsdecode(b"\xff.png")
    write(tmp_path / f"t.{ending}", {"mean": 2}, MEANS[:1], names=[strange])
    if ending == "npz":
        with np.load(tmp_path / "t.npz") as stored:
            assert stored["name"].tolist() == [r"\xff.png"]
    else:
        written = (tmp_path / f"t.{ending}").read_text(encoding="utf-8")
        assert (r"\\xff.png" if ending == "jsonl" else r"\xff.png") in written


@pytest.mark.parametrize("ending", ENDINGS)
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, ending: str) -> None:
    names, rows, batches = ["x"] * 250, np.zeros((250, 20), np.float32), 40
    output = table_output(str(tmp_path / f"t.{ending}"), {"mean": 20}, on_stdout="npy")
    with output.open(250 * batches) as writer:
        writer.write(names, [rows])  # what is allocated once
        tracemalloc.start()
        for _ in range(batches - 1):
            writer.write(names, [rows])
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert max(held, peak) < batches * rows.nbytes / 2


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_failure_leaves_the_old_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t.{ending}"
    path.write_bytes(b"mine")

    def fail() -> None:
        with table_output(str(path), {"mean": 2}, on_stdout="npy").open(3) as writer:
            writer.write(NAMES[:1], [MEANS[:1]])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_full_disk_is_an_error(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"t.{ending}").symlink_to("/dev/full")
    with pytest.raises(VaeError, match="no room left"):
        write(tmp_path / f"t.{ending}", {"mean": 2}, MEANS)


def test_on_stdout(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    output = table_output("-", {"kl": None}, on_stdout="csv")
    assert (output.destination.name, output.format) == ("-", "csv")
    with output.open(1) as writer:
        writer.write(["a"], [np.array([0.5])])
    assert capsysbinary.readouterr().out == b"name,kl\na,0.5\n"


def test_a_file_that_exists_may_be_kept(tmp_path: Path) -> None:
    output = table_output(str(tmp_path / "t.csv"), {"kl": None}, on_stdout="csv", clobber=False)
    (tmp_path / "t.csv").write_text("mine")
    with pytest.raises(VaeError, match="exists already"), output.open(1):
        pass
    assert (tmp_path / "t.csv").read_text() == "mine"


def test_several_columns_need_more_than_one_array(tmp_path: Path) -> None:
    for name in (str(tmp_path / "t.npy"), "-"):
        with pytest.raises(UsageError, match="mean, std") as refusal:
            table_output(name, {"mean": 2, "std": 2}, on_stdout="npy")
        assert ".npz" in refusal.value.hint


def test_what_is_read_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "t.npy").write_bytes(b"mine")
    (tmp_path / "link.npy").symlink_to(tmp_path / "t.npy")
    for name in ("t.npy", "link.npy"):
        with pytest.raises(UsageError, match="one of the files to read"):
            table_output(
                str(tmp_path / name), {"mean": 2}, on_stdout="npy", sources=["-", str(tmp_path / "." / "t.npy")]
            )


def test_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no format has this ending"):
        table_output("t.png", {"mean": 2}, on_stdout="npy")
    with pytest.raises(UsageError, match="both write to stdout"):
        table_output("-", {"mean": 2}, on_stdout="csv", json=True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(UsageError, match="terminal"):
        table_output("-", {"mean": 2}, on_stdout="npy")


@pytest.mark.parametrize("ending", ["npz", "csv", "jsonl"])
def test_a_column_of_classes(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{ending}"
    output = table_output(str(path), {"mean": None}, on_stdout="npy").having(["mean"], 2, labelled=True)
    with output.open(3) as writer:
        writer.write(NAMES, [MEANS], ["cat", None, "a, b"])
    stored = read_latents(str(path), 2)
    assert (stored.names, stored.labels) == (NAMES, ["cat", "", "a, b"])
    np.testing.assert_array_equal(np.asarray(stored.rows, np.float32), MEANS)
