"""What a run folder or an exported file is, from its files alone: needs no ONNX Runtime and no NumPy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Literal

import msgspec

from vaecli.config import Config
from vaecli.errors import VaeError, file_error
from vaecli.events import ChosenBy, EpochMetrics, best_epoch
from vaecli.files import PENDING
from vaecli.inference import graph_file
from vaecli.inference.graph_file import GraphFile
from vaecli.model_format import (
    DECODER_FILE,
    ENCODER_FILE,
    FLOW_FILE,
    PRIOR_FILE,
    Binarize,
    ImageShape,
    Likelihood,
    Metadata,
    bits_per_dimension,
)
from vaecli.run_folder import RunFolder, RunRecord
from vaecli.settings import without_seed

MODEL_FILES = (ENCODER_FILE, DECODER_FILE, PRIOR_FILE, FLOW_FILE)
DEPTH = 3  # folders below one, down to which runs are looked for


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a run; `previews` is a folder, and its size that of all pictures in it."""

    name: str
    bytes: int


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """What config.json and metrics.jsonl say."""

    record: RunRecord
    epochs: int  # done
    seconds: float  # of all epochs together
    chosen_by: ChosenBy  # the images whose loss chose the best epoch
    best: EpochMetrics | None  # see events.best_epoch
    last: EpochMetrics | None


class ExportedModel(msgspec.Struct, frozen=True, kw_only=True):
    """The metadata of an exported model, or of the file of it that exists, and of its prior and flow where they are."""

    opset: int
    metadata: Metadata


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What there is at a path."""

    path: str
    kind: Literal["run folder", "exported file"]
    training: Training | None
    model: ExportedModel | None  # None also where the files of a run folder do not match
    files: list[File]
    problems: list[str]  # what cannot be read or does not match, in words


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One of the runs below a folder, in a line."""

    path: str
    data: str  # the data set's name
    image_shape: ImageShape
    data_hash: str
    likelihood: Likelihood
    binarize: Binarize  # what training made of grey pixels
    conditional: bool  # whether the losses are about p(x|y), y the class of a picture
    recipe: str | None
    epochs: int  # done
    best_epoch: int | None
    chosen_by: ChosenBy  # the images whose loss chose the best epoch
    loss: float | None  # of these images, of the best epoch, in nats per image
    reconstruction: float | None  # the terms of this loss
    kl: float | None
    active_units: int | None  # latent dimensions in use, in the same epoch; None where only the model is there
    bits_per_dimension: float | None  # the same loss, for likelihoods over 8-bit values
    exported: bool
    exported_epoch: int | None = None  # of the weights in the exported model
    config: Config | None = None  # all settings of the training; None where its config.json is not there
    problems: list[str] = []  # what of it cannot be read, in words

    @property
    def measured(self) -> tuple[object, ...]:
        """The facts that must be equal for two losses to be comparable."""
        return (
            self.data,
            self.data_hash,
            self.likelihood,
            self.binarize,
            self.conditional,
            self.image_shape,
            self.chosen_by,
        )


class SeedSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Runs that differ in their seed only."""

    runs: list[str]  # their paths
    mean: float  # of their losses, in nats per image
    standard_deviation: float  # of one run's loss


def runs(*folders: str | Path) -> list[RunSummary]:
    """The runs in folders and below, down to DEPTH folders: those whose losses can be compared together, best first.

    They are of the same data, size of picture, likelihood and binarisation, of p(x) or p(x|y), and all of held-out or
    all of validation pictures. The losses are those of the training, under its prior.

    Raises VaeError where a folder cannot be read.
    """
    seen = set[Path]()
    found = [run for folder in folders for run in map(_summary, _folders(Path(folder), DEPTH, seen)) if run is not None]
    return sorted(found, key=lambda run: (*run.measured, math.inf if run.loss is None else run.loss, run.path))


def over_seeds(found: Sequence[RunSummary], losses: Mapping[str, float] | None = None) -> list[SeedSummary]:
    """The mean loss of each two runs or more, finished to the same number of epochs, that differ in their seed only.

    `losses` are other ones than those of the training, in nats per image by the path of the run. Of several runs of one
    seed, such as a run and its copy, the first one counts. See `settings.without_seed`.
    """
    same = dict[tuple[object, ...], dict[int | None, tuple[str, float]]]()
    for run in found:
        loss = run.loss if losses is None else losses.get(run.path)
        if run.config is not None and loss is not None:
            of_seed = same.setdefault((*run.measured, run.epochs, without_seed(run.config)), {})
            of_seed.setdefault(run.config.training.seed, (run.path, loss))
    summaries = []
    for several in same.values():
        if len(several) > 1:
            paths, nats = zip(*several.values(), strict=True)
            summaries.append(SeedSummary(runs=[*paths], mean=mean(nats), standard_deviation=stdev(nats)))
    return summaries


def _folders(folder: Path, depth: int, seen: set[Path]) -> Iterator[RunFolder]:
    """Run folders in `folder` or below, without hidden ones. Links are followed; each folder comes once."""
    place = folder.resolve()
    if place in seen:
        return
    seen.add(place)
    try:
        if RunFolder(folder).occupied:
            yield RunFolder(folder)
            return
        below = sorted(filter(Path.is_dir, folder.iterdir()), key=lambda path: (path.is_symlink(), path))
    except PermissionError:
        return
    except OSError as error:
        raise file_error(folder, error) from error
    for path in below if depth else ():
        if not path.name.startswith("."):
            yield from _folders(path, depth - 1, seen)


def _summary(folder: RunFolder) -> RunSummary | None:
    """A run in a line; None where neither its training nor its exported model can be read."""
    problems: list[str] = []
    training, graphs = read_training(folder, problems), _graphs([folder.decoder], problems)
    exported = folder.encoder.exists() and bool(graphs)
    exported_epoch = graphs[0].metadata.training.epoch if exported else None
    if training is not None:
        best = training.best
        return RunSummary(
            path=str(folder.path),
            data=training.record.data.name,
            image_shape=training.record.data.image_shape,
            data_hash=training.record.data.hash,
            likelihood=training.record.config.model.likelihood,
            binarize=training.record.config.data.binarize,
            conditional=training.record.config.model.conditional,
            recipe=training.record.recipe,
            epochs=training.epochs,
            best_epoch=best.epoch if best else None,
            chosen_by=training.chosen_by,
            loss=best.held_out.loss if best else None,
            reconstruction=best.held_out.reconstruction if best else None,
            kl=best.held_out.kl if best else None,
            active_units=best.active_units if best else None,
            bits_per_dimension=best.bits_per_dimension if best else None,
            exported=exported,
            exported_epoch=exported_epoch,
            config=training.record.config,
            problems=problems,
        )
    if not graphs:
        return None
    metadata = graphs[0].metadata
    loss = metadata.training.held_out_loss
    return RunSummary(
        path=str(folder.path),
        data=metadata.data_name,
        image_shape=metadata.image_shape,
        data_hash=metadata.data_hash,
        likelihood=metadata.likelihood,
        binarize=metadata.binarize,
        conditional=bool(metadata.classes),
        recipe=None,
        epochs=metadata.training.epochs,
        best_epoch=metadata.training.epoch,
        chosen_by="validation" if metadata.training.validation else "held-out",
        loss=loss,
        reconstruction=metadata.training.held_out_reconstruction,
        kl=metadata.training.held_out_kl,
        active_units=None,
        bits_per_dimension=bits_per_dimension(loss, metadata.likelihood, metadata.image_shape),
        exported=exported,
        exported_epoch=exported_epoch,
        problems=problems,
    )


def inspect(path: str | Path) -> Inspection:
    """Inspect a run folder, or an exported file and the others beside it.

    Raises:
        VaeError: nothing is at `path`, nothing of ours, or a file that cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return _run_folder(RunFolder(path))
    if not path.exists():
        raise VaeError(f"{path}: no such file or folder", "vae train, then vae export, make one; check the spelling")
    if path.suffix.lower() != ".onnx":
        raise VaeError(f"{path}: neither a run folder nor an exported file", "name a folder or a .onnx file")
    graph, problems = graph_file.read(path), list[str]()
    others = [path.with_name(name) for name in MODEL_FILES if path.name in MODEL_FILES and name != path.name]
    model = _model([graph, *_graphs(others, problems)], problems) or _model([graph], problems)
    files = [File(name=path.name, bytes=len(graph.content))]
    problems += _without_prior(model, path.with_name(PRIOR_FILE))
    return Inspection(path=str(path), kind="exported file", training=None, model=model, files=files, problems=problems)


