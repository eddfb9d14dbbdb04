"""Exported graphs that ONNX Runtime has opened: encoder, decoder and prior."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaecli import model_format, processors
from vaecli.config import DeviceChoice
from vaecli.errors import DeviceError, UsageError, VaeError
from vaecli.inference.graph_file import GraphFile
from vaecli.inference.memory_budget import MemoryBudget
from vaecli.inference.session import (
    CPU,
    CUDA,
    LACKS_MEMORY,
    QUICK_SECONDS,
    Array,
    cpu_session,
    cuda_session,
    import_runtime,
    run_error,
    run_session,
)
from vaecli.model_format import BATCH
from vaecli.wording import listed

# ONNX Runtime computes 8 or 16 elements at once. Those left over at the end of a batch are computed by other code,
# which rounds differently. Batches of a multiple of 16 rows have none left over. A few large pictures are not worth
# that.
ALIGNED_ROWS = 16
SMALL_PICTURE = 1024  # elements of a picture

Shape: TypeAlias = tuple[int, ...]  # of one image or latent, without the batch


@dataclass(frozen=True)
class Graph:
    """An opened graph. Its tensors have the names and shapes that follow from its metadata."""

    file: GraphFile
    provider: str
    fallback: str  # why `auto` did not take CUDA; empty where it did, or where onnxruntime has no CUDA
    input: str
    outputs: Mapping[str, Shape]
    session: Any  # onnxruntime.InferenceSession, which brings no types
    classes: tuple[str, ...] = ()  # where there are any, it needs the class of each row
    label: int | None = None  # the class that every row is taken for
    memory: MemoryBudget = field(default_factory=MemoryBudget)

    @property
    def workers(self) -> int:
        """How many batches to compute at the same time."""
        return processors.usable() if self.provider == CPU else 2  # a GPU computes one; pictures are read meanwhile

    def run(
        self, names: Sequence[str], batch: Array, labels: NDArray[np.int64] | None = None, at_time: float | None = None
    ) -> list[Array]:
        """Compute the outputs `names` of a batch (b, ...): arrays (b, ...) float32. Threads may call it at once.

        A row's outputs are the same in any batch of 16 rows or more, and of small pictures in any batch. A batch that
        does not fit into the memory that the file may ask for is computed in parts.
        A graph with `classes` needs the class of each row: `labels` (b,), else its own. A flow needs the time.

        Raises:
            VaeError: ONNX Runtime fails, a single row asks for too much memory, or a shape is wrong or a value not
                finite.
            UsageError: the batch is empty; or the model is conditional, and the class is not given.
        """
        if not len(batch):  # a dense graph would take it, and a convolutional one not
            raise UsageError(f"{self.file.path}: an empty batch", "pass one or more")
        count = len(batch)
        costs = batch[0].size if self.input == model_format.STATE else math.prod(self.file.metadata.image_shape)
        if count >= ALIGNED_ROWS or costs <= SMALL_PICTURE:
            batch, labels = _aligned(batch), None if labels is None else _aligned(labels)
        feed: dict[str, Any] = {self.input: batch}
        if at_time is not None:
            feed[model_format.TIME] = np.full(len(batch), at_time, np.float32)
        if self.classes:
            if labels is None and self.label is None:
                problem = f"{self.file.path.parent}: the model is conditional, and no class is given"
                raise UsageError(problem, f"name one with `label`: {listed(self.classes)} (in Python: model.given)")
            feed[model_format.LABEL] = np.full(len(batch), self.label) if labels is None else labels
        results = [result[:count] for result in self._in_parts(names, feed, len(batch))]
        for name, result in zip(names, results, strict=True):
            expected = (count, *self.outputs[name])
            if result.shape != expected:
                raise VaeError(f"{self.file.path}: {name} has shape {result.shape}, not {expected}", "export it again")
            with np.errstate(all="ignore"):
                finite = np.isfinite(result.sum())  # NaN and infinity survive a sum
            if not finite:
                raise VaeError(f"{self.file.path}: {name} has values that are not finite", "train and export it again")
        return results

    def _in_parts(self, names: Sequence[str], feed: Mapping[str, NDArray[Any]], count: int) -> list[Array]:
        """The outputs `names` for the `count` rows of what is fed, in parts where the memory is too little for all."""
        parts, first = list[list[Array]](), 0
        while first < count:
            last, alone = min(count, first + self.memory.max_rows), False
            try:
                with self.memory.running() as alone:
                    part = {name: rows[first:last] for name, rows in feed.items()}
                    start, known = time.perf_counter(), last - first <= self.memory.quick_rows
                    parts.append(run_session(self.session, names, part, quick=known))
                    if time.perf_counter() - start < QUICK_SECONDS:
                        self.memory.quick_rows = max(self.memory.quick_rows, last - first)
            except Exception as error:  # its exceptions have no base class of their own
                lacking = LACKS_MEMORY.search(str(error))
                if not lacking or not self.memory.shrink(last - first, alone=alone):
                    raise run_error(self.file, error) from error
            else:
                first = last
        return parts[0] if len(parts) == 1 else [np.concatenate(part) for part in zip(*parts, strict=True)]


def _aligned(rows: NDArray[Any]) -> NDArray[Any]:
    """The rows, and the last one again until there are a multiple of ALIGNED_ROWS."""
    missing = -len(rows) % ALIGNED_ROWS
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows


def open_graph(file: GraphFile, device: DeviceChoice) -> Graph:
    """Open a session for a graph that `graph_file.read` has checked, and check its inputs and outputs.

    `auto` takes CUDA where a CUDA session starts, else the CPU.

    Raises:
        VaeError: onnxruntime is not installed or cannot open the graph, or a tensor does not fit the metadata.
        DeviceError: `cuda` was asked for and does not work.
    """
    runtime = import_runtime()
    session, fallback = None, ""
    if device == "cuda" or (device == "auto" and CUDA in runtime.get_available_providers()):
        session, fallback = cuda_session(runtime, file)
        if session is None and device == "cuda":
            raise DeviceError(
                f"`device` cuda: {fallback}",
                "vaecli[gpu] brings its libraries, nvidia-smi shows its driver; or use `device` cpu",
            )
    if session is None:
        file, session = cpu_session(runtime, file)
    image, latent = tuple(file.metadata.image_shape), (file.metadata.latent_dim,)
    classes = file.metadata.classes
    others, outputs = dict[str, Sequence[int | str]](), dict[str, Shape]()
    if file.path.name == model_format.ENCODER_FILE:
        source, shape = model_format.IMAGE, image
        outputs = {model_format.MEAN: latent, model_format.STD: latent}
    elif file.path.name == model_format.FLOW_FILE:
        if file.metadata.flow is None:
            raise VaeError(f"{file.path}: is not a flow", "copy each file of a model under its own name")
        source, shape, classes = model_format.STATE, latent, file.metadata.flow.classes
        outputs = {model_format.VELOCITY: latent, model_format.LATENT: latent}
        others[model_format.TIME] = (BATCH,)
    else:
        source, shape = model_format.LATENT, latent
        facts = file.metadata
        parameters = model_format.parameter_shapes(facts.likelihood, facts.image_shape, facts.components)
        outputs = {model_format.IMAGE: image, **parameters}
    if classes:
        others[model_format.LABEL] = (BATCH,)
    _check_tensors(file, session.get_inputs(), {source: (BATCH, *shape), **others})
    _check_tensors(file, session.get_outputs(), {name: (BATCH, *size) for name, size in outputs.items()})
    return Graph(file, session.get_providers()[0], fallback, source, outputs, session, classes)


@dataclass(frozen=True)
class PriorGraph:
    """An opened prior, a mixture of k Gaussians of d dimensions. It runs on the CPU: it is small."""

    file: GraphFile
    session: Any  # onnxruntime.InferenceSession, which brings no types

    def run(self, names: Sequence[str], noise: Array, choice: Array) -> list[Array]:
        """The outputs `names` for `noise` (b, d) and `choice` (b,). Raises VaeError where ONNX Runtime fails."""
        try:
            return run_session(self.session, names, {model_format.NOISE: noise, model_format.CHOICE: choice})
        except Exception as error:
            raise run_error(self.file, error) from error


def open_prior(file: GraphFile) -> PriorGraph:
    """Open a session for a prior that `graph_file.read` has checked, and check its inputs and outputs.

    Raises:
        VaeError: onnxruntime is not installed or cannot open the graph, or a tensor does not fit the metadata.
    """
    if file.metadata.prior is None:
        raise VaeError(f"{file.path}: is not a prior", "copy each file of a model under its own name")
    count, size = file.metadata.prior.components, file.metadata.latent_dim
    file, session = cpu_session(import_runtime(), file)
    _check_tensors(file, session.get_inputs(), {model_format.NOISE: (BATCH, size), model_format.CHOICE: (BATCH,)})
    outputs: dict[str, Sequence[int | str]] = {
        model_format.LATENT: (BATCH, size),
        model_format.LOG_WEIGHTS: (count,),
        model_format.MEANS: (count, size),
        model_format.FACTORS: (count, size, size),
    }
    _check_tensors(file, session.get_outputs(), outputs)
    return PriorGraph(file, session)


def _check_tensors(file: GraphFile, found: Sequence[Any], expected: Mapping[str, Sequence[int | str]]) -> None:
    """Compare a session's inputs or outputs with those that follow from the metadata. Raises VaeError.

    A first size of BATCH must be free.
    """
    tensors = {tensor.name: tensor for tensor in found}
    if tensors.keys() != expected.keys():
        raise VaeError(
            f"{file.path}: its tensors are {', '.join(sorted(tensors))}, not {', '.join(sorted(expected))}",
            "export it again; or is the encoder named as the decoder?",
        )
    for name, shape in expected.items():
        tensor = tensors[name]
        # A size that is not a number is free. Such sizes are checked in every run.
        fits = len(tensor.shape) == len(shape) and all(
            not isinstance(size, int) or size == wanted for size, wanted in zip(tensor.shape, shape, strict=True)
        )
        kind = "tensor(int64)" if name == model_format.LABEL else "tensor(float)"
        if tensor.type != kind or not fits:
            raise VaeError(
                f"{file.path}: its {name} is {tensor.type} {tensor.shape}, not {kind} {[*shape]}",
                "export it again",
            )
