"""What a run folder holds, by name, and how it is read, written and cleared."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from vaecli import files, limits
from vaecli.config import Arithmetic, Config
from vaecli.errors import VaeError, file_error, without_backticks
from vaecli.events import ChosenBy, EpochMetrics
from vaecli.flags import run_flag
from vaecli.model_format import DECODER_FILE, ENCODER_FILE, FLOW_FILE, PRIOR_FILE, ImageShape, Versions

if TYPE_CHECKING:
    from vaecli.datasets import Dataset

PREVIEW = r"data\.png|epoch-\d{4,}\.png"  # the names that a training gives to pictures


def history(run: str | Path) -> list[EpochMetrics]:
    """The epochs of the training in the folder `run`, oldest first.

    Raises:
        VaeError: there is no training, or its metrics are damaged.
    """
    return RunFolder(run).read_metrics()


class DataFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The pictures that a run was trained on, as they were found."""

    name: str
    hash: str
    image_shape: ImageShape
    train: int  # images
    validation: int = 0  # images that choose the best epoch; 0: the held-out ones do
    held_out: int
    classes: tuple[str, ...] = ()  # their names, where they are known
    labels_hash: str | None = None  # see Dataset.labels_hash

    def difference(self, dataset: Dataset, *, conditional: bool) -> str | None:
        """What a data set has others of than these: "pictures", or where they matter "classes"; None: nothing."""
        if dataset.hash != self.hash:
            return "pictures"
        same = dataset.classes == self.classes and self.labels_hash in (None, dataset.labels_hash)
        return "classes" if conditional and not same else None

    @property
    def chosen_by(self) -> ChosenBy:
        """The images whose loss chooses the best epoch."""
        return "validation" if self.validation else "held-out"


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """config.json: the settings, and the device, precision and code path that were used."""

    config: Config  # its seed is the one that was used
    data: DataFacts
    device: str
    precision: Arithmetic
    path: str  # how a step was computed
    versions: Versions
    recipe: str | None = None  # the recipe that was named, or that the pictures chose
    parameters: int  # weights of the network
    processes: int = 1
    # The numbers of epochs that its cosine was planned for, before `resume` changed them: it then differs from a
    # training that had them from the start.
    epochs_before: tuple[int, ...] = ()

    @property
    def seed(self) -> int:
        """The seed that was used: the given one, or the one drawn."""
        assert self.config.training.seed is not None, "it is drawn before a training begins"
        return self.config.training.seed


def remedy_without(folder: Path, remedy: str) -> str:
    """What helps where a run is looked for in a folder and is not there: the `remedy`, or one of the runs below it."""
    below = sorted(path for path in folder.glob("[!.]*/") if RunFolder(path).occupied)
    return f"name one of the runs below it, such as {below[0]}" if below else remedy


