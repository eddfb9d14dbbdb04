"""What the tests of this folder share: one thread, small settings, and a way to see an older processor.

ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 pytest tests/training
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vaecli.training import device

Settings = dict[str, dict[str, Any]]

if os.environ.get("ONEDNN_MAX_CPU_ISA") == "AVX2":
    # The libraries read these variables, but torch asks the processor itself whether it has bfloat16 instructions.
    device._has_bfloat16 = lambda device: False


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads of such small networks wait for each other: thirty times longer where other work runs beside them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small(blobs: Path) -> Settings:
    """Nested settings for a training that takes a moment: 108 images, 7 steps an epoch."""
    return {
        "data": {"source": str(blobs)},
        "model": {"hidden": 16, "latent_dim": 3},
        "training": {"epochs": 2, "batch_size": 16, "device": "cpu", "precision": "float32", "seed": 7},
    }


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """A session that is made and never run leaves denormal numbers flushed."""
    yield
    torch.set_flush_denormal(False)
