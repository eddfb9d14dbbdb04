"""What a run folder holds, by name, and how it is read and written."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import msgspec

from vaecli import files
from vaecli.config import Config
from vaecli.errors import VaeError, file_error
from vaecli.metrics import EpochMetrics
from vaecli.model_format import DECODER_FILE, ENCODER_FILE, Versions


class DataFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The pictures that a run was trained on, as they were found."""

    name: str
    hash: str
    image_shape: tuple[int, int, int]  # (channels, height, width)
    train: int  # how many
    held_out: int


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """config.json: what was asked, and what it came to on this machine."""

    config: Config  # its seed is the one that was used
    data: DataFacts
    device: str
    precision: str
    path: str  # which way a step is computed
    versions: Versions


class RunFolder:
    """The files of one run. Holds names, not contents: making one touches no disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoint = path / "checkpoint.pt"
        self.best = path / "best.pt"
        self.previews = path / "previews"
        self.encoder = path / ENCODER_FILE
        self.decoder = path / DECODER_FILE

    @property
    def has_training(self) -> bool:
        """Whether a training has left anything here."""
        return self.config.exists() or self.checkpoint.exists() or self.best.exists()

    @property
    def data_preview(self) -> Path:
        """The picture of the first training images."""
        return self.previews / "data.png"

    def preview(self, epoch: int) -> Path:
        """The picture of an epoch."""
        return self.previews / f"epoch-{epoch:04d}.png"

    def make(self) -> None:
        """Create the folder. Raises VaeError."""
        files.make_folder(self.path)

    def clear(self) -> None:
        """Remove what a training and an export wrote, and nothing else. Raises VaeError where that fails."""
        try:
            for file in (self.config, self.metrics, self.checkpoint, self.best, self.encoder, self.decoder):
                file.unlink(missing_ok=True)
            if self.previews.is_dir():
                shutil.rmtree(self.previews)
        except OSError as error:
            raise file_error(error.filename or self.path, error) from error

    def write_record(self, record: RunRecord) -> None:
        """Write config.json. Raises VaeError."""
        files.write_bytes(self.config, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")

    def read_record(self) -> RunRecord:
        """Read config.json. Raises VaeError where there is none, or it is not ours."""
        try:
            return msgspec.json.decode(self._read(self.config), type=RunRecord)
        except msgspec.DecodeError as error:
            raise VaeError(
                f"{self.config}: not a run's config: {error}",
                "train anew with --overwrite, or name another folder",
            ) from error

    def read_metrics(self) -> list[EpochMetrics]:
        """The epochs of metrics.jsonl, oldest first. A last line that was cut off is left out."""
        epochs = []
        for line in self._read(self.metrics).splitlines():
            with contextlib.suppress(msgspec.DecodeError):
                epochs.append(msgspec.json.decode(line, type=EpochMetrics))
        return epochs

    def append_metrics(self, epoch: EpochMetrics) -> None:
        """Add a line to metrics.jsonl. Raises VaeError."""
        try:
            with self.metrics.open("ab") as stream:
                stream.write(msgspec.json.encode(epoch) + b"\n")
        except OSError as error:
            raise file_error(self.metrics, error) from error

    def cut_metrics(self, epochs: int) -> None:
        """Forget the lines after `epochs`, which a killed run may have left behind. Raises VaeError."""
        kept = [epoch for epoch in self.read_metrics() if epoch.epoch <= epochs] if self.metrics.exists() else []
        files.write_bytes(self.metrics, b"".join(msgspec.json.encode(epoch) + b"\n" for epoch in kept))

    def _read(self, file: Path) -> bytes:
        try:
            return file.read_bytes()
        except FileNotFoundError as error:
            raise VaeError(
                f"{file}: no such file", f"{self.path} holds no training: vae train -r {self.path}"
            ) from error
        except OSError as error:
            raise file_error(file, error) from error