class RunFolder:
    """The files of one run. It holds names, not contents: making one touches no disk."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoint = self.path / "checkpoint.pt"
        self.best = self.path / "best.pt"
        self.previews = self.path / "previews"
        self.encoder = self.path / ENCODER_FILE
        self.decoder = self.path / DECODER_FILE
        self.prior = self.path / PRIOR_FILE
        self.flow = self.path / FLOW_FILE
        self._identity: tuple[int, int] | None = None  # of the folder that is locked

    @property
    def files(self) -> tuple[Path, ...]:
        """What a training and an export write, in that order. `previews` is a folder."""
        return (
            self.config, self.metrics, self.checkpoint, self.best, self.previews,
            *self.exported,
        )  # fmt: skip

    @property
    def exported(self) -> tuple[Path, ...]:
        """The files of the exported model, of which prior and flow need not be there."""
        return self.encoder, self.decoder, self.prior, self.flow

    @property
    def has_training(self) -> bool:
        """Whether a training was begun here."""
        return not self.has_foreign_config and (self.has_weights or self.config.exists())

    @property
    def has_foreign_config(self) -> bool:
        """Whether config.json is of another program: it is no record of a run.

        A damaged one with weights beside it is taken for ours, but not JSON with other keys.
        """
        if not self.config.exists():
            return False
        try:
            self.read_record()
        except VaeError:
            return not self.has_weights or self._has_other_keys
        return False

    @property
    def _has_other_keys(self) -> bool:
        try:
            keys = msgspec.json.decode(self._read(self.config), type=dict[str, object])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, VaeError):
            return False
        return not {"config", "data"} <= keys.keys()

    @property
    def no_epoch(self) -> VaeError:
        """The error for a training that has no whole epoch yet."""
        return VaeError(f"{self.path}: no epoch of its training has ended", "vae train with `resume` goes on")

    @property
    def has_weights(self) -> bool:
        """Whether an epoch of a training has ended here."""
        return self.checkpoint.exists() or self.best.exists()

    @property
    def occupied(self) -> bool:
        """Whether a new training would replace something: a training, an exported pair, or preview pictures."""
        kept = any(file.exists() for file in self.files if file != self.previews)
        return kept or bool(self._own_previews())

    @property
    def data_preview(self) -> Path:
        """The picture of the first training images."""
        return self.previews / "data.png"

    def preview(self, epoch: int) -> Path:
        """The picture of an epoch."""
        return self.previews / f"epoch-{epoch:04d}.png"

    def _own_previews(self) -> list[Path]:
        """The pictures in `previews` that have a name which a training gives."""
        try:
            found = list(self.previews.iterdir()) if self.previews.is_dir() else []
        except OSError as error:
            raise file_error(self.previews, error) from error
        return [file for file in found if re.fullmatch(PREVIEW, file.name)]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder and lock it within the block, for whoever writes to it. A folder left empty is removed.

        What a killed writer left unfinished is removed, too.

        The lock is an advisory one on the folder itself (flock): it leaves no file, and the system releases it when
        the process ends, however it ends. Where there is no flock, as on Windows, nothing is locked.

        Raises:
            VaeError: somebody else holds the lock, or the folder cannot be created.
        """
        new = not self.path.exists()
        files.make_folder(self.path)
        descriptor, made = None, False
        try:
            try:
                descriptor = os.open(self.path, os.O_RDONLY)
            except PermissionError:  # a folder, on Windows
                pass
            except FileNotFoundError as error:
                raise self._removed() from error
            if descriptor is not None and files.lock(descriptor) is False:
                holder = files.lock_holder(descriptor)
                named = f", process {holder}" if holder else ""
                raise VaeError(
                    f"`run` {self.path}: another training or export is writing to it{named}",
                    "wait until it ends, or name another folder",
                )
            made = new  # by this process, or by one that has left it: nobody else is in it
            # Another process may have removed the folder, or made another one, before it was locked.
            self._identity = None if descriptor is None else _identity(os.fstat(descriptor))
            if not self.is_the_locked_one:
                raise self._removed()
            files.check_pending(self.path)
            try:
                files.finish_pending_moves(self.path)
            except OSError as error:
                raise file_error(error.filename or self.path, error) from error
            files.remove_leftovers(*self.unfinished)
            yield
        finally:
            # Before it is unlocked, as somebody else may lock it then. A folder that others made stays.
            if made and self.is_the_locked_one:
                with contextlib.suppress(OSError):  # it has files in it
                    self.path.rmdir()
            if descriptor is not None:
                os.close(descriptor)

    def _removed(self) -> VaeError:
        return VaeError(f"`run` {self.path}: another program removed the folder while it was opened", "try again")

    @property
    def is_the_locked_one(self) -> bool:
        """Whether the folder of this name is the one that was locked: others may remove it, or make another one."""
        if self._identity is None:
            return True  # there are no locks here
        return self._identity == self._found()

    def _found(self) -> tuple[int, int] | None:
        """What tells the folder of this name from all others; None where there is none."""
        try:
            return _identity(self.path.stat())
        except OSError:
            return None

    @property
    def unfinished(self) -> list[Path]:
        """What killed trainings and exports have left, which the next one removes."""
        parts = self.previews.glob(".*.part") if self.previews.is_dir() else ()
        found = [re.fullmatch(rf"\.({PREVIEW})\.[0-9a-f]{{8}}\.part", part.name) for part in parts]
        own = {self.previews / match[1] for match in found if match}
        return [part for file in (*self.files, self.path / files.PENDING, *own) for part in files.unfinished(file)]

    def clear(self) -> None:
        """Remove what a training and an export wrote, and nothing else.

        Raises VaeError where that fails, or the next training could not write its previews: then the model is kept.
        """
        try:
            if os.path.lexists(self.previews):
                with files.temporary_beside(self.data_preview):
                    pass
            for file in (*self._own_previews(), *self.files):
                if file != self.previews:
                    file.unlink(missing_ok=True)
            if self.previews.is_dir() and not self.previews.is_symlink() and not any(self.previews.iterdir()):
                self.previews.rmdir()
        except OSError as error:
            raise file_error(error.filename or self.path, error) from error

    def write_record(self, record: RunRecord) -> None:
        """Write config.json. Raises VaeError."""
        content = msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
        files.write_bytes(self.config, content, durable=True)

    def read_record(self) -> RunRecord:
        """Read config.json. Raises VaeError where it is missing or damaged."""
        try:
            return msgspec.json.decode(self._read(self.config), type=RunRecord)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, VaeError) as error:
            if isinstance(error, VaeError) and not self.config.exists():
                raise
            reason = without_backticks(error.message if isinstance(error, VaeError) else str(error))
            raise VaeError(
                f"{self.config}: not the config of a run: {reason}",
                f"{'train anew with `overwrite`' if self.has_weights else 'move it'}, or name another `run`",
            ) from error

    def read_metrics(self) -> list[EpochMetrics]:
        """The epochs of metrics.jsonl, oldest first. A last line that a killed training cut short is left out.

        Raises:
            VaeError: the file is missing, or another line is damaged.
        """
        epochs = []
        lines = self._read(self.metrics).splitlines()
        for number, line in enumerate(lines, 1):
            try:
                epochs.append(msgspec.json.decode(line, type=EpochMetrics))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                if number == len(lines):
                    break
                reason = without_backticks(str(error))
                raise VaeError(
                    f"{self.metrics}: line {number} is damaged: {reason}", "remove that line, or train anew"
                ) from error
        return epochs

    def append_metrics(self, epoch: EpochMetrics) -> None:
        """Add a line to metrics.jsonl, which survives a power cut as the checkpoint does. Raises VaeError."""
        try:
            with self.metrics.open("ab") as stream:
                stream.write(msgspec.json.encode(epoch) + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise file_error(self.metrics, error) from error

    def cut_metrics(self, epochs: int) -> int:
        """Drop the lines after epoch `epochs`, which a killed training may have left. Returns how many are kept.

        Raises VaeError.
        """
        kept = [epoch for epoch in self.read_metrics() if epoch.epoch <= epochs] if self.metrics.exists() else []
        content = b"".join(msgspec.json.encode(epoch) + b"\n" for epoch in kept)
        if self.metrics.exists() and self._read(self.metrics) == content:
            return len(kept)
        files.write_bytes(self.metrics, content, durable=True)
        return len(kept)

    def _read(self, file: Path) -> bytes:
        try:
            return limits.read_file(file)
        except FileNotFoundError as error:
            hint = f"there is no training in {self.path}: vae train{run_flag(self.path)} makes one"
            raise VaeError(f"{file}: no such file", remedy_without(self.path, hint)) from error
        except OSError as error:
            raise file_error(file, error) from error


def _identity(status: os.stat_result) -> tuple[int, int]:
    """What tells a file or folder from all others."""
    return status.st_dev, status.st_ino
