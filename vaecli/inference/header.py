"""What an ONNX file says of itself, read and judged before anything runs it, for it may be a stranger's.

An ONNX file is one protobuf message. Its wire format is small enough to walk without a protobuf package:
a key (field number and wire type), then a number, or a length and so many bytes, perhaps a message again.
The field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), the
encoding is that of https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec

from vaecli import model_format
from vaecli.errors import VaeError, file_error

DEFAULT_DOMAINS = ("", "ai.onnx")  # two names of the operators that every runtime has
DEEPEST = 64  # messages within messages; an honest graph has a handful
LARGEST_SIDE = 2**14  # pixels
LARGEST_LATENT = 2**16

_Value: TypeAlias = int | memoryview

# Which fields of a message hold messages that matter here, and of what kind those are.
_INNER: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset", 14: "entry", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor", 10: "tensor", 6: "graph", 11: "graph", 22: "sparse tensor", 23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
}  # fmt: skip
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_NODE_OPERATOR, _NODE_DOMAIN = 4, 7
_TENSOR_SIDE_DATA, _TENSOR_LOCATION = 13, 14

_NUMBER, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # the wire types in use


@dataclass(frozen=True)
class GraphFile:
    """One file of a pair, read whole and found to be ours."""

    path: Path
    content: bytes
    opset: int
    metadata: model_format.Metadata


class _DamagedError(ValueError):
    """These bytes are no ONNX file, or not all of one."""


def read(path: Path) -> GraphFile:
    """Read an exported graph and everything it says of itself, running none of it.

    Raises:
        VaeError: the file cannot be read, is damaged or cut short, is not one that `vae export` wrote, keeps
            data in other files, or uses operators that are not ONNX's own.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise file_error(path, error) from error
    if not content:
        raise VaeError(f"{path}: is empty", "export or copy it again")
    try:
        opset, entries = _judge(path, content)
    except _DamagedError as error:
        raise VaeError(f"{path}: not an ONNX file, or a damaged one ({error})", "export or copy it again") from error
    text = entries.get(model_format.METADATA_KEY)
    if text is None:
        raise VaeError(
            f"{path}: not written by vae export (no {model_format.METADATA_KEY} metadata in it)",
            "use a folder that vae export filled",
        )
    return GraphFile(path=path, content=content, opset=opset, metadata=_metadata(path, text))


def _judge(path: Path, content: bytes) -> tuple[int, dict[str, str]]:
    """The default operators' version and the metadata entries of a model that may be run."""
    opset = 0
    entries: dict[str, str] = {}
    has_graph = False
    for kind, fields in _messages(content):
        if kind == "node" and _text(fields, _NODE_DOMAIN) not in DEFAULT_DOMAINS:
            operator = f"{_text(fields, _NODE_DOMAIN)}.{_text(fields, _NODE_OPERATOR)}"
            raise VaeError(
                f"{path}: uses {operator}, which is not one of ONNX's own operators",
                "use a model from vae export; it needs no others",
            )
        if kind == "tensor" and (fields.get(_TENSOR_LOCATION, 0) != 0 or _TENSOR_SIDE_DATA in fields):
            raise VaeError(
                f"{path}: keeps weights in another file",
                "use a model from vae export; each of its files is whole",
            )
        if kind == "opset" and _text(fields, _OPSET_DOMAIN) in DEFAULT_DOMAINS:
            opset = max(opset, _number(fields, _OPSET_VERSION))
        if kind == "entry":
            entries[_text(fields, _ENTRY_KEY)] = _text(fields, _ENTRY_VALUE)
        has_graph = has_graph or kind == "graph"
    if not has_graph or not opset:
        raise _DamagedError("no graph in it")
    return opset, entries


def _messages(content: bytes) -> Iterator[tuple[str, dict[int, _Value]]]:
    """Every message that matters, as its kind and the last value of each of its fields."""
    waiting = [("model", memoryview(content), 0)]
    while waiting:
        kind, message, depth = waiting.pop()
        if depth > DEEPEST:
            raise _DamagedError("nested too deep")
        inner = _INNER.get(kind, {})
        fields: dict[int, _Value] = {}
        for number, value in _fields(message):
            fields[number] = value
            if number in inner and isinstance(value, memoryview):
                waiting.append((inner[number], value, depth + 1))
        yield kind, fields


def _fields(message: memoryview) -> Iterator[tuple[int, _Value]]:
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire_type = key >> 3, key & 7
        value: _Value
        if wire_type == _NUMBER:
            value, at = _varint(message, at)
        else:
            if wire_type == _BYTES:
                length, at = _varint(message, at)
            elif wire_type in (_EIGHT_BYTES, _FOUR_BYTES):
                length = 8 if wire_type == _EIGHT_BYTES else 4
            else:
                raise _DamagedError("unknown wire type")
            if length > len(message) - at:
                raise _DamagedError("cut short")
            value, at = message[at : at + length], at + length
        if not 0 < number < 2**29:  # some readers would drop the upper bits, and see another field than we do
            raise _DamagedError("no such field number")
        yield number, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first; and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise _DamagedError("cut short")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _DamagedError("number too long")


def _text(fields: dict[int, _Value], number: int) -> str:
    value = fields.get(number, memoryview(b""))
    if isinstance(value, int):
        raise _DamagedError("a number where a name should be")
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError as error:
        raise _DamagedError("a name that is not UTF-8") from error


def _number(fields: dict[int, _Value], number: int) -> int:
    value = fields.get(number, 0)
    if not isinstance(value, int):
        raise _DamagedError("bytes where a number should be")
    return value


class _Version(msgspec.Struct):
    format: int


def _metadata(path: Path, text: str) -> model_format.Metadata:
    """The `vaecli` entry, its values within bounds."""
    try:
        version = msgspec.json.decode(text, type=_Version).format
        if version > model_format.FORMAT_VERSION:
            raise VaeError(
                f"{path}: written in format {version}, this vae reads up to {model_format.FORMAT_VERSION}",
                "pip install --upgrade vaecli",
            )
        metadata = model_format.from_json(text)
    except msgspec.DecodeError as error:
        reason = str(error).replace("`", "")
        raise VaeError(f"{path}: its metadata is damaged ({reason})", "export it again") from error
    channels, height, width = metadata.image_shape
    if channels not in (1, 3) or not (0 < height <= LARGEST_SIDE and 0 < width <= LARGEST_SIDE):
        raise VaeError(f"{path}: its metadata is damaged (image shape {metadata.image_shape})", "export it again")
    if not 0 < metadata.latent_dim <= LARGEST_LATENT:
        raise VaeError(f"{path}: its metadata is damaged (latent size {metadata.latent_dim})", "export it again")
    return metadata
