"""Reading an exported ONNX file and checking it before anything runs it: it may be a stranger's.

The field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vaecli import limits, model_format
from vaecli.errors import VaeError, file_error, without_backticks
from vaecli.inference.nodes import (
    EXPAND,
    GRAPH_OUTPUT,
    GRAPH_SHAPES,
    NODE_OPERATOR,
    RESIZE,
    VALUE_NAME,
    Part,
    TooManyAxesError,
    read_nodes,
)
from vaecli.inference.protobuf import Value, field_of_bytes, fields, integer, text

DEFAULT_DOMAINS = ("", "ai.onnx")  # both mean ONNX's own operators
LARGEST_SIDE = 2**14  # pixels
LARGEST_LATENT = 2**16
LARGEST_IMAGE = 2**25  # numbers: pixels times channels
LARGEST_FACTORS = 2**26  # numbers in a prior's covariances
MOST_FIELDS = 2**18  # of all messages in a file; a field of two bytes becomes an object of hundreds
STRINGS = 8  # among the types of a tensor

# The operators that models are exported with, quantised and made half as precise, and others alike. Each was tried with
# large tensors of small numbers. What a Resize and an Expand take beside their outputs depends on their shapes and
# types, which shape_limits.py checks. ReduceMax, TopK, NonZero, Unique and others took gigabytes, which nothing limits.
OPERATORS = frozenset(
    """
    Abs Add And AveragePool BatchNormalization Cast CastLike Ceil Clip Concat Constant ConstantOfShape Conv ConvInteger
    ConvTranspose Cos CumSum DepthToSpace DequantizeLinear Div Dropout DynamicQuantizeLinear Elu Equal Erf Exp Expand
    Flatten Floor Gather Gelu Gemm GlobalAveragePool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish
    Identity InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul
    MatMulInteger Max MaxPool Mean Min Mish Mod Mul Neg Not Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear
    RMSNormalization Range Reciprocal ReduceL2 ReduceLogSumExp ReduceMean ReduceSum ReduceSumSquare Relu Reshape Resize
    Round Selu Shape Sigmoid Sign Sin Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish
    Tanh ThresholdedRelu Tile Transpose Trilu Unsqueeze Where Xor
    """.split()  # noqa: SIM905 - a list of strings takes a line each
)

_PRODUCTS = {"MatMul": 1, "MatMulInteger": 1, "QLinearMatMul": 3}  # of matrices: which input is the second one

OURS = "use a model from vae export: it has ONNX's own operators only, and all weights in it"

# The fields to look into, by kind of message, and the kind of message each holds.
_INNER: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset", 14: "entry", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor", 10: "tensor", 6: "subgraph", 11: "subgraph", 22: "sparse tensor", 23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
}  # fmt: skip
_MODEL_GRAPH = 7
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_NODE_DOMAIN = 7
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER = 1, 3
_TENSOR_TYPE, _TENSOR_EXTERNAL_DATA, _TENSOR_LOCATION = 2, 13, 14
_DATA = {"tensor": (4, 5, 7, 9, 10, 11), "attribute": (4, 7, 8)}  # fields of numbers, and of what may look like them

_OTHER = "other"  # kind of a message, or of a text


@dataclass(frozen=True)
class GraphFile:
    """An exported file that was read whole and passed every check."""

    path: Path
    content: bytes = dataclasses.field(repr=False)
    opset: int
    metadata: model_format.Metadata
    resized: tuple[str, ...] = ()  # the names of what its Resize operators give
    expanded: tuple[str, ...] = ()  # of what its Expand operators give
    narrow: bool = False  # whether these have fewer than 32 bits: found out when it is opened
    sizes: tuple[str, ...] = ()  # of the sizes and axes that it computes
    products: tuple[tuple[str, str, str], ...] = ()  # of the two matrices of each product, and of what it gives


def read(path: Path) -> GraphFile:
    """Read an exported graph and its metadata. None of it is run.

    Raises:
        VaeError: the file cannot be read, is damaged or cut short, was not written by `vae export`, keeps data in
            other files, uses operators that are not in OPERATORS, or has loops, branches, functions, or what else no
            exported model needs.
    """
    try:
        content = limits.read_file(path)
    except OSError as error:
        raise file_error(path, error) from error
    if not content:
        raise VaeError(f"{path}: is empty", "export or copy it again")
    opset, has_graph, entries = 0, False, dict[str, str]()
    try:
        for kind, held in _messages(content):
            if kind in ("node", "attribute", "tensor", "sparse tensor", "subgraph", "function"):
                _check(path, kind, held)
            elif kind == "opset" and text(held, _OPSET_DOMAIN) in DEFAULT_DOMAINS:
                opset = max(opset, integer(held, _OPSET_VERSION))
            elif kind == "entry":
                entries[text(held, _ENTRY_KEY)] = text(held, _ENTRY_VALUE)
            has_graph = has_graph or kind == "graph"
        if not has_graph or not opset:
            raise ValueError("no graph in it")
        nodes, computed = read_nodes(_graph_parts(content))
    except _TooManyError as error:
        raise VaeError(f"{path}: has more than {MOST_FIELDS} parts, which no exported model needs", OURS) from error
    except TooManyAxesError as error:
        raise VaeError(f"{path}: has tensors of more axes than any exported model needs", OURS) from error
    except ValueError as error:
        raise VaeError(f"{path}: not an ONNX file, or a damaged one ({error})", "export or copy it again") from error
    described = entries.get(model_format.METADATA_KEY)
    if described is None:
        raise VaeError(
            f"{path}: not written by vae export (no {model_format.METADATA_KEY} metadata in it)",
            "use a folder that vae export filled",
        )
    return GraphFile(
        path,
        content,
        opset,
        _metadata(path, described),
        resized=tuple(name for node in nodes if node.operator == RESIZE for name in node.outputs),
        expanded=tuple(name for node in nodes if node.operator == EXPAND for name in node.outputs),
        sizes=tuple(computed),
        products=tuple(
            (node.inputs[0], node.inputs[_PRODUCTS[node.operator]], node.outputs[0])
            for node in nodes
            if node.outputs and len(node.inputs) > _PRODUCTS.get(node.operator, len(node.inputs))
        ),
    )


def with_outputs(content: bytes, outputs: Sequence[str]) -> bytes:
    """A file that was checked, with other outputs of its graph: the only shapes it tells are of inputs and weights.

    What ONNX Runtime says of the outputs' shapes then follows from the operators. Else it believes the file.
    """
    parts = list[bytes | memoryview]()
    for number, value, field in fields(memoryview(content)):
        if number == _MODEL_GRAPH and isinstance(value, memoryview):
            kept = [part for inner, _, part in fields(value) if inner not in (GRAPH_OUTPUT, GRAPH_SHAPES)]
            parts.append(field_of_bytes(_MODEL_GRAPH, b"".join(kept)))
        else:
            parts.append(field)
    wanted = (field_of_bytes(GRAPH_OUTPUT, field_of_bytes(VALUE_NAME, name.encode())) for name in outputs)
    return b"".join([*parts, field_of_bytes(_MODEL_GRAPH, b"".join(wanted))])  # more of the graph


class _TooManyError(Exception):
    """More fields than a file may have."""


def _check(path: Path, kind: str, held: dict[int, Value]) -> None:
    """Refuse custom operators, external weights, loops, functions, sparse tensors and strings.

    ONNX Runtime limits neither their time nor their memory: a loop need not end, functions that call each other are
    unfolded, and a sparse tensor of 100 bytes stands for gigabytes, as does a tensor of strings.
    """
    if kind in ("subgraph", "function"):
        raise VaeError(f"{path}: has loops, branches or functions, which no exported model needs", OURS)
    if kind == "node":
        operator, domain = text(held, NODE_OPERATOR), text(held, _NODE_DOMAIN)
        if domain not in DEFAULT_DOMAINS:
            raise VaeError(f"{path}: uses {domain}.{operator}, which is not one of ONNX's own operators", OURS)
        if operator not in OPERATORS:
            raise VaeError(f"{path}: uses {operator}, which no exported model needs", OURS)
    is_cast = kind == "attribute" and text(held, _ATTRIBUTE_NAME) == "to"
    if (kind == "tensor" and held.get(_TENSOR_TYPE) == STRINGS) or (
        is_cast and held.get(_ATTRIBUTE_INTEGER) == STRINGS
    ):
        raise VaeError(f"{path}: computes with strings, which no exported model needs", OURS)
    if kind == "sparse tensor":
        raise VaeError(f"{path}: has sparse weights, which no exported model needs", OURS)
    if kind == "tensor" and (held.get(_TENSOR_LOCATION, 0) != 0 or _TENSOR_EXTERNAL_DATA in held):
        raise VaeError(f"{path}: keeps weights in another file", OURS)


def _graph_parts(content: bytes) -> Iterator[Part]:
    """The number and content of each field of the graph, which may come in pieces."""
    for outer, graph, _ in fields(memoryview(content)):
        if outer == _MODEL_GRAPH and isinstance(graph, memoryview):
            for number, value, _ in fields(graph):
                if isinstance(value, memoryview):
                    yield number, value


def _messages(content: bytes) -> Iterator[tuple[str, dict[int, Value]]]:
    """The model, and each message in it that _INNER leads to: its kind, and the last value of each of its fields.

    All other bytes are read as if they were messages, too, and as far as that goes, to count fields.
    """
    waiting, count = [("model", memoryview(content))], 0
    while waiting:
        kind, message = waiting.pop()
        inner, data = _INNER.get(kind, {}), _DATA.get(kind, ())
        held: dict[int, Value] = {}
        with contextlib.suppress(*([ValueError] if kind == _OTHER else [])):
            for number, value, _ in fields(message):
                count += 1
                if count > MOST_FIELDS:
                    raise _TooManyError
                held[number] = value
                if number not in data and isinstance(value, memoryview):
                    waiting.append((inner.get(number, _OTHER), value))
        if kind != _OTHER:
            yield kind, held


class _Version(msgspec.Struct):
    format: int


def _metadata(path: Path, text: str) -> model_format.Metadata:
    try:
        version = msgspec.json.decode(text, type=_Version).format
        if version > model_format.FORMAT_VERSION:
            raise VaeError(
                f"{path}: written in format {version}, this vae reads up to {model_format.FORMAT_VERSION}",
                "pip install --upgrade vaecli",
            )
        metadata = model_format.from_json(text)
        channels, *sides = metadata.image_shape
        sensible = channels in (1, 3) and all(0 < side <= LARGEST_SIDE for side in sides)
        if not sensible or math.prod(metadata.image_shape) > LARGEST_IMAGE:
            raise ValueError(f"image shape {metadata.image_shape}")
        if not 0 < metadata.latent_dim <= LARGEST_LATENT:
            raise ValueError(f"latent size {metadata.latent_dim}")
        mixture = model_format.LIKELIHOODS[metadata.likelihood].is_mixture
        if mixture and not 0 < (metadata.components or 0) <= model_format.LARGEST_MIXTURE:
            raise ValueError(f"{metadata.components} components")
        if metadata.prior is not None:
            components = metadata.prior.components
            if not 0 < components <= LARGEST_FACTORS // metadata.latent_dim**2:
                raise ValueError(f"{components} components of the prior")
            sizes = metadata.prior.class_sizes
            if len(sizes) != len(metadata.prior.classes) or (sizes and (min(sizes) < 1 or sum(sizes) != components)):
                raise ValueError(f"{components} components of the prior for classes of {sum(sizes)}")
        if (flow := metadata.flow) is not None:
            names, shares = flow.classes, flow.class_shares
            if len({*names}) != len(names) or len(names) > model_format.MOST_CLASSES:
                raise ValueError(f"{len(names)} classes of a flow")
            if len(shares) != len(names) or (shares and not (min(shares) >= 0 and 0 < sum(shares) < math.inf)):
                raise ValueError(f"{len(shares)} shares of the {len(names)} classes of a flow")
            if min(flow.steps, flow.pictures) < 1 or not 0 <= flow.loss < math.inf:
                raise ValueError(f"a flow of {flow.steps} steps, {flow.pictures} pictures and the loss {flow.loss:g}")
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        reason = without_backticks(str(error))
        raise VaeError(f"{path}: its metadata is damaged ({reason})", "export it again") from error
    return metadata
