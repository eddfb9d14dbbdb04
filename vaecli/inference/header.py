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
from pathlib import Path
from typing import TypeAlias

import msgspec

from vaecli import limits, model_format
from vaecli.errors import VaeError, file_error

DEFAULT_DOMAINS = ("", "ai.onnx")  # both mean ONNX's own operators
LARGEST_SIDE = 2**14  # pixels
LARGEST_LATENT = 2**16
LARGEST_IMAGE = 2**25  # numbers: pixels times channels
LARGEST_FACTORS = 2**26  # numbers in a prior's covariances
MOST_FIELDS = 2**18  # of all messages in a file; a field of two bytes becomes an object of hundreds
STRINGS = 8  # among the types of a tensor
RESIZE = "Resize"

# The operators that models are exported with, quantised and made half as precise, and others alike. Those that were
# tried with large tensors of small numbers took up to 0.8 GB beside their outputs. What a Resize takes depends on its
# shape, which runtime.py checks. ReduceMax, TopK, NonZero, Unique and others took gigabytes, which nothing limits.
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
_GRAPH_OUTPUT, _GRAPH_SHAPES = 12, 13
_VALUE_NAME = 1
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_NODE_OUTPUT, _NODE_OPERATOR, _NODE_DOMAIN = 2, 4, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER = 1, 3
_TENSOR_TYPE, _TENSOR_EXTERNAL_DATA, _TENSOR_LOCATION = 2, 13, 14
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
    opset, has_graph, entries, resized = 0, False, dict[str, str](), list[str]()
    try:
        for kind, fields in _messages(content):
            if kind in ("node", "attribute", "tensor", "sparse tensor", "subgraph", "function"):
                _check(path, kind, fields)
                if kind == "node" and _text(fields, _NODE_OPERATOR) == RESIZE:
                    resized.append(_text(fields, _NODE_OUTPUT))
            elif kind == "opset" and _text(fields, _OPSET_DOMAIN) in DEFAULT_DOMAINS:
                opset = max(opset, _number(fields, _OPSET_VERSION))
            elif kind == "entry":
                entries[_text(fields, _ENTRY_KEY)] = _text(fields, _ENTRY_VALUE)
            has_graph = has_graph or kind == "graph"
        if not has_graph or not opset:
            raise ValueError("no graph in it")
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
    return GraphFile(path, content, opset, _metadata(path, text), tuple(resized))


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
