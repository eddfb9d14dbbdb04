"""Picture outputs: what is written for each name, whole or not at all."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vaecli import outputs
from vaecli.errors import UsageError, VaeError
from vaecli.pictures.arrays import read_array
from vaecli.pictures.grid import Series
from vaecli.pictures.writing import FORMATS, encode, picture_output, save_grid

GREY, COLOUR = (1, 6, 5), (3, 6, 5)


def pictures(n: int, shape: tuple[int, int, int] = GREY) -> NDArray[np.uint8]:
    channels, height, width = shape
    return np.random.default_rng(0).integers(0, 256, (n, height, width, channels), np.uint8)


def write(name: Path | str, images: NDArray[Any], how: dict[str, Any] | None = None, **opening: Any) -> dict[str, Any]:
    """Write `images` in batches of 4."""
    n, height, width, channels = images.shape
    output = picture_output(str(name), animates=True, **(how or {}))
    with output.open(Series(n, (channels, height, width), **opening)) as writer:
        for start in range(0, n, 4):
            writer.write(images[start : start + 4])
    assert writer.summary()
    return writer.facts


def write_half(name: Path | str, error: BaseException, n: int = 3, **how: Any) -> None:
    """Write one picture of `n`, then fail."""
    with picture_output(str(name), animates=True, **how).open(Series(n, GREY)) as writer:
        writer.write(pictures(1))
        raise error


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=[GREY, COLOUR], ids=["grey", "colour"])
def images(request: pytest.FixtureRequest) -> NDArray[np.uint8]:
    return pictures(6, request.param)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".webp"])
def test_pictures_without_loss(tmp_path: Path, images: NDArray[np.uint8], suffix: str) -> None:
    facts = write(tmp_path / f"a{suffix}", images, {"columns": 3, "scale": 1})
    read = np.asarray(Image.open(tmp_path / f"a{suffix}").convert("RGB"))
    assert read.shape == (2 * 6 + 2, 3 * 5 + 4, 3)
    assert (facts["height"], facts["width"]) == read.shape[:2]
    assert np.array_equal(read[:6, :5], np.broadcast_to(images[0], (6, 5, 3)))
    assert np.array_equal(read[8:, 14:], np.broadcast_to(images[5], (6, 5, 3)))


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_jpeg_comes_close(tmp_path: Path, suffix: str) -> None:
    ramp = np.tile(np.arange(0, 160, 20).astype(np.uint8), (1, 8, 1))[..., None]
    write(tmp_path / f"a{suffix}", ramp, {"scale": 8})
    read = Image.open(tmp_path / f"a{suffix}")
    assert read.format == "JPEG"
    assert np.abs(np.asarray(read).astype(int) - np.kron(ramp[0, ..., 0], np.ones((8, 8), int))).max() < 12


def test_an_array_is_streamed_with_its_header(tmp_path: Path, images: NDArray[np.uint8]) -> None:
    write(tmp_path / "a.npy", images)
    read = np.load(tmp_path / "a.npy")
    assert read.dtype == np.uint8
    assert np.array_equal(read, images[..., 0] if images.shape[-1] == 1 else images)


def test_an_array_of_floats(tmp_path: Path, images: NDArray[np.uint8]) -> None:
    floats = (images / 255).astype(np.float32)
    write(tmp_path / "a.npy", floats, {"dtype": "float32"})
    read = np.load(tmp_path / "a.npy")
    assert read.dtype == np.float32
    assert np.array_equal(read.reshape(floats.shape), floats)


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_of_numbered_pictures(tmp_path: Path, images: NDArray[np.uint8], there: bool) -> None:
    if there:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "notes.txt").write_text("mine")
    write(tmp_path / "out" if there else f"{tmp_path}/out/", images)
    names = [f"{number:04}.png" for number in range(1, 7)]
    assert listing(tmp_path / "out") == names + ["notes.txt"] * there
    for name, image in zip(names, images, strict=True):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / name)).reshape(image.shape), image)


def test_a_folder_with_the_inputs_names(tmp_path: Path) -> None:
    names = ["x/cat.jpg", "y/cat.png", "Cat", "d.npy[7]", "-", "-[12]"]
    write(f"{tmp_path}/out/", pictures(6), names=names)
    expected = ["cat.png", "cat-2.png", "Cat-3.png", "d-0007.png", "stdin.png", "stdin-0012.png"]
    assert listing(tmp_path / "out") == sorted(expected)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "Cat-3.png")), pictures(6)[2, ..., 0])


def test_names_in_an_archive_may_be_anything(tmp_path: Path) -> None:
    names = ["a.tar/\0x.png", "a.tar/.png", "a.tar/..", f"a.tar/{'ä' * 300}.png"]
    write(f"{tmp_path}/out/", pictures(4), names=names)
    assert listing(tmp_path / "out") == sorted(["x.png", "png.png", "picture.png", f"{'ä' * 100}.png"])


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_an_animation_goes_forwards_and_backwards_without_end(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    frames = np.stack([np.full((6, 5, shape[0]), 40 * number, np.uint8) for number in range(5)])
    facts = write(tmp_path / "a.gif", frames, {"scale": 2})
    with Image.open(tmp_path / "a.gif") as read:
        assert read.size == (10, 12)
        assert read.info["loop"] == 0
        values, durations = [], []
        for number in range(read.n_frames):  # type: ignore[attr-defined]  # of GIF files
            read.seek(number)
            values.append(read.convert("L").getpixel((4, 4)))
            durations.append(read.info["duration"])
    assert values == [0, 40, 80, 120, 160, 120, 80, 40]
    assert durations[0] == durations[4] > durations[1]
    assert (facts["frames"], facts["milliseconds"]) == (8, sum(durations))


def test_two_frames_are_an_animation_too(tmp_path: Path) -> None:
    write(tmp_path / "a.gif", pictures(2))
    with Image.open(tmp_path / "a.gif") as read:
        assert read.n_frames == 2  # type: ignore[attr-defined]  # of GIF files


def test_a_file_is_replaced_only_once_all_is_written(tmp_path: Path) -> None:
    for name in ("a.png", "a.npy", "a.gif"):
        (tmp_path / name).write_bytes(b"old")
        with pytest.raises(RuntimeError):
            write_half(tmp_path / name, RuntimeError())
        assert (tmp_path / name).read_bytes() == b"old"
    assert len(listing(tmp_path)) == 3


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_is_filled_only_once_all_is_written(tmp_path: Path, there: bool) -> None:
    if there:
        write(f"{tmp_path}/out/", pictures(2)[1:])
    before = [path.read_bytes() for path in sorted((tmp_path / "out").glob("*"))]
    with pytest.raises(KeyboardInterrupt):
        write_half(f"{tmp_path}/out/", KeyboardInterrupt())
    assert [path.read_bytes() for path in sorted((tmp_path / "out").glob("*"))] == before
    assert (tmp_path / "out").exists() == there


def test_no_clobber_refuses_before_the_work(tmp_path: Path) -> None:
    write(tmp_path / "a.png", pictures(1))
    write(f"{tmp_path}/out/", pictures(2))
    for name in ("a.png", "out/"):
        with (
            pytest.raises(VaeError, match="exists already"),
            picture_output(f"{tmp_path}/{name}", clobber=False).open(Series(3, GREY)),
        ):
            pytest.fail("it was opened")
    (tmp_path / "out" / "0001.png").rename(tmp_path / "out" / "0009.png")
    (tmp_path / "out" / "0002.png").unlink()
    with pytest.raises(VaeError, match=r"holds other pictures.*0009\.png"):
        write(f"{tmp_path}/out/", pictures(2), {"clobber": False})


def test_a_folder_of_folders_of_pictures_is_refused(tmp_path: Path) -> None:
    """As a set of pictures with classes is. Subfolders of pictures that were written like this one are none."""
    write(f"{tmp_path}/out/", pictures(2))
    write(f"{tmp_path}/out/more/", pictures(2))
    write(f"{tmp_path}/out/", pictures(2))
    (tmp_path / "out" / "cats").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "out" / "cats" / "1.jpg")
    with pytest.raises(VaeError, match=r"out: has pictures in its subfolders, such as cats/1\.jpg"):
        write(f"{tmp_path}/out/", pictures(2), {"clobber": True})


def test_clobber_removes_the_older_pictures_of_ours(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(f"{out}/", pictures(3))
    with pytest.raises(VaeError, match=r"holds other pictures.*0003\.png") as caught:
        write(f"{out}/", pictures(2))
    assert "`clobber` removes" in caught.value.hint
    (out / "notes.txt").write_text("mine")
    write(f"{out}/", pictures(2), {"clobber": True})
    assert listing(out) == ["0001.png", "0002.png", "notes.txt"]

    Image.new("L", (4, 4)).save(out / "mine.png")  # made by another program
    with pytest.raises(VaeError, match=r"holds other pictures.*: mine\.png"):
        write(f"{out}/", pictures(1), {"clobber": True})
    assert listing(out) == ["0001.png", "0002.png", "mine.png", "notes.txt"]


def test_clobber_keeps_pictures_that_were_copied_or_renamed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(f"{out}/", pictures(3), {})
    (out / "0003.png").rename(out / "best.png")
    with pytest.raises(VaeError, match=r"holds other pictures.*best\.png"):
        write(f"{out}/", pictures(1), {"clobber": True})
    assert sorted(path.name for path in out.iterdir()) == ["0001.png", "0002.png", "best.png"]


def test_clobber_removes_nothing_where_the_command_fails_or_reads_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(f"{out}/", pictures(3))
    with pytest.raises(RuntimeError):
        write_half(f"{out}/", RuntimeError(), n=2, clobber=True)
    for source in (out / "0003.png", out):
        with (
            pytest.raises(UsageError, match="one of the files to read"),
            picture_output(f"{out}/", clobber=True).open(Series(1, GREY, sources=[str(source)])),
        ):
            pytest.fail("it was opened")
    assert listing(out) == ["0001.png", "0002.png", "0003.png"]


@pytest.mark.parametrize(
    "name", ["none/a.png", "none/a.npy", "none/out/", "file/a.png", "file/", "file/out/", "/proc/a.png"]
)
def test_what_cannot_be_written_is_refused_before_the_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(VaeError) as caught,
        picture_output(str(tmp_path / name) + "/" * name.endswith("/")).open(Series(1, GREY)),
    ):
        pytest.fail("it was opened")
    assert str(tmp_path / name).rstrip("/") in caught.value.message
    assert listing(tmp_path) == ["file"]


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_a_full_device_is_told(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"full{suffix}").symlink_to("/dev/full")
    with pytest.raises(VaeError, match="no room left"):
        write(tmp_path / f"full{suffix}", pictures(40))
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize("name", ["a", "a.bmp", "a.npz", "", "a.png.txt", ".png"])
def test_names_of_no_format_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no format has this ending"):
        picture_output(name)


@pytest.mark.parametrize("animates", [True, False])
def test_an_animation_is_named_only_where_one_can_be_made(animates: bool) -> None:
    with pytest.raises(UsageError) as caught:
        picture_output("a.tiff", animates=animates)
    assert (".gif" in caught.value.hint) is animates


@pytest.mark.parametrize(
    ("name", "flags", "reason"),
    [
        ("a.gif", {}, "only interpolate"),
        ("-", {"json": True}, "`json` and `output` -"),
        ("a.npy", {"scale": 2}, "`scale`"),
        ("a/", {"scale": 2}, "`scale`"),
        ("a.npy", {"columns": 2}, "`columns`"),
        ("a/", {"columns": 2}, "`columns`"),
        ("a.gif", {"columns": 2, "animates": True}, "`columns`"),
        ("a.png", {"dtype": "float32"}, "`dtype`"),
        ("a/", {"dtype": "uint8"}, "`dtype`"),
        ("-", {"dtype": "uint8"}, "`dtype`"),
        (None, {}, "`output` is missing"),
        (None, {"flag": "picture"}, "`picture` is missing"),
    ],
)
def test_parameters_without_a_meaning_for_the_format_are_refused(
    name: str | None, flags: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        picture_output(name, **flags)


@pytest.mark.parametrize(("suffix", "longest"), [(".jpg", 65500), (".webp", 16383), (".gif", 65535)])
def test_the_longest_side_of_each_format(tmp_path: Path, suffix: str, longest: int) -> None:
    shape = (1, longest // 64 + 1, 1)
    with (
        pytest.raises(UsageError, match=str(longest)) as caught,
        picture_output(f"{tmp_path}/a{suffix}", animates=True, scale=64).open(Series(1, shape)),
    ):
        pytest.fail("it was opened")
    assert ".npy" in caught.value.hint
    assert listing(tmp_path) == []


@pytest.mark.parametrize(("image_format", "longest"), [("jpeg", 65500), ("webp", 16383), ("png", 70000)])
def test_the_longest_side_can_be_written(image_format: str, longest: int) -> None:
    assert len(encode(np.zeros((1, longest, 1), np.uint8), image_format)) > 0


@pytest.mark.parametrize("name", ["in.png", "in.npy", "folder/", "link.png"])
def test_what_was_read_is_never_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "in.png").write_bytes(b"mine")
    (tmp_path / "link.png").symlink_to("in.png")
    (tmp_path / "in.npy").write_bytes(b"mine")
    (tmp_path / "folder" / "in.png").write_bytes(b"mine")
    sources = [str(tmp_path / source) for source in ("in.png", "in.npy", "folder/in.png")]
    with (
        pytest.raises(UsageError, match="one of the files to read"),
        picture_output(f"{tmp_path}/{name}").open(Series(1, GREY, names=["x/in.jpg"], sources=sources)),
    ):
        pytest.fail("it was opened")
    assert (tmp_path / "in.png").read_bytes() == b"mine"


def test_every_format_has_a_writer() -> None:
    without = set(outputs.ANIMATIONS.values()) - set(FORMATS)
    assert not without, f"formats in outputs.py without a row in writing.FORMATS: {sorted(without)}"


def test_a_saved_grid_is_the_picture_of_the_same_images(tmp_path: Path, images: NDArray[np.uint8]) -> None:
    save_grid(images, tmp_path / "new" / "a.webp", columns=3, scale=1)
    write(tmp_path / "b.webp", images, {"columns": 3, "scale": 1})
    assert (tmp_path / "new" / "a.webp").read_bytes() == (tmp_path / "b.webp").read_bytes()


@pytest.mark.parametrize("name", ["a.npy", "a.gif", "a", "out"])
def test_a_grid_is_saved_as_a_picture_only(tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match=f"`path` .*{name}: no format"):
        save_grid(pictures(2), tmp_path / name)
    assert listing(tmp_path) == ["out"]


def test_arrays_and_folders_are_streamed(tmp_path: Path) -> None:
    for name in ("a.npy", "out/"):
        with picture_output(f"{tmp_path}/{name}").open(Series(10**5, GREY)) as writer:
            tracemalloc.start()
            for _ in range(20):
                writer.write(np.zeros((5000 if name == "a.npy" else 5, 6, 5, 1), np.uint8))
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert peak < 500_000
    assert read_array(tmp_path / "a.npy", "a.npy").shape == (10**5, 6, 5, 1)


def test_a_dash_is_a_png_on_stdout(capsysbinary: pytest.CaptureFixture[bytes], images: NDArray[np.uint8]) -> None:
    write("-", images, {"columns": 3})
    assert capsysbinary.readouterr().out.startswith(b"\x89PNG")


def test_a_folder_with_other_pictures_is_refused(tmp_path: Path) -> None:
    write(f"{tmp_path}/out/", pictures(3))
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(VaeError, match=r"out: holds other pictures.*: 0003\.png") as caught:
        write(f"{tmp_path}/out/", pictures(2))
    assert "name another folder" in caught.value.hint
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    write(f"{tmp_path}/out/", pictures(4))
    assert len(listing(tmp_path / "out")) == 4, "its own are replaced, as one file is"


def test_inputs_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    with picture_output(f"{tmp_path}/out/").open(Series(3, GREY, names=["a/x.png", "b/x.png", "y.png"])) as writer:
        writer.write(pictures(3))
    assert writer.facts == {"renamed": {"x-2.png": "b/x.png"}}
    assert "x-2.png is b/x.png" in writer.summary()
    assert listing(tmp_path / "out") == ["x-2.png", "x.png", "y.png"]


def test_many_inputs_of_the_same_name_have_names_of_their_own(tmp_path: Path) -> None:
    names = ["x.png", "a/X.png", "x-2.png", "b/x.png", *(f"{folder}/x.png" for folder in range(20))]
    with picture_output(f"{tmp_path}/out/").open(Series(len(names), GREY, names=names)) as writer:
        writer.write(pictures(len(names)))
    found = listing(tmp_path / "out")
    assert len({name.casefold() for name in found}) == len(names)
    assert {"x.png", "X-2.png", "x-2-2.png", "x-3.png", "x-23.png"} <= {*found}
