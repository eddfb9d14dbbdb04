"""What a user of the package may rely on: names, docstrings, types, errors, and what results look like."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType

import pytest

import vaecli
from tests import user_program
from tests.command_line import PROJECT
from vaecli.events import TrainingDone
from vaecli.exporting.result import ExportResult

PUBLIC = [
    "BlockDone",
    "Config",
    "DataConfig",
    "DeviceError",
    "EpochMetrics",
    "Evaluation",
    "Event",
    "ExportResult",
    "Inspection",
    "Interrupted",
    "Machine",
    "Manifold",
    "Model",
    "ModelConfig",
    "Note",
    "ParityError",
    "Progress",
    "RunSummary",
    "Scores",
    "Step",
    "TrainingConfig",
    "TrainingDone",
    "TrainingStarted",
    "Traversal",
    "UsageError",
    "VaeError",
    "VaeWarning",
    "__version__",
    "data_sets",
    "doctor",
    "export",
    "history",
    "inspect",
    "jobs",
    "load",
    "plots",
    "recipes",
    "runs",
    "train",
]
USED = [vaecli.train, vaecli.export, vaecli.load, vaecli.inspect, vaecli.history, vaecli.data_sets, vaecli.jobs.run] + [
    getattr(vaecli.Model, name)
    for name in (
        "decode",
        "encode",
        "evaluate",
        "interpolate",
        "manifold",
        "page",
        "read",
        "reconstruct",
        "sample",
        "score",
        "traverse",
    )
]
HEAVY = ("msgspec", "numpy", "onnxruntime", "torch")
LONGEST_REPR = 1000  # characters

# Where a type were Any, `assert_type` would be an error.
PROBE = """
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import vaecli
from vaecli import Evaluation, Manifold, Scores, TrainingDone, Traversal


def check(model: vaecli.Model) -> None:
    assert_type(vaecli.train(), TrainingDone)
    vaecli.trian  # type: ignore[attr-defined]  # a name that does not exist is known not to
    assert_type(vaecli.export(), vaecli.ExportResult)
    assert_type(vaecli.load("run"), vaecli.Model)
    assert_type(vaecli.inspect("run"), vaecli.Inspection)
    assert_type(model.sample(3), NDArray[np.float32])
    assert_type(model.reconstruct([]), NDArray[np.float32])
    assert_type(model.encode([])[0], NDArray[np.float32])
    assert_type(model.traverse(), Traversal)
    assert_type(model.manifold(), Manifold)
    assert_type(model.evaluate(), Evaluation)
    assert_type(model.evaluate().bound.nats, float)
    assert_type(model.score([]), Scores)
    assert_type(model.read("pictures/").names, list[str])
    assert_type(vaecli.jobs.run(model, vaecli.jobs.Score(), "pictures/", "scores.parquet").errors, int)
    model.sample("many")  # type: ignore[arg-type]
    vaecli.train({}, "run", epoch=3)  # type: ignore[call-arg]
"""


@pytest.mark.slow
def test_a_typed_program_passes_mypy_strict(tmp_path: Path) -> None:
    """From elsewhere, against the installed package. An ignored error that is not there would be an error, too."""
    shutil.copy(user_program.__file__, tmp_path)
    (tmp_path / "probe.py").write_text(PROBE)
    cache = PROJECT / ".mypy_cache"  # where the project was checked: with it this takes a tenth of the time
    if cache.is_dir():
        shutil.copytree(cache, tmp_path / "cache")
    flags = (f"--config-file={PROJECT / 'pyproject.toml'}", f"--cache-dir={tmp_path / 'cache'}")  # it is strict
    command = [sys.executable, "-m", "mypy", *flags, "user_program.py", "probe.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no issues found in 2 source files" in done.stdout


def test_the_program_works(blobs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert user_program.main(str(blobs), tmp_path / "run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("108 training and 12 held-out images, on cpu")
    assert [line.partition(":")[0] for line in lines[1:4]] == ["epoch 1", "epoch 2", "best"]
    assert "samples (4, 8, 8), latents (4, 3)" in lines[5]
    assert "of 10 pictures, a likelihood: False" in lines[6]
    assert lines[7].startswith("strangest sample: ")


def test_the_program_shows_message_and_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert user_program.main("mnist5k", tmp_path / "run") == 1
    (line,) = capsys.readouterr().out.splitlines()
    message, _, hint = line.partition("; ")
    assert message == "cannot go on: `source` mnist5k: no data set, file or folder of this name"
    assert hint.startswith("did you mean mnist")


def test_the_package_lists_its_public_names() -> None:
    assert dir(vaecli) == sorted(vaecli.__all__) == PUBLIC
    for name in set(PUBLIC) - {"__version__"}:
        exported = getattr(vaecli, name)
        assert getattr(exported, "__name__", name).endswith(name)  # Event is a union, which has none
        assert inspect.getdoc(exported)
    assert not hasattr(vaecli, "trian")


def test_every_method_has_a_docstring() -> None:
    methods = [method for _, method in inspect.getmembers(vaecli.Model, _public_method)]
    properties = [value for _, value in inspect.getmembers(vaecli.Model, lambda value: isinstance(value, property))]
    assert len(methods) > 10
    assert [member for member in methods + properties if not member.__doc__] == []


def _public_method(value: object) -> bool:
    return isinstance(value, FunctionType) and not value.__name__.startswith("_")


@pytest.mark.parametrize("function", USED, ids=lambda function: function.__qualname__)
def test_a_docstring_says_what_is_raised(function: Callable[..., object]) -> None:
    _, heading, errors = (inspect.getdoc(function) or "").partition("\n\nRaises:\n")
    assert heading
    assert "Error: " in errors


def test_a_traceback_shows_the_hint() -> None:
    with pytest.raises(vaecli.VaeError) as caught:
        vaecli.load("nowhere")
    assert caught.value.hint
    assert str(caught.value) == f"{caught.value.message}\nhint: {caught.value.hint}"


def test_results_are_readable(grey: Path, blobs: Path) -> None:
    """A notebook shows the repr of a cell's last value."""
    model = vaecli.load(grey)
    images = model.sample(200, seed=1)
    results = [
        TrainingDone(
            run="run",
            epochs=2,
            best_epoch=1,
            best_loss=1.5,
            chosen_by="held-out",
            seconds=1,
            device="cpu",
            precision="float32",
            seed=1,
        ),
        ExportResult(grey / "encoder.onnx", grey / "decoder.onnx", None, None, "normal", {"mean": 1e-6}, 20, 1),
        model,
        model.evaluate(str(blobs)),
        model.score(images),
        model.traverse(),
        model.manifold(),
        vaecli.inspect(grey),
    ]
    for result in results:
        text = repr(result)
        assert text.startswith(f"{type(result).__name__}(")
        assert "array(" not in text
        assert len(text) < LONGEST_REPR, text


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = f"import sys, vaecli; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
