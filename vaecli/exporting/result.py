"""What an export reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vaecli.config import TrainedPrior
from vaecli.model_format import FlowSummary, PriorSummary

if TYPE_CHECKING:
    from vaecli.exporting.held_out import HeldOutCheck


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote, and the largest difference between ONNX Runtime and PyTorch for each output."""

    encoder: Path
    decoder: Path
    prior: Path | None  # None: N(0, I)
    prior_summary: PriorSummary | None
    trained_prior: TrainedPrior
    max_abs_difference: dict[str, float]
    opset: int
    epoch: int  # of the weights
    providers: tuple[str, ...] = ("CPUExecutionProvider",)  # of ONNX Runtime, where the differences were looked for
    flow: Path | None = None
    flow_summary: FlowSummary | None = None
    held_out: HeldOutCheck | None = None  # None: the pictures of the training are not on this machine
    reference: int = 0  # held-out pictures whose statistics are in the files, for `vae score`; 0: none
