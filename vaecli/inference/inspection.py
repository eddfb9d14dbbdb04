"""What a run folder or an exported file is, read from the files alone: needs no runtime and no NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from vaecli.errors import VaeError, file_error
from vaecli.inference import header
from vaecli.inference.header import GraphFile
from vaecli.metrics import EpochMetrics
from vaecli.model_format import DECODER_FILE, ENCODER_FILE, Metadata
from vaecli.run_folder import RunFolder, RunRecord

HALVES = {ENCODER_FILE: DECODER_FILE, DECODER_FILE: ENCODER_FILE}  # each with the other one


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a run; `previews` is a folder, and its size that of all pictures in it."""

    name: str
    bytes: int


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """What config.json and metrics.jsonl say."""

    record: RunRecord
    epochs: int  # done
    seconds: float  # of all epochs together
    best: EpochMetrics | None  # of the lowest held-out loss
    last: EpochMetrics | None


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What a pair of exported files says of itself, or the half that is there."""

    opset: int
    metadata: Metadata


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What there is at a path."""

    path: str
    kind: Literal["run folder", "exported file"]
    training: Training | None
    model: Exported | None  # None also where two halves do not match
    files: list[File]
    problems: list[str]  # what cannot be read, or does not go together, in words


def inspect(path: Path) -> Inspection:
    """Look at a run folder, or at an exported file and the other half beside it.

    Raises:
        VaeError: there is nothing at `path`, nothing of ours, or it is a file that cannot be read.
    """
    if not path.exists():
        raise VaeError(f"{path}: no such file or folder", "vae train, then vae export, make one; check the spelling")
    if path.is_dir():
        return _run_folder(RunFolder(path))
    if path.suffix.lower() != ".onnx":
        raise VaeError(f"{path}: neither a run folder nor an exported file", "name a folder or a .onnx file")
    return _exported_file(path)


def _exported_file(path: Path) -> Inspection:
    graph, problems = header.read(path), list[str]()
    other = HALVES.get(path.name)
    if other and path.with_name(other).exists():
        beside = _half(path.with_name(other), problems)
        if beside is not None:
            problems += _mismatch([graph, beside])
    return Inspection(
        path=str(path),
        kind="exported file",
        training=None,
        model=Exported(opset=graph.opset, metadata=graph.metadata),
        files=[File(name=path.name, bytes=len(graph.content))],
        problems=problems,
    )


def _run_folder(folder: RunFolder) -> Inspection:
    problems: list[str] = []
    training = _training(folder, problems)
    there = [half for half in (folder.encoder, folder.decoder) if half.exists()]
    halves = [half for path in there if (half := _half(path, problems)) is not None]
    if len(there) == 1:
        problems.append(f"{HALVES[there[0].name]} is not there, the other half of {there[0].name}")
    mismatch = _mismatch(halves)
    problems += mismatch
    model = None
    if halves and not mismatch:
        model = Exported(opset=halves[0].opset, metadata=halves[0].metadata)
        if training is not None:
            problems += _strange(model.metadata, training)
    files = _files(folder)
    if not files:
        raise VaeError(f"{folder.path}: no training and no exported model in it", f"vae train --run {folder.path}")
    return Inspection(
        path=str(folder.path), kind="run folder", training=training, model=model, files=files, problems=problems
    )


def _training(folder: RunFolder, problems: list[str]) -> Training | None:
    """What is known of the training; whatever is wrong with its files is added to `problems`."""
    if not folder.config.exists():
        if folder.has_training:
            problems.append(f"{folder.config.name} is not there: the training cannot be resumed or exported")
        return None
    try:
        record = folder.read_record()
        epochs = folder.read_metrics() if folder.metrics.exists() else []
    except VaeError as error:
        problems.append(error.message)
        return None
    return Training(
        record=record,
        epochs=len(epochs),
        seconds=sum(epoch.seconds for epoch in epochs),
        best=min(epochs, key=lambda epoch: epoch.held_out.loss, default=None),
        last=epochs[-1] if epochs else None,
    )


def _half(path: Path, problems: list[str]) -> GraphFile | None:
    try:
        return header.read(path)
    except VaeError as error:
        problems.append(error.message)
        return None


def _mismatch(halves: list[GraphFile]) -> list[str]:
    """What to say where two files are not halves of one model."""
    if len({half.metadata.pair for half in halves}) < 2:
        return []
    described = (
        f"{half.path.name} (pair {half.metadata.pair}, {half.metadata.latent_dim} latent dimensions, "
        f"trained on {half.metadata.data_name})"
        for half in halves
    )
    return [f"{' and '.join(described)} are halves of different models"]


def _strange(metadata: Metadata, training: Training) -> list[str]:
    """How an exported model differs from the training in whose folder it lies."""
    if (metadata.data_hash, metadata.training.seed) != (
        training.record.data.hash,
        training.record.config.training.seed,
    ):
        return ["the exported model is not of this training: its data or its seed are others"]
    epoch, best, last = metadata.training.epoch, training.best, training.last
    if best is None or last is None or epoch in (best.epoch, last.epoch):
        return []
    return [f"the exported model is of epoch {epoch}; the lowest loss is now that of epoch {best.epoch}"]


def _files(folder: RunFolder) -> list[File]:
    """What a training and an export left, in the order in which they come to be."""
    found = []
    try:
        for path in (
            folder.config,
            folder.metrics,
            folder.checkpoint,
            folder.best,
            folder.previews,
            folder.encoder,
            folder.decoder,
        ):
            if path.is_dir():
                found.append(File(name=f"{path.name}/", bytes=sum(file.stat().st_size for file in path.iterdir())))
            elif path.exists():
                found.append(File(name=path.name, bytes=path.stat().st_size))
    except OSError as error:
        raise file_error(error.filename or folder.path, error) from error
    return found
