"""The device and the arithmetic of a training: what was asked for, and what this machine has."""

from __future__ import annotations

import ctypes
import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from vaecli.config import Arithmetic, DeviceChoice, Precision
from vaecli.errors import DeviceError, VaeError, first_line
from vaecli.extras import TRAINING
from vaecli.training.processes import ALONE, Processes
from vaecli.training.timing import time_ratio
from vaecli.wording import how_many

SIZE, BATCH = 256, 128  # of the product that is timed to choose the arithmetic
FASTER = 0.8  # times the time of float32: where bfloat16 takes longer, float32 is used
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(wanted: DeviceChoice, processes: Processes = ALONE) -> torch.device:
    """CUDA where it is wanted and really works, else the CPU. Of several processes each takes a GPU of its own.

    All processes take what the first one does: where only some had a GPU, they would wait for each other for ever.

    Raises:
        DeviceError: `cuda` was asked for, or the first process has it, and cannot be had; the message has the reason.
    """
    if processes.count > 1:
        kind = processes.share(lambda: _choose(wanted, processes.local_rank).type)
        return _choose("cuda" if kind == "cuda" else "cpu", processes.local_rank)
    return _choose(wanted, None)


def _choose(wanted: DeviceChoice, local_rank: int | None) -> torch.device:
    if wanted == "cpu":
        return torch.device("cpu")
    reason = _why_no_cuda(local_rank)
    if reason is None:
        return torch.device("cuda") if local_rank is None else torch.device("cuda", local_rank)
    if wanted == "cuda":
        raise DeviceError(f"`device` cuda: {reason}", "check nvidia-smi and the installed torch, or use `device` auto")
    return torch.device("cpu")


def _take_gpu(local_rank: int) -> None:
    """Use the GPU of this number from now on. Raises DeviceError where there are fewer.

    It comes before the first use of CUDA, which would otherwise take memory of the first GPU.
    """
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise DeviceError(
            f"`device` cuda: more processes than GPUs, of which this machine has {count}",
            "give torchrun --nproc-per-node=gpu, or use `device` cpu",
        )
    torch.cuda.set_device(local_rank)


def _why_no_cuda(local_rank: int | None = None) -> str | None:
    """Why CUDA does not work here; None where it does. `local_rank` is the GPU of one of several processes."""
    if not torch.backends.cuda.is_built():
        return "this PyTorch was built without CUDA"
    if not torch.cuda.is_available():
        return "PyTorch finds no NVIDIA GPU or no driver for it"
    if local_rank is not None:
        _take_gpu(local_rank)
    try:
        if (torch.ones(8, device="cuda") + 1).sum().item() != 16:
            return "the GPU computes wrong sums"
    except RuntimeError as error:
        return first_line(error)
    return None


def choose_precision(wanted: Precision, device: torch.device) -> Arithmetic:
    """The arithmetic of a step: float64, float32 or bfloat16.

    `auto` takes bfloat16 products on a GPU that has them, and on a processor that has instructions for them and is
    faster with them: an Intel Xeon whose matrix instructions (AMX) are hidden by a virtual machine takes twice as long.
    Weights, optimiser and sums stay float32 either way.

    Raises:
        VaeError: bfloat16 was asked for on a GPU that lacks it.
    """
    has_bfloat16 = _has_bfloat16(device)
    if wanted == "auto":
        return "bfloat16" if has_bfloat16 and (device.type == "cuda" or _bfloat16_is_faster()) else "float32"
    if wanted == "bfloat16" and device.type == "cuda" and not has_bfloat16:
        raise VaeError("`precision` bfloat16: this GPU has no bfloat16 arithmetic", "use `precision` float32")
    return wanted


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # The public torch.cpu.get_capabilities is younger than the oldest torch that we run on.
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return torch.backends.mkldnn.is_available() and any(getattr(torch.cpu, test, bool)() for test in tests)


