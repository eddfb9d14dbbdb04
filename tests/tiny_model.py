"""Exported pairs made in a moment: random weights, the real format, none of the training side but onnx."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from vaecli import load, model_format
from vaecli.evaluation.strangeness import measure_reference
from vaecli.exporting.prior_graph import prior_graph
from vaecli.inference.mixture import Mixture
from vaecli.model_format import (
    DECODER_FILE,
    ENCODER_FILE,
    FLOW_FILE,
    IMAGE,
    LATENT,
    LOGITS,
    MEAN,
    PRIOR_FILE,
    STATE,
    STD,
    TIME,
    VELOCITY,
    FlowSummary,
    PriorSummary,
)

GREY = (1, 8, 8)
COLOUR = (3, 10, 12)  # (channels, height, width)
DIGITS = (1, 28, 28)


def write_pair(
    folder: Path,
    image_shape: tuple[int, int, int] = GREY,
    latent_dim: int = 2,
    hidden: int = 16,
    seed: int = 0,
) -> Path:
    """Write encoder.onnx and decoder.onnx of one random network into `folder`, which is given back."""
    folder.mkdir(parents=True, exist_ok=True)
    write_encoder(folder / ENCODER_FILE, image_shape, latent_dim, hidden, seed)
    write_decoder(folder / DECODER_FILE, image_shape, latent_dim, hidden, seed)
    return folder


def write_encoder(
    path: Path, image_shape: tuple[int, int, int] = GREY, latent_dim: int = 2, hidden: int = 16, seed: int = 0
) -> None:
    generator = np.random.default_rng(seed)
    pixels = int(np.prod(image_shape))
    nodes = [
        helper.make_node("Flatten", [IMAGE], ["flat"]),
        helper.make_node("Gemm", ["flat", "w1", "b1"], ["a1"]),
        helper.make_node("Elu", ["a1"], ["h1"]),
        helper.make_node("Gemm", ["h1", "w2", "b2"], [MEAN]),
        helper.make_node("Gemm", ["h1", "w3", "b3"], ["a3"]),
        helper.make_node("Softplus", ["a3"], [STD]),
    ]
    weights = [
        *_layer("1", pixels, hidden, generator),
        *_layer("2", hidden, latent_dim, generator),
        *_layer("3", hidden, latent_dim, generator),
    ]
    _save(
        path,
        nodes,
        weights,
        [(IMAGE, image_shape)],
        [(MEAN, (latent_dim,)), (STD, (latent_dim,))],
        metadata(image_shape, latent_dim, seed),
    )


def write_decoder(
    path: Path, image_shape: tuple[int, int, int] = GREY, latent_dim: int = 2, hidden: int = 16, seed: int = 0
) -> None:
    generator = np.random.default_rng(seed + 1)
    nodes = [
        helper.make_node("Gemm", [LATENT, "w1", "b1"], ["a1"]),
        helper.make_node("Tanh", ["a1"], ["h1"]),
        helper.make_node("Gemm", ["h1", "w2", "b2"], ["a2"]),
        helper.make_node("Elu", ["a2"], ["h2"]),
        helper.make_node("Gemm", ["h2", "w3", "b3"], ["a3"]),
        helper.make_node("Reshape", ["a3", "shape"], [LOGITS]),
        helper.make_node("Sigmoid", [LOGITS], [IMAGE]),
    ]
    weights = [
        *_layer("1", latent_dim, hidden, generator),
        *_layer("2", hidden, hidden, generator),
        *_layer("3", hidden, int(np.prod(image_shape)), generator),
        numpy_helper.from_array(np.array([-1, *image_shape], np.int64), "shape"),
    ]
    _save(
        path,
        nodes,
        weights,
        [(LATENT, (latent_dim,))],
        [(IMAGE, image_shape), (LOGITS, image_shape)],
        metadata(image_shape, latent_dim, seed),
    )


def write_prior(
    folder: Path,
    mixture: Mixture,
    seed: int = 0,
    image_shape: tuple[int, int, int] = GREY,
    classes: tuple[str, ...] = (),
) -> Path:
    """Write prior.onnx beside a pair that `write_pair` made with this seed."""
    path, size = folder / PRIOR_FILE, mixture.means.shape[1]
    summary = PriorSummary(
        kind="mixture",
        components=mixture.components,
        classes=classes,
        class_sizes=mixture.class_sizes,
        log_density=-1.0,
        normal_log_density=-3.0,
        pictures=10,
    )
    data = msgspec.structs.replace(metadata(image_shape, size, seed), prior=summary)
    path.write_bytes(prior_graph(mixture, model_format.to_json(data)))
    return path


FLOW_SCALE, FLOW_SHIFT = 0.5, 3.0


def write_flow(
    folder: Path,
    latent_dim: int = 2,
    seed: int = 0,
    image_shape: tuple[int, int, int] = GREY,
    classes: tuple[str, ...] = (),
) -> Path:
    """Write flow.onnx beside a pair that `write_pair` made with this seed.

    dx/dt = 2 t x, so that x(1) = e x(0), and a latent is FLOW_SCALE · x + FLOW_SHIFT · (1 + its class).
    """
    nodes = [
        helper.make_node("Unsqueeze", [TIME, "one"], ["column"]),
        helper.make_node("Mul", [STATE, "column"], ["grown"]),
        helper.make_node("Add", ["grown", "grown"], [VELOCITY]),
        helper.make_node("Mul", [STATE, "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["shifted"]),
    ]
    weights = [
        numpy_helper.from_array(np.array([1]), "one"),
        numpy_helper.from_array(np.array(FLOW_SCALE, np.float32), "scale"),
        numpy_helper.from_array(np.array(FLOW_SHIFT, np.float32), "shift"),
    ]
    if classes:
        nodes += [
            helper.make_node("Gather", ["of_class", model_format.LABEL], ["moved"]),
            helper.make_node("Add", ["shifted", "moved"], [LATENT]),
        ]
        moves = np.repeat(FLOW_SHIFT * np.arange(len(classes), dtype=np.float32)[:, None], latent_dim, axis=1)
        weights.append(numpy_helper.from_array(moves, "of_class"))
    else:
        nodes.append(helper.make_node("Identity", ["shifted"], [LATENT]))
    known = metadata(image_shape, latent_dim, seed)
    shares = tuple((0.25, 0.75, *[0.0] * len(classes))[: len(classes)])
    summary = FlowSummary(classes=classes, class_shares=shares, steps=7, loss=0.5, pictures=10)
    size = (latent_dim,)
    _save(
        folder / FLOW_FILE,
        nodes,
        weights,
        [(STATE, size), (TIME, ())],
        [(VELOCITY, size), (LATENT, size)],
        msgspec.structs.replace(known, flow=summary),
        labels=bool(classes),
    )
    return folder / FLOW_FILE


def two_gaussians(latent_dim: int = 2, class_sizes: tuple[int, ...] = ()) -> Mixture:
    """A mixture of two Gaussians that are far apart, the first of weight 0.25; with (1, 1) each is of a class."""
    means = np.array([[-4.0] * latent_dim, [4.0] * latent_dim], np.float32)
    factors = np.stack(
        [np.tril(np.full((latent_dim, latent_dim), 0.2)) + np.eye(latent_dim) * scale for scale in (0.1, 0.4)]
    )
    return Mixture(np.log(np.array([0.25, 0.75], np.float32)), means, factors.astype(np.float32), class_sizes)


def metadata(image_shape: tuple[int, int, int], latent_dim: int, seed: int) -> model_format.Metadata:
    return model_format.Metadata(
        format=model_format.FORMAT_VERSION,
        pair=f"random-{seed}",
        image_shape=image_shape,
        latent_dim=latent_dim,
        likelihood="bernoulli",
        data_name="nothing",
        data_hash="0",
        training=model_format.TrainingSummary(
            epoch=1,
            epochs=1,
            held_out_loss=1.0,
            held_out_reconstruction=1.0,
            held_out_kl=0.0,
            beta=1.0,
            seed=seed,
        ),
        versions=model_format.Versions(vaecli="0", torch="none"),
    )


def add_reference(folder: Path, pictures: NDArray[np.uint8], version: int = model_format.REFERENCE_VERSION) -> None:
    """Give the pair in `folder` the statistics of `pictures` (n, h, w, c), as an export gives those held out."""
    reference = msgspec.structs.replace(measure_reference(load(folder, "cpu").pair, pictures), version=version)

    def change(model: onnx.ModelProto) -> None:
        known = model_format.from_json(model.metadata_props[0].value)
        text = model_format.to_json(msgspec.structs.replace(known, reference=reference))
        helper.set_model_props(model, {model_format.METADATA_KEY: text})

    for name in (ENCODER_FILE, DECODER_FILE):
        edit(folder / name, change)


def make_conditional(folder: Path, classes: tuple[str, ...]) -> None:
    """Give encoder and decoder of the pair in `folder` a class as second input, which shifts their first layer."""

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        known = model_format.from_json(model.metadata_props[0].value)
        text = model_format.to_json(msgspec.structs.replace(known, classes=classes))
        helper.set_model_props(model, {model_format.METADATA_KEY: text})
        biases = [tensor.dims[0] for tensor in graph.initializer if tensor.name == "b1"]
        if not biases:
            return  # the prior
        nodes = list(graph.node)
        at = next(index for index, node in enumerate(nodes) if "a1" in node.output)
        nodes[at].output[0] = "unconditional"
        shifted = [
            helper.make_node("Gather", ["of_class", model_format.LABEL], ["shift"]),
            helper.make_node("Add", ["unconditional", "shift"], ["a1"]),
        ]
        del graph.node[:]
        graph.node.extend([*nodes[: at + 1], *shifted, *nodes[at + 1 :]])
        embedding = np.random.default_rng(2).standard_normal((len(classes), *biases)).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(embedding, "of_class"))
        value = helper.make_tensor_value_info(model_format.LABEL, TensorProto.INT64, [model_format.BATCH])
        graph.input.append(value)
        onnx.checker.check_model(model, full_check=True)

    for path in folder.glob("*.onnx"):
        edit(path, change)


def edit(path: Path, change: object) -> None:
    """Rewrite a model file after `change(model)`."""
    assert callable(change)
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())


def name_data(run: Path, name: str) -> None:
    """Let a pair say that it was trained on data of this name."""

    def rename(model: onnx.ModelProto) -> None:
        known = json.loads(model.metadata_props[0].value)
        helper.set_model_props(model, {model_format.METADATA_KEY: json.dumps({**known, "data_name": name})})

    for file in (ENCODER_FILE, DECODER_FILE):
        edit(run / file, rename)


def _layer(name: str, size: int, units: int, generator: np.random.Generator) -> list[TensorProto]:
    spread = 2 * np.sqrt(2 / (size + units))
    weight = (spread * generator.standard_normal((size, units))).astype(np.float32)
    bias = generator.standard_normal(units).astype(np.float32)
    return [numpy_helper.from_array(weight, f"w{name}"), numpy_helper.from_array(bias, f"b{name}")]


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    weights: list[TensorProto],
    inputs: list[tuple[str, tuple[int, ...]]],
    outputs: list[tuple[str, tuple[int, ...]]],
    data: model_format.Metadata,
    *,
    labels: bool = False,
) -> None:
    values = _values(inputs)
    if labels:
        values.append(helper.make_tensor_value_info(model_format.LABEL, TensorProto.INT64, [model_format.BATCH]))
    graph = helper.make_graph(nodes, path.stem, values, _values(outputs), weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", model_format.OPSET)], ir_version=9)
    helper.set_model_props(model, {model_format.METADATA_KEY: model_format.to_json(data)})
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def _values(tensors: list[tuple[str, tuple[int, ...]]]) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [model_format.BATCH, *shape]) for name, shape in tensors
    ]
