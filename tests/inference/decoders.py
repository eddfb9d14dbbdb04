"""Decoders that a test has changed: opened, refused, or asking for memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.tiny_model import edit
from vaecli import model_format
from vaecli.errors import VaeError
from vaecli.inference import graph_file, runtime

LATENTS = np.zeros((3, 2), np.float32)


def opened(path: Path, device: Any = "cpu") -> runtime.Graph:
    """The graph in a file, opened."""
    return runtime.open_graph(graph_file.read(path), device)


def refusal(path: Path) -> VaeError:
    """The error with which a decoder is refused when it is opened or run."""
    with pytest.raises(VaeError) as caught:
        opened(path).run((model_format.IMAGE,), LATENTS)
    assert caught.value.message.startswith(f"{path}: ")
    return caught.value


def asks(path: Path, *nodes: onnx.NodeProto, **constants: Any) -> None:
    """Let a decoder compute `nodes`, too, the last of which gives a number `asked` that does not change its images."""

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        (add,) = (index for index, node in enumerate(graph.node) if "a3" in node.output)
        graph.node[add].output[0] = "before"
        last = [helper.make_node("Sub", ["asked", "asked"], ["nothing"])]
        last += [helper.make_node("Add", ["before", "nothing"], ["a3"])]
        for node in reversed([*nodes, *last]):
            graph.node.insert(add + 1, node)
        graph.initializer.extend(numpy_helper.from_array(np.array(value), name) for name, value in constants.items())

    edit(path, change)


def total(name: str) -> onnx.NodeProto:
    """The last of the nodes that `asks` takes: the sum of a tensor."""
    return helper.make_node("ReduceSum", [name], ["asked"], keepdims=0)


def megabytes_for_each_row(path: Path, megabytes: int) -> None:
    """Let a decoder take so much memory for each latent that it decodes."""
    shape = [helper.make_node("Shape", ["latent"], ["extent"]), helper.make_node("Mul", ["extent", "times"], ["size"])]
    large = helper.make_node("ConstantOfShape", ["size"], ["large"])
    asks(path, *shape, large, total("large"), times=[megabytes * 10**6 // 4 // LATENTS.shape[1], 1])
