"""The using side where the training side is not installed: each command, and Python, with torch and onnx blocked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import PROJECT

BLOCKED = ("torch", "torchvision", "onnx", "onnxscript", "onnx_ir")
UNWANTED = (
    "rich",
    "vaecli.pictures.folders",
    "vaecli.pictures.inputs",
    "vaecli.pictures.reader",
    "vaecli.datasets",
    "PIL.JpegImagePlugin",
    "concurrent.futures",
)
HEAVY = ("numpy", "PIL", "onnxruntime", "torch", "onnx", "rich.progress")


def run(script: str, *args: str | Path, blocked: tuple[str, ...] = BLOCKED) -> subprocess.CompletedProcess[bytes]:
    """Run `script` in a process in which importing `blocked` fails as if they were not installed."""
    block = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in blocked)
    return subprocess.run(
        [sys.executable, "-c", block + script, *args],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )


VAE = "from vaecli.cli.main import main\nmain()\n"


def test_the_block_blocks() -> None:
    assert b"ModuleNotFoundError" in run("import torch").stderr
    assert b"ModuleNotFoundError" in run("import onnx").stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("sample",),
        ("reconstruct",),
        ("reconstruct", "in.npy"),
        ("interpolate",),
        ("interpolate", "in.npy", "--method", "lerp"),
        ("traverse",),
        ("traverse", "in.npy", "--steps", "3"),
        ("manifold", "--steps", "3"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("output", ["o.png", "o.npy", "o/"])
def test_using_commands(digits: Path, tmp_path: Path, arguments: tuple[str, ...], output: str) -> None:
    np.save(tmp_path / "in.npy", np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8))
    command, *inputs = arguments
    files = [str(tmp_path / name) if name.endswith(".npy") else name for name in inputs]
    done = run(VAE, command, *files, "--run", digits, "-o", f"{tmp_path}/{output}", "--json")
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["output"] == f"{tmp_path}/{output}"
    assert (tmp_path / output).exists()


def test_info_needs_no_runtime_either(digits: Path) -> None:
    done = run(VAE, "info", digits, "--json", blocked=(*BLOCKED, "onnxruntime", "numpy"))
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["model"]["metadata"]["image_shape"] == [1, 28, 28]


def test_python(digits: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8))
    script = (
        "import numpy, vaecli\n"
        "model = vaecli.load(sys.argv[1])\n"
        "images = numpy.load(sys.argv[2])\n"
        "mean, std = model.encode(images)\n"
        "for result in (model.decode(mean), model.sample(3, seed=0), model.reconstruct(images),\n"
        "               model.interpolate(images[0], images[1], steps=3)):\n"
        "    assert result.shape == (3, 28, 28)\n"
    )
    done = run(script, digits, tmp_path / "in.npy")
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("command", ["train", "export"])
def test_the_training_side_names_its_extra(command: str, trained: Path, tmp_path: Path) -> None:
    arguments = ["--run", str(trained if command == "export" else tmp_path)]
    done = run(VAE, command, *arguments)
    error, hint = done.stderr.decode().splitlines()[-2:]
    assert done.returncode == 1
    assert error == f"error: vae {command} needs torch, which is not installed"
    assert "train]" in hint
    assert done.stdout == b""


def test_without_onnxruntime_both_extras_are_named(digits: Path, tmp_path: Path) -> None:
    done = run(VAE, "sample", "--run", digits, "-o", tmp_path / "o.png", blocked=(*BLOCKED, "onnxruntime"))
    error, hint = done.stderr.decode().splitlines()[-2:]
    assert done.returncode == 1
    assert "needs onnxruntime" in error
    assert "vaecli[cpu]" in hint
    assert "vaecli[gpu]" in hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [("--help",), ("sample", "--help"), ("interpolate", "--help"), ("--version",)])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    script = (
        "from vaecli.cli import main as cli\n"
        "assert cli.run(sys.argv[1:]) == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = run(script, *arguments, blocked=())
    assert done.stderr == b"[]\n"
    assert done.stdout


def test_sample_imports_no_more_than_it_needs(digits: Path, tmp_path: Path) -> None:
    script = (
        "from vaecli.cli import main as cli\n"
        "assert cli.run(sys.argv[1:]) == 0\n"
        f"print([name for name in {UNWANTED!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = run(script, "sample", "--run", digits, "-o", tmp_path / "o.png", "--quiet", blocked=())
    assert done.stderr == b"[]\n"


def test_using_a_model_leaves_no_file_but_the_one_asked_for(digits: Path, tmp_path: Path) -> None:
    """ONNX Runtime's telemetry would keep a device id in the user's cache."""
    home = tmp_path / "home"
    home.mkdir()
    places = {name: str(home) for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "TMPDIR")}
    done = subprocess.run(
        [sys.executable, "-m", "vaecli", "sample", "--run", digits, "-o", tmp_path / "o.png", "--device", "cpu"],
        capture_output=True,
        check=False,
        env={**os.environ, **places, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr.decode()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["home", "o.png"]


@pytest.mark.parametrize("given", [None, "0"])
def test_telemetry_is_off_unless_the_user_says_otherwise(given: str | None) -> None:
    script = "from vaecli.inference import session\nsession.providers()\nprint(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run(
        [sys.executable, "-c", f"import os\n{script}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **({"ORT_DISABLE_TELEMETRY": given} if given else {})},
    )
    assert done.stdout.strip() == (given or "1")
