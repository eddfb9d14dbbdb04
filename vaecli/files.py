"""Writing files whole or not at all: beside their place first, then renamed into it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from vaecli.errors import VaeError, file_error, no_folder

PENDING = ".pending"  # a folder of files that are complete, and on the way to their places


@contextlib.contextmanager
def replacing(path: Path, *, clobber: bool = True) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces `path` once the block ends well; else nothing changes.

    A device or a pipe (`/dev/stdout`) cannot be replaced and is written directly.

    Raises:
        VaeError: `path` cannot be written, or exists and `clobber` is false.
    """
    if not clobber and path.exists():
        raise VaeError(f"{path}: exists already", "name another file; `clobber=True` replaces it")
    if path.is_dir():
        raise VaeError(f"{path}: is a folder, not a file", "name a file")
    if path.exists() and not path.is_file():
        try:
            with path.open("wb") as stream:
                yield stream
        except OSError as error:
            raise file_error(path, error) from error
        return
    if not path.parent.exists():
        raise no_folder(path)
    path = real_path(path)  # a link stays a link: what it points to is replaced
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")
    try:
        with beside.open("xb") as stream:
            if path.exists():
                with contextlib.suppress(OSError):
                    beside.chmod(path.stat().st_mode & 0o7777)
            yield stream
        beside.replace(path)
    except OSError as error:
        # An error about another file (an input that vanished) is not about this one.
        named = error.filename is not None and str(error.filename) not in (str(beside), str(path))
        raise file_error(error.filename if named else path, error) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def real_path(path: Path) -> Path:
    """The path without symbolic links; where they form a circle, as far as they lead (`Path.resolve` may fail)."""
    return Path(os.path.realpath(path))


def write_bytes(path: Path, content: bytes, *, clobber: bool = True) -> None:
    """Replace `path` with `content`, whole or not at all. Raises VaeError where it cannot be written."""
    with replacing(path, clobber=clobber) as stream:
        stream.write(content)


def replace_together(folder: Path, contents: Mapping[str, bytes | None]) -> None:
    """Give files in `folder` new contents in one step; those of None are removed.

    All are written whole into a folder beside them. Its new name, PENDING, is the step: `settle` then moves its files
    to their places. A process that is killed before the step leaves the old files; after it the next `settle` goes on.

    Raises:
        VaeError: a file cannot be written; then none has changed.
    """
    for name in contents:
        if (folder / name).is_dir():
            raise VaeError(f"{folder / name}: is a folder, not a file", "move it, or name another folder")
    aside = folder / f"{PENDING}.{os.urandom(4).hex()}.part"
    try:
        settle(folder)  # what an earlier process left
        aside.mkdir()
        for name, content in contents.items():
            with (aside / name).open("xb") as stream:
                stream.write(content or b"")  # an empty file stands for one that is removed
                stream.flush()
                os.fsync(stream.fileno())
        aside.rename(folder / PENDING)
        settle(folder)
    except OSError as error:
        raise file_error(folder, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def settle(folder: Path) -> None:
    """Finish what `replace_together` began in `folder`. Several processes may do so at once. Raises OSError."""
    pending = folder / PENDING
    for file in sorted(pending.iterdir()) if pending.is_dir() else ():
        target = real_path(folder / file.name)  # a link stays a link: what it points to is replaced
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            if not file.stat().st_size:
                target.unlink(missing_ok=True)
                file.unlink()
                continue
            if target.exists():
                file.chmod(target.stat().st_mode & 0o7777)
            try:
                file.replace(target)
            except OSError as error:
                if error.errno != errno.EXDEV:  # the link leads to another disk
                    raise
                write_bytes(target, file.read_bytes())
                file.unlink()
    with contextlib.suppress(FileNotFoundError):
        pending.rmdir()


def check_room(path: Path, size: int) -> None:
    """Raise VaeError where the disk of `path` has less than `size` bytes free: a full disk harms everybody else."""
    with contextlib.suppress(OSError):  # the folder does not exist, which the write itself reports
        if size > shutil.disk_usage(path.absolute().parent).free:
            raise file_error(path, OSError(errno.ENOSPC, ""))


def make_folder(path: Path) -> None:
    """Create a folder and its parents. Raises VaeError where that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise VaeError(f"{path}: is a file, not a folder", "name another folder") from error
    except OSError as error:
        raise file_error(path, error) from error


@contextlib.contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Give a temporary folder whose files move into `folder` once the block ends well; else nothing changes.

    `folder` is made where it does not exist. Files of the same names are replaced, all others stay.

    Raises:
        VaeError: `folder` is a file, or cannot be written.
    """
    made = not folder.exists()
    aside = folder / f".{os.urandom(4).hex()}.part"
    if folder.exists() and not folder.is_dir():
        raise VaeError(f"{folder}: is a file, not a folder", "name another folder")
    if not folder.parent.exists():
        raise no_folder(folder)
    try:
        folder.mkdir(exist_ok=True)
        aside.mkdir()
        yield aside
        files = sorted(aside.iterdir())
        for target in (folder / file.name for file in files):
            if target.is_dir():
                raise VaeError(f"{target}: is a folder, not a file", "move it, or name another folder")
        for file in files:
            file.replace(folder / file.name)
        aside.rmdir()
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            ours = error.filename is None or folder in Path(error.filename).parents
            raise file_error(folder if ours else error.filename, error) from error
        raise
