"""From weights to files: the network that is restored, its id, its metadata, and how quietly it is written."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch
from torch import Tensor, nn

from vaecli import config
from vaecli.config import Config
from vaecli.errors import ParityError, VaeError
from vaecli.exporting import convert, graphs
from vaecli.exporting.convert import export_pair, restore_model
from vaecli.exporting.graphs import DecoderGraph
from vaecli.exporting.parity import BATCHES, Tolerance, largest_differences
from vaecli.inference import graph_file, runtime
from vaecli.inference.runtime import Graph
from vaecli.inference.session import CPU, CUDA, import_runtime, open_session
from vaecli.model_format import IMAGE, LATENT, LIKELIHOODS, LOGITS, Versions
from vaecli.run_folder import DataFacts, RunFolder, RunRecord
from vaecli.settings import resolve
from vaecli.training.checkpoint import Weights
from vaecli.training.model import VAE

SHAPE = (1, 4, 5)
TOLERANCE = Tolerance(1e-5, 1e-4)


def settings(likelihood: str = "bernoulli") -> Config:
    model = {"likelihood": likelihood, "latent_dim": 2, "hidden": 8}
    return resolve({"model": model, "training": {"beta": 0.5, "epochs": 9, "seed": 3}})


def weights(asked: Config, *, seed: int = 1, dtype: torch.dtype = torch.float32, examples: int = 9) -> Weights:
    model = VAE(asked.model, SHAPE)
    model.initialise(torch.Generator().manual_seed(seed))
    return Weights(
        config=config.to_json(asked).decode(),
        image_shape=SHAPE,
        model=model.to(dtype).state_dict(),
        epoch=4,
        held_out={"loss": 3.0, "reconstruction": 2.0, "kl": 1.0},
        examples=torch.full((examples, 4, 5, 1), 90, dtype=torch.uint8),
    )


def record(asked: Config) -> RunRecord:
    return RunRecord(
        config=asked,
        data=DataFacts(name="dots", hash="sha256:0", image_shape=SHAPE, train=30, held_out=3),
        device="cpu",
        precision="float32",
        path="autograd",
        parameters=1,
        versions=Versions(vaecli="0", torch="0"),
    )


def export(folder: Path, content: Weights, asked: Config) -> RunFolder:
    run = RunFolder(folder)
    run.path.mkdir(exist_ok=True)
    export_pair(content, record(asked), run, TOLERANCE)
    return run


@pytest.fixture(autouse=True)
def _one_conversion() -> None:
    """Every conversion is made here, also of weights that were converted before."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A folder with an exported pair. Not to be changed."""
    return export(tmp_path_factory.mktemp("exported"), weights(settings()), settings())


def test_a_restored_model_is_in_float32_and_without_dropout() -> None:
    content = weights(settings(), dtype=torch.float64)
    model = restore_model(content)
    assert not model.training
    for name, tensor in model.state_dict().items():
        assert tensor.dtype is torch.float32
        assert torch.equal(tensor, content.model[name].float())


def test_both_files_say_how_the_weights_were_trained(exported: RunFolder) -> None:
    first, second = (graph_file.read(file).metadata for file in (exported.encoder, exported.decoder))
    assert first == second
    assert (first.image_shape, first.latent_dim, first.likelihood) == (SHAPE, 2, "bernoulli")
    assert (first.data_name, first.data_hash) == ("dots", "sha256:0")
    trained = first.training
    assert (trained.epoch, trained.epochs, trained.beta, trained.seed) == (4, 9, 0.5, 3)
    assert (trained.held_out_loss, trained.held_out_reconstruction, trained.held_out_kl) == (3.0, 2.0, 1.0)


