"""`vae explore` through its command line. What the page does is in tests/explore."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.command_line import PROJECT, assert_refused, heed_interrupts, vae
from tests.tiny_model import write_pair
from vaecli import load


def test_the_page_as_a_file(digits: Path, tmp_path: Path) -> None:
    result = vae("explore", "--run", digits, "-o", tmp_path / "page.html", "--json")
    content = (tmp_path / "page.html").read_bytes()
    assert result.code == 0, result.err
    assert result.json == {"output": str(tmp_path / "page.html"), "bytes": len(content)}
    assert content == load(digits, "cpu").page(run=f" --run {digits}")
    assert "open it in a browser" in result.err


def test_a_file_is_kept(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("mine")
    assert_refused(vae("explore", "--run", digits, "-o", tmp_path / "page.html", "--no-clobber"), 1, "exists already")
    assert (tmp_path / "page.html").read_text() == "mine"


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


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_it_serves_until_it_is_interrupted(grey: Path, sent: signal.Signals, code: int) -> None:
    """Quietly by Ctrl-C; SIGTERM ends it as it ends every command."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vaecli", "explore", "--run", grey, "--port", "18723"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"},
        preexec_fn=heed_interrupts,
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address, timeout=20) as answer:  # noqa: S310 - an address of our own
        assert answer.read() == load(grey, "cpu").page(run=f" --run {grey}")
    process.send_signal(sent)
    out, err = process.communicate(timeout=20)
    assert process.returncode == code, err
    assert out == ""
    assert "Traceback" not in err
    assert ("error:" in err) == (code != 0)
