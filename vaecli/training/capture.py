"""A whole training step as one CUDA graph: launched at once, it takes the GPU's time and not Python's.

The network is small: step by step, a GPU waits for the next launch. A graph is trusted only after it has repeated
what the plain step does, from the same weights and with the same noise; else the plain step goes on, and says so.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vaecli.errors import first_line
from vaecli.training.learner import Learner

WARM_UP = 3  # plain steps before a recording, in which libraries set themselves up
TOLERANCE = 0.01  # of a step's change of the weights, and of its losses


class RecordedStep:
    """`Learner.learn` for batches of one shape, recorded and replayed; other batches go the plain way."""

    def __init__(self, learner: Learner, batch: Tensor) -> None:
        self._plain = learner.learn_plainly
        self._image = batch.clone()
        self._replay = record(lambda: self._plain(self._image), learner.noise.generator)

    def __call__(self, image: Tensor) -> None:
        """Learn from one batch, uint8 (batch, c, h, w)."""
        if image.shape != self._image.shape:
            self._plain(image)
            return
        self._image.copy_(image)
        self._replay()


def record(work: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
    """What does `work` again as one CUDA graph, with new numbers from the generator each time. Does it not now."""
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def warm_up(work: Callable[[], None]) -> None:
    """Do `work` a few times beside the main stream, as must be before a recording."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(beside)


def capture(learner: Learner, batch_size: int) -> str | None:
    """Let the learner learn by replaying a recording: why it cannot, or None. Nothing else of it is changed."""
    shape = (batch_size, *learner.model.image_shape)
    batch = torch.randint(0, 256, shape, dtype=torch.uint8, device=learner.device)
    before = learner.weights(), copy.deepcopy(learner.state())
    learner.dials.hold(learner.device, learner.dtype)
    try:
        warm_up(lambda: learner.step(batch))
        recorded = RecordedStep(learner, batch)
        failure = _difference(learner, recorded, batch, before)
    except Exception as error:  # whatever stands in the way, the plain step can go on
        failure = first_line(error)
    if failure is None:
        learner.learn = recorded
    else:
        learner.learn = learner.learn_plainly
        learner.dials.release()
        learner.noise.renew()
    learner.restore(*before)
    learner.take_losses()
    return failure


def _difference(
    learner: Learner, recorded: RecordedStep, batch: Tensor, before: tuple[dict[str, Any], dict[str, Any]]
) -> str | None:
    """In what a replay differs from the plain step, or None."""

    def outcome(learn: Callable[[Tensor], None], *, again: bool = False) -> tuple[Tensor, float]:
        """The change of the weights and the loss, from where it was before; `again` with the noise that follows."""
        noise = learner.noise.state()
        learner.restore(*before)
        if again:
            learner.noise.restore(noise)
        learner.take_losses()
        start = learner.parameters.vector.detach().clone()
        learner.learn = learn
        learner.step(batch)
        return learner.parameters.vector.detach() - start, learner.take_losses().loss

    change, loss = outcome(learner.learn_plainly)
    replayed_change, replayed_loss = outcome(recorded)
    _, later_loss = outcome(recorded, again=True)
    if not abs(replayed_loss - loss) <= TOLERANCE * abs(loss):
        return f"a replayed step has a loss of {replayed_loss:.6g}, not {loss:.6g}"
    if not (replayed_change - change).norm() <= TOLERANCE * change.norm():
        return "a replayed step changes the weights in another way"
    if later_loss == replayed_loss:
        return "two replayed steps have the same noise"
    return None
