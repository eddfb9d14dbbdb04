"""examples/tutorial.ipynb, run as a reader would run it, for one epoch of a quarter of the digits."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nbclient
import nbformat
import pytest
from nbformat import NotebookNode

from tests.command_line import PROJECT
from tests.datasets.set_files import little_digits

NOTEBOOK = PROJECT / "examples/tutorial.ipynb"
LONGEST_CELL = 60  # seconds; the first one that imports PyTorch takes longest


@pytest.fixture
def notebook() -> NotebookNode:
    notebook: NotebookNode = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]  # it has no types
    return notebook


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_committed_notebook_is_valid_and_has_no_outputs(notebook: NotebookNode) -> None:
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert all(cell.id for cell in notebook.cells)
    for cell in code(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None


def with_fewer_digits(notebook: NotebookNode, digits: Path) -> None:
    """Train on a quarter of the digits: what a cell does is the same."""
    for known, fewer in (
        ('source="mnist-5k"', f'source="{digits}"'),
        ("settings = {\n", f'settings = {{\n    "data": {{"source": "{digits}"}},\n'),
    ):
        (cell,) = [cell for cell in code(notebook) if known in cell.source]
        cell.source = cell.source.replace(known, fewer)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib: pip install 'vaecli[plot]'"
)
def test_every_cell_runs(notebook: NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, settings = tmp_path / "reader", tmp_path / "jupyter"
    folder.mkdir()
    settings.mkdir()
    monkeypatch.setenv("EPOCHS", "1")
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(settings))  # not the user's settings and kernels

    with_fewer_digits(notebook, little_digits(tmp_path))
    nbclient.NotebookClient(notebook, timeout=LONGEST_CELL, resources={"metadata": {"path": folder}}).execute()

    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
    assert "epoch  1: " in printed
    assert "hint: " in printed
    told = [output.text for output in outputs if output.get("name") == "stderr"]
    assert all("VaeWarning: `warmup_steps` 50: the training has 9 steps only" in text for text in told), "of few digits"
    drawn = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(drawn) >= 12, "samples, reconstructions, loss curves and the like are shown"
    assert [path.name for path in folder.iterdir()] == ["tutorial-run"], "nothing is written elsewhere"
