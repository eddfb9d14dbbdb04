"""Weights to encoder.onnx, decoder.onnx and prior.onnx: convert, check, then write."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import onnx
import torch
from torch import Tensor

import vaecli
from vaecli import config, files, model_format
from vaecli.datasets.dataset import Dataset, spread
from vaecli.errors import Interrupted, VaeError
from vaecli.evaluation.score import NEEDED
from vaecli.evaluation.strangeness import FEWEST, MOST, measure_reference
from vaecli.events import Losses, Note, OnEvent, ignore
from vaecli.exporting.flow_fit import FittedFlow, fit_flow
from vaecli.exporting.graphs import DecoderGraph, EncoderGraph, FlowGraph, to_onnx, with_metadata
from vaecli.exporting.held_out import HeldOutCheck, MeasuredPictures, check_held_out, measured_pictures
from vaecli.exporting.parity import (
    BATCHES,
    GPU_FACTOR,
    UNCHANGED,
    Tolerance,
    flow_differences,
    largest_differences,
    prior_differences,
)
from vaecli.exporting.posteriors import Encoding
from vaecli.exporting.prior_fit import FittedPrior, fit_prior
from vaecli.exporting.prior_graph import prior_graph
from vaecli.exporting.result import ExportResult
from vaecli.inference import graph_file
from vaecli.inference.flow import latents
from vaecli.inference.pair import Pair, open_files
from vaecli.inference.runtime import open_graph, open_prior
from vaecli.inference.session import CUDA, providers
from vaecli.model_format import (
    DECODER_FILE,
    ENCODER_FILE,
    FLOW_FILE,
    IMAGE,
    LABEL,
    LATENT,
    LIKELIHOODS,
    MAX_PIXEL,
    MEAN,
    PRIOR_FILE,
    STATE,
    STD,
    TIME,
    VELOCITY,
    FlowSummary,
    Metadata,
    Reference,
)
from vaecli.run_folder import RunFolder, RunRecord
from vaecli.training.checkpoint import Weights
from vaecli.training.model import VAE
from vaecli.training.network import latent_shape
from vaecli.wording import how_many


def export_pair(
    weights: Weights,
    record: RunRecord,
    folder: RunFolder,
    tolerance: Tolerance,
    dataset: Dataset | None = None,
    *,
    fits_prior: bool = False,
    flow_steps: int = 0,
    keeps_flow: bool = False,
    on_event: OnEvent = ignore,
) -> ExportResult:
    """Write the graphs of `weights` into `folder`, once they pass the ONNX checker and agree with PyTorch.

    A flow takes minutes: the others are written first, and it when it agrees, too.

    They are checked on a CPU, and on CUDA where ONNX Runtime can start it, with GPU_FACTOR times the tolerance.
    `dataset` has the pictures of the training, where they are on this machine: their losses are compared, too, their
    statistics are kept for `vae score`, and with `fits_prior` a prior is fitted to their latents. Where there is none,
    an older prior is removed. With `keeps_flow`, an older flow of the same weights stays; else it is removed, and with
    `flow_steps` one is fitted in at most so many steps, which needs a `dataset`.

    Raises:
        ParityError: ONNX Runtime computes something else; the old files stay. Of a flow: the others are new.
        Interrupted: Ctrl-C during the fit of the flow; the other files are new.
        VaeError: the files cannot be written, or ONNX Runtime is not installed.
    """
    model, binarize = restore_model(weights), record.config.data.binarize
    metadata, graphs = _metadata(weights, record, model), _convert(model, weights)
    pictures = None if dataset is None else measured_pictures(dataset, record.config)
    prior: FittedPrior | None = None
    with tempfile.TemporaryDirectory() as scratch:  # read back as their users will read them
        place = Path(scratch)
        for name, graph in graphs.files.items():
            files.write_bytes(place / name, with_metadata(graph, metadata))
        compared = _compare(place, graphs, model, pictures, weights.losses, tolerance)
        differences = dict(compared.differences)
        encoding = None if dataset is None else Encoding(compared.fastest, dataset, binarize, record.seed)
        if fits_prior and encoding is not None:
            prior = fit_prior(encoding, on_event)
        if prior is not None:
            described = msgspec.structs.replace(metadata, prior=prior.summary)
            files.write_bytes(place / PRIOR_FILE, prior_graph(prior.mixture, model_format.to_json(described)))
            differences |= prior_differences(open_prior(graph_file.read(place / PRIOR_FILE)), prior.mixture, tolerance)
        on_cpu = Pair(place, open_files(place), "cpu")  # with its prior
        earlier: _FlowFile | None = None
        if folder.flow.exists() and (keeps_flow or flow_steps):
            told = on_event if keeps_flow else ignore  # else it stays until the new one is fitted
            earlier = _earlier_flow(folder, on_cpu, told, fits_another=bool(flow_steps))
        elif folder.flow.exists():
            on_event(Note(f"{folder.flow} is removed: only `prior` auto keeps an earlier flow"))
        reference = None if dataset is None else _reference(on_cpu, dataset, on_event)
        referenced = msgspec.structs.replace(metadata, reference=reference)
        contents: dict[str, bytes | None] = {
            name: with_metadata(graph, referenced) for name, graph in graphs.files.items()
        }
        contents[PRIOR_FILE] = None if prior is None else (place / PRIOR_FILE).read_bytes()
        contents[FLOW_FILE] = None if earlier is None else earlier.content
        _replace(folder, contents)
        flow = earlier if keeps_flow else None
        if flow is None and flow_steps and encoding is not None:
            on_event(Note(f"{folder.path}: the model can be used already; a flow is added to it"))
            with _model_kept(folder):
                fitted = fit_flow(encoding, latent_shape(model.config, model.image_shape), flow_steps, on_event)
                flow, found = _convert_flow(fitted, metadata, place / FLOW_FILE, tolerance)
            differences |= found
            _replace(folder, {FLOW_FILE: flow.content})
    return ExportResult(
        encoder=folder.encoder,
        decoder=folder.decoder,
        prior=None if prior is None else folder.prior,
        prior_summary=None if prior is None else prior.summary,
        flow=None if flow is None else folder.flow,
        flow_summary=None if flow is None else flow.summary,
        trained_prior=model.config.prior,
        max_abs_difference=differences,
        opset=model_format.OPSET,
        epoch=weights.epoch,
        providers=compared.providers,
        held_out=compared.held_out,
        reference=0 if reference is None else len(reference),
    )


def _replace(folder: RunFolder, contents: Mapping[str, bytes | None]) -> None:
    """Write these files together; None removes one. Raises VaeError."""
    if not folder.is_the_locked_one:
        problem = f"`run` {folder.path}: the folder was removed, moved or replaced during the export"
        raise VaeError(problem, "if it was moved, export it there")
    files.replace_together(folder.path, contents)


@contextmanager
def _model_kept(folder: RunFolder) -> Iterator[None]:
    """Say that the model is written, whatever ends the fit of its flow."""
    kept = f"{folder.path} has the new model without a new flow"
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"interrupted: {kept}", "use it as it is, or run the command again") from error
    except VaeError as error:
        error.hint = f"{kept}; {error.hint.removeprefix(UNCHANGED)}"
        raise


@dataclass(frozen=True)
class _Graphs:
    """Encoder and decoder as PyTorch's modules and as ONNX graphs, and inputs to try them with."""

    encoder: EncoderGraph
    decoder: DecoderGraph
    files: dict[str, onnx.ModelProto]  # by the names of their files
    image: Tensor  # (b, c, h, w)
    latent: Tensor  # (b, d)
    labels: Tensor | None  # (b,), of a conditional model
    outputs: tuple[str, ...]  # of the decoder


