"""What is accepted of an ONNX file before anything runs it, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import onnx
import pytest
from onnx import helper

from tests.tiny_model import GREY, edit, metadata
from vaecli import model_format
from vaecli.errors import VaeError
from vaecli.inference import graph_file

NESTED = "lists in lists"  # stands for 100,000 of them
Change = Callable[[onnx.ModelProto], object]


def refusal(path: Path) -> VaeError:
    with pytest.raises(VaeError) as caught:
        graph_file.read(path)
    assert caught.value.message.startswith(f"{path}: ")
    return caught.value


def test_reads_opset_and_metadata(decoder: Path) -> None:
    file = graph_file.read(decoder)
    assert file.opset == model_format.OPSET
    assert file.metadata == metadata(GREY, 2, 0)
    assert file.content == decoder.read_bytes()


def test_reads_what_export_writes(trained: Path) -> None:
    files = [graph_file.read(trained / name) for name in (model_format.ENCODER_FILE, model_format.DECODER_FILE)]
    assert len({file.metadata.pair for file in files}) == 1
    assert all(file.metadata.image_shape == (1, 8, 8) for file in files)
    assert all(file.opset <= 20 for file in files)


def foreign(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Run", ["latent"], ["y"], domain="com.example"))


def test_operators_that_are_not_onnx_own_are_refused(decoder: Path) -> None:
    edit(decoder, foreign)
    assert "com.example.Run" in refusal(decoder).message


def loop(model: onnx.ModelProto) -> None:
    """2^62 steps, as a node would take them that nothing needs."""
    step = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"])],
        "step",
        [helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("go", 9, [])],
        [helper.make_tensor_value_info("on", 9, [])],
    )
    model.graph.initializer.append(helper.make_tensor("steps", 7, [], [2**62]))
    model.graph.node.append(helper.make_node("Loop", ["steps", ""], [], body=step))


def branch(model: onnx.ModelProto) -> None:
    inside = helper.make_graph([helper.make_node("Run", [], ["y"], domain="com.example")], "inside", [], [])
    model.graph.node.append(helper.make_node("If", ["condition"], ["y"], then_branch=inside))


def graph_of_an_operator(model: onnx.ModelProto) -> None:
    branch(model)
    model.graph.node[-1].op_type = "Identity"


def function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Run", ["x"], ["y"], domain="com.example")
    model.functions.append(helper.make_function("", "F", ["x"], ["y"], [node], [helper.make_opsetid("", 20)]))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (loop, "Loop"),
        (branch, "If"),
        (graph_of_an_operator, "loops, branches or functions"),
        (function, "loops, branches or functions"),
    ],
)
def test_what_may_run_without_end_is_refused(decoder: Path, change: Change, named: str) -> None:
    edit(decoder, change)
    assert f"{named}, which no exported model needs" in refusal(decoder).message


def outside(tensor: onnx.TensorProto) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def weights_outside(model: onnx.ModelProto) -> None:
    outside(model.graph.initializer[0])


def weights_outside_undeclared(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="weights")


def constant_outside(model: onnx.ModelProto) -> None:
    constant = helper.make_tensor("c", 1, [1], [0.0])
    outside(constant)
    model.graph.node.append(helper.make_node("Constant", [], ["y"], value=constant))


@pytest.mark.parametrize("change", [weights_outside, weights_outside_undeclared, constant_outside])
def test_weights_in_other_files_are_refused(decoder: Path, change: Change) -> None:
    edit(decoder, change)
    assert "in another file" in refusal(decoder).message


def sparse_weights(model: onnx.ModelProto) -> None:
    """Two gigabytes of zeros, nearly."""
    values, indices = helper.make_tensor("sparse", 1, [1], [1.0]), helper.make_tensor("at", 7, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**29 - 1]))


def search(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("NonZero", ["latent"], ["y"]))


def sequence(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("SplitToSequence", ["latent"], ["y"]))


def strings(model: onnx.ModelProto) -> None:
    model.graph.initializer.add(name="s", data_type=onnx.TensorProto.STRING, dims=[1], string_data=[b"x"])


def cast_to_strings(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Cast", ["latent"], ["y"], to=onnx.TensorProto.STRING))


def nodes(model: onnx.ModelProto) -> None:
    for _ in range(graph_file.MOST_FIELDS):
        model.graph.node.add()


def sizes(model: onnx.ModelProto) -> None:
    """In a type, which the reader does not look into otherwise."""
    for _ in range(graph_file.MOST_FIELDS):
        model.graph.input[0].type.tensor_type.shape.dim.add()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (sparse_weights, "sparse weights"), (search, "NonZero"), (sequence, "SplitToSequence"), (strings, "strings"),
        (cast_to_strings, "strings"), (nodes, "parts"), (sizes, "parts"),
    ],
)  # fmt: skip
def test_what_takes_memory_without_a_limit_is_refused(decoder: Path, change: Change, named: str) -> None:
    edit(decoder, change)
    message = refusal(decoder).message
    assert named in message
    assert "which no exported model needs" in message


def test_a_location_told_in_the_wrong_wire_type_does_not_hide_the_right_one(decoder: Path) -> None:
    """Readers skip a field whose wire type is wrong, so the value before it still counts."""
    tensor = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL).SerializeToString() + b"\x72\x00"
    graph = b"\x2a" + bytes([len(tensor)]) + tensor  # GraphProto.initializer
    decoder.write_bytes(decoder.read_bytes() + b"\x3a" + bytes([len(graph)]) + graph)  # more of ModelProto.graph
    assert "in another file" in refusal(decoder).message


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused(decoder: Path, share: float) -> None:
    content = decoder.read_bytes()
    decoder.write_bytes(content[: int(share * len(content))])
    assert refusal(decoder).hint


@pytest.mark.parametrize(
    "content",
    [b"not a model at all\n", b"\x89PNG\r\n\x1a\n" + bytes(100), b"\xff" * 64, b"\x00\x00", b"\x0b\x0c", b"\x3a\x00"],
    ids=["text", "png", "endless number", "field 0", "groups", "empty graph"],
)
def test_what_is_no_onnx_file_is_refused(decoder: Path, content: bytes) -> None:
    decoder.write_bytes(content)
    assert "not an ONNX file" in refusal(decoder).message


def test_a_model_of_somebody_else_is_told_apart(decoder: Path) -> None:
    edit(decoder, lambda model: model.ClearField("metadata_props"))
    assert "not written by vae export" in refusal(decoder).message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image_shape": [1, 8]}, "image_shape"),
        ({"image_shape": [2, 8, 8]}, "(2, 8, 8)"),
        ({"image_shape": [1, 8, 0]}, "(1, 8, 0)"),
        ({"image_shape": [1, 10**6, 8]}, "1000000"),
        ({"image_shape": [3, 2**13, 2**13]}, "8192"),
        ({"latent_dim": 0}, "latent size 0"),
        ({"latent_dim": "two"}, "latent_dim"),
        ({"likelihood": "logistic-mixture"}, "None components"),
        ({"likelihood": "logistic-mixture", "components": 10**9}, "1000000000 components"),
        ({"likelihood": "poisson"}, "poisson"),
        ({"pair": None}, "pair"),
        ({"extra": NESTED}, "recursion"),
    ],
)
def test_metadata_out_of_bounds_is_refused(decoder: Path, changes: dict[str, object], reason: str) -> None:
    rewrite_metadata(decoder, changes)
    message = refusal(decoder).message
    assert "metadata is damaged" in message
    assert reason in message


def test_a_newer_format_asks_for_a_newer_vae(decoder: Path) -> None:
    rewrite_metadata(decoder, {"format": 99, "image_shape": "another thing by then"})
    error = refusal(decoder)
    assert "format 99" in error.message
    assert "upgrade" in error.hint


def test_metadata_keys_of_later_versions_are_ignored(decoder: Path) -> None:
    rewrite_metadata(decoder, {"colour_space": "sRGB"})
    assert graph_file.read(decoder).metadata == metadata(GREY, 2, 0)


def test_a_file_that_is_not_there_or_is_a_folder_is_named(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.onnx").message
    assert "is a folder" in refusal(tmp_path).message


def test_reading_needs_no_other_file(decoder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone" / model_format.DECODER_FILE
    alone.parent.mkdir()
    shutil.copy(decoder, alone)
    assert graph_file.read(alone).metadata.latent_dim == 2


def rewrite_metadata(path: Path, changes: dict[str, object]) -> None:
    def change(model: onnx.ModelProto) -> None:
        values = msgspec.to_builtins(metadata(GREY, 2, 0)) | changes
        text = msgspec.json.encode(values).decode().replace(f'"{NESTED}"', 10**5 * "[")
        helper.set_model_props(model, {model_format.METADATA_KEY: text})

    edit(path, change)


def test_nodes_that_need_each_other_are_refused(decoder: Path) -> None:
    def circle(model: onnx.ModelProto) -> None:
        model.graph.node.extend(helper.make_node("Neg", [source], [target]) for source, target in ("xy", "yx"))

    edit(decoder, circle)
    assert "nodes that need each other in a circle" in refusal(decoder).message
