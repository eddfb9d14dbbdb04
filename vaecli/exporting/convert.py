"""Weights to encoder.onnx, decoder.onnx and prior.onnx: convert, check, then write."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import onnx
import onnxscript.optimizer
import torch
from torch import Tensor, nn

import vaecli
from vaecli import config, datasets, files, model_format
from vaecli.errors import VaeError
from vaecli.evaluation.data import choose
from vaecli.evaluation.score import NEEDED
from vaecli.evaluation.strangeness import FEWEST, MOST, measure_reference
from vaecli.events import Note, OnEvent, ignore
from vaecli.exporting.graphs import DecoderGraph, EncoderGraph
from vaecli.exporting.held_out import HeldOutCheck, check_held_out, measured_pictures
from vaecli.exporting.parity import BATCHES, GPU_FACTOR, Tolerance, largest_differences, prior_differences
from vaecli.exporting.posteriors import TrainingPictures
from vaecli.exporting.prior import fit_prior
from vaecli.exporting.prior_graph import prior_graph
from vaecli.inference import header
from vaecli.inference.pair import Pair, open_files
from vaecli.inference.runtime import open_prior
from vaecli.inference.session import CUDA, providers
from vaecli.model_format import (
    BATCH,
    DECODER_FILE,
    ENCODER_FILE,
    IMAGE,
    LABEL,
    LATENT,
    LIKELIHOODS,
    MAX_PIXEL,
    MEAN,
    PRIOR_FILE,
    STD,
    Metadata,
    PriorSummary,
    Reference,
)
from vaecli.run_folder import RunFolder, RunRecord
from vaecli.training.checkpoint import Weights
from vaecli.training.model import VAE
from vaecli.wording import how_many

FOLDED = 2**28  # numbers that are computed from weights while a graph is converted: more than any layer has


@dataclass(frozen=True)
class Checked:
    """How an exported model compares with PyTorch, and its prior."""

    differences: dict[str, float]  # the largest |difference| of each output
    providers: tuple[str, ...]  # of ONNX Runtime, on which it was found
    held_out: HeldOutCheck | None  # None where the data of the training are not here
    prior: PriorSummary | None  # None: N(0, I), which has no file
    reference: Reference | None  # the statistics of held-out pictures that are in the files


def export_pair(
    weights: Weights,
    record: RunRecord,
    folder: RunFolder,
    tolerance: Tolerance,
    fitted_to: TrainingPictures | None = None,
    on_event: OnEvent = ignore,
) -> Checked:
    """Write the graphs of `weights` into `folder`, once they pass the ONNX checker and agree with PyTorch.

    They are checked on a CPU, and on CUDA where ONNX Runtime can start it, with GPU_FACTOR times the tolerance. With
    `fitted_to`, a prior is fitted to the latents of these pictures. Where there is none, an older prior is removed.

    Raises:
        ParityError: ONNX Runtime computes something else; the old files stay.
        VaeError: the files cannot be written, or ONNX Runtime is not installed.
    """
    model = restore_model(weights)
    metadata = _metadata(weights, record, model)
    image, latent, labels = _examples(weights, model)
    outputs = (IMAGE, *LIKELIHOODS[model.config.likelihood].parameters)
    encoder, decoder = EncoderGraph(model).eval(), DecoderGraph(model).eval()
    graphs = {
        ENCODER_FILE: _convert(encoder, image, labels, IMAGE, (MEAN, STD)),
        DECODER_FILE: _convert(decoder, latent, labels, LATENT, outputs),
    }
    pictures = measured_pictures(record)
    differences, tried = dict[str, float](), list[str]()
    held_out, prior = None, None
    with tempfile.TemporaryDirectory() as scratch:  # read back as their users will read them
        for name, graph in graphs.items():
            files.write_bytes(Path(scratch, name), _with_metadata(graph, metadata))
        for tested, factor in _on_each_provider(Path(scratch)):
            found = {
                **largest_differences(tested.encoder, encoder, image, labels, (MEAN, STD), tolerance * factor),
                **largest_differences(tested.decoder, decoder, latent, labels, outputs, tolerance * factor),
            }
            differences = {name: max(value, differences.get(name, 0.0)) for name, value in found.items()}
            tried.append(tested.decoder.provider)
            if pictures is not None:
                held_out = check_held_out(tested, model, pictures, weights.losses)
        fastest = tested  # CUDA where it starts
        if fitted_to is not None:
            on_event(Note(f"fitting the prior to the latents of {how_many(len(fitted_to.train), 'training picture')}"))
            prior = fit_prior(fastest.encoder, fitted_to, on_event)
        if prior is not None:
            described = msgspec.structs.replace(metadata, prior=prior.summary)
            file = Path(scratch, PRIOR_FILE)
            files.write_bytes(file, prior_graph(prior.mixture, model_format.to_json(described)))
            differences |= prior_differences(open_prior(header.read(file)), prior.mixture, tolerance)
        on_cpu = Pair(Path(scratch), open_files(Path(scratch)), "cpu")  # with its prior
        metadata = msgspec.structs.replace(metadata, reference=_reference(on_cpu, record, on_event))
        contents: dict[str, bytes | None] = {name: _with_metadata(graph, metadata) for name, graph in graphs.items()}
        contents[PRIOR_FILE] = None if prior is None else Path(scratch, PRIOR_FILE).read_bytes()
    if not folder.is_the_locked_one:
        problem = f"`run` {folder.path}: the folder was removed, moved or replaced during the export"
        raise VaeError(problem, "if it was moved, export it there")
    files.replace_together(folder.path, contents)
    return Checked(differences, tuple(tried), held_out, None if prior is None else prior.summary, metadata.reference)


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


def _reference(pair: Pair, record: RunRecord, on_event: OnEvent) -> Reference | None:
    """What held-out pictures of the training score, for `vae score`; None, and why, where they cannot be had."""
    try:
        if not datasets.is_here(record.config.data):
            raise VaeError(f"{record.data.name} is not on this machine", "")
        held_out = choose(pair, record.config.data, None, ignore, n=MOST)
        if not held_out.trained_on:
            raise VaeError(f"{record.data.name} has changed since the training", "")
        if len(held_out.pictures) < FEWEST:
            raise VaeError(f"{held_out}; {NEEDED}", "")
    except VaeError as error:
        on_event(Note(f"no statistics of held-out pictures for vae score: {error.message}"))
        return None
    return measure_reference(pair, held_out.pictures, pair.labels_of(held_out.pictures.classes))


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
            seed=training.seed or 0,
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


def _convert(
    module: nn.Module, example: Tensor, labels: Tensor | None, name: str, outputs: Sequence[str]
) -> onnx.ModelProto:
    """One graph: its inputs with a free batch, no side data, checked."""
    examples = {name: example[:2]}  # the exporter takes a batch of 1 for a constant
    if labels is not None:
        examples[LABEL] = labels[:2]
    batch = torch.export.Dim(BATCH)
    with _silenced():
        program = torch.onnx.export(
            module,
            tuple(examples.values()),
            dynamo=True,
            external_data=False,
            opset_version=model_format.OPSET,
            input_names=list(examples),
            output_names=list(outputs),
            dynamic_shapes=tuple({0: batch} for _ in examples),
            verbose=False,
        )
        assert program is not None  # given for dynamo=True
        # By default what is computed from weights alone stays in the graph where it is large.
        onnxscript.optimizer.optimize(program.model, input_size_limit=FOLDED, output_size_limit=FOLDED)
    proto = program.model_proto
    _forget_origin(proto)
    proto.producer_name, proto.producer_version = "vaecli", vaecli.__version__
    onnx.checker.check_model(proto, full_check=True)
    for value in (*proto.graph.input, *proto.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == BATCH, f"{value.name} has a fixed batch"
    return proto


def _with_metadata(graph: onnx.ModelProto, metadata: Metadata) -> bytes:
    """The bytes of an ONNX file."""
    onnx.helper.set_model_props(graph, {model_format.METADATA_KEY: model_format.to_json(metadata)})
    return bytes(graph.SerializeToString())


def _forget_origin(proto: onnx.ModelProto) -> None:
    """Drop the exporter's notes on nodes and values: they contain source paths of this machine."""
    graph = proto.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep the exporter's messages off the terminal. Its exceptions pass."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
