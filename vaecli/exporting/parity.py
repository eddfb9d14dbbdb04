"""The check that an exported graph computes what PyTorch computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vaecli.errors import ParityError
from vaecli.inference.runtime import Graph

BATCHES = (1, 2, 7)
GPU_FACTOR = 10  # of the tolerance on a GPU, whose convolutions round more (Winograd) and whose sums have another order


@dataclass(frozen=True)
class Tolerance:
    """The difference from PyTorch's value v that is allowed: `absolute` + `relative` · |v|."""

    absolute: float
    relative: float

    def __mul__(self, factor: float) -> Tolerance:
        """So many times as large."""
        return Tolerance(factor * self.absolute, factor * self.relative)


def largest_differences(
    graph: Graph, module: nn.Module, inputs: Tensor, outputs: Sequence[str], tolerance: Tolerance
) -> dict[str, float]:
    """Run `graph` in ONNX Runtime and `module` in PyTorch at each of BATCHES: each output's largest |difference|.

    `inputs` holds at least max(BATCHES) rows.

    Raises:
        ParityError: a difference exceeds the tolerance, or an output has another shape or is not finite.
    """
    largest = dict.fromkeys(outputs, 0.0)
    for batch in BATCHES:
        rows = inputs[:batch]
        with torch.no_grad():
            expected = [tensor.numpy() for tensor in module(rows)]
        for output, ours, theirs in zip(outputs, graph.run(outputs, rows.numpy()), expected, strict=True):
            largest[output] = max(largest[output], compare(output, batch, ours, theirs, tolerance))
    return largest


def compare(
    output: str, batch: int, actual: NDArray[np.float32], expected: NDArray[np.float32], tolerance: Tolerance
) -> float:
    """The largest |actual - expected|. Raises ParityError where any of it is outside the tolerance."""
    if actual.shape != expected.shape:
        raise _differs(output, batch, f"has shape {actual.shape}, PyTorch {expected.shape}")
    difference = np.abs(actual.astype(np.float64) - expected)
    # In this form NaN fails, too.
    within = difference <= tolerance.absolute + tolerance.relative * np.abs(expected)
    if not within.all():
        worst = float(np.max(np.where(within, 0, difference), initial=0))
        raise _differs(output, batch, f"differs from PyTorch by up to {worst:.3g} in {int((~within).sum())} places")
    return float(difference.max(initial=0))


def _differs(output: str, batch: int, how: str) -> ParityError:
    return ParityError(
        f"export: output {output!r} at batch {batch} {how}",
        "no file was changed; try another torch or onnxruntime, or larger `atol` and `rtol`",
    )
