"""Sessions: which device they take, what they refuse to run, and what never reaches the terminal."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]  # it ships no types
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.command_line import assert_refused, vae_and_its_memory
from tests.tiny_model import edit, write_decoder, write_encoder, write_pair
from vaecli import model_format
from vaecli.errors import DeviceError, VaeError
from vaecli.inference import header, runtime

LATENTS = np.zeros((3, 2), np.float32)


@pytest.fixture
def decoder(tmp_path: Path) -> Path:
    write_decoder(tmp_path / model_format.DECODER_FILE)
    return tmp_path / model_format.DECODER_FILE


def opened(path: Path, device: Any = "cpu") -> runtime.Graph:
    return runtime.open_graph(header.read(path), device)


def refusal(path: Path) -> VaeError:
    with pytest.raises(VaeError) as caught:
        opened(path).run((model_format.IMAGE,), LATENTS)
    assert caught.value.message.startswith(f"{path}: ")
    return caught.value


def test_a_graph_runs_any_batch(decoder: Path) -> None:
    graph = opened(decoder)
    for batch in (1, 2, 7):
        image, logits = graph.run((model_format.IMAGE, model_format.LOGITS), np.zeros((batch, 2), np.float32))
        assert image.shape == logits.shape == (batch, 1, 8, 8)
        assert np.allclose(image, 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_auto_says_why_only_where_cuda_was_to_be_expected(decoder: Path) -> None:
    graph = opened(decoder, "auto")
    if runtime.CUDA not in onnxruntime.get_available_providers():
        assert (graph.provider, graph.fallback) == (runtime.CPU, "")
    else:
        assert (graph.provider == runtime.CUDA) == (graph.fallback == "")


class PretendedRuntime(types.ModuleType):
    """The installed runtime, listing CUDA, whose CUDA sessions fare as `start` says."""

    SessionOptions = onnxruntime.SessionOptions
    OrtMemoryInfo, OrtAllocatorType = onnxruntime.OrtMemoryInfo, onnxruntime.OrtAllocatorType
    OrtMemType, OrtArenaCfg = onnxruntime.OrtMemType, onnxruntime.OrtArenaCfg
    create_and_register_allocator = staticmethod(onnxruntime.create_and_register_allocator)

    def __init__(self, start: Callable[[], list[str]]) -> None:
        super().__init__("onnxruntime")
        self._start = start
        self.preloaded = False

    def get_available_providers(self) -> list[str]:
        return [runtime.CUDA, runtime.CPU]

    def preload_dlls(self) -> None:
        self.preloaded = True
        print("Failed to load libcublas.so: cannot open shared object file")  # noqa: T201 - as the real one does

    def InferenceSession(self, content: bytes, options: Any, *, providers: list[Any], **more: Any) -> Any:  # noqa: N802
        if providers == [runtime.CPU]:
            return onnxruntime.InferenceSession(content, options, providers=providers, **more)
        assert self.preloaded
        taken = self._start()
        session = onnxruntime.InferenceSession(content, options, providers=[runtime.CPU], **more)
        session.get_providers = lambda: taken
        return session


def falls_back() -> list[str]:
    return [runtime.CPU]


def starts() -> list[str]:
    return [runtime.CUDA, runtime.CPU]


def fails() -> list[str]:
    raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : CUDA failure 100: no CUDA-capable device is detected\nmore")


@pytest.mark.parametrize(
    ("start", "reason"),
    [(falls_back, "Failed to load libcublas.so"), (fails, "CUDA failure 100: no CUDA-capable device is detected")],
)
def test_cuda_that_does_not_start(
    decoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    start: Callable[[], list[str]],
    reason: str,
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", PretendedRuntime(start))
    with pytest.raises(DeviceError) as caught:
        opened(decoder, "cuda")
    assert caught.value.exit_code == 3
    assert caught.value.message.startswith(f"`device` cuda: {reason}")
    graph = opened(decoder, "auto")
    assert graph.provider == runtime.CPU
    assert graph.fallback.startswith(reason)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_cuda_that_starts_is_taken(decoder: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", PretendedRuntime(starts))
    graph = opened(decoder, device)
    assert (graph.provider, graph.fallback) == (runtime.CUDA, "")
    assert opened(decoder, "cpu").provider == runtime.CPU


@pytest.mark.skipif(runtime.CUDA in onnxruntime.get_available_providers(), reason="this onnxruntime has CUDA")
def test_cuda_with_a_runtime_for_cpus_names_the_extra(decoder: Path) -> None:
    with pytest.raises(DeviceError, match=r"vaecli\[gpu\]"):
        opened(decoder, "cuda")


@pytest.mark.gpu
@pytest.mark.skipif(
    runtime.CUDA not in onnxruntime.get_available_providers(), reason="needs onnxruntime-gpu and an NVIDIA GPU"
)
def test_cuda_draws_what_the_cpu_draws(decoder: Path) -> None:
    latents = np.random.default_rng(0).standard_normal((5, 2), np.float32)
    on_cpu, on_gpu = (opened(decoder, device).run((model_format.IMAGE,), latents)[0] for device in ("cpu", "cuda"))
    assert np.allclose(on_cpu, on_gpu, atol=1e-5)


def test_without_onnxruntime_both_extras_are_named(decoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(VaeError) as caught:
        opened(decoder)
    assert caught.value.exit_code == 1
    assert "vaecli[cpu]" in caught.value.hint
    assert "vaecli[gpu]" in caught.value.hint


def test_what_a_removed_onnxruntime_leaves_behind_counts_as_none(
    decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    with pytest.raises(VaeError, match="not installed"):
        opened(decoder)


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


def test_nothing_of_the_runtime_reaches_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An unused weight makes ONNX Runtime warn."""
    folder = write_pair(tmp_path / "pair")
    unused = numpy_helper.from_array(np.zeros(3, np.float32), "unused")
    edit(folder / model_format.DECODER_FILE, lambda model: model.graph.initializer.append(unused))
    opened(folder / model_format.DECODER_FILE).run((model_format.IMAGE,), LATENTS)
    assert capfd.readouterr() == ("", "")


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
    return helper.make_node("ReduceSum", [name], ["asked"], keepdims=0)


