"""The errors a user can meet: each says what is wrong, what to do about it, and how the command ends.

Messages name settings and parameters in backticks, as Python does: `batch_size`. The command line shows flags instead.
"""

from __future__ import annotations

import errno
import operator
from pathlib import Path
from shlex import quote
from typing import Any, get_args


class Ending(BaseException):
    """What ends a command, in words: `message` says what is wrong, `hint` what helps."""

    exit_code = 1

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Both parts, for a traceback or a notebook."""
        return f"{self.message}\nhint: {self.hint}"


class VaeError(Ending, Exception):
    """Something a user can put right: `message` names the file or setting."""


class VaeWarning(UserWarning):
    """What Python's `warnings` show where nobody listens to events: a Note that is a warning."""


class UsageError(VaeError):
    """A flag, parameter or setting that makes no sense."""

    exit_code = 2


class DeviceError(VaeError):
    """The device asked for is not there, or does not work."""

    exit_code = 3


class ParityError(VaeError):
    """The exported graphs compute something else than PyTorch."""

    exit_code = 4


class OutputClosed(VaeError):  # noqa: N818 - it is no error to a user
    """Whoever reads stdout has closed it, as `head` does. The command ends there: no message, exit code 0."""

    exit_code = 0


class Interrupted(Ending):
    """Ctrl-C ended the work.

    It is no VaeError, so a loop of trainings that catches those ends, too.
    """

    exit_code = 130


class PeerError(VaeError):
    """Another process of the same training has ended, so this one cannot go on."""


def check_choice(setting: str, value: object, choices: Any) -> None:  # noqa: ANN401 - a Literal has no type of its own
    """Raise UsageError where the value of a setting is none of the choices of a Literal."""
    if value not in get_args(choices):
        raise UsageError(f"`{setting}` {value}: expected one of {', '.join(get_args(choices))}", "leave it out")


def shown(value: object) -> str:
    """A value in a message; text in quotes, as '3' is not the number 3."""
    return repr(value) if isinstance(value, str) else str(value)


def check_count(setting: str, value: object, least: int, hint: str) -> None:
    """Raise UsageError where the value of a setting is no whole number from `least`."""
    try:
        count = operator.index(value)  # type: ignore[arg-type]  # what is no number raises, too
    except TypeError:
        count = least - 1
    if count < least or isinstance(value, bool):
        raise UsageError(f"`{setting}` {shown(value)}: not a whole number from {least}", hint)


def first_line(error: Exception) -> str:
    """The first line of an exception's text, or its class where it has none."""
    return str(error).partition("\n")[0] or type(error).__name__


def missing_package(package: str, extra: str, purpose: str) -> VaeError:
    """The error for a package that an extra brings: `purpose` completes "… needs PACKAGE"."""
    return VaeError(
        f"{purpose} needs {package}, which is not installed",
        f"pip install 'vaecli[{extra}]'",
    )


def no_folder(path: Path) -> VaeError:
    """The error for a file that is to be written into a folder that does not exist."""
    return VaeError(f"{path}: no such folder: {path.parent}", f"create it: mkdir -p {quote(str(path.parent))}")


def file_error(path: Path | str, error: OSError) -> VaeError:
    """An operating-system error as a VaeError: which file, what happened, what helps."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return VaeError(f"{path}: no room left to write it", "free some disk space, or write to another disk")
    if error.errno == errno.EPIPE:  # of /dev/stdout, or of a named pipe
        return OutputClosed(f"{path}: nobody reads it any more", "its reader has ended")
    if error.errno == errno.ENOENT:
        return VaeError(f"{path}: no such file or folder", "check the spelling")
    if error.errno == errno.EROFS:
        return VaeError(f"{path}: its file system is read-only", "choose another place, or mount it for writing")
    if error.errno in (errno.EACCES, errno.EPERM):
        return VaeError(
            f"{path}: permission denied", "choose a place you may read and write, or change its permissions"
        )
    if error.errno == errno.EISDIR:
        return VaeError(f"{path}: is a folder, not a file", "name a file")
    if error.errno == errno.ENOTDIR:
        return VaeError(f"{path}: a part of this path is a file, not a folder", "check the path")
    if error.errno == errno.EBADF:
        return VaeError(f"{path}: is closed", "reopen it, or redirect it to a file")
    return VaeError(f"{path}: {error.strerror or error}", "check the path and the disk it is on")


def without_backticks(text: str) -> str:
    """What a library says, for a message of ours, where backticks mark parameters."""
    return text.replace("`", "")
