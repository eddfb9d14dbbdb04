"""Reading an exported ONNX file and checking it before anything runs it: it may be a stranger's.

The protobuf is parsed here because this runs before anything in the file is trusted, and needs no protobuf package.
A message is a series of fields: a key (field number and wire type), then a number, or a length and that many bytes,
which may be a message again (https://protobuf.dev/programming-guides/encoding/). The field numbers are those of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec

from vaecli import limits, model_format
from vaecli.errors import VaeError, file_error

DEFAULT_DOMAINS = ("", "ai.onnx")  # both mean ONNX's own operators
LARGEST_SIDE = 2**14  # pixels
LARGEST_LATENT = 2**16
LARGEST_IMAGE = 2**25  # numbers: pixels times channels
LARGEST_FACTORS = 2**26  # numbers in a prior's covariances
MOST_FIELDS = 2**18  # of all messages in a file; a field of two bytes becomes an object of hundreds
MOST_SIZES = 64  # numbers in a shape or list of axes that is computed
MOST_AXES = 2**21  # of all tensors in a graph together, counted as `_check_axes` does; each takes up to 200 bytes
STRINGS = 8  # among the types of a tensor
RESIZE, EXPAND = "Resize", "Expand"

# The operators that models are exported with, quantised and made half as precise, and others alike. Each was tried with
# large tensors of small numbers. What a Resize and an Expand take beside their outputs depends on their shapes and
# types, which runtime.py checks. ReduceMax, TopK, NonZero, Unique and others took gigabytes, which nothing limits.
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
_GROWING = (EXPAND, "Gather", "Unsqueeze")  # what they give may have more axes than what they take
_RESHAPED = ("ConstantOfShape", "Reshape")  # what they give has as many axes as sizes
# Where an operator takes sizes, axes or places: from which of its inputs on.
_SIZES = {
    "ConstantOfShape": 0, "Expand": 1, "Pad": 1, "ReduceL2": 1, "ReduceLogSumExp": 1, "ReduceMean": 1, "ReduceSum": 1,
    "ReduceSumSquare": 1, "Reshape": 1, "Resize": 1, "Slice": 1, "Split": 1, "Squeeze": 1, "Tile": 1, "Unsqueeze": 1,
}  # fmt: skip

OURS = "use a model from vae export: it has ONNX's own operators only, and all weights in it"

_Value: TypeAlias = int | memoryview

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
_GRAPH_NODE, _GRAPH_TENSOR, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SHAPES = 1, 5, 11, 12, 13
_VALUE_NAME = 1
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER, _ATTRIBUTE_TENSOR = 1, 3, 5
_TENSOR_AXES, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW, _TENSOR_EXTERNAL_DATA, _TENSOR_LOCATION = 1, 2, 8, 9, 13, 14
_DATA = {"tensor": (4, 5, 7, 9, 10, 11), "attribute": (4, 7, 8)}  # fields of numbers, and of what may look like them

_OTHER = "other"  # kind of a message, or of a text

_NUMBER, _BYTES = 0, 2  # wire types
_FIXED = {1: 8, 5: 4}  # wire types of a fixed number of bytes


@dataclass(frozen=True)
class GraphFile:
    """An exported file that was read whole and passed every check."""

    path: Path
    content: bytes
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
        for kind, fields in _messages(content):
            if kind in ("node", "attribute", "tensor", "sparse tensor", "subgraph", "function"):
                _check(path, kind, fields)
            elif kind == "opset" and _text(fields, _OPSET_DOMAIN) in DEFAULT_DOMAINS:
                opset = max(opset, _number(fields, _OPSET_VERSION))
            elif kind == "entry":
                entries[_text(fields, _ENTRY_KEY)] = _text(fields, _ENTRY_VALUE)
            has_graph = has_graph or kind == "graph"
        if not has_graph or not opset:
            raise ValueError("no graph in it")
        nodes = _check_axes(path, content)
    except _TooManyError as error:
        raise VaeError(f"{path}: has more than {MOST_FIELDS} parts, which no exported model needs", OURS) from error
    except ValueError as error:
        raise VaeError(f"{path}: not an ONNX file, or a damaged one ({error})", "export or copy it again") from error
    text = entries.get(model_format.METADATA_KEY)
    if text is None:
        raise VaeError(
            f"{path}: not written by vae export (no {model_format.METADATA_KEY} metadata in it)",
            "use a folder that vae export filled",
        )
    return GraphFile(
        path,
        content,
        opset,
        _metadata(path, text),
        resized=tuple(name for node in nodes if node.operator == RESIZE for name in node.outputs),
        expanded=tuple(name for node in nodes if node.operator == EXPAND for name in node.outputs),
        sizes=tuple(name for node in nodes for name in node.computed),
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
    for number, value, field in _fields(memoryview(content)):
        if number == _MODEL_GRAPH and isinstance(value, memoryview):
            kept = [part for inner, _, part in _fields(value) if inner not in (_GRAPH_OUTPUT, _GRAPH_SHAPES)]
            parts.append(_message(_MODEL_GRAPH, b"".join(kept)))
        else:
            parts.append(field)
    wanted = (_message(_GRAPH_OUTPUT, _message(_VALUE_NAME, name.encode())) for name in outputs)
    return b"".join([*parts, _message(_MODEL_GRAPH, b"".join(wanted))])  # more of the graph


class _TooManyError(Exception):
    """More fields than a file may have."""


def _check(path: Path, kind: str, fields: dict[int, _Value]) -> None:
    """Refuse operators that are not ONNX's own, weights that are not in the file, and what has no end or no limit.

    A loop has a graph in it, and functions that call each other are unfolded. Nothing stops ONNX Runtime then. A sparse
    tensor of 100 bytes stands for gigabytes, and so does a tensor of strings.
    """
    if kind in ("subgraph", "function"):
        raise VaeError(f"{path}: has loops, branches or functions, which no exported model needs", OURS)
    if kind == "node":
        operator, domain = _text(fields, _NODE_OPERATOR), _text(fields, _NODE_DOMAIN)
        if domain not in DEFAULT_DOMAINS:
            raise VaeError(f"{path}: uses {domain}.{operator}, which is not one of ONNX's own operators", OURS)
        if operator not in OPERATORS:
            raise VaeError(f"{path}: uses {operator}, which no exported model needs", OURS)
    is_cast = kind == "attribute" and _text(fields, _ATTRIBUTE_NAME) == "to"
    if (kind == "tensor" and fields.get(_TENSOR_TYPE) == STRINGS) or (
        is_cast and fields.get(_ATTRIBUTE_INTEGER) == STRINGS
    ):
        raise VaeError(f"{path}: computes with strings, which no exported model needs", OURS)
    if kind == "sparse tensor":
        raise VaeError(f"{path}: has sparse weights, which no exported model needs", OURS)
    if kind == "tensor" and (fields.get(_TENSOR_LOCATION, 0) != 0 or _TENSOR_EXTERNAL_DATA in fields):
        raise VaeError(f"{path}: keeps weights in another file", OURS)


def _check_axes(path: Path, content: bytes) -> list[_Node]:
    """Bound the axes of all tensors before ONNX Runtime looks at them. Gives the graph's nodes.

    A file of 60 kB can ask for tensors of a billion axes, which take more memory than their numbers: each Unsqueeze
    adds some, and each Gather as many as its indices have. Where nothing tells their number, that of bytes bounds it.
    """
    parts = list(_graph_parts(content))
    axes, lengths, declared = dict[str, int](), dict[str, int](), dict[str, int]()
    for number, part in parts:
        if number == _GRAPH_TENSOR:
            name, axes_of, length = _tensor(part)
            axes[name], lengths[name] = axes_of, length
        elif number in (_GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SHAPES):
            name = _text({inner: value for inner, value, _ in _fields(part)}, _VALUE_NAME)
            declared[name] = max(declared.get(name, 0), len(part))
            if number == _GRAPH_INPUT:
                axes.setdefault(name, len(part))
    nodes = [_node(part) for number, part in parts if number == _GRAPH_NODE]
    made_by = {name: index for index, node in enumerate(nodes) for name in node.outputs}
    needed = {index: {made_by[name] for name in node.inputs if name in made_by} for index, node in enumerate(nodes)}
    total = 0
    for node in (nodes[index] for index in TopologicalSorter(needed).static_order()):
        sizes = list(filter(None, node.inputs[_SIZES.get(node.operator, len(node.inputs)) :]))
        node.computed.extend(name for name in sizes if name not in lengths)
        found = max((axes.get(name, 0) for name in node.inputs), default=1)
        if node.operator in _RESHAPED or node.operator in _GROWING:
            found = sum(map(len, node.attributes)) + sum(lengths.get(name, MOST_SIZES) for name in sizes)
            found += sum(axes.get(name, 0) for name in node.inputs if node.operator in _GROWING)
        elif node.operator == "Constant":
            tensors = [
                value for part in node.attributes for inner, value, _ in _fields(part) if inner == _ATTRIBUTE_TENSOR
            ]
            _, found, length = _tensor(tensors[-1]) if tensors else ("", 1, sum(map(len, node.attributes)))
            lengths.update(dict.fromkeys(node.outputs, length))
        for name in node.outputs:
            axes[name] = max(found, declared.get(name, 0))
            total += axes[name]
        if total > MOST_AXES:
            raise VaeError(f"{path}: has tensors of more axes than any exported model needs", OURS)
    return nodes


def _graph_parts(content: bytes) -> Iterator[tuple[int, memoryview]]:
    """The number and content of each field of the graph, which may come in pieces."""
    for outer, graph, _ in _fields(memoryview(content)):
        if outer == _MODEL_GRAPH and isinstance(graph, memoryview):
            for number, value, _ in _fields(graph):
                if isinstance(value, memoryview):
                    yield number, value


class _Node(NamedTuple):
    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: list[memoryview]
    computed: list[str]  # of the inputs, those that are sizes or axes and no constants


def _node(message: memoryview) -> _Node:
    node = _Node(_text({number: value for number, value, _ in _fields(message)}, _NODE_OPERATOR), [], [], [], [])
    for number, value, _ in _fields(message):
        if number in (_NODE_INPUT, _NODE_OUTPUT):
            (node.inputs if number == _NODE_INPUT else node.outputs).append(_text({number: value}, number))
        elif number == _NODE_ATTRIBUTE and isinstance(value, memoryview):
            node.attributes.append(value)
    return node


def _tensor(message: _Value) -> tuple[str, int, int]:
    """The name of a tensor, and at most how many axes and integers it has."""
    if isinstance(message, int):
        raise ValueError("a number where a tensor should be")
    axes, last = 0, dict[int, _Value]()
    for number, value, _ in _fields(message):
        last[number] = value
        if number == _TENSOR_AXES:
            axes += 1 if isinstance(value, int) else len(value)
    raw = last.get(_TENSOR_RAW)
    return _text(last, _TENSOR_NAME), axes, len(raw) // 4 if isinstance(raw, memoryview) and raw else len(message)


def _messages(content: bytes) -> Iterator[tuple[str, dict[int, _Value]]]:
    """The model, and each message in it that _INNER leads to: its kind, and the last value of each of its fields.

    All other bytes are read as if they were messages, too, and as far as that goes, to count fields.
    """
    waiting, count = [("model", memoryview(content))], 0
    while waiting:
        kind, message = waiting.pop()
        inner, data = _INNER.get(kind, {}), _DATA.get(kind, ())
        fields: dict[int, _Value] = {}
        with contextlib.suppress(*([ValueError] if kind == _OTHER else [])):
            for number, value, _ in _fields(message):
                count += 1
                if count > MOST_FIELDS:
                    raise _TooManyError
                fields[number] = value
                if number not in data and isinstance(value, memoryview):
                    waiting.append((inner.get(number, _OTHER), value))
        if kind != _OTHER:
            yield kind, fields


def _fields(message: memoryview) -> Iterator[tuple[int, _Value, memoryview]]:
    """The number and value of each field, and all of its bytes."""
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        number, wire_type = key >> 3, key & 7
        value: _Value
        if wire_type == _NUMBER:
            value, at = _varint(message, at)
        elif wire_type == _BYTES or wire_type in _FIXED:
            length, at = (_FIXED[wire_type], at) if wire_type in _FIXED else _varint(message, at)
            if length > len(message) - at:
                raise ValueError("cut short")
            value, at = message[at : at + length], at + length
        else:
            raise ValueError("unknown wire type")
        if not 0 < number < 2**29:  # some readers drop the upper bits, and would see another field
            raise ValueError("no such field number")
        yield number, value, message[start:at]


def _message(number: int, content: bytes) -> bytes:
    """A field of bytes."""
    head, rest = bytearray([number << 3 | _BYTES]), len(content)
    while rest >= 0x80:
        head.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*head, rest]) + content


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("cut short")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("number too long")


def _text(fields: dict[int, _Value], number: int) -> str:
    value = fields.get(number, memoryview(b""))
    if isinstance(value, int):
        raise ValueError("a number where a name should be")
    return str(value, "utf-8")


def _number(fields: dict[int, _Value], number: int) -> int:
    value = fields.get(number, 0)
    if not isinstance(value, int):
        raise ValueError("bytes where a number should be")
    return value


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
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        reason = str(error).replace("`", "")  # in our messages they mark parameters
        raise VaeError(f"{path}: its metadata is damaged ({reason})", "export it again") from error
    return metadata
