"""A use of a model creates no file but the one asked for, and opens no connection, whatever its libraries intend."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import PROJECT

SOCKET = {"x86_64": 41, "aarch64": 198}  # the number of the system call socket(2)
ABROAD = (2, 10, 16)  # AF_INET, AF_INET6 and AF_NETLINK, by which names are looked up
# Of Linux's headers: seccomp.h, prctl.h, bpf_common.h.
LOAD, EQUALS, RETURN = 0x20, 0x15, 0x06
NUMBER, FIRST_ARGUMENT = 0, 16  # offsets in struct seccomp_data
KILL, ALLOW = 0x80000000, 0x7FFF0000
NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2


def forbid_connections() -> None:
    """Let Linux kill this process, and those that it starts, where any library asks for a socket to a network."""
    steps = [
        (LOAD, 0, 0, NUMBER),
        (EQUALS, 0, len(ABROAD) + 1, SOCKET[platform.machine()]),
        (LOAD, 0, 0, FIRST_ARGUMENT),
    ]
    steps += [(EQUALS, len(ABROAD) - at, 0, family) for at, family in enumerate(ABROAD)]
    steps += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, KILL)]
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    program = ctypes.create_string_buffer(code)
    described = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program)))
    control = ctypes.CDLL(None, use_errno=True).prctl
    control.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    if control(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or control(SET_SECCOMP, FILTER, ctypes.addressof(described), 0, 0):
        raise OSError(ctypes.get_errno(), "no seccomp")


def run_guarded(script: str, *arguments: str | Path, home: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a script of Python without connections, with `home` for all that a program may keep."""
    places = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "TMPDIR")
    environment = {**os.environ, **dict.fromkeys(places, str(home)), "PYTHONPATH": str(PROJECT)}
    guard = "import sys\nfrom tests.faults.test_nothing_else import forbid_connections\nforbid_connections()\n"
    return subprocess.run(
        [sys.executable, "-c", guard + script, *map(str, arguments)],
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=home.parent,
        capture_output=True,
        check=False,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    if sys.platform != "linux" or platform.machine() not in SOCKET:
        pytest.skip("the system calls of this system are not known")
    if run_guarded("", home=tmp_path / "home").returncode:
        pytest.skip("this system has no seccomp")
    return tmp_path / "home"


def test_the_guard_sees_what_a_library_does(home: Path) -> None:
    lookup = "import ctypes\nctypes.CDLL(None).getaddrinfo(b'example.org', None, None, ctypes.byref(ctypes.c_void_p()))"
    assert run_guarded(lookup, home=home).returncode == -signal.SIGSYS
    unix = "import socket\nsocket.socket(socket.AF_UNIX).close()\nsocket.socketpair()"
    assert run_guarded(unix, home=home).returncode == 0


def test_a_use_of_a_model_writes_what_is_asked_for_and_nothing_else(digits: Path, home: Path) -> None:
    place = home.parent
    np.save(place / "in.npy", np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8))
    np.save(place / "latents.npy", np.zeros((3, 2), np.float32))
    commands = [
        "sample -o sample.png", "sample --n 2 -o sampled/", "reconstruct in.npy -o reconstruct.png",
        "interpolate in.npy -o interpolate.gif", "traverse -o traverse.png", "manifold -o manifold.png",
        "explore -o page.html",
        "encode in.npy -o encode.csv", "decode latents.npy -o decode.npy", "score in.npy -o score.csv",
        "evaluate --data in.npy --importance-samples 1", "info", "data",
    ]  # fmt: skip
    script = (
        "from vaecli.cli import main as cli\n"
        f"for command in {commands!r}:\n"
        "    run = [] if command == 'data' else ['--run', sys.argv[1]]\n"
        "    assert cli.run([*command.split(), *run]) == 0, command\n"
    )
    done = run_guarded(script, digits, home=home)
    assert done.returncode == 0, done.stderr.decode()
    asked = {command.partition("-o ")[2] for command in commands} - {"", "sampled/"}
    asked |= {"sampled/0001.png", "sampled/0002.png", "in.npy", "latents.npy"}
    assert {str(path.relative_to(place)) for path in place.rglob("*") if not path.is_dir()} == asked
    assert list(home.iterdir()) == []
