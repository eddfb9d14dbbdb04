"""Opened graphs: what they compute, and those that are not what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.inference.decoders import opened, refusal
from tests.tiny_model import edit, write_encoder
from vaecli import model_format


def test_a_graph_runs_any_batch(decoder: Path) -> None:
    graph = opened(decoder)
    for batch in (1, 2, 7):
        image, logits = graph.run((model_format.IMAGE, model_format.LOGITS), np.zeros((batch, 2), np.float32))
        assert image.shape == logits.shape == (batch, 1, 8, 8)
        assert np.allclose(image, 1 / (1 + np.exp(-logits)), atol=1e-6)


def fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def another_name(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "z"
    model.graph.node[0].input[0] = "z"


def one_output_less(model: onnx.ModelProto) -> None:
    del model.graph.output[1]


def another_size(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "w1")
    weight.CopyFrom(numpy_helper.from_array(np.zeros((3, 16), np.float32), "w1"))


def doubles(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    model.graph.node[0].input[0] = "cast"
    model.graph.node.insert(0, helper.make_node("Cast", ["latent"], ["cast"], to=TensorProto.FLOAT))


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Gemmm"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (fixed_batch, "[4, 2]"),
        (another_name, "its tensors are z, not latent"),
        (one_output_less, "its tensors are image, not image, logits"),
        (another_size, "['batch', 3]"),
        (doubles, "tensor(double)"),
        (unknown_operator, "Gemmm"),
    ],
)
def test_a_graph_that_is_not_what_it_says_is_refused(
    decoder: Path, change: Callable[[onnx.ModelProto], None], reason: str
) -> None:
    edit(decoder, change)
    assert reason in refusal(decoder).message


def test_an_encoder_under_the_decoders_name_is_refused(tmp_path: Path) -> None:
    write_encoder(tmp_path / model_format.DECODER_FILE)
    assert "named as the decoder" in refusal(tmp_path / model_format.DECODER_FILE).hint


def undeclared_shape(model: onnx.ModelProto) -> None:
    """Leave the sizes of the outputs open, and reshape to others, in a way that no shape inference sees."""
    for output in model.graph.output:
        for dimension in output.type.tensor_type.shape.dim[2:]:
            dimension.dim_param = "any"
    nodes = model.graph.node
    reshape = next(position for position, node in enumerate(nodes) if node.op_type == "Reshape")
    nodes[reshape].input[1] = "hidden shape"
    hidden = [
        helper.make_node("ReduceSum", ["latent"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["zero"], to=TensorProto.INT64),  # the latents of these tests are 0
        helper.make_node("Add", ["shape", "zero"], ["hidden shape"]),
    ]
    for node in reversed(hidden):
        nodes.insert(reshape, node)
    shape = next(tensor for tensor in model.graph.initializer if tensor.name == "shape")
    shape.CopyFrom(numpy_helper.from_array(np.array([-1, 1, 4, 16]), "shape"))


def test_a_shape_that_only_a_run_reveals_is_refused(decoder: Path) -> None:
    edit(decoder, undeclared_shape)
    assert "(3, 1, 4, 16)" in refusal(decoder).message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(decoder: Path, value: float) -> None:
    def poison(model: onnx.ModelProto) -> None:
        bias = next(tensor for tensor in model.graph.initializer if tensor.name == "b1")
        bias.CopyFrom(numpy_helper.from_array(np.full(16, value, np.float32), "b1"))
        model.graph.node[1].op_type = "Identity"
        model.graph.output[1].name = "h1"
        model.graph.node[-1].op_type = "Identity"

    edit(decoder, poison)
    edit(decoder, lambda model: setattr(model.graph.output[1], "name", model_format.LOGITS))
    assert "not finite" in refusal(decoder).message
