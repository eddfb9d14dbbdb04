"""Pictures packed in shards: WebDataset .tar files and Parquet files."""

from __future__ import annotations

import gzip
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pictures.packing import parquet, png, tar
from vaecli.errors import VaeError
from vaecli.pictures.shards import HELD, Packed, find_shards, is_shard, read_shard, row_groups


@pytest.mark.parametrize("name", ["a.tar", "A.TAR", "a.tar.gz", "a.tgz", "a.parquet", "s3://b/a.tar?region=eu-west-1"])
def test_a_shard_is_told_by_its_ending(name: str) -> None:
    assert is_shard(name)
    assert not is_shard(f"{name.partition('?')[0]}.png")


@pytest.mark.parametrize(("ending", "mode"), [("tar", "w"), ("tar.gz", "w:gz"), ("tgz", "w:gz")])
def test_files_of_a_tar_that_share_a_key_are_one_sample(tmp_path: Path, ending: str, mode: str) -> None:
    files = {
        "a/1.cls": b"cat\n",  # before its picture or after it
        "a/1.png": png(1),
        "a/1.json": b"{}",
        "a/2.left.png": png(2),
        "a/2.right.png": png(3),
        "a/._2.png": b"of macOS",
        "b/2.png": png(4),
        "b/2.cls": b"dog",
    }
    shard = str(tar(tmp_path / f"0.{ending}", files, mode))
    assert list(read_shard(shard)) == [
        Packed(f"{shard}/a/1.png", png(1), "cat"),
        Packed(f"{shard}/a/2.left.png", png(2)),
        Packed(f"{shard}/a/2.right.png", png(3)),
        Packed(f"{shard}/b/2.png", png(4), "dog"),
    ]
    assert row_groups(shard) == []