def _convert(model: VAE, weights: Weights) -> _Graphs:
    """The network as ONNX graphs. Raises VaeError where PyTorch cannot convert it."""
    image, latent, labels = _examples(weights, model)
    label = {} if labels is None else {LABEL: labels}
    outputs = (IMAGE, *LIKELIHOODS[model.config.likelihood].parameters)
    encoder, decoder = EncoderGraph(model).eval(), DecoderGraph(model).eval()
    converted = {
        ENCODER_FILE: to_onnx(encoder, {IMAGE: image, **label}, (MEAN, STD)),
        DECODER_FILE: to_onnx(decoder, {LATENT: latent, **label}, outputs),
    }
    return _Graphs(encoder, decoder, converted, image, latent, labels, outputs)


@dataclass(frozen=True)
class _Comparison:
    """What the comparison of the graphs with PyTorch has found."""

    differences: dict[str, float]  # the largest of each output
    providers: tuple[str, ...]  # of ONNX Runtime, that were tried
    held_out: HeldOutCheck | None
    fastest: Pair  # on CUDA where that starts


def _compare(
    folder: Path,
    graphs: _Graphs,
    model: VAE,
    pictures: MeasuredPictures | None,
    recorded: Losses,
    tolerance: Tolerance,
) -> _Comparison:
    """Run the files in `folder` on the CPU, and on CUDA where it starts, and compare them with PyTorch.

    Raises ParityError where they differ by more than is allowed.
    """
    differences, tried = dict[str, float](), list[str]()
    held_out = None
    for pair, factor in _on_each_provider(folder):
        allowed = tolerance * factor
        found = {
            **largest_differences(pair.encoder, graphs.encoder, graphs.image, graphs.labels, (MEAN, STD), allowed),
            **largest_differences(pair.decoder, graphs.decoder, graphs.latent, graphs.labels, graphs.outputs, allowed),
        }
        differences = {name: max(value, differences.get(name, 0.0)) for name, value in found.items()}
        tried.append(pair.decoder.provider)
        if pictures is not None:
            held_out = check_held_out(pair, model, pictures, recorded)
    return _Comparison(differences, tuple(tried), held_out, pair)


