"""The solver that a flow is drawn with."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # it ships no types
import pytest

from tests.command_line import PROJECT
from tests.tiny_model import FLOW_SCALE, FLOW_SHIFT, write_flow, write_pair
from vaecli import noise
from vaecli.inference import flow, graph_file
from vaecli.inference.runtime import open_graph


def test_the_solver_is_of_second_order(tmp_path: Path) -> None:
    """Twice as many steps have a quarter of the error."""
    graph = open_graph(graph_file.read(write_flow(write_pair(tmp_path / "run"))), "cpu")
    start = noise.prior(1, 0, 20, 2)
    expected = FLOW_SCALE * np.e * start + FLOW_SHIFT
    errors = [np.abs(flow.latents(graph, start, steps=steps) - expected).max() for steps in (4, 8, 16)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.3)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.3)
    assert errors[2] < 0.01


@pytest.mark.parametrize("classes", [(), ("cat", "dog")], ids=["without classes", "of the second class"])
def test_the_documented_program_draws_the_same(
    classes: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/exported-model.md has it, for programs without vaecli."""
    path = write_flow(write_pair(tmp_path / "run"), classes=classes)
    page = (PROJECT / "docs/exported-model.md").read_text()
    (program,) = re.findall(r"Heun's method; in Python:\n\n((?: {4}.*\n)+)", page)
    monkeypatch.chdir(path.parent)
    names = {"np": np, "onnxruntime": onnxruntime}
    exec(textwrap.dedent(program).replace("default_rng()", "default_rng(0)"), names)  # noqa: S102 - our own page
    start = np.random.default_rng(0).standard_normal((16, 2), dtype=np.float32)
    labels = np.ones(16, np.int64) if classes else None
    expected = flow.latents(open_graph(graph_file.read(path), "cpu"), start, labels)
    np.testing.assert_allclose(names["latent"], expected, rtol=1e-5)
