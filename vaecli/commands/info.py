"""`vae info`: what a run folder or an exported file is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from vaecli.commands.options import DEFAULT_RUN, Json, Quiet, Run
from vaecli.config import Config, flag_of
from vaecli.console import Console

if TYPE_CHECKING:
    from vaecli.inference.inspection import Exported, File, Training

Facts = Iterator[tuple[str, str]]


def info(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="PATH", help="A run folder, or an exported .onnx file; left out: --run."),
    ] = None,
    run: Run = DEFAULT_RUN,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what a run folder or an .onnx file is: shapes, training, losses, versions, sizes. Runs nothing of it.

    What does not go together, such as two halves of different models, is a warning; the exit code stays 0.
    """
    console = Console(json=json, quiet=quiet)
    from vaecli.inference.inspection import inspect

    found = inspect(path or run)
    console.note(f"{found.path}: {'a' if found.kind == 'run folder' else 'an'} {found.kind}")
    if found.training is not None:
        console.facts("training", _training(found.training))
    if found.model is not None:
        console.facts("exported model", ((name, _printable(fact)) for name, fact in _model(found.model)))
    console.facts("files", _files(found.files))
    for problem in found.problems:
        console.warn(_printable(problem))
    console.emit(found)


def _training(training: Training) -> Facts:
    record = training.record
    facts, model = record.data, record.config.model
    yield (
        "data",
        f"{facts.name}: {facts.train:,} training and {facts.held_out:,} held-out images, {_size(facts.image_shape)}",
    )
    yield "model", f"{model.architecture}, {model.latent_dim} latent dimensions, {model.likelihood} likelihood"
    yield "settings", ", ".join(_settings(record.config)) or "all as they are by default"
    yield "epochs", f"{training.epochs} of {record.config.training.epochs}, in {training.seconds:.1f} s"
    if training.best is not None and training.last is not None:
        for name, epoch in (("best", training.best), ("last", training.last)):
            losses = epoch.held_out
            yield name, f"epoch {epoch.epoch}: {_loss(losses.loss, losses.reconstruction, losses.kl)}"
        yield "active units", f"{training.last.active_units} of {model.latent_dim}"
    yield "computed on", f"{record.device}, {record.precision}, {record.path}"
    yield "versions", f"vaecli {record.versions.vaecli}, torch {record.versions.torch}"


def _model(model: Exported) -> Facts:
    known, training = model.metadata, model.metadata.training
    yield "images", _size(known.image_shape)
    yield "latent", f"{known.latent_dim} dimensions"
    yield "likelihood", known.likelihood
    yield "trained on", f"{known.data_name} ({known.data_hash[:19]})"
    yield "weights", f"of epoch {training.epoch} of {training.epochs}, beta {training.beta:g}, seed {training.seed}"
    loss = _loss(training.held_out_loss, training.held_out_reconstruction, training.held_out_kl)
    yield "held-out loss", loss
    yield "pair", known.pair
    yield "format", f"{known.format}, ONNX opset {model.opset}"
    yield "versions", f"vaecli {known.versions.vaecli}, torch {known.versions.torch}"


def _printable(text: str) -> str:
    """The text without what would steer a terminal: an exported file may be a stranger's."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _files(files: list[File]) -> Facts:
    for file in files:
        yield file.name, f"{file.bytes / 1e6:,.2f} MB" if file.bytes >= 10_000 else f"{file.bytes:,} bytes"


def _settings(config: Config) -> Iterator[str]:
    """Each setting that is not what it is by default, as a flag."""
    given, default = msgspec.to_builtins(config), msgspec.to_builtins(Config())
    for section, keys in given.items():
        for key, value in keys.items():
            if value == default[section][key]:
                continue
            flag = flag_of(section, key)
            if isinstance(value, bool):
                yield flag if value else f"--no-{flag[2:]}"
            else:
                yield f"{flag} {value}"


def _size(shape: tuple[int, int, int]) -> str:
    """(channels, height, width), as people write it."""
    channels, height, width = shape
    return f"{height}x{width} {'grey' if channels == 1 else 'colour'}"


def _loss(loss: float, reconstruction: float, kl: float) -> str:
    return f"{loss:.2f} = {reconstruction:.2f} reconstruction + {kl:.2f} KL, nats per held-out image"
