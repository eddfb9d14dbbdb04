"""INPUTs of a command: image files, folders, arrays, pipes, stdin and lists, all in the model's shape."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.notes import texts
from tests.pictures.packing import tar
from vaecli.errors import UsageError, VaeError
from vaecli.events import Event, Note, Progress
from vaecli.pictures.inputs import PictureInputs, listed_names, read_inputs

SHAPE = (1, 6, 6)


def draw(path: Path, value: int, size: tuple[int, int] = (6, 6), mode: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, (value,) * len(mode) if len(mode) > 1 else value).save(path)
    return path


def pipe(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (6, 6), value).save(stream, "PNG")
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_files_folders_and_arrays_in_the_order_given(tmp_path: Path) -> None:
    one = draw(tmp_path / "one.png", 1)
    draw(tmp_path / "many" / "10.png", 10)
    draw(tmp_path / "many" / "2.jpg", 2)
    np.save(tmp_path / "a.npy", np.full((2, 6, 6), 50, np.uint8))
    read = read_inputs([str(tmp_path / "a.npy"), str(tmp_path / "many"), str(one)], SHAPE)
    assert read.images.shape == (5, 6, 6, 1)
    assert read.images[:, 0, 0, 0].tolist() == [50, 50, 2, 10, 1]
    assert read.names == [
        f"{tmp_path}/a.npy[0]",
        f"{tmp_path}/a.npy[1]",
        f"{tmp_path}/many/2.jpg",
        f"{tmp_path}/many/10.png",
        str(one),
    ]
    assert (read.fitted, read.skipped, texts(read.notes)) == (0, 0, ())


def test_a_name_stands_for_pictures_unless_a_file_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    known = PictureInputs(np.full((2, 6, 6, 1), 40, np.uint8), ["set[0]", "set[1]"], notes=(Note("of the set"),))

    def named(name: str) -> PictureInputs | None:
        return known if name == "set" else None

    one = draw(tmp_path / "one.png", 10)
    read = read_inputs([str(one), "set"], SHAPE, invert=True, named=named)
    assert read.images[:, 0, 0, 0].tolist() == [245, 215, 215]
    assert read.names == [str(one), "set[0]", "set[1]"]
    assert texts(read.notes) == ("of the set",)
    assert len(read_inputs([], SHAPE, listed=["set"], named=named).images) == 2
    draw(tmp_path / "set" / "1.png", 20)
    assert read_inputs(["set"], SHAPE, named=named).names == ["set/1.png"]
    with pytest.raises(VaeError, match="other: no such file"):
        read_inputs(["other"], SHAPE, named=named)


@pytest.mark.parametrize("end", [b"\n", b"\0"])
def test_a_list_of_names_on_stdin_is_told_from_a_picture(
    end: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(monkeypatch, end.join([os.fsencode(draw(tmp_path / "one.png", 1)), b"two.png", b""]))
    with pytest.raises(VaeError, match="-: a list of names") as raised:
        read_inputs(["-"], SHAPE)
    assert "`files_from`" in raised.value.hint


def test_other_sizes_and_channels_are_fitted_and_it_is_said(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 9)
    draw(tmp_path / "b.png", 99, (12, 18), "RGB")
    read = read_inputs([str(tmp_path)], SHAPE)
    assert read.images[:, 3, 3, 0].tolist() == [9, 99]
    assert read.fitted == 1
    assert texts(read.notes) == ("cropped, resized or converted 1 picture to the model's 6x6 grey",)


def test_the_rows_of_an_array_are_fitted(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((2, 12, 6, 3), 70, np.uint8))
    read = read_inputs([str(tmp_path / "a.npy")], SHAPE)
    assert read.images.shape == (2, 6, 6, 1)
    assert (read.images == 70).all()
    assert read.fitted == 2


def test_an_array_that_fits_stays_a_map(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 6, 6), np.uint8))
    assert isinstance(read_inputs([str(tmp_path / "a.npy")], SHAPE).images, np.memmap)


def test_invert_gives_the_negative(tmp_path: Path) -> None:
    read = read_inputs([str(draw(tmp_path / "a.png", 1))], SHAPE, invert=True)
    assert (read.images == 254).all()
    assert read.images.dtype == np.uint8


def test_transparency_is_said_once(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("LA", (6, 6), (0, 0)).save(tmp_path / name)
    read = read_inputs([str(tmp_path)], SHAPE)
    assert (read.images == 255).all()
    assert texts(read.notes) == ("transparent parts of 2 pictures were filled with white",)


@pytest.mark.parametrize("content", [png(33), npy(np.full((1, 6, 6), 33, np.uint8))])
def test_stdin_is_told_apart_by_content(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    pipe(monkeypatch, content)
    read = read_inputs(["-"], SHAPE)
    assert (read.images == 33).all()
    assert read.names[0].startswith("-")


def test_stdin_may_be_an_npz(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, x=np.full((2, 6, 6), 4, np.uint8))
    pipe(monkeypatch, stream.getvalue())
    assert (read_inputs(["-"], SHAPE).images == 4).all()


def test_a_named_pipe_is_read_like_stdin(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(png(77),))
    writer.start()
    read = read_inputs([str(path)], SHAPE)
    writer.join()
    assert (read.images == 77).all()


@pytest.mark.parametrize("content", [b"", b"hello", png(1)[:45]])
def test_nonsense_on_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    pipe(monkeypatch, content)
    with pytest.raises(VaeError, match=r"^-: "):
        read_inputs(["-"], SHAPE)


def test_a_shard_on_stdin_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, b"0000755".ljust(257, b"\0") + b"ustar".ljust(255, b"\0"))
    with pytest.raises(VaeError, match=r"a \.tar cannot be read from a pipe"):
        read_inputs(["-"], SHAPE)


def test_stdin_is_there_once_and_only_where_something_is_piped(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="more than once"):
        read_inputs(["-", "-"], SHAPE)
    with pytest.raises(UsageError, match="INPUT"):
        read_inputs([], SHAPE)
    pipe(monkeypatch, b"")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    with pytest.raises(UsageError, match="stdin"):
        read_inputs(["-"], SHAPE)


def test_missing_inputs_are_named(tmp_path: Path) -> None:
    for name in ("nowhere.png", "nowhere.npy", "nowhere"):
        with pytest.raises(VaeError, match=f"{name}: no such file"):
            read_inputs([str(tmp_path / name)], SHAPE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(VaeError, match="empty: no picture in this folder"):
        read_inputs([str(tmp_path / "empty")], SHAPE)


def test_a_folder_may_hold_one_unreadable_picture_in_a_hundred(tmp_path: Path) -> None:
    for index in range(100):
        draw(tmp_path / f"{index}.bmp", index)
    (tmp_path / "7.bmp").write_text("no picture")
    read = read_inputs([str(tmp_path)], SHAPE)
    assert (len(read.images), len(read.names), read.skipped) == (99, 99, 1)
    assert read.skipped_names == (f"{tmp_path}/7.bmp",)
    assert read.images[7, 0, 0, 0] == 8
    assert texts(read.notes) == (f"skipped 1 of 100 pictures that cannot be read: {tmp_path}/7.bmp: not a picture",)
    (tmp_path / "8.bmp").write_text("no picture")
    with pytest.raises(VaeError, match=r"2 of 100 pictures cannot be read: .*7\.bmp.*8\.bmp") as refused:
        read_inputs([str(tmp_path)], SHAPE)
    assert "up to one in 100 would be skipped" in refused.value.hint
    assert "`output` NAME.parquet/ write a row with the error for each" in refused.value.hint


def test_a_list_may_name_one_unreadable_picture_in_a_hundred(tmp_path: Path) -> None:
    for index in range(100):
        draw(tmp_path / f"{index}.bmp", index)
    np.save(tmp_path / "two.npy", np.zeros((2, 6, 6), np.uint8))
    (tmp_path / "7.bmp").write_text("no picture")
    names = [str(tmp_path / f"{index}.bmp") for index in range(100)]
    read = read_inputs([names[3]], SHAPE, listed=[*names, str(tmp_path / "two.npy")])
    assert read.names[:3] == [names[3], *names[:2]]
    assert read.names[-2:] == [f"{tmp_path}/two.npy[0]", f"{tmp_path}/two.npy[1]"]
    assert (len(read.images), read.skipped) == (102, 1)
    (note,) = (note for note in read.notes if "skipped" in note.text)
    assert note.warning
    with pytest.raises(VaeError, match=r"the list `files_from`: 1 of 50 pictures cannot be read: .*7\.bmp"):
        read_inputs([], SHAPE, listed=names[:50])


def test_names_in_a_list_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "a.png", 1)
    np.save(tmp_path / "b.npy", np.full((1, 6, 6), 2, np.uint8))
    tar(tmp_path / "c.tar", {"3.png": png(3)})
    address = f"file://{tmp_path}"
    listed = ["./a.png", f"{address}/a.png", f"{address}/a.png?a=b", "./b.npy", f"{address}/b.npy", f"{address}/c.tar"]
    read = read_inputs([], SHAPE, listed=listed)
    assert read.names == [*listed[:3], "./b.npy[0]", f"{address}/b.npy[0]", f"{address}/c.tar/3.png"]
    assert read.images[:, 0, 0, 0].tolist() == [1, 1, 1, 2, 2, 3]
    with pytest.raises(
        VaeError, match=f"the list `files_from`: its only picture cannot be read: {address}/none.png: cannot be"
    ):
        read_inputs([], SHAPE, listed=[f"{address}/none.png"])


@pytest.mark.parametrize(
    "content",
    [
        b"a b.png\nc.png\n",
        b"a b.png\nc.png",
        b"a b.png\0c.png\0",
        b"\na b.png\r\nc.png\n",
        b"\xef\xbb\xbfa b.png\r\nc.png",
    ],
)
def test_a_list_has_a_name_a_line_or_ends_each_with_nul(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list").write_bytes(content)
    assert listed_names(str(tmp_path / "list")) == ["a b.png", "c.png"]


def test_every_ending_of_a_jpeg_is_taken(tmp_path: Path) -> None:
    for ending in ("jpg", "JPEG", "jpe", "jfif", "jif"):
        Image.new("L", (6, 6)).save(tmp_path / f"a.{ending}", "JPEG")
    assert len(read_inputs([str(tmp_path)], SHAPE).images) == 5


def test_the_reading_of_a_folder_is_counted(tmp_path: Path) -> None:
    for at in range(5):
        draw(tmp_path / f"{at}.png", at)
    told: list[Event] = []
    read_inputs([str(tmp_path)], SHAPE, on_event=told.append)
    assert told[-1] == Progress(f"reading {tmp_path.name}", 5, 5, "pictures")


def test_files_with_other_endings_are_left_out_with_a_note(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 1)
    (tmp_path / "b.avif").touch()
    assert texts(read_inputs([str(tmp_path)], SHAPE).notes) == ("left out a file with another ending (.avif)",)


def test_pictures_of_16_bits_are_told(tmp_path: Path) -> None:
    """A ramp within a few of 65,536 levels is hardly more than one of 256."""
    Image.fromarray(np.linspace(20000, 20500, 16).astype(np.uint16).reshape(4, 4)).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "b.png")
    read = read_inputs([str(tmp_path)], (1, 4, 4))
    assert texts(read.notes) == ("1 picture of more than 8 bits a value reduced to 8",)


def test_the_array_that_is_taken_is_told_where_there_are_two(tmp_path: Path) -> None:
    path, pixels = tmp_path / "a.npz", np.zeros((3, 4, 4), np.uint8)
    np.savez(path, x_train=pixels, x_test=pixels)
    assert texts(read_inputs([str(path)], (1, 4, 4)).notes) == (f"{path}: its x_train is used, and not x_test",)
    np.savez(path, x_train=pixels)
    assert texts(read_inputs([str(path)], (1, 4, 4)).notes) == ()
