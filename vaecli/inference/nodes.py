"""The nodes of a graph, and at most how many axes their tensors have: ONNX Runtime limits neither.

A file of 60 kB can ask for tensors of a billion axes, which take more memory than their numbers: each Unsqueeze adds
some, and each Gather as many as its indices have. The rules here bound them before ONNX Runtime looks at the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import TypeAlias

from vaecli.inference.protobuf import Value, fields, last_fields, text

RESIZE, EXPAND = "Resize", "Expand"
MOST_SIZES = 64  # numbers in a shape or list of axes that is computed
MOST_AXES = 2**21  # of all tensors in a graph together; each takes up to 200 bytes

# The output of a node has at most as many axes as its largest input. Exceptions: the sizes, axes and attributes of
# these operators may name one axis each, and for those in _GROWING the axes of all inputs are added.
_NAMED = ("ConstantOfShape", "Reshape")
_GROWING = (EXPAND, "Gather", "Unsqueeze")
# Where an operator takes sizes, axes or places: from which of its inputs on.
_SIZES = {
    "ConstantOfShape": 0, "Expand": 1, "Pad": 1, "ReduceL2": 1, "ReduceLogSumExp": 1, "ReduceMean": 1, "ReduceSum": 1,
    "ReduceSumSquare": 1, "Reshape": 1, "Resize": 1, "Slice": 1, "Split": 1, "Squeeze": 1, "Tile": 1, "Unsqueeze": 1,
}  # fmt: skip

# Numbers of fields, of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
GRAPH_NODE, GRAPH_TENSOR, GRAPH_INPUT, GRAPH_OUTPUT, GRAPH_SHAPES = 1, 5, 11, 12, 13
VALUE_NAME = 1
NODE_INPUT, NODE_OUTPUT, NODE_OPERATOR, NODE_ATTRIBUTE = 1, 2, 4, 5
ATTRIBUTE_TENSOR = 5
TENSOR_AXES, TENSOR_NAME, TENSOR_RAW = 1, 8, 9

Part: TypeAlias = tuple[int, memoryview]  # a field of the graph: its number and content


@dataclass(frozen=True)
class Node:
    """A step of a graph, by the names of its tensors."""

    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: list[memoryview]

    @property
    def sizes(self) -> list[str]:
        """The inputs that are sizes, axes or places."""
        return list(filter(None, self.inputs[_SIZES.get(self.operator, len(self.inputs)) :]))


@dataclass
class Known:
    """What is known of the tensors of a graph, by name. Where nothing tells how many, the number of bytes bounds it."""

    axes: dict[str, int] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)  # integers in those that are constant
    declared: dict[str, int] = field(default_factory=dict)  # axes that the file says they have

    def add_constant(self, name: str, axes: int, length: int) -> None:
        """Add a tensor whose numbers are in the file."""
        self.axes[name], self.lengths[name] = axes, length


class TooManyAxesError(Exception):
    """The tensors of a graph have more axes than MOST_AXES."""


def read_nodes(parts: Iterable[Part]) -> tuple[list[Node], list[str]]:
    """The nodes of a graph, and the names of the sizes and axes that it computes.

    Raises:
        TooManyAxesError: its tensors have too many axes.
        ValueError: a part is damaged, or nodes need each other in a circle.
    """
    known, nodes = Known(), list[Node]()
    for number, part in parts:
        if number == GRAPH_NODE:
            nodes.append(_node(part))
        elif number == GRAPH_TENSOR:
            known.add_constant(*_tensor(part))
        elif number in (GRAPH_INPUT, GRAPH_OUTPUT, GRAPH_SHAPES):
            name = text(last_fields(part), VALUE_NAME)
            known.declared[name] = max(known.declared.get(name, 0), len(part))
            if number == GRAPH_INPUT:
                known.axes.setdefault(name, len(part))
    total, computed = 0, dict[int, list[str]]()
    for index in _in_order(nodes):
        node = nodes[index]
        computed[index] = [name for name in node.sizes if name not in known.lengths]
        most = _most_axes(node, known)
        for name in node.outputs:
            known.axes[name] = max(most, known.declared.get(name, 0))
            total += known.axes[name]
        if total > MOST_AXES:
            raise TooManyAxesError
    return nodes, [name for index in range(len(nodes)) for name in computed[index]]


def _in_order(nodes: list[Node]) -> list[int]:
    """The places of the nodes, each after those that it needs."""
    made_by = {name: index for index, node in enumerate(nodes) for name in node.outputs}
    needed = {index: {made_by[name] for name in node.inputs if name in made_by} for index, node in enumerate(nodes)}
    try:
        return list(TopologicalSorter(needed).static_order())
    except CycleError as error:
        raise ValueError("nodes that need each other in a circle") from error


def _most_axes(node: Node, known: Known) -> int:
    """An upper bound of the number of axes of the outputs of a node. The numbers in a Constant become known, too."""
    taken = [known.axes.get(name, 0) for name in node.inputs]
    attributes = sum(map(len, node.attributes))
    if node.operator == "Constant":
        held = [value for part in node.attributes for number, value, _ in fields(part) if number == ATTRIBUTE_TENSOR]
        _, axes, length = _tensor(held[-1]) if held else ("", 1, attributes)
        for name in node.outputs:
            known.add_constant(name, axes, length)
        return axes
    named = attributes + sum(known.lengths.get(name, MOST_SIZES) for name in node.sizes)
    if node.operator in _NAMED:
        return named
    return named + sum(taken) if node.operator in _GROWING else max(taken, default=1)


def _node(message: memoryview) -> Node:
    node = Node(text(last_fields(message), NODE_OPERATOR), [], [], [])
    for number, value, _ in fields(message):
        if number in (NODE_INPUT, NODE_OUTPUT):
            (node.inputs if number == NODE_INPUT else node.outputs).append(text({number: value}, number))
        elif number == NODE_ATTRIBUTE and isinstance(value, memoryview):
            node.attributes.append(value)
    return node


def _tensor(message: Value) -> tuple[str, int, int]:
    """The name of a tensor, and at most how many axes and integers it has."""
    if isinstance(message, int):
        raise ValueError("a number where a tensor should be")
    sizes = [value for number, value, _ in fields(message) if number == TENSOR_AXES]
    axes = sum(1 if isinstance(value, int) else len(value) for value in sizes)
    held = last_fields(message)
    raw = held.get(TENSOR_RAW)
    return text(held, TENSOR_NAME), axes, len(raw) // 4 if isinstance(raw, memoryview) and raw else len(message)
