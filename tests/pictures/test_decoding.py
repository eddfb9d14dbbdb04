"""One picture file at a time: every format and mode, upright, and nothing that only says it is a picture."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.command_line import python_and_its_memory
from vaecli import limits
from vaecli.errors import VaeError
from vaecli.pictures import decoding
from vaecli.pictures.arrays import Pixels
from vaecli.pictures.decoding import decode, fit, read_picture
from vaecli.pictures.reader import on_all_cores

GREY = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)  # 4 high, 6 wide
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)


def encoded(image: Image.Image, form: str, **options: Any) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    stream.seek(0)
    return stream


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP"])
def test_colour_comes_through_every_lossless_format(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    assert (read_picture(encoded(Image.fromarray(COLOUR), form, **options), "x") == COLOUR).all()


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF"])
def test_grey_has_one_channel(form: str) -> None:
    pixels = read_picture(encoded(Image.fromarray(GREY), form), "x")
    assert pixels.shape == (4, 6, 1)
    assert (pixels[:, :, 0] == GREY).all()


def test_jpeg_is_close_to_what_was_saved() -> None:
    smooth = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    pixels = read_picture(encoded(Image.fromarray(smooth), "JPEG", quality=95), "x")
    assert pixels.shape == (64, 64, 1)
    assert np.abs(pixels[:, :, 0].astype(int) - smooth).max() <= 3


def test_one_bit_is_black_and_white() -> None:
    pixels = read_picture(encoded(Image.fromarray(GREY > 100), "PNG"), "x")
    assert (pixels[:, :, 0] == np.where(GREY > 100, 255, 0)).all()


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_rounded_not_cut(form: str) -> None:
    deep = np.array([[0, 128, 129], [256, 65534, 65535]], np.uint16)
    pixels = read_picture(encoded(Image.fromarray(deep), form), "x")
    assert pixels[:, :, 0].tolist() == [[0, 0, 1], [1, 255, 255]]


def test_sixteen_bits_of_colour_are_cut_by_pillow_and_it_is_told() -> None:
    values = np.array([[[0, 255, 256], [511, 65534, 65535]]], ">u2")  # (h, w, c)

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header, rows = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0), b"\0" + values.tobytes()
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    picture = decode(io.BytesIO(png), "x")
    assert picture.deep
    assert picture.pixels.tolist() == [[[0, 0, 1], [1, 255, 255]]]


def test_sixteen_bits_a_pixel_are_not_sixteen_a_value() -> None:
    """A BMP may have 5 or 6 bits a channel."""
    header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 70, 0, 0, 54, 40, 2, 2, 1, 16, 0, 16, 2835, 2835, 0, 0)
    picture = decode(io.BytesIO(header + bytes(8)), "x")
    assert picture.pixels.shape == (2, 2, 3)
    assert not picture.deep


def test_float_samples_are_taken_in_zero_to_one_only() -> None:
    values = np.array([[0.0, 0.5], [0.25, 1.0]], np.float32)
    pixels = read_picture(encoded(Image.fromarray(values), "TIFF"), "x")
    assert pixels[:, :, 0].tolist() == [[0, 128], [64, 255]]
    with pytest.raises(VaeError, match="x: has values from 0 to 2"):
        read_picture(encoded(Image.fromarray(values * 2), "TIFF"), "x")


def test_more_than_sixteen_bits_are_refused() -> None:
    with pytest.raises(VaeError, match="more than 16 bits"):
        read_picture(encoded(Image.fromarray(np.array([[0, 70000]], np.int32)), "TIFF"), "x")


def test_a_palette_gives_its_colours() -> None:
    image = Image.fromarray(COLOUR).quantize(24)
    assert (read_picture(encoded(image, "PNG"), "x") == np.asarray(image.convert("RGB"))).all()


def test_a_palette_of_greys_gives_one_channel() -> None:
    image = Image.fromarray(np.zeros((2, 2), np.uint8), "P")
    image.putpalette([90, 90, 90])
    assert read_picture(encoded(image, "PNG"), "x").tolist() == [[[90], [90]], [[90], [90]]]


def test_only_the_first_frame_of_a_gif() -> None:
    frames = [Image.fromarray(np.full((5, 5), value, np.uint8)) for value in (10, 200)]
    pixels = read_picture(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), "x")
    assert (pixels == 10).all()


def with_alpha(alpha: int) -> Image.Image:
    return Image.fromarray(np.full((2, 2, 4), (200, 100, 0, alpha), np.uint8))


def test_transparency_becomes_white() -> None:
    picture = decode(encoded(with_alpha(0), "PNG"), "x")
    assert picture.flattened
    assert (picture.pixels == 255).all()
    half = decode(encoded(with_alpha(128), "PNG"), "x").pixels[0, 0]
    assert np.abs(half.astype(int) - (227, 177, 127)).max() <= 1


def test_a_solid_alpha_channel_is_no_transparency() -> None:
    picture = decode(encoded(with_alpha(255), "PNG"), "x")
    assert not picture.flattened
    assert picture.pixels[0, 0].tolist() == [200, 100, 0]


def test_grey_with_alpha_stays_grey() -> None:
    image = Image.fromarray(np.stack([GREY, np.zeros_like(GREY)], axis=-1))
    assert image.mode == "LA"
    pixels = decode(encoded(image, "PNG"), "x").pixels
    assert pixels.shape == (4, 6, 1)
    assert (pixels == 255).all()


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_a_transparent_value_becomes_white(mode: str) -> None:
    values = np.array([[7, 20]], np.uint16 if mode == "I;16" else np.uint8)
    image = Image.fromarray(values, None if mode == "I;16" else mode)
    if mode == "P":
        image.putpalette([value for grey in range(256) for value in (grey,) * 3])
    picture = decode(encoded(image, "PNG", transparency=7), "x")
    assert picture.flattened
    assert picture.pixels[:, :, 0].tolist() == [[255, 0 if mode == "I;16" else 20]]


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@pytest.mark.parametrize("orientation", sorted(TURNS))
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_pictures_stand_upright(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(GREY)
    pixels = read_picture(encoded(image, form, exif=exif), "x")
    assert (pixels[:, :, 0] == np.asarray(image.transpose(TURNS[orientation]))).all()


def test_a_jpeg_is_turned_also_where_it_is_read_at_reduced_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    upper_half_white = np.zeros((256, 512), np.uint8)
    upper_half_white[:128] = 255
    stream = encoded(Image.fromarray(upper_half_white), "JPEG", exif=exif.tobytes())
    pixels = decode(stream, "x", at_least=(64, 32)).pixels
    assert pixels.shape == (256, 128, 1)  # at least twice what was asked for, not all of it
    assert pixels[:, :60].max() < 40
    assert pixels[:, 68:].min() > 215


@pytest.mark.parametrize("orientation", [1, *sorted(TURNS)])
@pytest.mark.parametrize("size", [(601, 801), (207, 301), (640, 320)])
def test_a_jpeg_that_is_read_at_reduced_size_keeps_its_edges(size: tuple[int, int], orientation: int) -> None:
    """Its sides are no multiples of 8: the decoder fills the last row and column with what is beyond the picture."""
    width, height = size
    coarse = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = orientation
    fitted = []
    for form in ("JPEG", "PNG"):
        options = {"quality": 95, "subsampling": 0} if form == "JPEG" else {}
        picture = decode(encoded(image, form, exif=exif.tobytes(), **options), "x", at_least=(32, 24))
        fitted.append(fit(picture.pixels, (3, 32, 24), picture.area).astype(int))
        assert (len(picture.pixels) < min(width, height)) == (form == "JPEG"), "it was read at reduced size"
    assert np.abs(fitted[0] - fitted[1]).max() < 16


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"])
def test_a_file_cut_short_is_refused_wherever_it_is_cut(form: str, tmp_path: Path) -> None:
    whole = encoded(Image.fromarray(np.tile(COLOUR, (8, 8, 1))), form).getvalue()
    path = tmp_path / f"cut.{form.lower()}"
    for kept in (1, 9, len(whole) // 3, len(whole) // 2, len(whole) * 3 // 4):
        path.write_bytes(whole[:kept])
        with pytest.raises(VaeError, match=f"cut.{form.lower()}: (damaged|not a) picture"):
            read_picture(path, path.name)


def test_damage_anywhere_is_an_error_or_a_picture_but_never_a_crash() -> None:
    rng = np.random.default_rng(0)
    for form in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"):
        whole = encoded(Image.fromarray(COLOUR), form).getvalue()
        for _ in range(40):
            damaged = bytearray(whole)
            for place in rng.integers(len(whole), size=4):
                damaged[place] = rng.integers(256)
            try:
                pixels = read_picture(io.BytesIO(damaged), "x")
            except VaeError:
                continue
            assert pixels.dtype == np.uint8
            assert pixels.shape[2] in (1, 3)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    text = tmp_path / "notes.png"
    text.write_text("not a picture at all")
    with pytest.raises(VaeError, match=r"notes\.png: not a picture"):
        read_picture(text, str(text))
    empty = tmp_path / "empty.png"
    empty.touch()
    with pytest.raises(VaeError, match=r"empty\.png: is empty"):
        read_picture(empty, str(empty))
    with pytest.raises(VaeError, match=r"nowhere\.png: no such file"):
        read_picture(tmp_path / "nowhere.png", str(tmp_path / "nowhere.png"))


def test_other_formats_are_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(GREY).save(path, "PPM")
    with pytest.raises(VaeError, match="not a picture"):
        read_picture(path, str(path))


@pytest.mark.parametrize(("side", "allowed"), [(9460, 90), (20_000, 400)])
def test_too_large_is_seen_before_decoding(side: int, allowed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoded(Image.new("1", (side, side)), "PNG").getvalue()
    with pytest.raises(VaeError, match=f"x: this is too large a picture, {side}x{side} pixels") as error:
        read_picture(io.BytesIO(whole), "x")
    assert error.value.hint.endswith(f"VAE_MAX_MEGAPIXELS={allowed}")
    monkeypatch.setenv("VAE_MAX_MEGAPIXELS", str(allowed))
    with pytest.raises(VaeError, match="damaged"):  # now it is decoded
        read_picture(io.BytesIO(whole[:60]), "x")


def test_a_webp_may_have_half_as_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PIXELS", 2 * COLOUR[:, :, 0].size - 1)
    assert read_picture(encoded(Image.fromarray(COLOUR), "PNG"), "x").shape == COLOUR.shape
    with pytest.raises(VaeError, match="x: this is too large a picture, 4x6 pixels"):
        read_picture(encoded(Image.fromarray(COLOUR), "WEBP"), "x")


def test_a_large_jpeg_is_small_enough_once_it_is_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PIXELS", 2**16)
    whole = encoded(Image.new("L", (1024, 1024)), "JPEG").getvalue()
    assert decode(io.BytesIO(whole), "x", (32, 32)).pixels.shape == (128, 128, 1)
    with pytest.raises(VaeError, match="too large a picture"):
        decode(io.BytesIO(whole), "x")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "PA", "I;16", "I", "F", "CMYK"])
def test_a_large_picture_is_the_same_part_by_part(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (9, 7, 4), np.uint8))
    if mode == "F":
        image = Image.fromarray(rng.random((9, 7), np.float32))
    elif mode in ("I", "I;16"):
        image = Image.fromarray(rng.integers(0, 2**16, (9, 7), np.uint16)).convert(mode)
    else:
        image = image.convert("RGB").quantize(16) if mode == "P" else image.convert(mode)
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = 6
    whole = encoded(image, "TIFF", exif=exif).getvalue()
    at_once = decode(io.BytesIO(whole), "x")
    monkeypatch.setattr(decoding, "LARGE", 20)
    parts = decode(io.BytesIO(whole), "x")
    assert parts.flattened == at_once.flattened
    assert parts.pixels.shape == at_once.pixels.shape
    assert (parts.pixels == at_once.pixels).all()


def test_the_largest_picture_takes_less_than_a_gigabyte(tmp_path: Path) -> None:
    path = tmp_path / "large.tif"
    Image.new("RGBA", (9459, 9459)).save(path, compression="tiff_adobe_deflate")
    assert path.stat().st_size < 2**20
    program = "import pathlib, sys; from vaecli.pictures.decoding import read_picture\n"
    program += "assert read_picture(pathlib.Path(sys.argv[1]), 'x').size"
    result, peak = python_and_its_memory(program, path)
    assert result.code == 0, result.err
    assert peak < 2**30


def test_a_device_is_no_picture() -> None:
    with pytest.raises(VaeError, match="/dev/zero: is a device or a pipe, not a file"):
        read_picture(Path("/dev/zero"), "/dev/zero")
    assert decoding.shape_of(Path("/dev/zero")) is None


class TestFit:
    def test_a_picture_that_fits_is_left_alone(self) -> None:
        assert fit(COLOUR, (3, 4, 6)) is COLOUR

    def test_crops_around_the_centre_to_the_aspect(self) -> None:
        picture = np.zeros((10, 30, 1), np.uint8)
        picture[:, 10:20] = 255
        assert (fit(picture, (1, 10, 10)) == 255).all()
        assert (fit(picture.swapaxes(0, 1), (1, 10, 10)) == 255).all()

    def test_keeps_everything_where_the_aspect_fits(self) -> None:
        ramp = np.repeat(np.arange(64, dtype=np.uint8)[:, None] * 4, 32, axis=1)[:, :, None]
        halved = fit(ramp, (1, 32, 16))
        assert np.abs(halved[2:-2, :, 0].astype(int) - (np.arange(32) * 8 + 2)[2:-2, None]).max() <= 1

    def test_fine_stripes_become_grey_not_stripes(self) -> None:
        stripes = np.zeros((256, 256, 1), np.uint8)
        stripes[:, ::2] = 255
        small = fit(stripes, (1, 36, 36))
        assert small.min() > 115
        assert small.max() < 140

    def test_converts_channels(self) -> None:
        grey = fit(COLOUR, (1, 4, 6))
        assert grey.shape == (4, 6, 1)
        weights = COLOUR @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
        assert np.abs(grey[:, :, 0] - weights).max() <= 1
        colour = fit(GREY[:, :, None], (3, 4, 6))
        assert (colour == GREY[:, :, None]).all()

    @pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 2), (1, 40, 90)])
    def test_any_shape(self, shape: tuple[int, int, int]) -> None:
        fitted: Pixels = fit(COLOUR, shape)
        assert fitted.shape == (shape[1], shape[2], shape[0])
        assert fitted.dtype == np.uint8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "I;16", "CMYK"])
def test_the_shape_is_known_before_a_picture_is_read(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tif"
    image = Image.fromarray(COLOUR).convert("L" if mode == "I;16" else mode)
    (image.convert("I;16") if mode == "I;16" else image).save(path)
    assert decoding.shape_of(path) == read_picture(path, "a").shape


def test_the_shape_is_that_of_the_upright_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = 6
    Image.fromarray(COLOUR).save(tmp_path / "a.jpg", exif=exif)
    assert decoding.shape_of(tmp_path / "a.jpg") == read_picture(tmp_path / "a.jpg", "a").shape == (6, 4, 3)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:50])
    assert decoding.shape_of(tmp_path / "b.jpg") is None


def test_the_limit_of_pillow_comes_back_though_two_readers_overlap() -> None:
    before = Image.MAX_IMAGE_PIXELS
    assert before is not None
    first, second = (on_all_cores(str, range(100)) for _ in range(2))
    next(first), next(second)
    first.close()
    assert Image.MAX_IMAGE_PIXELS is None, "the second one still reads"
    second.close()
    assert before == Image.MAX_IMAGE_PIXELS
