"""The Parquet files of a job, of which none may be missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.pictures.packing import parquet, png
from tests.tiny_model import GREY
from vaecli.config import DataConfig
from vaecli.datasets import load
from vaecli.errors import VaeError
from vaecli.inference.latent_files import read_latents
from vaecli.jobs.blocks import plan_latents, plan_pictures
from vaecli.pictures.inputs import read_inputs
from vaecli.pictures.parts import check_finished, part_name


def names(numbers: list[int], of: int, folder: str = "f") -> list[str]:
    return [f"{folder}/{part_name(number, of)}" for number in numbers]


def test_the_first_file_that_is_missing_is_named() -> None:
    with pytest.raises(VaeError) as refused:
        check_finished(names([0, 1, 4], 6))
    assert refused.value.message == "f: the job is not finished: part-00002-of-00006.parquet is missing"
    with pytest.raises(VaeError, match=r"^\.: the job is not finished"):
        check_finished([part_name(1, 2)])
    assert refused.value.hint == "run the command that wrote it again, with `resume`"
    with pytest.raises(VaeError, match="s3://b/g: the job is not finished: part-00000-of-99999999999"):
        check_finished(["part-00000-of-00001.parquet", *names([1, 0], 2), *names([7], 99_999_999_999, "s3://b/g")])


@pytest.mark.parametrize(
    "files",
    [
        [],
        names([2, 0, 1], 3),
        [*names([0], 2), *names([1], 3)],  # of two jobs
        [*names([0], 2), "f/more.parquet"],
        ["f/part-00000-of-00002-of-mine.parquet"],
        ["f/train-00000-of-00002.parquet"],
        [*names([0, 1], 2, "f"), *names([0], 1, "g")],
    ],
    ids=range(7),
)
def test_all_else_is_let_pass(files: list[str]) -> None:
    check_finished(files)


READERS: dict[str, Callable[[str, Path], object]] = {
    "inputs": lambda place, _: read_inputs([place], GREY),
    "job": lambda place, _: plan_pictures([place], GREY),
    "latents": lambda place, _: read_latents(place, 2),
    "job of latents": lambda place, _: plan_latents(place, 2),
    "training": lambda place, kept: load(DataConfig(source=place, dir=str(kept))),
}


@pytest.mark.parametrize("at", ["", "file://"])
@pytest.mark.parametrize("reader", READERS)
def test_an_unfinished_folder_is_not_read(reader: str, at: str, tmp_path: Path) -> None:
    folder, read = tmp_path / "d.parquet", READERS[reader]
    folder.mkdir()
    images, means = [png(row) for row in range(10)], np.zeros((10, 2)).tolist()
    parquet(folder / part_name(1, 2), image=images, mean=means)
    with pytest.raises(VaeError, match=f"{at}{folder}: the job is not finished: part-00000-of-00002"):
        read(f"{at}{folder}", tmp_path)
    parquet(folder / part_name(0, 2), image=images, mean=means)
    read(f"{at}{folder}", tmp_path)
