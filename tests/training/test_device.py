"""The device and the precision that are chosen, on machines with and without what they need."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.command_line import PROJECT
from vaecli.errors import DeviceError, VaeError
from vaecli.settings import resolve
from vaecli.training import device
from vaecli.training.device import (
    choose_device,
    choose_precision,
    device_name,
    whole_float32,
)
from vaecli.training.processes import Processes

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def fails(message: str) -> Any:
    def ones(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError(message)

    return ones


@pytest.mark.parametrize(
    ("place", "name", "value", "reason"),
    [
        (torch.backends.cuda, "is_built", lambda: False, "this PyTorch was built without CUDA"),
        (torch.cuda, "is_available", lambda: False, "PyTorch finds no NVIDIA GPU or no driver for it"),
        (torch, "ones", fails("CUDA error: no kernel image\nand more"), "CUDA error: no kernel image"),
        (torch, "ones", lambda *_, **__: torch.zeros(8), "the GPU computes wrong sums"),
    ],
    ids=["not built", "no GPU", "too old", "broken"],
)
def test_where_cuda_does_not_work_auto_takes_the_cpu_and_cuda_is_refused(
    place: object, name: str, value: object, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(place, name, value)
    assert choose_device("auto") == CPU
    with pytest.raises(DeviceError) as refusal:
        choose_device("cuda")
    assert refusal.value.message == f"`device` cuda: {reason}"
    assert refusal.value.exit_code == 3


def test_where_cuda_works_auto_takes_it_and_cpu_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    ones = torch.ones(8)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", lambda *_, **__: ones)
    assert (choose_device("auto"), choose_device("cuda"), choose_device("cpu")) == (CUDA, CUDA, CPU)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is done with them, in order."""
    done, ones = list[object](), torch.ones(8)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", done.append)

    def tried(*_: object, **__: object) -> torch.Tensor:
        done.append("tried")
        return ones

    monkeypatch.setattr(torch, "ones", tried)
    return done


class Told(Processes):
    """The second of several processes, whose first one has chosen this."""

    kind = "cuda"

    def share(self, make: Callable[[], object]) -> Any:
        return self.kind


def test_each_process_has_a_gpu_of_its_own(two_gpus: list[object]) -> None:
    assert choose_device("auto", Told(rank=1, count=3, local_rank=1)) == torch.device("cuda", 1)
    assert two_gpus == [1, "tried"], "the first use would else take memory of the first GPU"
    with pytest.raises(DeviceError, match="more processes than GPUs, of which this machine has 2"):
        choose_device("auto", Told(rank=2, count=3, local_rank=2))


def test_all_processes_take_the_kind_of_device_that_the_first_one_has(
    two_gpus: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Told, "kind", "cpu")
    assert choose_device("auto", Told(rank=1, count=2, local_rank=1)) == CPU
    assert two_gpus == []
    monkeypatch.setattr(Told, "kind", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="no NVIDIA GPU"):
        choose_device("auto", Told(rank=1, count=2, local_rank=1))


