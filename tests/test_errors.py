"""The errors that a user meets: both parts are in them, and each kind of file error says what helps."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from vaecli.errors import (
    DeviceError,
    Ending,
    Interrupted,
    ParityError,
    UsageError,
    VaeError,
    file_error,
    first_line,
    missing_package,
)


def test_the_text_of_an_error_has_the_hint_too() -> None:
    error = VaeError("a.png: damaged", "save it again")
    assert (error.message, error.hint) == ("a.png: damaged", "save it again")
    assert str(error) == "a.png: damaged\nhint: save it again"


@pytest.mark.parametrize(
    ("kind", "code"),
    [(VaeError, 1), (UsageError, 2), (DeviceError, 3), (ParityError, 4), (Interrupted, 130)],
)
def test_exit_codes(kind: type[Ending], code: int) -> None:
    error = kind("message", "hint")
    assert error.exit_code == code
    assert isinstance(error, VaeError) is (kind is not Interrupted), "Ctrl-C is no error of one training of many"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no room left"),
        (errno.EDQUOT, "no room left"),
        (errno.EFBIG, "no room left"),
        (errno.ENOENT, "no such file or folder"),
        (errno.EACCES, "permission denied"),
        (errno.EPERM, "permission denied"),
        (errno.EROFS, "read-only"),
        (errno.EISDIR, "is a folder, not a file"),
        (errno.ENOTDIR, "a part of this path is a file"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_file_errors(number: int, words: str) -> None:
    error = file_error(Path("some/a.png"), OSError(number, os.strerror(number)))
    assert error.message.startswith("some/a.png: ")
    assert words in error.message
    assert error.hint
    assert error.exit_code == 1


def test_a_file_error_without_a_number() -> None:
    assert file_error("a.gz", OSError("CRC check failed")).message == "a.gz: CRC check failed"


def test_first_line() -> None:
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(KeyError()) == "KeyError"
    assert first_line(ValueError("\ntwo")) == "ValueError"


def test_a_missing_package_names_its_extra() -> None:
    error = missing_package("torch", "cpu,train", "vae train")
    assert error.message == "vae train needs torch, which is not installed"
    assert error.hint == "pip install 'vaecli[cpu,train]'"
