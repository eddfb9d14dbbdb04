"""The graphs that are exported from networks: as PyTorch modules, and converted to ONNX."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence

import onnx
import onnxscript.optimizer
import torch
from torch import Tensor, nn

import vaecli
from vaecli import model_format
from vaecli.exporting.flow_network import Velocity
from vaecli.model_format import BATCH, Metadata
from vaecli.training.model import VAE

FOLDED = 2**28  # numbers that are computed from weights while a graph is converted: more than any layer has


class EncoderGraph(nn.Module):
    """`image` (batch, c, h, w) in [0, 1] -> `mean`, `std` (batch, d); of a conditional model with `label` (batch,)."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Deterministic: no dropout, no random numbers."""
        return self.model.encode(image, label=label)


class DecoderGraph(nn.Module):
    """`latent` (batch, d) -> `image` (batch, c, h, w) in [0, 1], and the parameters of the likelihood.

    Of a conditional model with `label` (batch,).
    """

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent: Tensor, label: Tensor | None = None) -> tuple[Tensor, ...]:
        """Deterministic: the mean of p(x|z), not a draw from it. The order is that of model_format.LIKELIHOODS."""
        parameters = self.model.parameters_of(self.model.decode(latent, label=label))
        return self.model.likelihood.image(*parameters), *parameters


class FlowGraph(nn.Module):
    """`state` (batch, d), `time` (batch,) and, where it knows classes, `label` (batch,) -> `velocity`, `latent`."""

    def __init__(self, network: Velocity) -> None:
        super().__init__()
        self.network = network

    def forward(self, state: Tensor, time: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Two of (batch, d). The latent is that of a state at time 1."""
        return self.network(state, time, label), self.network.latent(state)


def to_onnx(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> onnx.ModelProto:
    """One graph, with a free batch, no side data, checked. `inputs` are examples of two rows or more, by name."""
    examples = {name: example[:2] for name, example in inputs.items()}  # the exporter takes a batch of 1 for a constant
    batch = torch.export.Dim(BATCH)
    with _silenced():
        program = torch.onnx.export(
            module,
            tuple(examples.values()),
            dynamo=True,
            external_data=False,
            opset_version=model_format.OPSET,
            input_names=list(examples),
            output_names=list(outputs),
            dynamic_shapes=tuple({0: batch} for _ in examples),
            verbose=False,
        )
        assert program is not None  # given for dynamo=True
        # By default what is computed from weights alone stays in the graph where it is large.
        onnxscript.optimizer.optimize(program.model, input_size_limit=FOLDED, output_size_limit=FOLDED)
    proto = program.model_proto
    _forget_origin(proto)
    proto.producer_name, proto.producer_version = "vaecli", vaecli.__version__
    onnx.checker.check_model(proto, full_check=True)
    for value in (*proto.graph.input, *proto.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == BATCH, f"{value.name} has a fixed batch"
    return proto


def with_metadata(graph: onnx.ModelProto, metadata: Metadata) -> bytes:
    """The bytes of an ONNX file."""
    onnx.helper.set_model_props(graph, {model_format.METADATA_KEY: model_format.to_json(metadata)})
    return bytes(graph.SerializeToString())


def _forget_origin(proto: onnx.ModelProto) -> None:
    """Drop the exporter's notes on nodes and values: they contain source paths of this machine."""
    graph = proto.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep the exporter's messages off the terminal. Its exceptions pass."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
