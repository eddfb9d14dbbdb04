"""checkpoint.pt and best.pt: their content, and how they are read and written."""

from __future__ import annotations

import pickletools
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch
from torch import Tensor

from vaecli import files, limits
from vaecli.config import from_json
from vaecli.errors import VaeError, file_error
from vaecli.events import Losses
from vaecli.run_folder import RunFolder
from vaecli.training.model import VAE

Content = TypeVar("Content")

PROTOCOL = 2  # of pickle, PyTorch's own
LARGEST_PICKLE = 2**20  # bytes that describe the parts of a checkpoint; ours take some thousand
# The names that a pickle may refer to. Others could do harm: a `bytearray` could take gigabytes.
ALLOWED_GLOBALS = re.compile(r"collections OrderedDict|torch._utils _rebuild_tensor_v2|torch \w+Storage")


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
    threads: int | None = None  # EpochMetrics.threads of this epoch


def save(path: Path, content: Weights | Checkpoint) -> None:
    """Replace `path`, whole or not at all, on the disk. Raises VaeError where it cannot be written."""
    with files.replacing(path, durable=True) as stream:
        try:
            torch.save(_as_dict(content), stream, pickle_protocol=PROTOCOL)
        except RuntimeError as error:  # how torch's writer reports a full disk
            raise VaeError(f"{path}: could not be written", "free some disk space, then use `resume`") from error


def _as_dict(content: Weights | Checkpoint) -> dict[str, Any]:
    """As `dataclasses.asdict`, but with the tensors themselves, not copies."""
    return {name: _as_dict(value) if isinstance(value, Weights) else value for name, value in vars(content).items()}


def load_weights(path: Path) -> Weights:
    """The weights in a best.pt or a checkpoint.pt. Raises VaeError where the file is missing or not one of ours."""
    content = _load(path)
    return _as(Weights, content.get("weights", content), path)


def load_checkpoint(path: Path) -> Checkpoint:
    """The state in a checkpoint.pt. Raises VaeError where the file is missing or not one of ours."""
    return _as(Checkpoint, _load(path), path)


def _load(path: Path) -> dict[str, Any]:
    try:
        limits.check_file(path)
        with path.open("rb") as stream:
            # torch.load takes what is not a ZIP archive for its older format, and warns. It checks no sums.
            archive = zipfile.ZipFile(stream) if zipfile.is_zipfile(stream) else None
            unpacked = sum(part.file_size for part in archive.infolist()) if archive is not None else 0
            whole = archive is not None and _is_whole(archive, unpacked, path)
        content = torch.load(path, map_location="cpu", weights_only=True) if whole else None
    except OSError as error:
        raise file_error(path, error) from error
    except VaeError:
        raise
    except Exception as error:  # which one depends on where the file is damaged
        raise _not_ours(path) from error
    if not isinstance(content, dict) or _size(content) > unpacked:
        raise _not_ours(path)
    return content


def _is_whole(archive: zipfile.ZipFile, unpacked: int, path: Path) -> bool:
    """Whether the sums of an archive's parts are right, and what describes them is small and names what it may.

    Raises VaeError where they unpack to more than they may.
    """
    limits.check_unpacked(unpacked, path.stat().st_size, str(path))
    for part in archive.infolist():
        if part.filename.lower().endswith(".pkl") and not (
            part.file_size <= LARGEST_PICKLE and _names_what_it_may(archive.read(part))
        ):
            return False
    return archive.testzip() is None


def _names_what_it_may(pickled: bytes) -> bool:
    """Whether it is of PyTorch's protocol, and all that it names is in ALLOWED_GLOBALS."""
    steps = [(step.name, value) for step, value, _ in pickletools.genops(pickled)]
    named = all(ALLOWED_GLOBALS.fullmatch(str(value)) for step, value in steps if step in ("GLOBAL", "STACK_GLOBAL"))
    return named and all(value == PROTOCOL for step, value in steps if step == "PROTO")


def _size(content: object) -> int:
    """The bytes of all tensors in lists and dictionaries. A view may repeat a stored number as often as it likes."""
    waiting, seen, size = [content], set[int](), 0
    while waiting:
        part = waiting.pop()
        if id(part) not in seen:
            seen.add(id(part))
            size += part.nbytes if isinstance(part, Tensor) else 0
            waiting += part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else ()
    return size


def _as(kind: type[Content], content: dict[str, Any], path: Path) -> Content:
    """The content of a file, whose weights are those of the network that its config describes. Raises VaeError."""
    try:
        found = msgspec.convert(content, kind, dec_hook=_tensor)
        _check(found.weights if isinstance(found, Checkpoint) else found)  # type: ignore[arg-type]  # the other kind
    except Exception as error:  # the network refuses settings with errors of its own
        raise _not_ours(path) from error
    return found


def _tensor(kind: type, value: object) -> object:
    if not isinstance(value, kind):
        raise TypeError(f"expected a {kind.__name__}")
    return value


def _check(weights: Weights) -> None:
    """Compare shapes before anything is made in the size that a config asks for. Raises ValueError and others."""
    channels, *size = weights.image_shape
    with torch.device("meta"):
        network = VAE(from_json(weights.config.encode()).model, weights.image_shape, len(weights.classes))
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if expected != {name: tensor.shape for name, tensor in weights.model.items()}:
        raise ValueError("weights of another network")
    count, examples = len(weights.examples), weights.examples
    if not count or examples.dtype != torch.uint8 or examples.shape != (count, *size, channels):
        raise ValueError("examples of another shape")
    labels = weights.labels
    if labels is not None and (labels.dtype != torch.int64 or labels.shape != (count,)):
        raise ValueError("labels of another shape")


def _not_ours(path: Path) -> VaeError:
    hint = "train anew with `overwrite`, or name another `run`"
    if path == RunFolder(path.parent).best:
        hint = "checkpoint.pt has the last epoch: export with `weights` last, or train with `resume`"
    return VaeError(f"{path}: not a checkpoint of vae, or damaged", hint)
