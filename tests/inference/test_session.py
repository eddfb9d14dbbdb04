"""Sessions: which device they take, how much memory, and what never reaches the terminal."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]  # it ships no types
import pytest
from onnx import helper, numpy_helper

from tests.command_line import assert_refused, vae_and_its_memory
from tests.inference.decoders import LATENTS, asks, megabytes_for_each_row, opened, refusal, total
from tests.tiny_model import edit, write_pair
from vaecli import model_format
from vaecli.errors import DeviceError, VaeError
from vaecli.inference.session import CPU, CUDA, import_runtime


def test_auto_says_why_only_where_cuda_was_to_be_expected(decoder: Path) -> None:
    graph = opened(decoder, "auto")
    if CUDA not in onnxruntime.get_available_providers():
        assert (graph.provider, graph.fallback) == (CPU, "")
    else:
        assert (graph.provider == CUDA) == (graph.fallback == "")


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (
            "try:\n    raise KeyboardInterrupt\nexcept KeyboardInterrupt as e:\n    raise ImportError from e",
            KeyboardInterrupt,
        ),
        ("raise ImportError('libfoo.so: no such file')", VaeError),
    ],
    ids=["interrupted", "damaged"],
)
def test_ctrl_c_while_the_runtime_is_imported_is_no_damaged_runtime(
    program: str, expected: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime.py").write_text(program)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxruntime")
    with pytest.raises(expected):
        import_runtime()


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
        return [CUDA, CPU]

    def preload_dlls(self) -> None:
        self.preloaded = True
        print("Failed to load libcublas.so: cannot open shared object file")  # noqa: T201 - as the real one does

    def InferenceSession(self, content: bytes, options: Any, *, providers: list[Any], **more: Any) -> Any:  # noqa: N802
        if providers == [CPU]:
            return onnxruntime.InferenceSession(content, options, providers=providers, **more)
        assert self.preloaded
        taken = self._start()
        session = onnxruntime.InferenceSession(content, options, providers=[CPU], **more)
        session.get_providers = lambda: taken
        return session


def falls_back() -> list[str]:
    return [CPU]


def starts() -> list[str]:
    return [CUDA, CPU]


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
    assert graph.provider == CPU
    assert graph.fallback.startswith(reason)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_cuda_that_starts_is_taken(decoder: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", PretendedRuntime(starts))
    graph = opened(decoder, device)
    assert (graph.provider, graph.fallback) == (CUDA, "")
    assert opened(decoder, "cpu").provider == CPU


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="this onnxruntime has CUDA")
def test_cuda_with_a_runtime_for_cpus_names_the_extra(decoder: Path) -> None:
    with pytest.raises(DeviceError, match=r"vaecli\[gpu\]"):
        opened(decoder, "cuda")


@pytest.mark.gpu
@pytest.mark.skipif(CUDA not in onnxruntime.get_available_providers(), reason="needs onnxruntime-gpu and an NVIDIA GPU")
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


def test_nothing_of_the_runtime_reaches_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An unused weight makes ONNX Runtime warn."""
    folder = write_pair(tmp_path / "pair")
    unused = numpy_helper.from_array(np.zeros(3, np.float32), "unused")
    edit(folder / model_format.DECODER_FILE, lambda model: model.graph.initializer.append(unused))
    opened(folder / model_format.DECODER_FILE).run((model_format.IMAGE,), LATENTS)
    assert capfd.readouterr() == ("", "")


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


def test_the_limit_can_be_raised(decoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    megabytes_for_each_row(decoder, 12)
    monkeypatch.setenv("VAE_MAX_MEGABYTES", "10")
    (megabytes,) = re.findall(r"VAE_MAX_MEGABYTES=(\d+)", refusal(decoder).hint)
    monkeypatch.setenv("VAE_MAX_MEGABYTES", megabytes)
    assert opened(decoder).run((model_format.IMAGE,), LATENTS)[0].shape == (3, 1, 8, 8)