LARGE = 5 * 2**30 // 4  # numbers
ASKING: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    "folded when it is opened": (
        [helper.make_node("ConstantOfShape", ["size"], ["large"]), total("large")],
        {"size": [LARGE]},
    ),
    "known as it runs": (
        [
            helper.make_node("Shape", ["latent"], ["extent"]),
            helper.make_node("Mul", ["extent", "times"], ["size"]),
            helper.make_node("ConstantOfShape", ["size"], ["large"]),
            total("large"),
        ],
        {"times": [LARGE, 1]},
    ),
    "broadcast": (
        [helper.make_node("Expand", ["zero", side], [side[0]]) for side in ("rows", "columns")]
        + [helper.make_node("Mul", ["r", "c"], ["large"]), total("large")],
        {"zero": np.zeros((1, 1), np.float32), "rows": [36_000, 1], "columns": [1, 36_000]},
    ),
    "doubled 27 times": (
        [helper.make_node("Concat", [f"d{i}" if i else "latent"] * 2, [f"d{i + 1}"], axis=1) for i in range(27)]
        + [total("d27")],
        {},
    ),
    "padded": (
        [helper.make_node("Pad", ["latent", "by"], ["large"]), total("large")],
        {"by": [0, 0, 0, LARGE // 2]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ASKING)
def test_a_graph_that_asks_for_gigabytes_is_refused(decoder: Path, what: str) -> None:
    nodes, constants = ASKING[what]
    asks(decoder, *nodes, **constants)
    assert decoder.stat().st_size < 20_000
    result, peak = vae_and_its_memory("sample", "--run", decoder.parent, "-o", f"{decoder}.png", "-q")
    assert_refused(result, 1, f"{decoder}: asks for more than 537 MB of memory", "VAE_MAX_MEGABYTES=")
    assert peak < 10**9


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


def megabytes_for_each_row(path: Path, megabytes: int) -> None:
    shape = [helper.make_node("Shape", ["latent"], ["extent"]), helper.make_node("Mul", ["extent", "times"], ["size"])]
    large = helper.make_node("ConstantOfShape", ["size"], ["large"])
    asks(path, *shape, large, total("large"), times=[megabytes * 10**6 // 4 // LATENTS.shape[1], 1])


def test_a_batch_that_asks_for_too_much_is_computed_in_parts(decoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latents = np.random.default_rng(0).standard_normal((64, 2), np.float32)
    (expected,) = opened(decoder).run((model_format.IMAGE,), latents)
    megabytes_for_each_row(decoder, 12)
    monkeypatch.setenv("VAE_MAX_MEGABYTES", "40")
    graph = opened(decoder)
    with ThreadPoolExecutor(4) as threads:  # one row has room, and two have, but not four
        for (images,) in threads.map(lambda _: graph.run((model_format.IMAGE,), latents), range(4)):
            assert np.allclose(images, expected, atol=1e-6)
    monkeypatch.setenv("VAE_MAX_MEGABYTES", "10")
    assert refusal(decoder).message == f"{decoder}: asks for more than 10 MB of memory"


def test_the_limit_can_be_raised(decoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    megabytes_for_each_row(decoder, 12)
    monkeypatch.setenv("VAE_MAX_MEGABYTES", "10")
    (megabytes,) = re.findall(r"VAE_MAX_MEGABYTES=(\d+)", refusal(decoder).hint)
    monkeypatch.setenv("VAE_MAX_MEGABYTES", megabytes)
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
