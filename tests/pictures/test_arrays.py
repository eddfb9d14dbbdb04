"""Arrays of images: which are accepted, how they are converted, and the errors for the others."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vaecli.errors import VaeError
from vaecli.pictures import arrays
from vaecli.pictures.arrays import is_array, npy_header, read_array, to_uint8

BYTES = np.arange(2 * 4 * 5, dtype=np.uint8).reshape(2, 4, 5)


@pytest.mark.parametrize("name", ["a.npy", "A.NPZ", "s3://bucket/a.npy?region=eu-west-1"])
def test_an_array_is_told_by_its_ending(name: str) -> None:
    assert is_array(name)
    assert not is_array(f"{name.partition('?')[0]}.png")


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    def save(array: Any) -> Path:
        np.save(tmp_path / "a.npy", array, allow_pickle=True)
        return tmp_path / "a.npy"

    return save


def test_bytes_are_mapped_not_read(saved: Any) -> None:
    images = read_array(saved(BYTES), "a.npy")
    assert isinstance(images, np.memmap)
    assert images.shape == (2, 4, 5, 1)
    assert (images[..., 0] == BYTES).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last(saved: Any, channels: int) -> None:
    array = np.zeros((3, 4, 5, channels), np.uint8)
    assert read_array(saved(array), "a.npy").shape == array.shape


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_floats_are_rounded_to_bytes(saved: Any, dtype: Any) -> None:
    images = read_array(saved((BYTES / 255).astype(dtype)), "a.npy")
    assert images.dtype == np.uint8
    assert (images[..., 0] == BYTES).all()


def test_booleans_are_black_and_white(saved: Any) -> None:
    assert set(np.unique(read_array(saved(BYTES > 20), "a.npy"))) == {0, 255}


def test_floats_are_converted_in_chunks(saved: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 200)
    values = np.linspace(0, 1, 7 * 4 * 5).reshape(7, 4, 5)
    images = read_array(saved(values), "a.npy")
    assert (images[..., 0] == np.rint(values * 255)).all()
    values[6, 3, 4] = np.nan
    with pytest.raises(VaeError, match="NaN"):
        read_array(saved(values), "a.npy")


def changed(place: float) -> Any:
    values = np.full((3, 4, 5), 0.5)
    values[2, 1, 3] = place
    return values


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (changed(np.nan), "NaN"),
        (changed(np.inf), "values from 0.5 to inf"),
        (changed(-0.1), "values from -0.1 to 0.5"),
        (changed(255.0), "values from 0.5 to 255"),
        (np.zeros((3, 4, 5), np.int64), "wrong type int64"),
        (np.zeros((3, 4, 5), np.complex64), "wrong type complex64"),
        (np.zeros((2, 2, 2), "U3"), "wrong type"),
        (np.zeros((4, 5), np.uint8), r"wrong shape \(4, 5\)"),
        (np.zeros((48, 64, 3), np.uint8), "as of one picture"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"wrong shape \(2, 3, 8, 8\)"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"wrong shape \(2, 8, 8, 4\)"),
        (np.zeros((1, 2, 3, 4, 5), np.uint8), "wrong shape"),
        (np.zeros((0, 8, 8), np.uint8), "no images"),
        (np.zeros((3, 0, 8), np.uint8), r"wrong shape \(3, 0, 8\)"),
        (np.float64(3), r"wrong shape \(\)"),
        (np.array([{"a": 1}], dtype=object), "not an array of numbers"),
    ],
)
def test_what_cannot_be_images_is_refused(saved: Any, array: Any, said: str) -> None:
    with pytest.raises(VaeError, match=f"^a.npy: .*{said}"):
        read_array(saved(array), "a.npy")


def test_channels_first_gets_the_remedy(saved: Any) -> None:
    with pytest.raises(VaeError) as error:
        read_array(saved(np.zeros((2, 3, 8, 8), np.uint8)), "a.npy")
    assert "transpose(0, 2, 3, 1)" in error.value.hint


@pytest.mark.parametrize("content", [b"", b"text, no array", b"\x93NUMPY\x01\x00", b"PK\x03\x04 no zip"])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(VaeError, match=r"^a\.npy: "):
        read_array(path, "a.npy")


def test_a_file_cut_short_is_refused(saved: Any, tmp_path: Path) -> None:
    whole = saved(np.zeros((9, 8, 8), np.uint8)).read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-1])
    with pytest.raises(VaeError, match="damaged array file"):
        read_array(tmp_path / "a.npy", "a.npy")
    with pytest.raises(VaeError, match="damaged array file"):
        read_array(io.BytesIO(whole[:-1]), "-")


def test_a_header_that_promises_too_much_is_refused() -> None:
    with pytest.raises(VaeError, match="damaged array file"):
        read_array(io.BytesIO(npy_header((10**15, 28, 28), np.uint8)), "-")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("{'descr': '|u1', 'shape': (2, 4, 5), 'fortran_order': False", "EOF in multi-line statement"),
        ("{'descr': '|u1', 'shape': (2, 4, 5), '''fortran_order': False}", "EOF in multi-line string"),
        (
            "{'descr': '|u1', 'shape': (" + "1," * 9000 + "), 'fortran_order': False}",
            "may not be safe to load securely",
        ),
    ],
)
def test_a_header_that_cannot_be_parsed_is_damage_in_words(header: str, said: str) -> None:
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(40)
    with pytest.raises(VaeError) as error:
        read_array(io.BytesIO(content), "a.npy")
    assert error.value.message.endswith(f"{said})")
    assert error.value.message.startswith("a.npy: damaged array file (")


@pytest.mark.filterwarnings("error")
def test_a_header_of_python_2_is_read_in_silence(tmp_path: Path) -> None:
    header = "{'descr': '|u1', 'shape': (2L, 4L, 5L), 'fortran_order': False}"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + BYTES.tobytes()
    (tmp_path / "a.npy").write_bytes(content)
    assert (read_array(tmp_path / "a.npy", "a.npy")[..., 0] == BYTES).all()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VaeError, match=r"b\.npy: no such file"):
        read_array(tmp_path / "b.npy", str(tmp_path / "b.npy"))


def test_the_only_array_of_an_npz_is_taken(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", whatever=BYTES)
    assert (read_array(tmp_path / "a.npz", "a.npz")[..., 0] == BYTES).all()


def test_of_several_arrays_the_one_called_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", labels=np.arange(2), x_train=BYTES)
    assert (read_array(tmp_path / "a.npz", "a.npz")[..., 0] == BYTES).all()


def test_several_arrays_with_no_telling_name_are_listed(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", one=BYTES, two=BYTES)
    with pytest.raises(VaeError, match=r"2 arrays \(one, two\)"):
        read_array(tmp_path / "a.npz", "a.npz")


def test_an_npz_without_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz")
    with pytest.raises(VaeError, match="holds no array"):
        read_array(tmp_path / "a.npz", "a.npz")


def test_a_damaged_npz(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=np.random.default_rng(0).integers(0, 256, (4, 8, 8), np.uint8))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[100:140] = bytes(40)
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(VaeError, match=r"^a\.npz: damaged array file"):
        read_array(tmp_path / "a.npz", "a.npz")


@pytest.mark.parametrize("array", [BYTES, np.linspace(0, 1, 5, dtype=np.float32), np.array(["one", "three"])])
def test_a_header_and_the_values_are_what_numpy_saves(array: Any) -> None:
    stream = io.BytesIO()
    np.save(stream, array)
    assert npy_header(array.shape, array.dtype) + array.tobytes() == stream.getvalue()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_become_the_nearest_byte(dtype: Any) -> None:
    values = (np.arange(256) / 255).astype(dtype)
    before = values.copy()
    assert to_uint8(values).tolist() == list(range(256))
    assert to_uint8(np.array([0.4, 0.6], dtype) / dtype(255)).tolist() == [0, 1]
    assert np.array_equal(values, before)


def test_an_array_of_very_many_tiny_pictures_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a name and a place, of which a file of half a megabyte had 44 GB."""
    monkeypatch.setenv("VAE_MAX_MEGABYTES", "1")
    np.savez_compressed(tmp_path / "tiny.npz", np.zeros((20_000, 1, 1), np.uint8))
    with pytest.raises(VaeError, match=r"tiny.npz: unpacks to 2 MB, from 0.0 MB"):
        arrays.open_array(tmp_path / "tiny.npz", "tiny.npz")


