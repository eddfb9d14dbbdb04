"""Pictures written out: what the name after `-o` asks for, made whole or not at all.

`.png .jpg .webp` one picture, a grid · `.gif` an animation · `.npy` an array · `name/` a folder of PNG files
· `-` PNG bytes on stdout. Every form takes its images batch by batch; arrays and folders any number of them.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaecli import files
from vaecli.errors import UsageError, VaeError, file_error
from vaecli.pictures.grid import GAP, LARGEST_SCALE, Grid, check_area, enlarge, lay_out

Form: TypeAlias = Literal["picture", "animation", "array", "folder"]
Dtype: TypeAlias = Literal["uint8", "float32"]
ImageShape: TypeAlias = tuple[int, int, int]  # (channels, height, width)

STDOUT = "-"
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".gif": "GIF"}
LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383, "GIF": 65535}  # pixels that the format, or its library, allows
EASY_TO_SEE = 280  # pixels: about the longer side of an animation
FRAME_MS = 100
END_MS = 600  # how long an animation rests where it turns


@dataclass(frozen=True)
class Output:
    """What `-o` and the flags beside it ask for, found to make sense. Nothing is opened yet."""

    name: str
    form: Form
    columns: int | None
    scale: int | None
    dtype: Dtype
    clobber: bool

    @property
    def as_uint8(self) -> bool:
        """Whether it takes images as uint8, not as floats in [0, 1]."""
        return self.dtype == "uint8"

    @contextlib.contextmanager
    def open(
        self,
        n: int,
        image_shape: ImageShape,
        *,
        stacked: int = 1,
        columns: int | None = None,
        gap: int = GAP,
        names: Sequence[str] | None = None,
        sources: Sequence[str] = (),
    ) -> Iterator[Writer]:
        """Open it for `n` images of (c, h, w). It is there once the block ends well, else nothing changed.

        Of a picture, `stacked` images stand under each other, `columns` is what a row holds where --columns
        was not given, and `gap` the pixels between images. `names` are the inputs' own, for the files in a
        folder; `sources` are the files that were read, which are never replaced.

        Raises:
            UsageError: it would be larger than its format can be, or replace one of `sources`.
            VaeError: it cannot be written, or is there already and was not to be replaced.
        """
        if self.form == "folder":
            with _folder(Path(self.name), n, _names(n, names), self.clobber, sources) as folder:
                yield folder
            return
        writer = self._writer(n, image_shape, columns, stacked, gap)
        with self._stream(sources) as stream:
            writer.start(stream)
            yield writer
            writer.finish(stream)

    def _writer(self, n: int, image_shape: ImageShape, columns: int | None, stacked: int, gap: int) -> _FileWriter:
        if self.form == "array":
            return _Array(n, image_shape, self.dtype)
        image_format = "PNG" if self.name == STDOUT else FORMATS[Path(self.name).suffix.lower()]
        if self.form == "animation":
            return _Animation(n, image_shape, self.scale)
        columns = self.columns or columns
        layout = lay_out(n, image_shape, columns=columns, scale=self.scale, stacked=stacked, gap=gap)
        _check_side(layout.height, layout.width, image_format)
        return _Picture(Grid(layout, image_shape[0]), image_format)

    @contextlib.contextmanager
    def _stream(self, sources: Sequence[str]) -> Iterator[BinaryIO]:
        if self.name == STDOUT:
            with files.standard_output() as stream:
                yield stream
            return
        path = Path(self.name)
        _refuse_sources([path], sources)
        with files.replacing(path, clobber=self.clobber) as stream:
            yield stream


def output(
    name: str,
    *,
    animates: bool = False,
    columns: int | None = None,
    scale: int | None = None,
    dtype: Dtype | None = None,
    clobber: bool = True,
    json: bool = False,
) -> Output:
    """Understand `-o` and what goes with it; `animates` says whether the command makes animations.

    Raises:
        UsageError: the name is of no form, or a flag means nothing for that form.
    """
    form = _form(name)
    if form == "animation" and not animates:
        raise UsageError(
            f"--output {name}: only interpolate and traverse make animations", "name a .png, .npy or folder/"
        )
    if name == STDOUT:
        files.check_standard_output(json=json, binary=True, instead="write the picture to a file")
    if form in ("array", "folder") and scale is not None:
        raise UsageError(f"--scale: {name} is never enlarged", "leave it out, or name a picture")
    if form != "picture" and columns is not None:
        raise UsageError(f"--columns: {name} has none", "leave it out, or name a picture")
    if form != "array" and dtype is not None:
        raise UsageError(f"--dtype: {name} is not an array", "leave it out, or name a .npy")
    return Output(name, form, columns, scale, dtype or "uint8", clobber)


def _form(name: str) -> Form:
    if name == STDOUT:
        return "picture"
    if name.endswith(("/", os.sep)) or (name and Path(name).is_dir()):
        return "folder"
    suffix = Path(name).suffix.lower()
    if suffix == ".npy":
        return "array"
    if suffix not in FORMATS:
        raise UsageError(
            f"--output {name}: no form of output has that name",
            "name a picture (.png .jpg .webp), animation (.gif), array (.npy), folder/, or - for stdout",
        )
    return "animation" if suffix == ".gif" else "picture"


class Writer(Protocol):
    """Takes images until all are there."""

    @property
    def facts(self) -> dict[str, Any]:
        """What came out, for JSON."""

    def write(self, images: NDArray[Any]) -> None:
        """Take the next images (b, h, w, c), of the output's dtype."""

    def said(self) -> str:
        """What came out, for a person."""


