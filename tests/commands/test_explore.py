"""`vae explore` through its command line. What the page does is in tests/explore."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.command_line import PROJECT, assert_refused, exit_code, heed_interrupts, vae
from tests.tiny_model import write_pair
from vaecli import load


def test_the_page_as_a_file(digits: Path, tmp_path: Path) -> None:
    result = vae("explore", "--run", digits, "-o", tmp_path / "page.html", "--json")
    content = (tmp_path / "page.html").read_bytes()
    assert result.code == 0, result.err
    assert result.json == {"output": str(tmp_path / "page.html"), "bytes": len(content)}
    assert content == load(digits, "cpu").page(run=digits.name)
    assert "open it in a browser" in result.err


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("{home}/work/runs/mine", " --run runs/mine"),
        ("runs/../runs/mine", " --run runs/mine"),
        ("{home}/work/runs/default", ""),
        ("{home}/models/other", " --run other"),
        ("../models/other", " --run other"),
    ],
)
def test_a_file_does_not_tell_where_its_model_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, named: str
) -> None:
    """Commands to copy name the run as it is seen from the working folder, or from the folder above it."""
    for folder in ("work/runs/mine", "work/runs/default", "models/other"):
        write_pair(tmp_path / folder)
    monkeypatch.chdir(tmp_path / "work")
    assert vae("explore", "--run", given.format(home=tmp_path), "-o", "page.html").code == 0
    content = Path("page.html").read_bytes()
    assert json.loads(embedded(content))["run"] == named
    assert str(tmp_path).encode() not in content


def embedded(page: bytes) -> bytes:
    """What the page knows of the model, as JSON."""
    return page.partition(b'id="embedded-contents">')[2].partition(b"</script>")[0]


def test_another_port_is_said(grey: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with serving(grey, port) as process:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
    assert address != f"http://127.0.0.1:{port}/"
    assert f"port {port} is in use: taking {address.rpartition(':')[2].strip('/')}" in err


def test_what_it_does_is_said_while_it_does_it(digits: Path, tmp_path: Path) -> None:
    assert vae("explore", "--run", digits, "-o", tmp_path / "p.html").err.startswith("computing the page\n")


def test_a_file_is_kept(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("mine")
    assert_refused(vae("explore", "--run", digits, "-o", tmp_path / "page.html", "--no-clobber"), 1, "exists already")
    assert (tmp_path / "page.html").read_text() == "mine"


def test_a_folder_that_is_missing_is_told_before_the_work(digits: Path, tmp_path: Path) -> None:
    result = vae("explore", "--run", digits, "-o", tmp_path / "none" / "page.html")
    assert_refused(result, 1, "no such folder", "mkdir -p")
    assert "computing" not in result.err


def test_another_ending(digits: Path, tmp_path: Path) -> None:
    assert_refused(vae("explore", "--run", digits, "-o", tmp_path / "page.png"), 2, "--output", ".html")


def test_a_file_is_not_opened(digits: Path, tmp_path: Path) -> None:
    assert_refused(vae("explore", "--run", digits, "-o", tmp_path / "page.html", "--open"), 2, "--open", "--output")


def test_files_of_two_models(tmp_path: Path) -> None:
    run, other = write_pair(tmp_path / "run"), write_pair(tmp_path / "other", seed=1)
    shutil.copy(other / "decoder.onnx", run / "decoder.onnx")
    assert_refused(vae("explore", "--run", run, "-o", tmp_path / "page.html"), 1, "different models")
    assert not (tmp_path / "page.html").exists()


def test_a_damaged_decoder(tmp_path: Path) -> None:
    run = write_pair(tmp_path / "run")
    content = (run / "decoder.onnx").read_bytes()
    (run / "decoder.onnx").write_bytes(content[:-40])
    assert_refused(vae("explore", "--run", run, "-o", tmp_path / "page.html"), 1, "decoder.onnx")


def serving(run: Path, port: int, *flags: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "vaecli", "explore", "--run", run, "--port", str(port), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"},
        preexec_fn=heed_interrupts,
    )


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_serves_until_a_signal_ends_it_quietly(grey: Path, sent: signal.Signals) -> None:
    process = serving(grey, 18723, "--json")
    assert process.stdout is not None
    address = json.loads(process.stdout.readline())["address"]
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address, timeout=20) as answer:  # noqa: S310 - an address of our own
        assert answer.read() == load(grey, "cpu").page(run=grey)
    process.send_signal(sent)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert out == "", "one JSON document"
    assert "Traceback" not in err
    assert "error:" not in err


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_it_serves_is_an_interruption(grey: Path, sent: signal.Signals, code: int) -> None:
    process = serving(grey, 18723)
    assert process.stderr is not None
    assert process.stderr.readline() == "computing the page\n"
    process.send_signal(sent)
    out, err = process.communicate(timeout=20)
    assert (exit_code(process), out) == (code, "")
    assert "error: interrupted" in err
