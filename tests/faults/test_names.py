"""Names that control a terminal, or are not UTF-8: no command prints them as they are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from tests.command_line import Result, assert_refused, vae, vae_process
from tests.conftest import TINY
from tests.terminal import on_terminal, vae_on_terminal
from tests.tiny_model import edit, write_pair
from vaecli import model_format

EVIL = "x\x1b]0;owned\x07\x9b31m\nerror: fake"
NOT_UTF_8 = os.fsdecode(b"y\xff")


def assert_clean(result: Result) -> None:
    for text in (result.out, result.err):
        assert all(line.isprintable() for line in text.split("\n"))
        assert not any(line.startswith("error: fake") for line in text.split("\n"))


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A folder with such a name, with pictures of such names in two classes of such names."""
    folder = tmp_path / EVIL
    rng = np.random.default_rng(0)
    for kind in (EVIL, NOT_UTF_8):
        (folder / kind).mkdir(parents=True)
        for number in range(20):
            name = os.fsencode(folder / kind / f"{EVIL}{number}.png")
            with open(name, "wb") as stream:  # noqa: PTH123 - of bytes, which Path refuses
                Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(stream, "png")
    return folder


def test_no_command_prints_them(evil: Path, tmp_path: Path) -> None:
    run, out = tmp_path / f"run {EVIL}{NOT_UTF_8}", tmp_path / f"out {EVIL}{NOT_UTF_8}"
    settings = ("--epochs", "1", *TINY, "--prior", "vamp")  # whose classes do not depend on how well a mixture fits
    assert_clean(trained := vae("train", "--data", evil, "--run", run, *settings, "--json"))
    assert trained.code == 0, trained.err
    for args in (
        ("export", "--run", run, "--json"),
        ("info", run),
        ("info", tmp_path, "--json"),
        ("data",),
        ("evaluate", "--run", run, "--data", evil, "--json"),
        ("score", evil, "--run", run),
        ("score", evil, "--run", run, "-o", f"{out}.csv", "--picture", f"{out}.png", "--json"),
        ("encode", evil, "--run", run, "-o", f"{out}.jsonl", "--json"),
        ("sample", "--run", run, "--label", "all", "-o", f"{out}.png", "--json"),
        ("reconstruct", evil, "--run", run, "-o", f"{out}/", "--json"),
        ("plot", "loss", "--run", run, "-o", f"{out}.svg", "--json"),
        ("plot", "latents", "--run", run, "-o", f"{out}.png", "--json"),
    ):
        result = vae(*args)
        assert result.code == 0, result.err
        assert_clean(result)
        if "--json" in args:
            json.loads(result.out)
    for refused in (
        ("train", "--data", evil / EVIL / "none", "--run", run),
        ("train", "--config", EVIL),
        ("train", "--data", evil / NOT_UTF_8, "--run", tmp_path / "new"),
        ("sample", "--run", tmp_path / EVIL / "none", "-o", "a.png", "--json"),
        ("sample", "--run", run, "--label", EVIL + "!", "-o", f"{out}.png"),
        ("sample", "--run", run, "-o", f"{out}.{EVIL}"),
        (EVIL,),
    ):
        result = vae(*refused)
        assert result.code in (1, 2)
        assert_clean(result)


def test_a_training_needs_a_path_that_its_record_can_hold(evil: Path, tmp_path: Path) -> None:
    result = vae("train", "--data", evil / NOT_UTF_8, "--run", tmp_path / "run", *TINY)
    assert_refused(result, 1, "--data", "the name is not UTF-8, and config.json is", "rename it")
    assert not (tmp_path / "run").exists()


def test_on_a_terminal(evil: Path, grey: Path) -> None:
    for output in ((), ("-o", "-")):
        seen = vae_on_terminal("score", evil, "--run", grey, *output, piped=False, columns=300)
        assert seen.code == 0
        assert "x?]0;owned??31m?error: fake" in seen.screen
        assert "owned\x07" not in seen.screen
        assert "\nerror: fake" not in seen.screen


def test_on_a_bar() -> None:
    program = (
        "import sys, time; from vaecli.cli.console import Console; from vaecli.events import Progress; c = Console()\n"
        "for done in (0, 1): c.report(Progress(sys.argv[1], done, 2, 'pictures')); time.sleep(0.5)\n"
        "c.report(Progress(sys.argv[1], 1, 2, 'pictures'))"
    )
    seen = on_terminal("-c", program, f"reading [bold]{EVIL}", columns=120)
    assert "reading [bold]x?]0;owned??31m?error: fake" in seen.screen
    assert "owned\x07" not in seen.screen


def test_in_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAE_TRACEBACK", "1")
    result = vae("info", tmp_path / EVIL)
    assert "Traceback" in result.err
    assert_clean(result)


def change(model: onnx.ModelProto, where: str) -> None:
    """Put EVIL into a decoder: where it makes the file bad, an operator fails as it runs, or nothing happens."""
    graph = model.graph
    if where == "failure":
        (add,) = (index for index, node in enumerate(graph.node) if "a3" in node.output)
        graph.node[add].output[0] = "before"
        graph.initializer.append(numpy_helper.from_array(np.array([100]), "far"))
        graph.node.insert(add + 1, helper.make_node("Add", ["before", "beyond"], ["a3"]))
        graph.node.insert(add + 1, helper.make_node("Gather", ["latent", "far"], ["beyond"], name=EVIL, axis=1))
    elif where == "domain":
        graph.node[0].domain = EVIL
    elif where == "operator":
        graph.node[0].op_type = EVIL
    elif where == "output":
        graph.output[0].name = graph.node[-1].output[0] = EVIL
    else:
        text = model.metadata_props[0].value.replace('"nothing"', json.dumps(EVIL))
        helper.set_model_props(model, {model_format.METADATA_KEY: text})


@pytest.mark.parametrize("where", ["failure", "domain", "operator", "output", "data name"])
def test_in_a_model(tmp_path: Path, where: str) -> None:
    folder = write_pair(tmp_path / "model")
    edit(folder / "decoder.onnx", lambda model: change(model, where))
    for args in (("sample", "--run", folder, "-o", tmp_path / "a.png"), ("info", folder)):
        result = vae_process(*args)  # ONNX Runtime writes to the descriptor itself
        assert result.code == (0 if args[0] == "info" or where == "data name" else 1)
        assert_clean(result)