def test_labels_that_take_much_memory_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.zeros(3, "U50000")  # 600 kB, which are copied to be told apart
    np.savez_compressed(tmp_path / "labelled.npz", x=np.zeros((3, 8, 8), np.uint8), y=labels)
    assert arrays.read_labels(tmp_path / "labelled.npz", 3).values is not None
    monkeypatch.setenv("VAE_MAX_MEGABYTES", "1")
    found = arrays.read_labels(tmp_path / "labelled.npz", 3)
    assert found.values is None
    assert "y cannot be read" in found.problem


@pytest.mark.parametrize(
    "labels", [np.arange(4) % 2, (np.arange(4) % 2)[:, np.newaxis], np.arange(4) % 2.0, np.arange(4) % 2 == 1]
)
def test_labels_of_many_kinds_are_whole_numbers(labels: NDArray[Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 8, 8), np.uint8), y=labels)
    found = arrays.read_labels(tmp_path / "a.npz", 4).values
    assert found is not None
    assert found.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (np.eye(4), r"y has the shape (4, 4), not (4,): save y.argmax(1)"),
        (np.arange(3), r"y has the shape (3,), not (4,)"),
        (np.array(["a", "b", "a", "b"], object), "y is pickled: save y.astype(str)"),
        (np.array([0.5, 1, 2, 3]), "y has the type float64, not whole numbers or text"),
        (np.array([np.inf, 1, 2, 3]), "y has the type float64, not whole numbers or text"),
    ],
)
def test_labels_that_cannot_be_used_are_told(labels: NDArray[Any], problem: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 8, 8), np.uint8), y=labels)
    assert arrays.read_labels(tmp_path / "a.npz", 4) == (None, problem)


@pytest.mark.parametrize(
    ("array", "hint"),
    [
        (np.full((3, 8, 8), 16.0), "divide by 16"),
        (np.full((3, 8, 8), 254.0), "divide by 255"),
        (np.full((3, 8, 8), -1.0), "scale the array first"),
        (np.zeros((30, 64)), "of rows: array.reshape(-1, 8, 8)"),
        (np.zeros((8, 8)), "for one picture: array[None]"),
    ],
)
def test_what_helps_with_an_array_is_said(array: NDArray[Any], hint: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(VaeError) as refused:
        arrays.read_array(tmp_path / "a.npy", "a.npy")
    assert refused.value.hint.endswith(hint)
