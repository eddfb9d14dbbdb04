"""checkpoint.pt and best.pt: their content, and how they are read and written."""

from __future__ import annotations

import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaecli import files
from vaecli.errors import VaeError, file_error
from vaecli.events import Losses


@dataclass(frozen=True)
class Weights:
    """A model at the end of an epoch: best.pt, and the first half of checkpoint.pt."""

    config: str  # config.Config as JSON
    image_shape: tuple[int, int, int]  # (channels, height, width)
    model: dict[str, Tensor]
    epoch: int
    held_out: dict[str, float]  # events.Losses of that epoch
    examples: Tensor  # uint8 (9, h, w, c): training images for the previews and for the export's check
    classes: tuple[str, ...] = ()  # of a conditional model
    labels: Tensor | None = None  # int64 (9,): the classes of the examples, where they are known

    @property
    def losses(self) -> Losses:
        """The held-out losses of this epoch, in nats per image."""
        return Losses(**self.held_out)


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after an epoch: enough to resume it exactly."""

    weights: Weights
    learner: dict[str, Any]  # Learner.state()
    best: dict[str, Any]  # events.EpochMetrics of the best epoch so far
    seconds: float  # trained so far


def save(path: Path, content: Weights | Checkpoint) -> None:
    """Replace `path`, whole or not at all. Raises VaeError where it cannot be written."""
    with files.replacing(path) as stream:
        try:
            torch.save(asdict(content), stream)
        except RuntimeError as error:  # how torch's writer reports a full disk
            raise VaeError(f"{path}: could not be written", "free some disk space, then use `resume`") from error


def load_weights(path: Path) -> Weights:
    """The weights in a best.pt or a checkpoint.pt. Raises VaeError where the file is missing or not one of ours."""
    content = _load(path)
    try:
        return Weights(**content.get("weights", content))
    except (TypeError, AttributeError) as error:
        raise _not_ours(path) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """The state in a checkpoint.pt. Raises VaeError where the file is missing or not one of ours."""
    content = _load(path)
    try:
        return Checkpoint(**{**content, "weights": Weights(**content["weights"])})
    except (TypeError, KeyError) as error:
        raise _not_ours(path) from error


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            # torch.load takes what is not a ZIP archive for its older format, and warns.
            archive = zipfile.is_zipfile(stream)
        content = torch.load(path, map_location="cpu", weights_only=True) if archive else None
    except OSError as error:
        raise file_error(path, error) from error
    except Exception as error:  # which one depends on where the file is damaged
        raise _not_ours(path) from error
    if not isinstance(content, dict):
        raise _not_ours(path)
    return content


def _not_ours(path: Path) -> VaeError:
    return VaeError(
        f"{path}: not a checkpoint of vae, or damaged", "train anew with `overwrite`, or name another `run`"
    )
