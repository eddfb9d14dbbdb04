"""A flow: latents drawn by moving noise along the velocity that a network in flow.onnx computes, in ONNX Runtime."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vaecli.inference.geometry import Latents
from vaecli.inference.runtime import Graph
from vaecli.model_format import LATENT, VELOCITY

STEPS = 10  # of the solver, two velocities each: with 40, the pixels of emoji change by 1 % of their range on average


def latents(graph: Graph, noise: Latents, labels: NDArray[np.int64] | None = None, steps: int = STEPS) -> Latents:
    """What `noise` (n, d) of N(0, I) becomes: (n, d). A flow that knows classes needs `labels` (n,).

    Heun's method, of second order, from time 0 to 1 in equal steps. The state is in float64: what an addition rounds
    does not add up.

    Raises:
        VaeError: ONNX Runtime fails, or a value is not finite.
    """
    state, step = noise.astype(np.float64), 1 / steps

    def velocity(place: NDArray[np.float64], time: float) -> NDArray[np.float64]:
        (found,) = graph.run((VELOCITY,), place.astype(np.float32), labels, time)
        return found.astype(np.float64)

    for number in range(steps):
        first = velocity(state, number * step)
        second = velocity(state + step * first, (number + 1) * step)
        state += step * (first + second) / 2
    (found,) = graph.run((LATENT,), state.astype(np.float32), labels, 1.0)
    return found
