"""How inputs are cut into blocks, and what tells whether they have changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.set_files import idx_bytes, little_mnist
from tests.jobs.conftest import MakeShards
from tests.pictures.packing import parquet, png
from tests.tiny_model import GREY
from vaecli.errors import UsageError, VaeError
from vaecli.events import Event, Note
from vaecli.jobs.blocks import (
    Files,
    LatentGroups,
    LatentRows,
    Rows,
    Shard,
    SplitRows,
    _groups,
    plan_latents,
    plan_pictures,
    read_block_of_latents,
    read_pictures,
)
from vaecli.pictures.reader import Reader


def test_pictures_are_cut_by_their_number_and_shards_are_blocks(
    pictures: Path, make_shards: MakeShards, tmp_path: Path
) -> None:
    shards = make_shards()
    np.save(tmp_path / "a.npy", np.zeros((100, 8, 8), np.uint8))
    inputs = [str(pictures), str(shards[0].parent), str(tmp_path / "a.npy"), "mnist-5k"]
    blocks = plan_pictures(inputs, GREY, listed=[str(pictures / "7.png")]).blocks
    first, second, *others = blocks
    assert isinstance(first, Files)
    assert isinstance(second, Files)
    assert [Path(name).name for name in first.names + second.names] == [f"{number}.png" for number in range(70)]
    assert (len(first.names), len(second.names)) == (64, 6)
    assert others[:3] == [Shard(str(shard)) for shard in shards]
    assert others[3:5] == [Rows(inputs[2], 0, 64), Rows(inputs[2], 64, 100)]
    rows = [block for block in others if isinstance(block, SplitRows)]
    assert [(block.data.source, block.split, block.start) for block in rows[:2]] == [
        ("mnist-5k", "held-out", 0),
        ("mnist-5k", "held-out", 64),
    ]
    assert others[-1] == Files((str(pictures / "7.png"),))
    assert sum(block.stop - block.start for block in rows) == 500


def test_row_groups_are_put_together_until_they_are_a_block(tmp_path: Path) -> None:
    shard = str(parquet(tmp_path / "a.parquet", image=[png(1)] * 130))  # in groups of 4
    blocks = plan_pictures([shard], GREY).blocks
    assert blocks == [Shard(shard, tuple(range(16))), Shard(shard, tuple(range(16, 32))), Shard(shard, (32,))]
    chunks = (chunk for block in blocks for chunk in read_pictures(block, Reader((8, 8), 1), GREY))
    assert [name for chunk in chunks for name, *_ in chunk] == [f"{shard}[{row}]" for row in range(130)]


def test_an_array_at_an_address_with_options_is_one(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((100, 8, 8), np.uint8))
    place = f"file://{tmp_path}/a.npy?a=b"
    blocks = plan_pictures([place], GREY).blocks
    assert blocks == [Rows(place, 0, 64), Rows(place, 64, 100)]
    names = [name for chunk in read_pictures(blocks[1], Reader((8, 8), 1), GREY) for name, *_ in chunk]
    assert names == [f"{place}[{row}]" for row in range(64, 100)]


def test_many_small_row_groups_are_put_together_at_once() -> None:
    """In time that grows with their number: a sum over all before each would take minutes."""
    groups = _groups([1] * 200_000)
    assert [len(group) for group in groups[:2]] == [4096, 4096]
    assert sum(map(len, groups)) == 200_000


def test_latents_are_cut_by_rows_and_row_groups(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((100, 2)))
    assert plan_latents(str(tmp_path / "a.npy"), 2).blocks == [
        LatentRows(str(tmp_path / "a.npy"), 0, 64),
        LatentRows(str(tmp_path / "a.npy"), 64, 100),
    ]
    (tmp_path / "l.parquet").mkdir()
    file = str(parquet(tmp_path / "l.parquet/0.parquet", mean=[[1.0, 2.0], None] * 3, name=list("abcdef")))
    (block,) = plan_latents(str(tmp_path / "l.parquet"), 2).blocks
    assert block == LatentGroups(file, (0, 1))
    assert plan_latents(f"{tmp_path}/l.parquet/", 2).blocks == [block]
    rows = [row for chunk in read_block_of_latents(block, 2) for row in chunk]
    assert [row.name for row in rows] == list("abcdef")
    assert [isinstance(row.found, VaeError) for row in rows] == [False, True] * 3
    with pytest.raises(VaeError, match="this model's have 3 numbers"):
        list(read_block_of_latents(block, 3))
    with pytest.raises(VaeError, match="neither latent nor mean"):
        list(read_block_of_latents(LatentGroups(str(parquet(tmp_path / "x.parquet", x=[1])), (0,)), 2))


def test_a_file_that_was_rewritten_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    for number in (1, 2):
        path.write_text(f"{number},0\n" * number)
        (block,) = plan_latents(str(path), 2).blocks
        rows = [found for chunk in read_block_of_latents(block, 2) for _, found, _ in chunk]
        np.testing.assert_array_equal(np.array(rows), [[number, 0]] * number)


def test_a_data_set_whose_files_were_rewritten_is_read_again(tmp_path: Path) -> None:
    test = little_mnist(tmp_path) / "MNIST/raw/t10k-images-idx3-ubyte"
    for level in (0, 200):
        test.write_bytes(idx_bytes(np.full((9, 28, 28), level, np.uint8)))
        (block,) = plan_pictures(["mnist"], GREY, data_dir=str(tmp_path)).blocks
        (chunk,) = read_pictures(block, Reader((8, 8), 1), GREY)
        assert all((np.asarray(pixels) == level).all() for _, pixels, _ in chunk)


def test_the_digest_follows_names_sizes_and_times(make_shards: MakeShards, pictures: Path) -> None:
    shards = [str(shard) for shard in make_shards()]
    digests = [plan_pictures(shards, GREY).digest, plan_pictures(shards[::-1], GREY).digest]
    os.utime(shards[0], (1, 1))
    digests += [plan_pictures(shards, GREY).digest, plan_pictures([str(pictures)], GREY).digest]
    (pictures / "7.png").write_bytes(b"")
    digests.append(plan_pictures([str(pictures)], GREY).digest)
    assert len(set(digests)) == 5
    assert digests[2] == plan_pictures(shards, GREY).digest


def test_what_cannot_be_planned_is_refused(tmp_path: Path) -> None:
    for inputs, error, said in (
        ([], UsageError, "no INPUT"),
        (["-"], UsageError, "stdin"),
        ([str(tmp_path / "no.png")], VaeError, "no such file"),
        ([str(tmp_path / "no.tar")], VaeError, "no such file"),
        ([str(tmp_path / "*.tar")], VaeError, "no file matches"),
        (["mnist-6k"], VaeError, "did you mean"),
    ):
        with pytest.raises(error, match=said):
            plan_pictures(inputs, GREY)
    with pytest.raises(UsageError, match="stdin"):
        plan_latents("-", 2)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe: several processes cannot read a pipe"):
        plan_latents(str(tmp_path / "pipe"), 2)
    (tmp_path / "e.parquet").mkdir()
    with pytest.raises(VaeError, match="no latents in it"):
        plan_latents(str(tmp_path / "e.parquet"), 2)


def test_files_with_other_endings_are_noted(pictures: Path, tmp_path: Path) -> None:
    shutil.copy(pictures / "7.png", tmp_path)
    (tmp_path / "a.heic").touch()
    noted: list[Event] = []
    plan_pictures([str(tmp_path)], GREY, on_event=noted.append)
    assert noted == [Note("left out a file with another ending (.heic); save HEIC as JPEG")]
