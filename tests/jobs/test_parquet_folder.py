"""The folder of Parquet files: what is in a file, who may write to the folder, and who reads it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.jobs.reading import rows_of
from vaecli.errors import VaeError
from vaecli.events import Changes
from vaecli.jobs import parquet_folder
from vaecli.jobs.parquet_folder import Origin, Part, finished, held, part_path, part_writer, read_part, recorded_seed
from vaecli.jobs.tasks import Kind, Values

ORIGIN = Origin(task='{"task":{"seed":7}}', model="m", inputs="i")


def write(folder: Path, number: int = 0, names: tuple[str, ...] = ("a", "b", "c")) -> Path:
    kinds: dict[str, Kind] = {"mean": "vector", "score": "number", "image": "picture"}
    means = np.ones((2, 3), np.float32)
    values: dict[str, Values] = {"mean": means, "score": np.array([1.5, 2.5]), "image": [b"1", b"2"]}
    with part_writer(folder, number, 2, kinds, ORIGIN, lambda: Changes(fitted=5)) as part:
        part.write(names, [None, "bad", None], values)
        part.write(["d"], ["worse"], {})
    return part_path(folder, number, 2)


def test_a_file_has_its_rows_and_says_what_it_was_made_from(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert path.name == "part-00000-of-00002.parquet"
    nothing = {"mean": None, "score": None, "image": None}
    assert pq.read_table(path).to_pylist() == [
        {"name": "a", "mean": [1, 1, 1], "score": 1.5, "image": b"1", "error": None},
        {"name": "b", **nothing, "error": "bad"},
        {"name": "c", "mean": [1, 1, 1], "score": 2.5, "image": b"2", "error": None},
        {"name": "d", **nothing, "error": "worse"},
    ]
    assert read_part(path) == Part(
        origin=ORIGIN, number=0, of=2, rows=4, errors=2, changes=Changes(fitted=5), first_error="bad"
    )
    assert recorded_seed(tmp_path) == 7


def test_without_pyarrow_a_job_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(VaeError, match="pyarrow"):
        recorded_seed(tmp_path)


def test_a_name_that_is_not_utf8_is_stored_all_the_same(tmp_path: Path) -> None:
    write(tmp_path, names=("\udcff.png", "b", "c"))
    assert rows_of(tmp_path)[0]["name"] == r"\xff.png"


def test_nothing_is_left_of_a_block_that_fails(tmp_path: Path) -> None:
    def fail() -> Changes:
        raise RuntimeError

    with pytest.raises(RuntimeError), part_writer(tmp_path, 0, 2, {"score": "number"}, ORIGIN, fail) as part:
        part.write(["a"], [None], {"score": np.zeros(1)})
    assert list(tmp_path.iterdir()) == []


def test_finished_blocks_are_found_and_others_refused(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    assert finished(tmp_path, ORIGIN, 2, resume=True).keys() == {1}
    with pytest.raises(VaeError, match="holds Parquet files"):
        finished(tmp_path, ORIGIN, 2, resume=False)
    with pytest.raises(VaeError, match="other inputs"):
        finished(tmp_path, ORIGIN, 3, resume=True)
    path.rename(tmp_path / "other.parquet")
    with pytest.raises(VaeError, match=r"other\.parquet: is no file of this job"):
        finished(tmp_path, ORIGIN, 2, resume=True)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    with pytest.raises(VaeError, match=r"other\.parquet: is no file of this job"):
        finished(tmp_path, ORIGIN, 2, resume=True)
    (tmp_path / "other.parquet").unlink()
    write(tmp_path, 1).write_bytes(b"PAR1")
    with pytest.raises(VaeError, match=r"part-00001-of-00002\.parquet: damaged\nhint: remove it"):
        finished(tmp_path, ORIGIN, 2, resume=True)


def test_one_job_at_a_time_writes_to_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "o.parquet"
    monkeypatch.setattr(parquet_folder, "PATIENCE", 0.1)
    with held(folder), pytest.raises(VaeError, match="another job writes to it"), held(folder):
        pass
    assert not folder.exists()  # it was made, and stayed empty
    folder.mkdir()
    with held(folder):
        pass
    assert folder.exists()
    folder.rmdir()
    folder.write_bytes(b"mine")
    with pytest.raises(VaeError, match="is a file"), held(folder):
        pass


def test_what_a_killed_worker_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left = tmp_path / f".{part_path(tmp_path, 0, 2).name}.0123abcd.part"
    others = [tmp_path / ".notes.0123abcd.part", tmp_path / "notes.txt"]
    for file in (left, *others):
        file.write_bytes(b"")
    with held(tmp_path):
        assert sorted(tmp_path.iterdir()) == sorted(others)


def test_the_folder_is_read_whole_by_other_programs(tmp_path: Path) -> None:
    write(tmp_path, 0)
    write(tmp_path, 1)
    assert pq.read_table(tmp_path).num_rows == 8
    polars, duckdb = (pytest.importorskip(name, reason=f"{name} is not installed") for name in ("polars", "duckdb"))
    assert len(polars.read_parquet(tmp_path)) == 8
    assert duckdb.read_parquet(f"{tmp_path}/*.parquet").filter("error is null").shape == (4, 5)