def _examples(weights: Weights, model: VAE) -> tuple[Tensor, Tensor, Tensor | None]:
    """As many images, latents and, of a conditional model, classes as the largest batch that graphs are tried with."""
    count = max(BATCHES)
    image = weights.examples[:count].permute(0, 3, 1, 2).float() / MAX_PIXEL
    if len(image) < count:  # a tiny data set: repeat what there is
        image = image.repeat(count, 1, 1, 1)[:count]
    latent = torch.randn(count, model.latent_dim, generator=torch.Generator().manual_seed(0))
    return image, latent, torch.arange(count) % model.classes if model.classes else None


def _on_each_provider(folder: Path) -> Iterator[tuple[Pair, float]]:
    """The exported model on the CPU, then on CUDA where it starts; and the factor of its tolerance."""
    yield Pair(folder, open_files(folder), "cpu"), 1.0
    if CUDA in providers():
        pair = Pair(folder, open_files(folder), "auto")
        if pair.decoder.provider == CUDA:
            yield pair, GPU_FACTOR


class _FlowFile(NamedTuple):
    """The bytes of a flow's file, and how it was fitted."""

    content: bytes
    summary: FlowSummary


def _convert_flow(
    fitted: FittedFlow, metadata: Metadata, path: Path, tolerance: Tolerance
) -> tuple[_FlowFile, dict[str, float]]:
    """A flow as a file, which is written to `path`, too, and the largest difference from PyTorch.

    Raises ParityError where it is larger than allowed.
    """
    graph, classes = FlowGraph(fitted.network).eval(), len(fitted.summary.classes)
    state = torch.zeros(2, metadata.latent_dim)
    inputs = {STATE: state, TIME: torch.zeros(2), **({LABEL: torch.zeros(2, dtype=torch.int64)} if classes else {})}
    described = msgspec.structs.replace(metadata, flow=fitted.summary)
    content = with_metadata(to_onnx(graph, inputs, (VELOCITY, LATENT)), described)
    files.write_bytes(path, content)
    opened = open_graph(graph_file.read(path), "cpu")
    return _FlowFile(content, fitted.summary), flow_differences(opened, graph, classes, tolerance)


def _earlier_flow(folder: RunFolder, pair: Pair, on_event: OnEvent, *, fits_another: bool) -> _FlowFile | None:
    """The flow in the folder, if it works and is of the same weights. Says what becomes of it."""
    anew = "`prior` flow fits one"
    try:
        file = graph_file.read(folder.flow)
        if file.metadata.pair != pair.metadata.pair:
            raise VaeError("it was fitted to the latents of other weights", anew)
        graph, summary = open_graph(file, "cpu"), file.metadata.flow
        assert summary is not None, "open_graph asks for it"
        if pair.classes and summary.classes != pair.classes:
            raise VaeError("it knows other classes than the pictures have now", anew)
        latents(graph, np.zeros((1, pair.latent_dim), np.float32), np.zeros(1, np.int64))  # whether it works
    except VaeError as error:
        remedy = "" if fits_another else f"; {anew}"
        on_event(Note(f"{folder.flow} is removed: {error.message}{remedy}", warning=True))
        return None
    on_event(Note(f"{folder.flow} is kept: it was fitted to the latents of the same weights"))
    return _FlowFile(file.content, summary)


def _reference(pair: Pair, dataset: Dataset, on_event: OnEvent) -> Reference | None:
    """What held-out pictures of the training score, for `vae score`; None where there are too few."""
    held_out = dataset.held_out.rows(spread(MOST, len(dataset.held_out)))
    if len(held_out) < FEWEST:
        few = f"{how_many(len(held_out), 'held-out picture')} of {dataset.name}"
        on_event(Note(f"no statistics of held-out pictures for vae score: {few}; {NEEDED}"))
        return None
    return measure_reference(pair, held_out, pair.labels_of(held_out.classes))


def restore_model(weights: Weights) -> VAE:
    """The trained network in float32, ready to use."""
    model = VAE(config.from_json(weights.config.encode()).model, weights.image_shape, len(weights.classes))
    model.load_state_dict(weights.model)
    return model.float().eval()


def _metadata(weights: Weights, record: RunRecord, model: VAE) -> Metadata:
    training = record.config.training
    return Metadata(
        format=model_format.FORMAT_VERSION,
        pair=_fingerprint(model),
        image_shape=weights.image_shape,
        latent_dim=model.latent_dim,
        likelihood=model.config.likelihood,
        components=model.config.components if LIKELIHOODS[model.config.likelihood].is_mixture else None,
        data_name=record.data.name,
        data_hash=record.data.hash,
        classes=weights.classes,
        binarize=record.config.data.binarize,
        trained_prior=model.config.prior,
        training=model_format.TrainingSummary(
            epoch=weights.epoch,
            epochs=training.epochs,
            held_out_loss=weights.losses.loss,
            held_out_reconstruction=weights.losses.reconstruction,
            held_out_kl=weights.losses.kl,
            beta=training.beta,
            seed=record.seed,
            validation=record.data.validation,
        ),
        versions=model_format.Versions(vaecli=vaecli.__version__, torch=str(torch.__version__)),
    )


def _fingerprint(model: VAE) -> str:
    """The pair's id, a hash of the weights."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + str(tuple(tensor.shape)).encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
