"""A worker: blocks in, files out, in batches."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent import futures
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.jobs.reading import rows_of
from tests.tiny_model import make_conditional, write_pair
from vaecli import load, processors
from vaecli.errors import VaeError
from vaecli.events import Changes
from vaecli.jobs.blocks import Files
from vaecli.jobs.parquet_folder import Origin
from vaecli.jobs.tasks import Encode, Score
from vaecli.jobs.worker import Job, Worker


def job(folder: Path, output: Path) -> Job:
    output.mkdir()
    origin = Origin(task="", model=load(folder, "cpu").pair.digest, inputs="")
    return Job(folder, Encode(), output, 1, origin, "cpu", batch_size=4)


@pytest.mark.parametrize("bad", [(0,), (4, 5, 6, 7), (9,), (0, 3, 8)], ids=str)
def test_errors_are_in_their_rows_wherever_a_batch_ends(
    bad: Sequence[int], grey: Path, pictures: Path, tmp_path: Path
) -> None:
    files = [pictures / f"{number}.png" for number in range(10)]
    means = load(grey, "cpu").encode(load(grey, "cpu").read(files).images)[0]
    for number in bad:
        files[number].write_bytes(b"no picture")
    done = Worker(job(grey, tmp_path / "o"))(0, Files(tuple(map(str, files))))
    rows = rows_of(tmp_path / "o")
    assert [row["name"] for row in rows] == [str(file) for file in files]
    assert [index for index, row in enumerate(rows) if row["error"]] == list(bad)
    for row, mean, index in zip(rows, means, range(10), strict=True):
        assert row["mean"] == (None if index in bad else mean.tolist())
    assert (done.rows, done.errors, done.changes) == (10, len(bad), Changes())
    assert done.first_error == rows[bad[0]]["error"]


def test_the_model_is_opened_once_and_must_be_that_of_the_job(grey: Path, pictures: Path, tmp_path: Path) -> None:
    block, own = Files((str(pictures / "1.png"),)), write_pair(tmp_path / "own")
    worker = Worker(job(own, tmp_path / "o"))
    worker(0, block)
    write_pair(own, seed=3)
    worker(0, block)  # it is open
    with pytest.raises(VaeError, match="the model has changed"):
        Worker(replace(worker.job))(0, block)


def test_a_batch_of_scores_starts_no_threads_of_its_own(
    grey: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = list[str]()

    class Pool(futures.ThreadPoolExecutor):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            started.append(threading.current_thread().name)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(futures, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(processors, "usable", lambda: 2)
    scores = replace(job(grey, tmp_path / "o"), task=Score(importance_samples=3), batch_size=7)
    files = tuple(str(pictures / f"{number}.png") for number in range(70))
    assert Worker(scores)(0, Files(files)).rows == 70
    assert set(started) == {"MainThread"}
    assert len(started) == 2  # that read, and that compute


def test_a_picture_of_another_size_is_fitted(grey: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "a.png")
    assert Worker(job(grey, tmp_path / "o"))(0, Files((str(tmp_path / "a.png"),))).changes.fitted == 1


@pytest.mark.parametrize("classes", [("1", "2", "3"), ("left", "right", "top")])
def test_a_job_has_the_class_that_was_chosen(classes: tuple[str, ...], pictures: Path, tmp_path: Path) -> None:
    """Also where the names of the classes are numbers, which are not their places."""
    make_conditional(write_pair(tmp_path / "run"), classes)
    model = load(tmp_path / "run", "cpu").given(classes[1])
    assert model.pair.label == 1
    origin = Origin(task="", model=model.pair.digest, inputs="")
    (tmp_path / "o").mkdir()
    worker = Worker(Job(tmp_path / "run", Encode(), tmp_path / "o", 1, origin, "cpu", label=model.pair.label))
    worker(0, Files((str(pictures / "1.png"),)))
    ((mean, _), (row,)) = model.encode(model.read(pictures / "1.png").images), rows_of(tmp_path / "o")
    np.testing.assert_allclose(row["mean"], mean[0], rtol=1e-5)
