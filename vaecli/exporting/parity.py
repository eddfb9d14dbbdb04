"""The check that an exported graph computes what PyTorch computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vaecli import noise
from vaecli.errors import ParityError
from vaecli.inference.mixture import Mixture
from vaecli.inference.runtime import Graph, PriorGraph
from vaecli.model_format import FACTORS, LATENT, LOG_WEIGHTS, MEANS, VELOCITY

BATCHES = (1, 2, 7)
GPU_FACTOR = 10  # of the tolerance on a GPU, whose convolutions round more (Winograd) and whose sums have another order
FLOW_LATENT = "flow_latent"  # the latent of a flow; that of the prior is `latent`
TIMES = (0.0, 0.5, 1.0)  # that a flow is tried at
UNCHANGED = "no file was changed; "
LOG_DENSITY = "log_density"  # of the prior: what is compared beside its latents


@dataclass(frozen=True)
class Tolerance:
    """The difference from PyTorch's value v that is allowed: `absolute` + `relative` · |v|."""

    absolute: float
    relative: float

    def __mul__(self, factor: float) -> Tolerance:
        """Both tolerances times `factor`."""
        return Tolerance(factor * self.absolute, factor * self.relative)


def largest_differences(
    graph: Graph,
    module: nn.Module,
    inputs: Tensor,
    labels: Tensor | None,
    outputs: Sequence[str],
    tolerance: Tolerance,
) -> dict[str, float]:
    """Run `graph` in ONNX Runtime and `module` in PyTorch at each of BATCHES: each output's largest |difference|.

    `inputs` holds at least max(BATCHES) rows, and so do the `labels` of a conditional model.

    Raises:
        ParityError: a difference exceeds the tolerance, or an output has another shape or is not finite.
    """
    largest = dict.fromkeys(outputs, 0.0)
    for batch in BATCHES:
        rows, classes = inputs[:batch], None if labels is None else labels[:batch]
        with torch.no_grad():
            expected = [tensor.numpy() for tensor in module(rows, classes)]
        found = graph.run(outputs, rows.numpy(), None if classes is None else classes.numpy())
        for output, ours, theirs in zip(outputs, found, expected, strict=True):
            largest[output] = max(largest[output], compare(output, batch, ours, theirs, tolerance))
    return largest


def prior_differences(graph: PriorGraph, mixture: Mixture, tolerance: Tolerance) -> dict[str, float]:
    """Run a prior in ONNX Runtime and `mixture` in NumPy at each of BATCHES: the largest |difference| of the latents.

    And of their log densities under the mixture that the graph holds.

    Raises:
        ParityError: a difference exceeds the tolerance.
    """
    size, largest = mixture.means.shape[1], {LATENT: 0.0, LOG_DENSITY: 0.0}
    for batch in BATCHES:
        normal, choice = noise.prior(0, 0, batch, size), noise.choices(0, 0, batch)
        latents, weights, means, factors = graph.run((LATENT, LOG_WEIGHTS, MEANS, FACTORS), normal, choice)
        expected = mixture.latents(normal, choice)
        pairs: dict[str, tuple[NDArray[np.floating], NDArray[np.floating]]] = {
            LATENT: (latents, expected),
            LOG_DENSITY: (Mixture(weights, means, factors).log_density(expected), mixture.log_density(expected)),
        }
        for name, (ours, theirs) in pairs.items():
            largest[name] = max(largest[name], compare(name, batch, ours, theirs, tolerance, reference="NumPy"))
    return largest


def flow_differences(graph: Graph, module: nn.Module, classes: int, tolerance: Tolerance) -> dict[str, float]:
    """Run a flow in ONNX Runtime and in PyTorch at each of BATCHES and TIMES: the largest |difference| of its outputs.

    `classes` is how many it knows.

    Raises:
        ParityError: a difference exceeds the tolerance, or an output has another shape or is not finite.
    """
    largest = {VELOCITY: 0.0, FLOW_LATENT: 0.0}
    for batch in BATCHES:
        state = noise.prior(0, 0, batch, graph.file.metadata.latent_dim)
        labels = np.arange(batch) % classes if classes else None
        for time in TIMES:
            inputs = torch.from_numpy(state), torch.full((batch,), time)
            with torch.no_grad():
                expected = module(*inputs, None if labels is None else torch.from_numpy(labels))
            found = graph.run((VELOCITY, LATENT), state, labels, time)
            for name, ours, theirs in zip(largest, found, expected, strict=True):
                largest[name] = max(largest[name], compare(name, batch, ours, theirs.numpy(), tolerance))
    return largest


def compare(
    output: str,
    batch: int,
    actual: NDArray[np.floating],
    expected: NDArray[np.floating],
    tolerance: Tolerance,
    reference: str = "PyTorch",
) -> float:
    """The largest |actual - expected|. Raises ParityError where any of it is outside the tolerance."""
    if actual.shape != expected.shape:
        raise _differs(output, batch, f"has shape {actual.shape}, {reference} {expected.shape}")
    difference = np.abs(actual.astype(np.float64) - expected)
    # In this form NaN fails, too.
    within = difference <= tolerance.absolute + tolerance.relative * np.abs(expected)
    if not within.all():
        worst = float(np.max(np.where(within, 0, difference), initial=0))
        raise _differs(output, batch, f"differs from {reference} by up to {worst:.3g} in {int((~within).sum())} places")
    return float(difference.max(initial=0))


def _differs(output: str, batch: int, how: str) -> ParityError:
    return ParityError(
        f"export: output {output!r} at batch {batch} {how}",
        f"{UNCHANGED}try another torch or onnxruntime, or larger `atol` and `rtol`",
    )