class _FileWriter(Writer, Protocol):
    def start(self, stream: BinaryIO) -> None: ...

    def finish(self, stream: BinaryIO) -> None: ...


class _Picture:
    """A grid, kept in memory until it is whole."""

    def __init__(self, grid: Grid, image_format: str) -> None:
        self._grid, self._format = grid, image_format
        layout = grid.layout
        self.facts: dict[str, Any] = {
            "width": layout.width,
            "height": layout.height,
            "columns": layout.columns,
            "scale": layout.scale,
        }

    def start(self, stream: BinaryIO) -> None:
        pass

    def write(self, images: NDArray[Any]) -> None:
        self._grid.put(images)

    def finish(self, stream: BinaryIO) -> None:
        stream.write(encode(self._grid.canvas, self._format))

    def said(self) -> str:
        layout = self._grid.layout
        enlarged = f", {layout.scale} times enlarged" if layout.scale > 1 else ""
        return f"{layout.columns}x{layout.rows} pictures{enlarged}, {layout.width}x{layout.height} pixels"


class _Array:
    """A .npy, streamed: its header is written first, because the number of images is known."""

    def __init__(self, n: int, image_shape: ImageShape, dtype: Dtype) -> None:
        channels, height, width = image_shape
        self._shape = (n, height, width) if channels == 1 else (n, height, width, channels)
        self._dtype = np.dtype(dtype)
        self.facts: dict[str, Any] = {"shape": self._shape, "dtype": dtype}

    def start(self, stream: BinaryIO) -> None:
        self._stream = stream
        description = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": self._shape,
        }
        np.lib.format.write_array_header_1_0(stream, description)
        _reserve(stream, int(np.prod(self._shape)) * self._dtype.itemsize)

    def write(self, images: NDArray[Any]) -> None:
        self._stream.write(np.ascontiguousarray(images, self._dtype).data)

    def finish(self, stream: BinaryIO) -> None:
        pass

    def said(self) -> str:
        return f"{' x '.join(map(str, self._shape))} {self._dtype}"


class _Animation:
    """A .gif that goes forth and back for ever."""

    def __init__(self, n: int, image_shape: ImageShape, scale: int | None) -> None:
        _, height, width = image_shape
        self._scale = scale or max(1, min(LARGEST_SCALE, round(EASY_TO_SEE / max(height, width))))
        size = self._scale * height, self._scale * width
        _check_side(*size, "GIF")
        check_area(n * size[0], size[1], f"{n} frames")
        self._frames: list[NDArray[np.uint8]] = []
        self.facts: dict[str, Any] = {"width": size[1], "height": size[0], "scale": self._scale}

    def start(self, stream: BinaryIO) -> None:
        pass

    def write(self, images: NDArray[Any]) -> None:
        self._frames += list(images)

    def finish(self, stream: BinaryIO) -> None:
        from PIL import Image

        forth = [_image(enlarge(frame, self._scale)) for frame in self._frames]
        if forth[0].mode == "RGB":  # one palette for all, else colours flicker from frame to frame
            sheet = _image(np.concatenate(self._frames))
            palette = sheet.quantize(256, Image.Quantize.MEDIANCUT)
            forth = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in forth]
        frames = forth + forth[-2:0:-1]
        durations = [FRAME_MS] * len(frames)
        durations[0] = durations[len(forth) - 1] = END_MS
        self.facts["frames"] = len(frames)
        self.facts["milliseconds"] = sum(durations)
        buffer = io.BytesIO()
        frames[0].save(
            buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=False
        )
        stream.write(buffer.getvalue())

    def said(self) -> str:
        seconds = self.facts["milliseconds"] / 1000
        return f"{self.facts['frames']} frames, forth and back in {seconds:.1f} s"


