"""`vaecli.export`: a run's weights as encoder.onnx and decoder.onnx, written once they agree with PyTorch.

PyTorch is imported once everything that can be refused without it has been checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from vaecli.config import RUN
from vaecli.errors import UsageError
from vaecli.extras import require_runtime, require_training
from vaecli.model_format import OPSET
from vaecli.run_folder import RunFolder

if TYPE_CHECKING:
    from vaecli.exporting.held_out import HeldOutCheck

WeightsChoice: TypeAlias = Literal["best", "last"]

# The difference from PyTorch's value v that is allowed: ABSOLUTE + RELATIVE · |v|, in float32.
ABSOLUTE, RELATIVE = 1e-5, 1e-4


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote, and the largest difference between ONNX Runtime and PyTorch for each output."""

    encoder: Path
    decoder: Path
    max_abs_difference: dict[str, float]
    opset: int
    epoch: int  # of the weights
    providers: tuple[str, ...] = ("CPUExecutionProvider",)  # of ONNX Runtime, where the differences were looked for
    held_out: HeldOutCheck | None = None  # None: the pictures of the training are not on this machine


def export(
    run: str | Path = RUN, *, weights: WeightsChoice = "best", atol: float = ABSOLUTE, rtol: float = RELATIVE
) -> ExportResult:
    """Export the training in the folder `run` to ONNX, and check both graphs against PyTorch.

    `weights` are those of the best epoch, which the training chose, or of the last one.

    Raises:
        ParityError: a graph differs by more than `atol` + `rtol` · |PyTorch's value|, or the loss of held-out pictures
            from PyTorch's or from the recorded one by more than `exporting.held_out` allows; the old files stay.
        VaeError: there is no training, or it still runs; a package is missing; a file is damaged or cannot be written.
    """
    if weights not in ("best", "last"):
        raise UsageError(f"`weights` {weights}: expected best or last", "best is the epoch that the training chose")
    folder = RunFolder(run)
    record = folder.read_record()
    require_training("vae export")
    require_runtime("vae export")
    from vaecli.exporting.convert import export_pair
    from vaecli.exporting.parity import Tolerance
    from vaecli.training.checkpoint import load_weights

    with folder.locked():
        chosen = load_weights(folder.best if weights == "best" else folder.checkpoint)
        checked = export_pair(chosen, record, folder, Tolerance(atol, rtol))
    return ExportResult(
        folder.encoder, folder.decoder, checked.differences, OPSET, chosen.epoch, checked.providers, checked.held_out
    )