@pytest.mark.parametrize("likelihood", ["bernoulli", "logistic"])
def test_a_pair_with_one_example_image_is_checked_at_every_batch(
    likelihood: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []

    def counted(graph: Graph, module: nn.Module, inputs: Tensor, *rest: Any) -> dict[str, float]:
        rows.append(len(inputs))
        return largest_differences(graph, module, inputs, *rest)

    monkeypatch.setattr(convert, "largest_differences", counted)
    asked, run = settings(likelihood), RunFolder(tmp_path)
    differences = export_pair(weights(asked, examples=1), record(asked), run, TOLERANCE).max_abs_difference
    assert rows == [max(BATCHES), max(BATCHES)]
    names = [output.name for output in onnx.load(run.decoder).graph.output]
    assert names == ["image", *LIKELIHOODS[asked.model.likelihood].parameters]
    assert differences.keys() == {"mean", "std", *names}


class OnCuda:
    """A session on the CPU that says it is on CUDA, and adds `error` to what it computes."""

    def __init__(self, session: Any, error: float) -> None:
        self._session, self._error = session, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def get_providers(self) -> list[str]:
        return [CUDA, CPU]

    def run(self, *arguments: Any) -> list[Any]:
        return [output + np.float32(self._error) for output in self._session.run(*arguments)]


def start_cuda(monkeypatch: pytest.MonkeyPatch, error: float | None) -> None:
    """Let ONNX Runtime seem to have CUDA, which starts unless `error` is None."""
    installed = import_runtime()

    def session(_: Any, file: Any) -> tuple[Any, str]:
        if error is None:
            return None, "no driver"
        return OnCuda(open_session(installed, file, [CPU]), error), ""

    monkeypatch.setattr(installed, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(runtime, "cuda_session", session)


@pytest.mark.parametrize("error", [None, 0.0, 5e-5])
def test_where_cuda_starts_it_is_checked_too(
    error: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_cuda(monkeypatch, error)
    asked, run = settings(), RunFolder(tmp_path)
    checked = export_pair(weights(asked), record(asked), run, TOLERANCE)
    assert checked.providers == ((CPU,) if error is None else (CPU, CUDA))
    assert (max(checked.max_abs_difference.values()) > 1e-5) == (error == 5e-5), "ten times the tolerance of a CPU"


def test_a_gpu_that_computes_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start_cuda(monkeypatch, 2e-3)
    asked, run = settings(), RunFolder(tmp_path)
    with pytest.raises(ParityError, match=r"'mean' at batch 1 differs from PyTorch by up to 0\.002"):
        export_pair(weights(asked), record(asked), run, TOLERANCE)
    assert list(tmp_path.iterdir()) == []


def test_the_exporter_says_nothing_and_its_loggers_stay_as_they_were(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        export(tmp_path, weights(settings()), settings())
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(before)
    assert capfd.readouterr() == ("", "")


def test_where_the_decoder_cannot_be_written_the_old_encoder_stays(tmp_path: Path, exported: RunFolder) -> None:
    run = RunFolder(tmp_path)
    run.encoder.write_bytes(exported.encoder.read_bytes())
    run.decoder.mkdir()
    with pytest.raises(VaeError, match=r"decoder.onnx: is a folder"):
        export(tmp_path, weights(settings(), seed=2), settings())
    assert run.encoder.read_bytes() == exported.encoder.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decoder.onnx", "encoder.onnx"]


@pytest.mark.parametrize(("shape", "doubling"), [((1, 16, 16), "ConvTranspose"), ((3, 17, 16), "Expand")])
def test_a_convolutional_decoder_has_its_layers_alone(shape: tuple[int, int, int], doubling: str) -> None:
    """What is computed from weights alone is computed while it is exported, and nothing asks for the map's size."""
    asked = {"architecture": "conv", "width": 2, "map_size": 9, "depth": 1, "latent_dim": 2}
    model = VAE(resolve({"model": asked}).model, shape)
    model.initialise(torch.Generator().manual_seed(1))
    decoder, latent = DecoderGraph(model).eval(), torch.randn(7, 2, generator=torch.Generator().manual_seed(2))
    proto = graphs.to_onnx(decoder, {LATENT: latent}, (IMAGE, LOGITS))
    operators = {node.op_type for node in proto.graph.node}
    assert operators & {"ConvTranspose", "Expand", "Pad", "Resize"} == {doubling}
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = decoder(latent)
    for found, reference in zip(session.run(None, {LATENT: latent.numpy()}), expected, strict=True):
        np.testing.assert_allclose(found, reference.numpy(), atol=1e-5)
