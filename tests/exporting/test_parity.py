"""The comparison of ONNX Runtime and PyTorch: what counts as a difference, and at which batches it is looked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vaecli.errors import ParityError
from vaecli.exporting.parity import Tolerance, compare, largest_differences
from vaecli.inference.runtime import Graph

NAMES = ("double", "square")
INPUTS = torch.arange(14, dtype=torch.float32).view(7, 2)


class Module(nn.Module):
    """Two outputs."""

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return 2 * x, x.square()


class FakeGraph:
    """In the place of a graph in ONNX Runtime: the same function, with an error that is added to an output."""

    def __init__(self, errors: dict[str, float], at_batch: int | None = None) -> None:
        self.errors, self.at_batch = errors, at_batch
        self.batches: list[int] = []

    def run(
        self, names: Sequence[str], batch: NDArray[np.float32], labels: NDArray[np.int64] | None = None
    ) -> list[NDArray[np.float32]]:
        self.batches.append(len(batch))
        outputs = {"double": 2 * batch, "square": batch**2}
        wrong = self.at_batch in (None, len(batch))
        return [outputs[name] + np.float32(self.errors.get(name, 0) if wrong else 0) for name in names]


def differences(graph: FakeGraph, tolerance: Tolerance) -> dict[str, float]:
    return largest_differences(cast(Graph, graph), Module(), INPUTS, None, NAMES, tolerance)


def test_the_largest_difference_of_each_output_is_found_over_three_batches() -> None:
    graph = FakeGraph({"square": 0.25}, at_batch=2)
    assert differences(graph, Tolerance(1, 0)) == {"double": 0.0, "square": 0.25}
    assert graph.batches == [1, 2, 7]


@pytest.mark.parametrize(("batch", "places"), [(1, 2), (2, 4), (7, 14)])
def test_a_difference_in_one_batch_is_refused_with_its_place(batch: int, places: int) -> None:
    with pytest.raises(ParityError) as refusal:
        differences(FakeGraph({"double": 0.5}, at_batch=batch), Tolerance(0.25, 0))
    expected = f"export: output 'double' at batch {batch} differs from PyTorch by up to 0.5 in {places} places"
    assert refusal.value.message == expected
    assert refusal.value.exit_code == 4


def array(*values: float) -> Any:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("tolerance", "within"),
    [
        (Tolerance(0.5, 0), True),
        (Tolerance(0.49, 0), False),
        (Tolerance(0, 0.125), True),
        (Tolerance(0, 0.12), False),
        (Tolerance(0.25, 0.0625), True),
    ],
)
def test_the_tolerance_is_an_absolute_and_a_relative_part(tolerance: Tolerance, within: bool) -> None:
    actual, expected = array(-4.5, 1.0), array(-4.0, 1.0)
    if within:
        assert compare("image", 1, actual, expected, tolerance) == 0.5
    else:
        with pytest.raises(ParityError, match=r"by up to 0\.5 in 1 places"):
            compare("image", 1, actual, expected, tolerance)


@pytest.mark.parametrize("actual", [array(1, np.nan), array(1, np.inf), array(1), array(1, 2)[np.newaxis]])
def test_what_is_not_finite_or_has_another_shape_is_a_difference(actual: NDArray[np.float32]) -> None:
    with pytest.raises(ParityError):
        compare("image", 1, actual, array(1, 2), Tolerance(9, 9))


def test_values_that_torch_did_not_compute_either_are_refused() -> None:
    with pytest.raises(ParityError), np.errstate(invalid="ignore"):
        compare("image", 1, array(np.nan), array(np.nan), Tolerance(9, 9))