def _bfloat16_is_faster() -> bool:
    """Whether a product in bfloat16 takes clearly less time on this processor than one in float32.

    Where we measured, it takes either half of the time or twice as long, so noise does not decide.
    """
    few, many = (torch.ones(BATCH, SIZE, dtype=torch.bfloat16), torch.ones(SIZE, SIZE, dtype=torch.bfloat16))
    return time_ratio(partial(torch.mm, few, many), partial(torch.mm, few.float(), many.float())) < FASTER


def flush_denormals() -> bool:
    """Round denormal numbers to zero from now on: Adam's moments of constant pixels decay to them, and they are slow.

    It holds for this thread, and for those that PyTorch starts afterwards: call it before the first computation.
    Returns whether they were flushed already.
    """
    already = float(torch.tensor(1e-39) * 0.5) == 0  # the setting itself cannot be read
    torch.set_flush_denormal(True)
    return already


@contextmanager
def training_state() -> Iterator[None]:
    """Set the process up to train fast on a CPU within the block: denormals are flushed, freed memory is kept.

    Afterwards these settings and the number of threads are what they were. Enter it before the first computation:
    PyTorch's threads copy the first setting when they start.
    """
    flushed, threads = flush_denormals(), torch.get_num_threads()
    try:
        with kept_memory():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushed)


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep memory that tensors free for the next tensors, instead of giving it back to the system after each step.

    New memory costs a page fault for every 4 KiB: together a sixth of the step of a convolutional network. Within the
    block the process stays as large as it once was. For Linux with the GNU C library; elsewhere nothing happens.
    """
    mallopt = _of_the_c_library("mallopt")
    if mallopt is None:
        yield
        return
    trim_threshold, mmap_threshold, mmap_max = -1, -3, -4  # names of mallopt(3)
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    try:
        yield
    finally:
        mallopt(mmap_max, 65_536)  # its defaults
        mallopt(mmap_threshold, 128 * 1024)
        mallopt(trim_threshold, 128 * 1024)
        give_back_freed_memory(torch.device("cpu"))


def give_back_freed_memory(device: torch.device) -> None:
    """Give memory that tensors have freed, and that is kept for the next ones, back to the system."""
    trim = _of_the_c_library("malloc_trim")
    if trim is not None:
        trim(0)
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _of_the_c_library(name: str) -> Any:  # noqa: ANN401 - a foreign function has no type
    """A function of Linux's C library, None where it has none of this name: not every one is GNU's."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


@contextmanager
def whole_float32() -> Iterator[None]:
    """Compute float32 with all of its 24 bits within the block.

    On NVIDIA GPUs since Ampere PyTorch computes float32 convolutions with 11 bits by default (TF32), and products, too,
    where somebody has asked for it.
    """
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # set at run time
    operators = (convolutions, torch.backends.cuda.matmul)
    before = [operator.fp32_precision for operator in operators]
    try:
        for operator in operators:
            operator.fp32_precision = "ieee"
        yield
    finally:
        for operator, precision in zip(operators, before, strict=True):
            operator.fp32_precision = precision


def device_name(device: torch.device) -> str:
    """The device as a person knows it: `cpu (2 threads)`, `cuda (NVIDIA H100)`."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"cpu ({how_many(torch.get_num_threads(), 'thread')})"


def _report() -> dict[str, str]:
    """Where a training would run and in which arithmetic, once all packages of vaecli[train] can be imported."""
    for package in TRAINING:
        importlib.import_module(package)
    facts = {"cpu": choose_precision("auto", torch.device("cpu"))}
    reason = _why_no_cuda()
    if reason is not None:
        return {**facts, "no_cuda": reason}
    device = torch.device("cuda")
    return {**facts, "cuda": f"{device_name(device)}, {choose_precision('auto', device)}"}


if __name__ == "__main__":  # vaecli.machine runs it in a process of its own
    sys.stdout.write(json.dumps(_report()) + "\n")
