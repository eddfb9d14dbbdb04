"""Pictures packed in shards: WebDataset .tar files and Parquet files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pictures.packing import parquet, png, tar
from vaecli.errors import VaeError
from vaecli.pictures.shards import Packed, find_shards, is_shard, read_shard, row_groups


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
    with pytest.raises(VaeError, match=r"2\.png: unpacks to 2 MB"):
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
