"""Limits of the shapes that a graph computes: they bound memory that ONNX Runtime takes and does not count."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain
from typing import Any, Protocol

from vaecli.errors import VaeError
from vaecli.inference import graph_file
from vaecli.inference.graph_file import GraphFile
from vaecli.inference.nodes import MOST_SIZES

SMALLEST_RESIZED = 64  # elements in a row of what a Resize gives
SMALLEST_PRODUCT = 256  # elements in each of many products of matrices
WIDE_TYPES = (
    "tensor(float)",
    "tensor(double)",
    "tensor(int32)",
    "tensor(int64)",
)  # whose elements have 32 bits or more
NARROW_DIVISOR = 4  # the memory of a model that expands tensors of other types is limited to this part


class TensorInfo(Protocol):
    """What ONNX Runtime says of a tensor (its NodeArg)."""

    @property
    def shape(self) -> list[Any]:
        """Each size: a number, or where it is free a name or None."""

    @property
    def type(self) -> str:
        """For example `tensor(float)`."""


def limited_tensors(file: GraphFile) -> list[str]:
    """The names of the tensors that `check_shapes` needs to know of."""
    return list(dict.fromkeys((*file.resized, *file.expanded, *file.sizes, *chain(*file.products))))


def check_shapes(file: GraphFile, tensors: Mapping[str, TensorInfo]) -> bool:
    """Raise VaeError where a file asks for what nothing limits as it runs. Returns whether an Expand is narrow.

    `tensors` are those of `limited_tensors`, by name, as they follow from the operators.

    - A Resize that gives what pictures never are: one long axis, or of unknown length. Beside its output it takes 8
      bytes for each place of each axis. The first axis is the batch.
    - A shape or list of axes of unknown length, or of many elements: a tensor with as many axes takes more than these.
    - Products of many small matrices. Each takes 90 bytes.
    - A narrow Expand gives elements of fewer than 32 bits. It takes 8 bytes for each element of its input.
    """
    for shape in (tensors[name].shape for name in file.resized):
        known = all(isinstance(side, int) and side <= graph_file.LARGEST_SIDE for side in shape[1:])
        if not known or math.prod(shape[1:]) < SMALLEST_RESIZED:
            problem = f"{file.path}: resizes to {shape}, which no exported model needs"
            raise VaeError(problem, "use a model from vae export: its sizes are known before it runs")
    for shape in (tensors[name].shape for name in file.sizes):
        if not all(isinstance(side, int) for side in shape) or math.prod(shape) > MOST_SIZES:
            problem = f"{file.path}: computes a shape or axes of {shape} numbers, which no exported model needs"
            raise VaeError(problem, "use a model from vae export: its tensors have few axes")
    for *matrices, product in ([tensors[name].shape for name in names] for names in file.products):
        one_a_row = len(product) == 3 and isinstance(product[0], str)  # only the batch has a name
        known = len(product) > 2 and all(isinstance(side, int) for side in product[-2:])
        large = known and math.prod(product[-2:]) >= SMALLEST_PRODUCT
        if max(map(len, matrices)) > 2 and not one_a_row and not large:
            problem = f"{file.path}: multiplies many small matrices, which no exported model needs"
            raise VaeError(problem, "use a model from vae export: its products are of large ones")
    return any(tensors[name].type not in WIDE_TYPES for name in file.expanded)
