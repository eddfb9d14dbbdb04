"""A mixture of Gaussians as an ONNX graph: prior.onnx."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, ValueInfoProto, checker, helper, numpy_helper

import vaecli
from vaecli import model_format
from vaecli.inference.mixture import Mixture
from vaecli.model_format import BATCH, CHOICE, FACTORS, LATENT, LOG_WEIGHTS, MEANS, NOISE

IR_VERSION = 10  # of the file: what the exporter of PyTorch writes for encoder and decoder


def prior_graph(mixture: Mixture, metadata: str) -> bytes:
    """The bytes of an ONNX file that draws latents from a mixture of k Gaussians of d dimensions.

    `noise` (batch, d) of N(0, I) and `choice` (batch,) uniform in [0, 1) -> `latent` (batch, d). The mixture itself is
    among the outputs, too: `log_weights` (k,), `means` (k, d), `factors` (k, d, d). `metadata` is JSON.
    """
    count, size = mixture.means.shape
    constants = {
        "weights": mixture.log_weights.astype(np.float32),
        "centres": mixture.means.astype(np.float32),
        "triangles": mixture.factors.astype(np.float32),
        "edges": mixture.edges,
        "last": np.array(count - 1),
        "columns": np.array([1]),
        "depth": np.array([2]),
    }
    nodes = [  # the number of intervals that end at or below `choice` is the component
        helper.make_node("Unsqueeze", [CHOICE, "columns"], ["position"]),
        helper.make_node("GreaterOrEqual", ["position", "edges"], ["passed"]),
        helper.make_node("Cast", ["passed"], ["steps"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["steps", "columns"], ["sum"], keepdims=0),
        helper.make_node("Min", ["sum", "last"], ["component"]),
        helper.make_node("Gather", ["centres", "component"], ["centre"]),
        helper.make_node("Gather", ["triangles", "component"], ["triangle"]),
        helper.make_node("Unsqueeze", [NOISE, "depth"], ["column"]),
        helper.make_node("MatMul", ["triangle", "column"], ["product"]),
        helper.make_node("Squeeze", ["product", "depth"], ["within"]),
        helper.make_node("Add", ["centre", "within"], [LATENT]),
        helper.make_node("Identity", ["weights"], [LOG_WEIGHTS]),
        helper.make_node("Identity", ["centres"], [MEANS]),
        helper.make_node("Identity", ["triangles"], [FACTORS]),
    ]
    graph = helper.make_graph(
        nodes,
        "prior",
        [_value(NOISE, BATCH, size), _value(CHOICE, BATCH)],
        [
            _value(LATENT, BATCH, size),
            _value(LOG_WEIGHTS, count),
            _value(MEANS, count, size),
            _value(FACTORS, count, size, size),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", model_format.OPSET)],
        ir_version=IR_VERSION,
        producer_name="vaecli",
        producer_version=vaecli.__version__,
    )
    helper.set_model_props(model, {model_format.METADATA_KEY: metadata})
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _value(name: str, *shape: int | str) -> ValueInfoProto:
    """An input or output, float32, of these sizes; a size that is a name is free."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