@pytest.mark.parametrize("kept", [540, 1024, 1500, 2300])
def test_of_a_tar_that_ends_early_the_pictures_before_the_end_come_first(tmp_path: Path, kept: int) -> None:
    shard = tar(tmp_path / "0.tar", {f"{row}.png": png(row) for row in range(5)})  # 1,024 bytes each
    shard.write_bytes(shard.read_bytes()[:kept])
    pictures = read_shard(str(shard))
    for row in range(kept // 1024):
        assert next(pictures).content == png(row)
    with pytest.raises(VaeError, match=r"0\.tar: damaged shard"):
        next(pictures)


def test_a_file_in_a_tar_may_not_unpack_to_more_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAE_MAX_MEGABYTES", "1")
    shard = tar(tmp_path / "0.tar.gz", {"1.png": png(1), "2.png": bytes(2_000_000)}, "w:gz")
    with pytest.raises(VaeError, match=r"2\.png: 2 MB are too many"):
        list(read_shard(str(shard)))


def test_bytes_in_a_parquet_file_have_the_name_in_its_column(tmp_path: Path) -> None:
    shard = str(parquet(tmp_path / "0.parquet", image=[png(1), png(2)], key=["one", None], label=["cat", "dog"]))
    assert list(read_shard(shard)) == [Packed("one", png(1), "cat"), Packed(f"{shard}[1]", png(2), "dog")]


def test_the_form_of_hugging_face_is_read_with_the_names_of_classes(tmp_path: Path) -> None:
    metadata = {"huggingface": '{"info": {"features": {"label": {"names": ["zero", "one"]}}}}'}
    images = [{"bytes": png(1), "path": "1.png"}, {"bytes": None, "path": None}]
    shard = str(parquet(tmp_path / "0.parquet", metadata, img=images, label=[1, None]))
    assert list(read_shard(shard)) == [Packed("1.png", png(1), "one"), Packed(f"{shard}[1]", b"")]


def test_row_groups_can_be_read_alone(tmp_path: Path) -> None:
    shard = str(parquet(tmp_path / "0.parquet", image=map(png, range(10))))
    assert row_groups(shard) == [4, 4, 2]
    assert [picture.name for picture in read_shard(shard, [1, 2])] == [f"{shard}[{row}]" for row in range(4, 10)]


@pytest.mark.parametrize(
    ("columns", "said"),
    [({"number": [1]}, r"no column of image bytes among number \(int64\)"), ({"a": [b""], "b": [b""]}, "no column")],
)
def test_a_parquet_file_without_pictures_is_refused(
    tmp_path: Path, columns: dict[str, list[object]], said: str
) -> None:
    shard = parquet(tmp_path / "0.parquet", None, **columns)
    with pytest.raises(VaeError, match=said):
        list(read_shard(str(shard)))


@pytest.mark.parametrize("name", ["0.tar", "0.tar.gz", "0.parquet"])
@pytest.mark.parametrize("content", [b"", b"no shard at all" * 100])
def test_what_is_no_shard_is_said_to_be_damaged(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VaeError, match=f"{name}: damaged shard"):
        list(read_shard(str(tmp_path / name)))


def test_shards_of_a_folder_come_in_natural_order(tmp_path: Path) -> None:
    for name in ("10.tar", "9.tar", ".hidden.tar", "_temporary.parquet", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.tar").mkdir()
    assert find_shards(tmp_path) == [str(tmp_path / "9.tar"), str(tmp_path / "10.tar")]
    assert find_shards(tmp_path / "missing") == []


def long_header(path: Path) -> None:
    tar(path, {"1.png": png(1)})
    header = tarfile.TarInfo("paxheader")
    header.type, header.size = tarfile.XHDTYPE, 2**30
    path.write_bytes(header.tobuf() + path.read_bytes())


LONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "a header that is read whole": (long_header, "a header of 1,073,741,824 bytes"),
    "the name of a class": (
        lambda path: tar(path, {"1.cls": bytes(70_000)}),
        "1.cls: too long for the name of a class",
    ),
    "all pictures of a sample": (
        lambda path: tar(path, {f"1.{part}.png": bytes(100_000) for part in range(5)}),
        "1.2.png: 0 MB are too many",
    ),
}


@pytest.mark.parametrize("what", LONG)
def test_what_is_kept_of_a_tar_is_limited(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAE_MAX_MEGABYTES", "1")
    write, message = LONG[what]
    write(tmp_path / "0.tar")
    with pytest.raises(VaeError, match=message):
        list(read_shard(str(tmp_path / "0.tar")))


def packed_parquet(path: Path, content: bytes, rows: int, **options: Any) -> str:
    """A file that stores one picture for all of its rows."""
    pictures = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([content], pa.binary()))
    table = pa.table({"image": pictures, "key": [f"row {row}" for row in range(rows)]})
    pq.write_table(table, path, store_schema=False, compression="zstd", dictionary_pagesize_limit=2**30, **options)
    return str(path)


def test_a_row_group_may_not_unpack_to_more_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAE_MAX_MEGABYTES", "1")
    with pytest.raises(VaeError, match=r"0\.parquet: a row group: 2 MB are too many"):
        next(read_shard(packed_parquet(tmp_path / "0.parquet", bytes(2_000_000), 3)))


def test_more_rows_than_bytes_are_no_pictures(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": pa.nulls(10**6, pa.binary())}), tmp_path / "0.parquet")
    with pytest.raises(VaeError, match=r"0\.parquet: 1,000,000 rows in \d,\d+ bytes"):
        next(read_shard(str(tmp_path / "0.parquet")))


def test_rows_that_share_a_large_value_are_read_few_at_a_time(tmp_path: Path) -> None:
    """64 rows of 4 MB are 256 MB."""
    shard = packed_parquet(tmp_path / "0.parquet", png(1) + bytes(2**22), 64)
    usual, counted = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(counted)
    try:
        assert [picture.name for picture in read_shard(shard)] == [f"row {row}" for row in range(64)]
    finally:
        pa.set_memory_pool(usual)
    assert 2**22 < counted.max_memory() < 3 * HELD  # some more is read ahead


SPARSE = {  # the formats of GNU tar: the type of the file, and its headers of pax
    "old": (tarfile.GNUTYPE_SPARSE, {}),
    "0.0": (tarfile.REGTYPE, {"GNU.sparse.size": "9", "GNU.sparse.numblocks": "0"}),
    "0.1": (tarfile.REGTYPE, {"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"}),
    "1.0": (tarfile.REGTYPE, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}),
}


@pytest.mark.parametrize("written", SPARSE)
def test_a_sparse_file_in_a_tar_is_refused(tmp_path: Path, written: str) -> None:
    """What lists its parts may go on for gigabytes, which Python's tarfile keeps."""
    with tarfile.open(tmp_path / "0.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("1.png")
        member.type, member.pax_headers = SPARSE[written]
        archive.addfile(member)
    with pytest.raises(VaeError, match=r"0\.tar: has a sparse file"):
        list(read_shard(str(tmp_path / "0.tar")))


def test_headers_for_all_files_of_a_tar_are_not_kept(tmp_path: Path) -> None:
    """A packed file of 4 MB may have gigabytes of them."""
    with gzip.open(tmp_path / "0.tar.gz", "wb", 1) as stream:
        for number in range(400):
            for name, kind, content in (("g", tarfile.XGLTYPE, record(f"k{number}", "a" * 60_000)), ("a", b"0", b"")):
                member = tarfile.TarInfo(name)
                member.type, member.size = kind, len(content)
                stream.write(member.tobuf() + content.ljust(-(-len(content) // 512) * 512, b"\0"))
        stream.write(bytes(1024))
    tracemalloc.start()
    try:
        assert list(read_shard(str(tmp_path / "0.tar.gz"))) == []
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def record(key: str, value: str) -> bytes:
    """A header of pax: its length in bytes, which counts itself, key and value."""
    text = f" {key}={value}\n"
    return f"{len(text) + 5}{text}".encode()