@pytest.mark.parametrize(
    ("where", "has_bfloat16", "ratio", "expected"),
    [
        (CPU, True, 0.5, "bfloat16"),
        (CPU, True, 2.0, "float32"),
        (CPU, False, 0.5, "float32"),
        (CUDA, True, 2.0, "bfloat16"),
        (CUDA, False, 0.5, "float32"),
    ],
)
def test_auto_takes_bfloat16_where_there_are_instructions_for_it_and_a_processor_is_faster_with_them(
    where: torch.device, has_bfloat16: bool, ratio: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_has_bfloat16", lambda _: has_bfloat16)
    monkeypatch.setattr(device, "time_ratio", lambda *_: ratio)
    assert choose_precision("auto", where) == expected
    assert choose_precision("float64", where) == "float64"
    assert choose_precision("float32", where) == "float32"


def test_the_products_that_are_timed_are_one_in_bfloat16_and_the_same_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timed: list[torch.Tensor] = []

    def time_ratio(*computations: Callable[[], torch.Tensor]) -> float:
        timed.extend(compute() for compute in computations)
        return 1.0

    monkeypatch.setattr(device, "_has_bfloat16", lambda _: True)
    monkeypatch.setattr(device, "time_ratio", time_ratio)
    choose_precision("auto", CPU)
    assert [product.dtype for product in timed] == [torch.bfloat16, torch.float32]
    assert torch.equal(timed[0].float(), timed[1])


def test_bfloat16_can_be_asked_for_on_every_cpu_but_not_on_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_has_bfloat16", lambda _: False)
    assert choose_precision("bfloat16", CPU) == "bfloat16"
    with pytest.raises(VaeError, match="`precision` bfloat16: this GPU has no bfloat16 arithmetic"):
        choose_precision("bfloat16", CUDA)


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor cannot flush denormal numbers")
def test_denormals_are_flushed_on_every_thread() -> None:
    """In a process of its own, whose threads start after the call: all parts of a large tensor are flushed."""
    script = (
        "import torch\n"
        "from vaecli.training.device import flush_denormals\n"
        "torch.set_num_threads(2)\n"
        "assert not flush_denormals()\n"
        "assert flush_denormals()\n"
        "print(int((torch.full((1 << 22,), 1e-39) * 0.5).count_nonzero()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


@pytest.mark.parametrize(("threads", "name"), [(1, "cpu (1 thread)"), (2, "cpu (2 threads)")])
def test_the_name_of_a_cpu_has_its_threads(threads: int, name: str) -> None:
    torch.set_num_threads(threads)
    assert device_name(CPU) == name


def test_the_name_of_a_gpu_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100")
    assert device_name(CUDA) == "cuda (NVIDIA H100)"


def float32_arithmetic() -> list[str]:
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # set at run time
    return [convolutions.fp32_precision, torch.backends.cuda.matmul.fp32_precision]


def test_float32_is_whole_and_the_user_s_choice_comes_back() -> None:
    default = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        assert float32_arithmetic() == ["tf32", "tf32"], "PyTorch's default for convolutions, and what was asked for"
        with whole_float32():
            assert float32_arithmetic() == ["ieee", "ieee"]
        assert float32_arithmetic() == ["tf32", "tf32"]
    finally:
        torch.backends.cuda.matmul.fp32_precision = default


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no NVIDIA GPU")
def test_a_float32_convolution_on_a_gpu_is_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(8, 64, 16, 16, generator=generator), torch.randn(64, 64, 3, 3, generator=generator)
    exact = torch.nn.functional.conv2d(x.double(), weight.double())
    with whole_float32():
        found = torch.nn.functional.conv2d(x.cuda(), weight.cuda()).cpu().double()
    assert float((found - exact).norm() / exact.norm()) < 1e-5  # TF32: 3e-4


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of this system is another")
def test_memory_that_a_step_frees_is_there_for_the_next_and_given_back_after_the_training() -> None:
    """In a process of its own: page faults of ten large tensors, one after the other."""
    program = """
import resource
import torch
from vaecli.training.device import give_back_freed_memory, training_state
def faults():
    for _ in range(10):
        torch.ones(4_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
with training_state():
    before = faults()
    print(faults() - before)
    before = faults()
    give_back_freed_memory(torch.device("cpu"))
    print(faults() - before)
    torch.ones(32_000_000)
    def resident():
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1])
    before = resident()
print(before - resident())
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    kept, given_back, afterwards = map(int, done.stdout.split())
    assert kept < 1_000, "one of these tensors alone has 3,900 pages"
    assert given_back > 3_000, "the first one has new pages"
    assert afterwards > 30_000, "the last tensor has 31,000 pages"


@pytest.mark.parametrize(("section", "key"), [("model", "scale"), ("training", "learning_rate")])
def test_0_is_refused_where_denormals_are_flushed(section: str, key: str) -> None:
    torch.set_flush_denormal(True)
    with pytest.raises(VaeError, match="expected a number >= 1e-"):
        resolve({section: {key: 0}})
