"""Writing files whole or not at all: beside their place first, then renamed into it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from vaecli.errors import VaeError, file_error, no_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a module's type has no None

PENDING = ".pending"  # a folder of files that are complete, and on the way to their places
PATIENCE = 10.0  # seconds to wait for another process that moves files into the same folder
LONGEST_NAME = 255  # bytes, on the usual file systems


def with_home(path: str | Path) -> Path:
    """The path with the home folder for its ~, which make and some shells leave there. That of no user stays."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's own raises where there is no such user


@contextlib.contextmanager
def opened_folder(folder: Path) -> Iterator[int | None]:
    """The descriptor of a folder within the block, by which it is locked; None on Windows, which opens no folder.

    Raises OSError.
    """
    if fcntl is None:
        yield None
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def lock(descriptor: int | None) -> bool | None:
    """Lock an open file or folder (flock) until it is closed, or the process ends, however it ends.

    False: another process has locked it. None: there are no locks here, as on Windows and some network disks.
    """
    if fcntl is None or descriptor is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def lock_within(seconds: float, descriptor: int | None) -> bool:
    """As `lock`, but wait for another process to end its work. False: it did not end in this time."""
    until = time.monotonic() + seconds
    while lock(descriptor) is False:
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def lock_holder(descriptor: int) -> int | None:
    """The process that has locked an open file or folder; None where the system does not tell."""
    try:
        inode = os.fstat(descriptor).st_ino
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]  # of Linux
        found = {int(lock[4]) for lock in locks if lock[1] == "FLOCK" and lock[5].endswith(f":{inode}")}
    except (OSError, ValueError, IndexError):
        return None
    return found.pop() if len(found) == 1 and min(found) > 0 else None


@contextlib.contextmanager
def temporary_beside(path: Path, *, folder: bool = False, tidy: bool = True) -> Iterator[Path]:
    """A new file or folder beside `path`, which is removed at the end where it has not been moved.

    It is locked for as long as it is in use. Leftovers of killed processes beside `path` are removed first.
    `tidy=False` skips that search: use it when writing many files to one folder. Raises OSError.
    """
    if tidy:
        remove_leftovers(*unfinished(path))
    made, descriptor = _claimed(path, folder=folder)
    try:
        yield made
    finally:
        remove(made)
        if descriptor is not None:
            os.close(descriptor)


def _claimed(path: Path, *, folder: bool) -> tuple[Path, int | None]:
    """A new file or folder, and the descriptor that holds its lock; none where there are no locks."""
    made = path.with_name(f"{_beginning(path)}{os.urandom(4).hex()}.part")
    try:
        if folder:
            made.mkdir()
        else:
            made.open("xb").close()
    except OSError as error:  # it is about the place, whatever name was tried in it
        raise OSError(error.errno, error.strerror, str(path)) from error
    if fcntl is None:  # Windows renames no file that is open
        return made, None
    try:
        descriptor = os.open(made, os.O_RDONLY)
    except FileNotFoundError:  # another process took it for one that is left
        return _claimed(path, folder=folder)
    if lock(descriptor) is not False and made.exists():
        return made, descriptor
    os.close(descriptor)
    return _claimed(path, folder=folder)  # another process took it for one that is left


def unfinished(path: Path) -> list[Path]:
    """What killed processes have left of `temporary_beside(path)`: nobody holds its lock."""
    return unfinished_in(path.parent, re.escape(_beginning(path)))


def unfinished_in(folder: Path, beginning: str) -> list[Path]:
    """What killed processes have left in a folder under names that begin so; `beginning` is a regular expression."""
    name = re.compile(beginning + r"[0-9a-f]{8}\.part")
    try:
        return [found for found in folder.iterdir() if name.fullmatch(found.name) and _is_leftover(found)]
    except OSError:
        return []


def _beginning(path: Path) -> str:
    """How the names of files beside `path` begin. A long name of `path` is cut, so that theirs are not too long."""
    room = LONGEST_NAME - len("..01234567.part")
    name = path.name.removeprefix(".")[:room]
    while len(os.fsencode(name)) > room:
        name = name[:-1]
    return f".{name}."


