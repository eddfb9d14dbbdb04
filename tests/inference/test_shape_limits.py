"""Shapes that a graph computes: those whose memory ONNX Runtime does not count are refused, and others are not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]  # it ships no types
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.command_line import assert_refused, vae_and_its_memory
from tests.inference.decoders import LATENTS, asks, opened, refusal, total
from tests.tiny_model import edit
from vaecli import model_format

EIGHT_BITS = helper.make_tensor("one", TensorProto.UINT8, [1], [1])


SIZE_OF_Y = [helper.make_node("Size", ["y"], ["n"]), helper.make_node("Cast", ["n"], ["asked"], to=TensorProto.FLOAT)]


ONES = helper.make_tensor("one", TensorProto.INT64, [1], [1])


BESIDE: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], str]] = {
    "a shape of many sizes": (
        [
            helper.make_node("ConstantOfShape", ["count"], ["shape of y"], value=ONES),
            helper.make_node("Reshape", ["one", "shape of y"], ["y"]),
        ],
        {"count": [60 * 10**6], "one": np.ones(1, np.float32)},
        "computes a shape or axes of [60000000] numbers",
    ),
    "axes of unknown number": (
        [
            helper.make_node("ReduceSum", ["latent"], ["sum"], keepdims=0),
            helper.make_node("Cast", ["sum"], ["first"], to=TensorProto.INT64),
            helper.make_node("Range", ["first", "count", "step"], ["axes"]),
            helper.make_node("Unsqueeze", ["one", "axes"], ["y"]),
        ],
        {"count": np.int64(60 * 10**6), "step": np.int64(1), "one": np.float32(1)},
        "computes a shape or axes of",
    ),
    "axes added by each of many nodes": (
        [helper.make_node("Unsqueeze", [f"u{i}" if i else "one", "axes"], [f"u{i + 1}"]) for i in range(2000)]
        + [helper.make_node("Identity", ["u2000"], ["y"])],
        {"one": np.float32(1), "axes": np.arange(60)},
        "more axes than",
    ),
    "axes doubled 22 times": (
        [helper.make_node("Gather", [f"g{i}" if i else "zero"] * 2, [f"g{i + 1}"]) for i in range(22)]
        + [helper.make_node("Identity", ["g22"], ["y"])],
        {"zero": np.zeros((1, 1), np.int64)},
        "more axes than",
    ),
    "products of small matrices": (
        [
            helper.make_node("ConstantOfShape", ["size"], ["x"]),
            helper.make_node("MatMul", ["x", "x"], ["y"]),
        ],
        {"size": [15 * 10**6, 1, 1]},
        "multiplies many small matrices",
    ),
    "products of a row with small matrices": (
        [
            helper.make_node("ConstantOfShape", ["size"], ["x"]),
            helper.make_node("MatMul", ["row", "x"], ["y"]),
        ],
        {"size": [15 * 10**6, 1, 1], "row": np.ones(1, np.float32)},
        "multiplies many small matrices",
    ),
    "small numbers expanded one by one": (
        [
            helper.make_node("ConstantOfShape", ["size"], ["x"], value=EIGHT_BITS),
            helper.make_node("Expand", ["x", "to"], ["y"]),
        ],
        {"size": [130 * 10**6, 1], "to": [130 * 10**6, 2]},
        "asks for more than 134 MB of memory",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BESIDE)
def test_a_graph_that_takes_gigabytes_beside_its_numbers_is_refused(decoder: Path, what: str) -> None:
    """They took 1.5 to 3.6 GB that ONNX Runtime does not count, and more than 4 GB."""
    nodes, constants, reason = BESIDE[what]
    asks(decoder, *nodes, *SIZE_OF_Y, **constants)
    assert decoder.stat().st_size < 100_000
    result, peak = vae_and_its_memory("sample", "--run", decoder.parent, "-o", f"{decoder}.png", "-q")
    assert_refused(result, 1, f"{decoder}: ", reason)
    assert peak < 400_000_000


def test_the_limit_of_a_graph_that_expands_small_numbers_can_be_raised(
    decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes, constants, _ = BESIDE["small numbers expanded one by one"]
    asks(decoder, *nodes, *SIZE_OF_Y, **{**constants, "size": [10**6, 1], "to": [10**6, 2]})
    monkeypatch.setenv("VAE_MAX_MEGABYTES", "4")
    (megabytes,) = re.findall(r"VAE_MAX_MEGABYTES=(\d+)", refusal(decoder).hint)
    monkeypatch.setenv("VAE_MAX_MEGABYTES", megabytes)
    (needed,) = re.findall(r"VAE_MAX_MEGABYTES=(\d+)", refusal(decoder).hint)
    monkeypatch.setenv("VAE_MAX_MEGABYTES", needed)
    assert opened(decoder).run((model_format.IMAGE,), LATENTS)[0].shape == (3, 1, 8, 8)


def convolutional(path: Path) -> None:
    """Let a decoder make its images of small ones, by repeating pixels, as an exported convolutional one does."""

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        (at,) = (index for index, node in enumerate(graph.node) if node.op_type == "Reshape")
        graph.node[at].input[1], graph.node[at].output[0] = "small", "maps"
        layers = [
            helper.make_node("Resize", ["maps", "", "twice"], ["large"], mode="nearest"),
            helper.make_node("Conv", ["large", "kernel"], [model_format.LOGITS]),
        ]
        for node in reversed(layers):
            graph.node.insert(at + 1, node)
        kernel = np.random.default_rng(0).normal(size=(1, 4, 1, 1)).astype(np.float32)
        constants = {"small": np.array([-1, 4, 4, 4]), "twice": np.array([1, 1, 2, 2], np.float32), "kernel": kernel}
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())

    edit(path, change)


def quantised(path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic  # type: ignore[import-untyped]

    quantize_dynamic(path, path)


def of_half_precision(path: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16  # type: ignore[import-untyped]

    onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=True), path)


@pytest.mark.filterwarnings("ignore:::onnxruntime")
@pytest.mark.parametrize(("convert", "tolerance"), [(None, 0.0), (quantised, 0.1), (of_half_precision, 0.01)])
def test_a_decoder_that_resizes_opens_quantised_and_of_half_precision(
    decoder: Path, convert: Callable[[Path], None] | None, tolerance: float
) -> None:
    latents = np.random.default_rng(0).standard_normal((5, 2), np.float32)
    convolutional(decoder)
    assert "Resize" in {node.op_type for node in onnx.load(decoder).graph.node}
    (expected,) = onnxruntime.InferenceSession(decoder).run([model_format.IMAGE], {model_format.LATENT: latents})
    if convert is not None:
        convert(decoder)
    (images,) = opened(decoder).run((model_format.IMAGE,), latents)
    assert np.abs(images - expected).max() <= tolerance


RESIZED: dict[str, tuple[list[int], list[float]]] = {  # the size of what is resized, and by what
    "one long axis": ([1, 1, 1, 2**26], [1, 1, 1, 2]),
    "rows of one number": ([2**26, 1, 1, 1], [2, 1, 1, 1]),
    "a size known as it runs": ([1, 2**25], [1, 2]),
}


@pytest.mark.parametrize("what", RESIZED)
def test_a_resize_whose_places_take_more_memory_than_its_output_is_refused(decoder: Path, what: str) -> None:
    """ONNX Runtime took 3.6 GB for one that gives 0.5 GB: 8 bytes for each place of each axis."""
    size, scales = RESIZED[what]
    eight_bits = helper.make_tensor("zero", TensorProto.UINT8, [1], [0])
    nodes = [
        helper.make_node("Shape", ["latent"], ["extent"]),
        helper.make_node("Mul", ["extent", "size"], ["known as it runs"]),
        helper.make_node(
            "ConstantOfShape", ["known as it runs" if len(size) == 2 else "size"], ["x"], value=eight_bits
        ),
        helper.make_node("Resize", ["x", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Cast", ["large"], ["numbers"], to=TensorProto.FLOAT),
        total("numbers"),
    ]
    asks(decoder, *(nodes if len(size) == 2 else nodes[2:]), size=size, scales=np.array(scales, np.float32))
    said_to_be_small = helper.make_tensor_value_info("large", TensorProto.UINT8, ["batch", 64])
    edit(decoder, lambda model: model.graph.value_info.append(said_to_be_small) if len(size) == 2 else None)
    assert "resizes to" in refusal(decoder).message