def _run_folder(folder: RunFolder) -> Inspection:
    problems: list[str] = []
    training = read_training(folder, problems)
    graphs = _graphs(folder.exported, problems)
    for missing, other in ((folder.encoder, folder.decoder), (folder.decoder, folder.encoder)):
        if other.exists() and not missing.exists():
            problems.append(f"{missing.name} is missing; it belongs to {other.name}")
    if not (folder.encoder.exists() or folder.decoder.exists()):
        alone = (path.name for path in (folder.prior, folder.flow) if path.exists())
        problems += [f"{name} is alone, without {' and '.join(MODEL_FILES[:2])}" for name in alone]
    problems += _left(folder)
    model = _model(graphs, problems)
    problems += _without_prior(model, folder.prior)
    if model is not None and training is not None and (problem := mismatch_with_training(model.metadata, training)):
        problems.append(problem)
    files = []
    try:
        for path in filter(Path.exists, folder.files):
            parts = path.iterdir() if path.is_dir() else [path]
            name = f"{path.name}/" if path.is_dir() else path.name
            files.append(File(name=name, bytes=sum(part.lstat().st_size for part in parts)))
    except OSError as error:
        raise file_error(error.filename or folder.path, error) from error
    if not files:
        message = f"{folder.path}: no training and no exported model in it"
        raise VaeError(message, "name the folder of a run, which vae train makes, or a folder with runs below it")
    return Inspection(
        path=str(folder.path), kind="run folder", training=training, model=model, files=files, problems=problems
    )


def _without_prior(model: ExportedModel | None, prior: Path) -> Iterator[str]:
    """A sentence where a model that needs its prior is without."""
    if model is not None and model.metadata.trained_prior == "vamp" and not prior.exists():
        apart = "" if model.metadata.flow is None else ", except to draw from its flow"
        yield f"{prior.name} is missing: the model was trained with a VampPrior and needs it{apart}"


def _left(folder: RunFolder) -> Iterator[str]:
    """Sentences about what killed commands have left."""
    if (folder.path / PENDING).is_dir():
        yield "an export was killed while it replaced the model: the next use of the model completes it"
    if left := folder.unfinished:
        names = ", ".join(str(part.relative_to(folder.path)) for part in left)
        yield f"a killed training or export has left {names}: the next one removes what was left"


def read_training(folder: RunFolder, problems: list[str]) -> Training | None:
    """The training. What is wrong with its files is added to `problems`."""
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
        chosen_by=record.data.chosen_by,
        best=best_epoch(epochs, record.config.training.kl_warmup),
        last=epochs[-1] if epochs else None,
    )


def mismatch_with_training(metadata: Metadata, training: Training) -> str | None:
    """A sentence where an exported model is not of the training in its folder, or of a worse epoch; else None."""
    recorded = training.record.config.training
    if (metadata.data_hash, metadata.training.seed) != (training.record.data.hash, recorded.seed):
        return "the exported model is of another training: its data or its seed differ"
    epoch, best, last = metadata.training.epoch, training.best, training.last
    if best is None or last is None or epoch in (best.epoch, last.epoch):
        return None
    return f"the exported model is of epoch {epoch}; epoch {best.epoch} of this run is better: vae export again"


def _graphs(paths: Iterable[Path], problems: list[str]) -> list[GraphFile]:
    """Those of a model that exist and can be read. What is wrong with them is added to `problems`."""
    graphs = []
    for path in filter(Path.exists, paths):
        try:
            graphs.append(graph_file.read(path))
        except VaeError as error:
            problems.append(error.message)
    return graphs


def _model(graphs: list[GraphFile], problems: list[str]) -> ExportedModel | None:
    """What the files of one model say together; None where there are none, or of different models: a problem."""
    if len({graph.metadata.pair for graph in graphs}) > 1:
        names = sorted((graph.path.name for graph in graphs), key=MODEL_FILES.index)
        problems.append(f"{' and '.join(names)} are of different models")
        return None
    if not graphs:
        return None
    prior = next((graph.metadata.prior for graph in graphs if graph.metadata.prior is not None), None)
    flow = next((graph.metadata.flow for graph in graphs if graph.metadata.flow is not None), None)
    metadata = msgspec.structs.replace(graphs[0].metadata, prior=prior, flow=flow)
    return ExportedModel(opset=graphs[0].opset, metadata=metadata)