def _is_leftover(part: Path) -> bool:
    with _locked_if_leftover(part) as left:
        return left


@contextlib.contextmanager
def _locked_if_leftover(part: Path) -> Iterator[bool]:
    """Whether nobody holds the lock of a file or folder. Then it is held within the block."""
    try:
        descriptor = os.open(part, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        yield lock(descriptor) is True
    finally:
        os.close(descriptor)


def remove_leftovers(*parts: Path) -> None:
    """Remove what killed processes have left, as `unfinished` finds it.

    It is locked meanwhile: a process that has just made one of them then sees that it is gone, and makes another.
    """
    for part in parts:
        with _locked_if_leftover(part) as left:
            if left:
                remove(part)


def remove(*paths: Path) -> None:
    """Remove files and folders with all that is in them, as far as that is possible."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk: then they survive a power cut. Raises OSError.

    Windows has no such call for what is not open for writing.
    """
    if fcntl is None:
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(path: Path, *, clobber: bool = True, durable: bool = False, tidy: bool = True) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces `path` once the block ends well; else nothing changes.

    A device or a pipe (`/dev/stdout`) cannot be replaced and is written directly. What is `durable` is on the disk
    then, and survives a power cut. `tidy` is as in `temporary_beside`.

    Raises:
        VaeError: `path` cannot be written, or exists and `clobber` is false.
    """
    if not clobber and path.exists():
        raise exists_already(path)
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
    part = path
    try:
        with temporary_beside(path, tidy=tidy) as part:
            with part.open("wb") as stream:
                if path.exists():
                    with contextlib.suppress(OSError):
                        part.chmod(path.stat().st_mode & 0o7777)
                yield stream
                if durable:
                    stream.flush()
                    os.fsync(stream.fileno())
            if clobber:
                part.replace(path)
            else:
                _give_name(part, path)
        if durable:
            sync(path.parent)
    except OSError as error:
        # An error about another file (an input that vanished) is not about this one.
        named = error.filename is not None and str(error.filename) not in (str(part), str(path))
        raise file_error(error.filename if named else path, error) from error


def exists_already(path: Path) -> VaeError:
    """The error for a file that is not to be replaced."""
    return VaeError(f"{path}: exists already", "name another place; `clobber=True` replaces it")


def _give_name(part: Path, path: Path) -> None:
    """Give a file the name `path`, too, in one step: of several processes that try, one succeeds.

    Raises VaeError where one has it.
    """
    try:
        os.link(part, path)
    except FileExistsError as error:
        raise exists_already(path) from error
    except OSError as error:  # a file here has one name only
        if path.exists():
            raise exists_already(path) from error
        part.replace(path)


def real_path(path: Path) -> Path:
    """The path without symbolic links; where they form a circle, as far as they lead (`Path.resolve` may fail)."""
    return Path(os.path.realpath(path))


def write_bytes(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Replace `path` with `content`, whole or not at all. Raises VaeError where it cannot be written."""
    with replacing(path, durable=durable) as stream:
        stream.write(content)


def replace_together(folder: Path, contents: Mapping[str, bytes | None]) -> None:
    """Give files in `folder` new contents in one step; those of None are removed. They survive a power cut then.

    All are written whole into a folder beside them. The step is that this folder is renamed to PENDING. Then
    `finish_pending_moves` moves its files to their places. If the process is killed before the step, the old files are
    still there; if after it, the next `finish_pending_moves` goes on.

    Raises:
        VaeError: a file cannot be written; then none has changed.
    """
    _refuse_folders(folder, contents)
    check_pending(folder)
    try:
        finish_pending_moves(folder)  # what an earlier process left
        with temporary_beside(folder / PENDING, folder=True) as aside:
            for name, content in contents.items():
                with (aside / name).open("xb") as stream:
                    stream.write(content or b"")  # an empty file stands for one that is removed
                    stream.flush()
                    os.fsync(stream.fileno())
            sync(aside)
            aside.rename(folder / PENDING)
        sync(folder)
        finish_pending_moves(folder)
        sync(folder)
    except OSError as error:
        raise file_error(folder, error) from error


def _refuse_folders(folder: Path, names: Iterable[str]) -> None:
    """Raise VaeError where a folder has one of the `names`, which only a file can take."""
    for name in names:
        if (folder / name).is_dir():
            raise VaeError(f"{folder / name}: is a folder, not a file", "move it, or name another folder")


def check_pending(folder: Path) -> None:
    """Raise VaeError where what has the name PENDING in `folder` is no folder: nothing could be moved then."""
    pending = folder / PENDING
    if pending.is_symlink() or (pending.exists() and not pending.is_dir()):
        raise VaeError(f"{pending}: is a file or a link, not a folder", "move it: vae needs this name")


def finish_pending_moves(folder: Path) -> None:
    """Finish what `replace_together` or `filling` began in `folder`. Several processes may do so at once.

    It moves files within the folder and follows no link: the folder may be from somebody else. Raises OSError.
    """
    pending = folder / PENDING
    for file in sorted(pending.iterdir()) if pending.is_dir() and not pending.is_symlink() else ():
        target = folder / file.name
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            if not file.lstat().st_size:
                target.unlink(missing_ok=True)
                file.unlink()
                continue
            if target.exists() and not target.is_symlink() and not file.is_symlink():
                file.chmod(target.stat().st_mode & 0o7777)
            file.replace(target)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
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
def filling(folder: Path, *, clobber: bool = True) -> Iterator[Path]:
    """Give a temporary folder whose files move into `folder` once the block ends well; else nothing changes.

    Where there is no `folder`, the temporary one gets its name, in one step. Else files of the same names are replaced,
    or removed where the new one is empty, and all others stay. A process that is killed meanwhile leaves the rest to
    the next one that fills it. Of several processes that fill it at once, the last one replaces all files.

    Raises:
        VaeError: `folder` is a file, cannot be written, or another process writes to it for long. It says so where
            some files were replaced. Or one of the files exists and `clobber` is false.
    """
    if folder.exists() and not folder.is_dir():
        raise VaeError(f"{folder}: is a file, not a folder", "name another folder")
    if not folder.parent.exists():
        raise no_folder(folder)
    check_pending(folder)
    aside = folder
    try:
        new = not folder.exists()
        if not new:
            with _locked(folder):
                finish_pending_moves(folder)
        with temporary_beside(folder if new else folder / PENDING, folder=True) as aside:
            yield aside
            if new and _renamed(aside, folder):
                return
            names = [file.name for file in aside.iterdir()]
            with _locked(folder):
                _refuse_folders(folder, names)
                finish_pending_moves(folder)
                for name in () if clobber else names:
                    if (folder / name).exists():
                        raise exists_already(folder / name)
                aside.rename(folder / PENDING)
                _finish_all_moves(folder, len(names))
    except OSError as error:
        ours = error.filename is None or {aside, folder} & {Path(error.filename), *Path(error.filename).parents}
        raise file_error(folder if ours else error.filename, error) from error


def _renamed(made: Path, folder: Path) -> bool:
    """Give a new folder the name `folder`. False: another process has made one of this name. Raises OSError."""
    try:
        made.rename(folder)
    except OSError:
        if folder.is_dir():
            return False
        raise
    return True


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder within the block: files are moved in it. Raises VaeError where others hold the lock for long."""
    with opened_folder(folder) as descriptor:
        if not lock_within(PATIENCE, descriptor):
            raise VaeError(f"{folder}: another command writes to it", "wait until it ends, or name another folder")
        yield


def _finish_all_moves(folder: Path, count: int) -> None:
    """Finish the moves of the `count` files of `filling`. Raises VaeError, which says how many were replaced."""
    try:
        finish_pending_moves(folder)
    except OSError as error:
        left = len(list((folder / PENDING).iterdir()))
        remove(folder / PENDING)
        stopped = file_error(error.filename2 or error.filename or folder, error)
        raise VaeError(
            f"{folder}: {count - left} of {count} files are new, the others as before: {stopped.message}", stopped.hint
        ) from error
