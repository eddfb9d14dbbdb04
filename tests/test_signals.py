"""Ctrl-C, SIGTERM and SIGHUP: two lines, the exit code of the signal, and nothing half-written is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import Any

import pytest
from onnx import helper

from tests.command_line import PROJECT, exit_code, heed_interrupts
from tests.inference.decoders import asks, total
from tests.terminal import interrupted_in_shell
from tests.tiny_model import write_pair
from vaecli.model_format import DECODER_FILE

LONG = ("-n", "10000000", "--seed", "1")  # pictures


def ignore_hangups() -> None:
    """As nohup does: a preexec_fn."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def sampling(model: Path, output: Path, prepare: Callable[[], None] = heed_interrupts) -> subprocess.Popen[bytes]:
    """A command that has begun to write `output`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vaecli", "sample", "--run", str(model), *LONG, "-o", str(output), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        preexec_fn=prepare,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith(b"running on ")
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_command_that_is_ended_leaves_nothing_behind(
    grey: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    (tmp_path / "a.npy").write_bytes(b"mine")
    process = sampling(grey, tmp_path / "a.npy")
    process.send_signal(number)
    out, err = process.communicate()
    assert exit_code(process) == code
    assert err.decode().splitlines() == ["error: interrupted", "hint: no file was changed; run the command again"]
    assert f'"exit_code":{code}' in out.decode()
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]
    assert (tmp_path / "a.npy").read_bytes() == b"mine"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_model_that_computes_for_minutes_ends_at_once(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """One operator of a single batch, which nothing interrupts."""
    decoder = write_pair(tmp_path / "pair") / DECODER_FILE
    pads: dict[str, Any] = {"kernel_shape": [9000, 9000], "pads": [8999] * 4}
    asks(
        decoder,
        helper.make_node("ConstantOfShape", ["size"], ["x"]),
        helper.make_node("AveragePool", ["x"], ["y"], **pads),
        total("y"),
        size=[1, 1, 3, 3],
    )
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "vaecli",
            "sample",
            "--run",
            str(decoder.parent),
            "--seed",
            "1",
            "-o",
            str(tmp_path / "a.png"),
        ],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        preexec_fn=heed_interrupts,
    )
    try:
        assert process.stderr is not None
        assert process.stderr.readline().startswith(b"running on ")
        time.sleep(0.5)  # it computes
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert exit_code(process) == code, err
    assert [path.name for path in tmp_path.iterdir()] == ["pair"]


def test_ctrl_c_while_the_command_is_imported_ends_it_in_silence() -> None:
    program = """
import os, signal, sys
from vaecli import __main__
class Interrupt:
    def find_spec(self, name, *_):
        if name == "vaecli.cli.main":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
__main__.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, check=False, preexec_fn=heed_interrupts
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


FAKE_RUNTIME = """
import os, signal
try:
    os.kill(os.getpid(), signal.{signal})
except KeyboardInterrupt as interrupt:  # as pybind11 and Python 3.11 do
    raise {error} from interrupt
"""


@pytest.mark.parametrize(
    "error", ["ImportError('initialization failed')", "RuntimeError('Error calling __set_name__')"]
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_while_compiled_code_is_imported_is_an_interruption(
    grey: Path, tmp_path: Path, number: signal.Signals, code: int, error: str
) -> None:
    (tmp_path / "onnxruntime.py").write_text(FAKE_RUNTIME.format(signal=number.name, error=error))
    done = subprocess.run(
        [sys.executable, "-m", "vaecli", "sample", "--run", str(grey), "-n", "1", "-o", str(tmp_path / "a.npy")],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{PROJECT}"},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=heed_interrupts,
    )
    assert exit_code(done) == code, done.stderr
    assert done.stderr.splitlines()[-2:] == ["error: interrupted", "hint: no file was changed; run the command again"]


def ended(program: str) -> subprocess.CompletedProcess[str]:
    """A program of Python, once it has ended."""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=heed_interrupts,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_in_a_finalizer_is_not_lost(number: signal.Signals, code: int) -> None:
    """Python drops what is raised there: the callbacks of its import system are one that is often met."""
    program = f"""
import os, time
from vaecli.cli import main as cli
class Finalized:
    def __del__(self):
        os.kill(os.getpid(), {int(number)})
        time.sleep(0.1)
def command(*_):
    Finalized()
    time.sleep(20)
    print("slept to the end")
cli.build = command
cli.main()
"""
    done = ended(program)
    assert (exit_code(done), len(done.stderr.splitlines())) == (code, 2), done.stderr
    assert not done.stdout, "what the main thread waits for is ended"


def test_a_second_ctrl_c_does_not_break_the_report_of_the_first() -> None:
    program = """
import os, signal
from vaecli.cli import main as cli
from vaecli.cli import progress_bar
def interrupt(*_):
    os.kill(os.getpid(), signal.SIGINT)
cli.build, progress_bar.stop = interrupt, interrupt
cli.main()
"""
    done = ended(program)
    assert (exit_code(done), len(done.stderr.splitlines())) == (130, 2), done.stderr


def test_a_signal_that_is_ignored_stays_so(grey: Path, tmp_path: Path) -> None:
    process = sampling(grey, tmp_path / "out.npy", ignore_hangups)
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.terminate()
    process.communicate()
    assert process.returncode == 143
    assert list(tmp_path.iterdir()) == []


VAE = f"{quote(sys.executable)} -m vaecli"


def test_ctrl_c_on_a_terminal_ends_a_loop_of_the_shell(grey: Path, tmp_path: Path) -> None:
    sample = f"{VAE} sample --run {quote(str(grey))} --seed 1 -o {quote(str(tmp_path / 'a.npy'))}"
    seen = interrupted_in_shell(f"for count in 10000000 1; do {sample} -n $count; done", after="running on ")
    assert seen.code == -signal.SIGINT, seen.screen
    assert seen.screen.count("running on ") == 1
    assert "interrupted\n" in seen.screen
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_on_a_terminal_is_130_to_the_shell(grey: Path, tmp_path: Path) -> None:
    sample = f"{VAE} sample --run {quote(str(grey))} {' '.join(LONG)} -o {quote(str(tmp_path / 'a.npy'))}"
    seen = interrupted_in_shell(f"trap : INT; {sample}; echo the code is $?", after="running on ")
    assert "the code is 130\n" in seen.screen
