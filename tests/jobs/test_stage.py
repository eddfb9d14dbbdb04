"""Jobs from inputs to Parquet files: every form of input, the numbers, errors, what is kept and refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.jobs.conftest import MakeShards
from tests.jobs.reading import names_of, rows_of
from tests.pictures.packing import parquet, png, tar
from tests.tiny_model import add_reference, two_gaussians, write_pair, write_prior
from vaecli import load
from vaecli.errors import Interrupted, UsageError, VaeError
from vaecli.events import BlockDone, Event, Note, Progress
from vaecli.jobs import Decode, Encode, Reconstruct, Score, run
from vaecli.pictures.arrays import open_array
from vaecli.pictures.decoding import read_picture


@pytest.mark.parametrize(
    "form", ["folder", "files", "tar", "tars", "parquet", "npy", "npz", "pattern", "address", "set"]
)
def test_every_form_of_input_has_the_names_and_numbers_of_one_process(
    form: str, grey: Path, pictures: Path, make_shards: MakeShards, tmp_path: Path
) -> None:
    model, shards = load(grey, "cpu"), make_shards()
    files = sorted(pictures.iterdir())
    pixels = np.stack([read_picture(file, file.name)[..., 0] for file in files])
    np.save(tmp_path / "a.npy", pixels / 255)
    np.savez(tmp_path / "a.npz", images=pixels)
    parquet(tmp_path / "a.parquet", image=[file.read_bytes() for file in files], key=[file.name for file in files])
    forms: dict[str, Sequence[object]] = {
        "folder": [pictures],
        "files": files[:3],
        "tar": shards[:1],
        "tars": [shards[0].parent],
        "parquet": [tmp_path / "a.parquet"],
        "npy": [tmp_path / "a.npy"],
        "npz": [tmp_path / "a.npz"],
        "pattern": [tmp_path / "shards/*.tar"],
        "address": [f"file://{shards[0].parent}"],
        "set": ["mnist-5k"],
    }
    texts = [str(one) for one in forms[form]]
    result = run(model, Encode(std=True), texts, tmp_path / "out.parquet", workers=1)
    read = model.read(texts)
    mean, std = model.encode(read.images)
    rows = rows_of(tmp_path / "out.parquet")
    assert [row["name"] for row in rows] == read.names
    assert (result.rows, result.errors, result.changes.fitted) == (len(read.names), 0, read.fitted)
    np.testing.assert_array_equal(np.array([row["mean"] for row in rows], np.float32), mean)
    np.testing.assert_array_equal(np.array([row["std"] for row in rows], np.float32), std)


def test_notes_on_the_reading_are_those_of_one_process(grey: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.zeros((4, 9, 8), np.uint8), x_test=np.zeros((2, 8, 8), np.uint8), y=[1])
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(tmp_path / "b.png")
    model, told = load(grey, "cpu"), list[Event]()
    inputs = [tmp_path / "a.npz", tmp_path / "b.png"]
    run(model, Encode(), inputs, tmp_path / "out.parquet", workers=2, on_event=told.append)
    notes = [event.text for event in told if isinstance(event, Note)]
    expected = [note.text.replace(" 8x8 grey", " shape") for note in model.read(inputs).notes]
    assert [note for note in notes if note in expected] == expected
    assert len(expected) == 4


def test_an_array_at_an_address_is_read_once(grey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.zeros((200, 8, 8), np.uint8))
    read = list[str]()

    def counted(source: Path | BinaryIO, name: str) -> NDArray[Any]:
        read.append(name)
        return open_array(source, name)

    monkeypatch.setattr("vaecli.jobs.blocks.open_array", counted)
    result = run(load(grey, "cpu"), Encode(), f"file://{tmp_path}/a.npy", tmp_path / "out.parquet", workers=1)
    assert (result.rows, result.blocks, len(read)) == (200, 4, 1)


def test_scores_have_every_bit_of_one_process(blobs: Path, tmp_path: Path) -> None:
    folder, pictures = write_pair(tmp_path / "model"), np.load(blobs)
    write_prior(folder, two_gaussians())
    add_reference(folder, pictures[:40, ..., np.newaxis])
    model, task = load(folder, "cpu"), Score(importance_samples=3)
    run(model, task, blobs, tmp_path / "out.parquet", workers=1, batch_size=7)
    scores = model.score(pictures, importance_samples=3)
    rows = rows_of(tmp_path / "out.parquet")
    assert list(rows[0]) == ["name", "label", *scores.columns, "error"]
    assert "tail" in scores.columns
    for name, column in scores.columns.items():
        assert [row[name] for row in rows] == column.tolist(), name


def test_reconstructions_and_decoded_latents_are_pictures(grey: Path, blobs: Path, tmp_path: Path) -> None:
    model = load(grey, "cpu")
    run(model, Reconstruct(), blobs, tmp_path / "r.parquet", workers=1)
    expected = np.rint(model.reconstruct(np.load(blobs)) * 255)
    np.testing.assert_array_equal(model.read(tmp_path / "r.parquet").images[..., 0], expected)
    run(model, Encode(), blobs, tmp_path / "l.parquet", workers=1)
    for latents in (tmp_path / "l.parquet", tmp_path / "l.npy"):
        np.save(tmp_path / "l.npy", model.encode(np.load(blobs))[0])
        shutil.rmtree(tmp_path / "d.parquet", ignore_errors=True)
        result = run(model, Decode(), latents, tmp_path / "d.parquet", workers=1)
        assert (result.columns, result.rows) == (("name", "image", "error"), 120)
        np.testing.assert_array_equal(model.read(tmp_path / "d.parquet").images[..., 0], expected)
    assert rows_of(tmp_path / "d.parquet")[3]["name"] == f"{tmp_path}/l.npy[3]"


def test_any_number_of_workers_and_any_batch_draws_the_same(
    grey: Path, make_shards: MakeShards, tmp_path: Path
) -> None:
    make_shards()
    model, inputs = load(grey, "cpu"), str(tmp_path / "shards/*.tar")
    for name, seed, workers, size in (("a", 1, 1, None), ("b", 1, 2, 2), ("c", 2, 1, None)):
        run(model, Encode(seed=seed), inputs, tmp_path / f"{name}.parquet", workers=workers, batch_size=size)
    a, b, c = (rows_of(tmp_path / f"{name}.parquet") for name in "abc")
    assert a == b
    assert a != c
    (drawn,) = model.pair.encode_batches([model.read(inputs).images], 1)
    assert [row["latent"] for row in a] == drawn.latent.tolist()


def test_invert(grey: Path, blobs: Path, tmp_path: Path) -> None:
    model = load(grey, "cpu")
    run(model, Encode(), blobs, tmp_path / "a.parquet", workers=1, invert=True)
    expected = model.encode(255 - np.load(blobs))[0]
    assert [row["mean"] for row in rows_of(tmp_path / "a.parquet")] == expected.tolist()


def test_what_is_damaged_is_a_row_with_an_error(grey: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "1.png").write_bytes(b"no picture")
    cut = tar(tmp_path / "cut.tar", {"a.png": png(1, 8), "b.png": png(2, 8), "c.png": png(3, 8)})
    cut.write_bytes(cut.read_bytes()[:1500])
    heard: list[Event] = []
    inputs, listed = [pictures, cut], [str(tmp_path / "gone.png")]
    result = run(
        load(grey, "cpu"), Encode(), inputs, tmp_path / "o.parquet", workers=1, listed=listed, on_event=heard.append
    )
    rows = rows_of(tmp_path / "o.parquet")
    errors = {Path(row["name"]).name: row["error"] for row in rows if row["error"]}
    assert sorted(errors) == ["1.png", "cut.tar", "gone.png"]
    assert "not a picture" in errors["1.png"]
    assert "damaged shard" in errors["cut.tar"]
    assert all((row["mean"] is None) == (row["error"] is not None) for row in rows)
    assert names_of(tmp_path / "o.parquet")[-3:] == ["a.png", "cut.tar", "gone.png"]
    assert (result.rows, result.errors) == (73, 3)
    (warning,) = [event for event in heard if isinstance(event, Note) and event.warning]
    assert "3 of 73 rows have an error" in warning.text
    assert sum(event.errors for event in heard if isinstance(event, BlockDone)) == 3


def test_a_picture_of_an_array_that_is_none_is_a_row_with_an_error(grey: Path, tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((50, 8, 8))
    np.save(tmp_path / "good.npy", array)
    array[[7, 40], 0, 0] = np.nan
    np.save(tmp_path / "bad.npy", array)
    for name in ("good", "bad"):
        result = run(load(grey, "cpu"), Encode(), tmp_path / f"{name}.npy", tmp_path / f"{name}.parquet", workers=1)
    assert (result.rows, result.errors) == (50, 2)
    good, bad = (rows_of(tmp_path / f"{name}.parquet") for name in ("good", "bad"))
    assert f"{tmp_path}/bad.npy[7]: has values that are NaN" in bad[7]["error"]
    assert "bad.npy[40]" in bad[40]["error"]
    assert [row["mean"] for row in bad if not row["error"]] == [
        row["mean"] for at, row in enumerate(good) if at not in (7, 40)
    ]
    np.save(tmp_path / "scaled.npy", 2 * array - 1)
    with pytest.raises(VaeError, match="has values from"):  # a part of the rows may look right by chance
        run(load(grey, "cpu"), Encode(), tmp_path / "scaled.npy", tmp_path / "scaled.parquet", workers=1)


def test_a_finished_job_needs_no_cluster(
    grey: Path, blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, output = load(grey, "cpu"), tmp_path / "o.parquet"
    first = run(model, Encode(), blobs, output, workers=1)
    monkeypatch.setattr("vaecli.jobs.stage.require", lambda *_: None)  # Ray is not installed everywhere
    again = run(model, Encode(), blobs, output, ray="local", resume=True)
    assert (again.rows, again.blocks) == (first.rows, first.blocks)


def test_latents_that_are_missing_are_rows_with_an_error(grey: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "1.png").write_bytes(b"no picture")
    model = load(grey, "cpu")
    run(model, Encode(), pictures, tmp_path / "l.parquet", workers=1)
    result = run(model, Decode(), tmp_path / "l.parquet", tmp_path / "d.parquet", workers=1)
    assert (result.rows, result.errors) == (70, 1)
    np.save(tmp_path / "nan.npy", np.array([[0, 0], [0, np.nan]]))
    run(model, Decode(), tmp_path / "nan.npy", tmp_path / "n.parquet", workers=1)
    assert "not all finite" in rows_of(tmp_path / "n.parquet")[1]["error"]


def test_a_job_without_one_good_row_fails(grey: Path, tmp_path: Path) -> None:
    shard = tar(tmp_path / "a.tar", {"a.png": b"", "b.png": b"no picture"})
    with pytest.raises(VaeError, match=r"2 of 2 rows have an error: .*a\.png: is empty"):
        run(load(grey, "cpu"), Encode(), shard, tmp_path / "o.parquet", workers=1)


def stop_after(blocks: int) -> Callable[[Event], None]:
    """Ctrl-C after so many blocks."""
    done = []

    def heard(event: Event) -> None:
        done.extend([event] if isinstance(event, BlockDone) else [])
        if len(done) == blocks:
            raise KeyboardInterrupt

    return heard


@pytest.mark.parametrize("workers", [1, 2])
def test_after_an_interruption_the_rest_is_done_and_nothing_twice(
    workers: int, grey: Path, make_shards: MakeShards, tmp_path: Path
) -> None:
    make_shards(6, 4)
    model, output = load(grey, "cpu"), tmp_path / "o.parquet"
    with pytest.raises(Interrupted, match="interrupted: 2 of 6 blocks are finished"):
        run(model, Encode(), tmp_path / "shards", output, workers=workers, on_event=stop_after(2))
    before = {file: file.stat().st_mtime_ns for file in output.iterdir()}
    assert 2 <= len(before) < 6
    with pytest.raises(VaeError, match="holds Parquet files"):
        run(model, Encode(), tmp_path / "shards", output)
    heard: list[Event] = []
    result = run(model, Encode(), tmp_path / "shards", output, workers=1, resume=True, on_event=heard.append)
    assert (result.rows, result.blocks, result.kept) == (24, 6, len(before))
    assert sum(isinstance(event, BlockDone) for event in heard) == 6 - len(before)
    assert heard[-1] == Progress("encoding", 6, 6, "blocks")
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert names_of(output) == [f"{row:04}.png" for row in range(24)]
    assert run(model, Encode(), tmp_path / "shards", output, resume=True).kept == 6


def test_a_folder_of_something_else_is_not_resumed(grey: Path, make_shards: MakeShards, tmp_path: Path) -> None:
    shards, output = make_shards(), tmp_path / "o.parquet"
    model = load(grey, "cpu")
    run(model, Encode(), tmp_path / "shards", output, workers=1)
    other = load(write_pair(tmp_path / "other", seed=5), "cpu")
    with pytest.raises(VaeError, match="another model"):
        run(other, Encode(), tmp_path / "shards", output, resume=True)
    with pytest.raises(VaeError, match=r"was made with `std` false, not true and `seed` null, not 7"):
        run(model, Encode(std=True, seed=7), tmp_path / "shards", output, resume=True)
    with pytest.raises(VaeError, match="was made by vae encode, not vae score"):
        run(model, Score(), tmp_path / "shards", output, resume=True)
    with pytest.raises(VaeError, match="other inputs"):
        run(model, Encode(), shards[:2], output, resume=True)
    shards[0].touch()
    with pytest.raises(VaeError, match="these have changed"):
        run(model, Encode(), tmp_path / "shards", output, resume=True)
    (output / "mine.parquet").write_bytes(b"")
    with pytest.raises(VaeError, match=r"mine\.parquet: is no file of this job"):
        run(model, Encode(), tmp_path / "shards", output, resume=True)
    assert len(list(output.iterdir())) == 4


def test_more_workers_than_blocks_are_told(grey: Path, blobs: Path, tmp_path: Path) -> None:
    heard = list[Event]()
    run(load(grey, "cpu"), Encode(), blobs, tmp_path / "o.parquet", workers=5, on_event=heard.append)
    assert "`workers` 5: 2 blocks to do" in " ".join(event.text for event in heard if isinstance(event, Note))


def test_a_job_without_a_row_fails(grey: Path, tmp_path: Path) -> None:
    """A wrong kind of file would else pass unseen."""
    tar(tmp_path / "a.tar", {"notes.txt": b"no picture"})
    with pytest.raises(VaeError, match=r"no picture in .*a\.tar"):
        run(load(grey, "cpu"), Encode(), tmp_path / "a.tar", tmp_path / "o.parquet", workers=1)


def test_nothing_is_made_where_the_settings_are_wrong(grey: Path, blobs: Path, tmp_path: Path) -> None:
    model = load(grey, "cpu")
    for task, workers, size, said in (
        (Score(importance_samples=0), 1, 2, "importance_samples"),
        (Encode(seed=-1), 1, 2, "`seed` -1"),
        (Encode(), 0, 2, "`workers` 0"),
        (Encode(), 1, 0, "`batch_size` 0"),
    ):
        with pytest.raises(UsageError, match=said):
            run(model, task, blobs, tmp_path / "o.parquet", workers=workers, batch_size=size)
    with pytest.raises(UsageError, match="stdin"):
        run(model, Encode(), "-", tmp_path / "o.parquet")
    with pytest.raises(UsageError, match="2 files of latents"):
        run(model, Decode(), ["a.npy", "b.npy"], tmp_path / "o.parquet")
    with pytest.raises(VaeError, match="mkdir -p"):
        run(model, Encode(), blobs, tmp_path / "no/o.parquet")
    with pytest.raises(UsageError, match="folder of Parquet files"):
        run(model, Encode(), blobs, tmp_path / "o.npz")
    assert not (tmp_path / "o.parquet").exists()