class _Folder:
    """PNG files in a folder aside, until all of them are there."""

    def __init__(self, aside: Path, name_of: Callable[[int], str]) -> None:
        self._aside, self._name_of = aside, name_of
        self.count = 0
        self.facts: dict[str, Any] = {}

    def write(self, images: NDArray[Any]) -> None:
        for image in images:
            (self._aside / self._name_of(self.count)).write_bytes(encode(image, "PNG"))
            self.count += 1

    def said(self) -> str:
        return f"{self.count} PNG files"


@contextlib.contextmanager
def _folder(
    folder: Path, n: int, name_of: Callable[[int], str], clobber: bool, sources: Sequence[str]
) -> Iterator[_Folder]:
    """Fill a folder aside, then move its files into `folder`: a disk that fills up leaves nothing behind."""
    _refuse_sources((folder / name_of(index) for index in range(n)), sources)
    if not clobber:
        for index in range(n):
            if (folder / name_of(index)).exists():
                raise VaeError(
                    f"{folder / name_of(index)}: exists already",
                    "drop --no-clobber to replace it, or name another folder",
                )
    made = not folder.exists()
    aside = folder / f".{os.urandom(4).hex()}.part"
    try:
        folder.mkdir(exist_ok=True)
        aside.mkdir()
        writer = _Folder(aside, name_of)
        yield writer
        for index in range(writer.count):
            (aside / name_of(index)).replace(folder / name_of(index))
        aside.rmdir()
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        if isinstance(error, FileExistsError):
            raise VaeError(f"{folder}: is a file, not a folder", "name another folder") from error
        if isinstance(error, OSError):
            ours = error.filename is None or folder in Path(error.filename).parents
            raise file_error(folder if ours else error.filename, error) from error
        raise


def _names(n: int, given: Sequence[str] | None) -> Callable[[int], str]:
    """The file of each picture: `0001.png` and so on; or the inputs' own names as PNG, each once."""
    if given is None:
        digits = max(4, len(str(n)))
        return lambda index: f"{index + 1:0{digits}}.png"
    taken: set[str] = set()
    names = []
    for name in given:
        stem = _stem(name)
        unique, again = stem, 2
        while unique.casefold() in taken:  # some file systems take A for a
            unique, again = f"{stem}-{again}", again + 1
        taken.add(unique.casefold())
        names.append(f"{unique}.png")
    return lambda index: names[index]


def _stem(name: str) -> str:
    """An input's own name without folder and suffix; `digits.npy[17]` becomes digits-0017."""
    row = re.fullmatch(r"(.*)\[(\d+)\]", name)
    stem = Path(row[1] if row else name).stem
    stem = "stdin" if stem == STDOUT else stem
    return f"{stem}-{int(row[2]):04}" if row else stem


def _refuse_sources(targets: Iterable[Path], sources: Sequence[str]) -> None:
    read = {Path(source).resolve() for source in sources if source != STDOUT}
    for target in targets if read else ():
        if target.resolve() in read:
            raise UsageError(f"--output: {target} is one of the pictures to read", "name another place")


def encode(image: NDArray[np.uint8], image_format: str) -> bytes:
    """One picture (h, w, c) as the bytes of a file."""
    options: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": 95, "subsampling": 0},
        "WEBP": {"lossless": True},
    }
    buffer = _NamedBuffer(image_format)
    _image(image).save(buffer, **options.get(image_format, {}))
    return buffer.getvalue()


class _NamedBuffer(io.BytesIO):
    """Memory with a file's name: Pillow then loads one format's code, where a format's name loads five."""

    def __init__(self, image_format: str) -> None:
        super().__init__()
        self.name = f"buffer.{image_format.lower()}"


def _image(pixels: NDArray[np.uint8]) -> Any:  # noqa: ANN401 - PIL.Image.Image, imported late
    from PIL import Image

    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _check_side(height: int, width: int, image_format: str) -> None:
    longest = LONGEST_SIDE.get(image_format)
    if longest is not None and max(height, width) > longest:
        raise UsageError(
            f"--output: {width}x{height} pixels; a side of a {image_format} has at most {longest}",
            "name a .png, a .npy or a folder/, or lower --scale",
        )


def _reserve(stream: BinaryIO, size: int) -> None:
    """Take `size` more bytes of the disk at once, so that a full one is noticed before the work."""
    if not hasattr(os, "posix_fallocate"):
        return
    stream.flush()
    disk = os.fstatvfs(stream.fileno())
    if stat.S_ISREG(os.fstat(stream.fileno()).st_mode) and size > disk.f_bavail * disk.f_frsize:
        # Not left to the system, which would fill the disk before it says so, to the harm of everyone else.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    try:
        os.posix_fallocate(stream.fileno(), stream.tell(), size)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise  # a device, or a file system that cannot, will tell while it is written
