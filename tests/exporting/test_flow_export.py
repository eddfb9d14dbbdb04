"""`vae export --prior flow`: what it writes, what later exports do with it, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import onnx
import pytest
import torch

import vaecli
from tests.command_line import vae
from tests.conftest import TINY
from tests.tiny_model import edit, metadata
from vaecli.errors import Interrupted, ParityError, UsageError, VaeError
from vaecli.events import Event, Note, Progress
from vaecli.exporting import convert, flow_network, stage
from vaecli.exporting.flow_network import Velocity
from vaecli.exporting.graphs import FlowGraph, to_onnx, with_metadata
from vaecli.exporting.parity import Tolerance, compare, flow_differences
from vaecli.inference import graph_file
from vaecli.inference.runtime import Graph, open_graph
from vaecli.inference.sampling import drawn_from
from vaecli.model_format import FLOW_FILE, LABEL, LATENT, OPSET, STATE, TIME, VELOCITY, FlowSummary
from vaecli.run_folder import RunFolder
from vaecli.training import checkpoint
from vaecli.training.checkpoint import load_weights

STEPS = 3


@pytest.fixture(autouse=True, scope="module")
def _small_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"HIDDEN": 16, "WIDEST": 16, "NARROWEST": 8}.items():
            patch.setattr(flow_network, name, value)
        yield


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a flow. Not to be changed."""
    run = Path(shutil.copytree(trained, tmp_path_factory.mktemp("flows") / "run"))
    vaecli.export(run, prior="flow", flow_steps=STEPS)
    return run


@pytest.fixture
def run(exported: Path, tmp_path: Path) -> Path:
    """A copy of `exported` that a test may change."""
    return Path(shutil.copytree(exported, tmp_path / "run"))


def test_the_result_says_what_was_written(trained: Path, tmp_path: Path) -> None:
    run, told = Path(shutil.copytree(trained, tmp_path / "run")), list[Event]()
    result = vaecli.export(run, prior="flow", flow_steps=STEPS, on_event=told.append)
    assert (result.prior, result.flow) == (run / "prior.onnx", run / FLOW_FILE)
    assert result.flow_summary == graph_file.read(run / FLOW_FILE).metadata.flow
    assert result.flow_summary is not None
    assert (result.flow_summary.pictures, result.flow_summary.classes) == (108, ())
    assert 0 < result.flow_summary.steps <= STEPS
    assert all(0 <= result.max_abs_difference[name] < 1e-4 for name in (VELOCITY, "flow_latent"))
    assert Progress("fitting the flow", STEPS, STEPS, "steps") in told
    assert drawn_from(vaecli.load(run).pair, "model") == "flow"


def test_the_graph_is_what_the_contract_says(exported: Path) -> None:
    model = onnx.load(exported / FLOW_FILE, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim[1:]]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {STATE: [3], TIME: [], VELOCITY: [3], LATENT: [3]}
    assert all(value.type.tensor_type.shape.dim[0].dim_param for value in (*model.graph.input, *model.graph.output))
    pair = vaecli.load(exported).pair
    assert graph_file.read(exported / FLOW_FILE).metadata.pair == pair.metadata.pair


def test_a_latent_at_time_1_is_in_the_units_of_the_encoder(exported: Path, blobs: Path) -> None:
    """The state 0 stands for the mean latent of the training pictures, 1 for a standard deviation more."""
    model = vaecli.load(exported, "cpu")
    graph = open_graph(model.pair.files[FLOW_FILE], "cpu")
    (latents,) = graph.run((LATENT,), np.array([[0.0] * 3, [1.0] * 3], np.float32), None, 1.0)
    mean, std = model.encode(np.load(blobs))
    np.testing.assert_allclose(latents[0], mean.mean(axis=0), atol=0.2)
    np.testing.assert_allclose(latents[1] - latents[0], np.sqrt(mean.var(axis=0) + (std**2).mean(axis=0)), rtol=0.2)


@pytest.mark.parametrize(("shape", "operator"), [((2, 8, 8), "ConvTranspose"), ((2, 5, 7), "Expand"), ((6,), "Gemm")])
def test_any_network_computes_the_same_in_onnx_runtime(shape: tuple[int, ...], operator: str, tmp_path: Path) -> None:
    """A U-Net of a map of whole and of odd sides, and dense layers; with classes."""
    size, classes = int(np.prod(shape)), ("a", "b", "c")
    graph = FlowGraph(random_network(shape, len(classes))).eval()
    inputs = {STATE: torch.zeros(2, size), TIME: torch.zeros(2), LABEL: torch.zeros(2, dtype=torch.int64)}
    summary = FlowSummary(classes=classes, class_shares=(0.2, 0.3, 0.5), steps=1, loss=1.0, pictures=1)
    known = msgspec.structs.replace(metadata((1, 8, 8), size, 0), flow=summary)
    proto = to_onnx(graph, inputs, (VELOCITY, LATENT))
    assert operator in {node.op_type for node in proto.graph.node}
    path = tmp_path / FLOW_FILE
    path.write_bytes(with_metadata(proto, known))
    opened = open_graph(graph_file.read(path), "cpu")
    differences = flow_differences(opened, graph, len(classes), Tolerance(1e-5, 1e-4))
    assert 0 < differences[VELOCITY] < 1e-4


def random_network(shape: tuple[int, ...], classes: int = 0) -> Velocity:
    """One with a velocity other than 0."""
    size = int(np.prod(shape))
    torch.manual_seed(0)
    network = Velocity(shape, torch.zeros(size), torch.ones(size), classes)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network


def test_it_knows_the_classes_of_the_pictures(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(120) % 2
    images = (labels[:, None, None] * 200 + generator.integers(0, 50, (120, 8, 8))).astype(np.uint8)
    np.savez(tmp_path / "x.npz", allow_pickle=False, x=images, y=np.array(["dark", "light"])[labels])
    run = tmp_path / "run"
    assert vae("train", "--data", tmp_path / "x.npz", "--run", run, "--epochs", "2", "--seed", "1", *TINY).code == 0
    result = vaecli.export(run, prior="flow", flow_steps=2)
    assert result.prior_summary is not None
    assert result.flow_summary is not None
    assert result.flow_summary.classes == result.prior_summary.classes == ("dark", "light")
    assert result.flow_summary.class_shares == (0.5, 0.5)
    model = vaecli.load(run, "cpu")
    assert drawn_from(model.pair, "model") == "flow"
    assert model.sample(3, seed=1, label="light").shape == (3, 8, 8)


def notes(run: Path, **options: object) -> tuple[vaecli.ExportResult, list[Note]]:
    """An export of the run, and what it said about its flow."""
    told = list[Event]()
    result = vaecli.export(run, on_event=told.append, **options)  # type: ignore[arg-type]  # some of its options
    return result, [event for event in told if isinstance(event, Note) and FLOW_FILE in event.text]


def test_a_flow_of_the_same_weights_is_kept(run: Path) -> None:
    before = (run / FLOW_FILE).read_bytes()
    result, (note,) = notes(run)
    assert "is kept" in note.text
    assert not note.warning
    assert (run / FLOW_FILE).read_bytes() == before
    assert (result.flow, result.flow_summary) == (run / FLOW_FILE, graph_file.read(run / FLOW_FILE).metadata.flow)


def test_a_flow_of_other_weights_is_removed(run: Path) -> None:
    folder = RunFolder(run)
    weights = load_weights(folder.checkpoint)
    changed = {name: value + 0.01 for name, value in weights.model.items()}
    checkpoint.save(folder.best, replace(load_weights(folder.best), model=changed))
    result, (note,) = notes(run, atol=1.0, rtol=1.0)
    assert note.warning
    assert "other weights" in note.text
    assert result.flow is None
    assert not folder.flow.exists()


@pytest.mark.parametrize(
    ("damage", "reason"), [("cut", "damaged"), ("decoder", "is not a flow"), ("nan", "values that are not finite")]
)
def test_a_flow_that_does_not_work_is_removed_for_that_reason(run: Path, damage: str, reason: str) -> None:
    flow = run / FLOW_FILE
    if damage == "cut":
        flow.write_bytes(flow.read_bytes()[:1000])
    elif damage == "decoder":
        flow.write_bytes((run / "decoder.onnx").read_bytes())
    else:
        edit(flow, make_nan)
    result, (note,) = notes(run)
    assert note.warning
    assert f"{flow} is removed: " in note.text
    assert reason in note.text
    assert result.flow is None
    assert not flow.exists()


def make_nan(model: onnx.ModelProto) -> None:
    """All weights."""
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = np.full_like(onnx.numpy_helper.to_array(tensor), np.nan)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


@pytest.mark.parametrize("prior", ["mixture", "normal"])
def test_another_prior_removes_it(run: Path, prior: str) -> None:
    result, (note,) = notes(run, prior=prior)
    assert "only `prior` auto keeps an earlier flow" in note.text
    assert result.flow is None
    assert not (run / FLOW_FILE).exists()


@pytest.mark.parametrize("earlier", [False, True], ids=["no flow before", "a flow before"])
def test_the_model_is_written_before_its_flow_is_fitted(
    earlier: bool, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C leaves the model, with the earlier flow where there is one of the same weights."""
    before = (run / FLOW_FILE).read_bytes()
    names = ["encoder.onnx", "decoder.onnx", "prior.onnx"]
    for name in names if earlier else [*names, FLOW_FILE]:
        (run / name).unlink()

    def interrupted(*_: object) -> None:
        assert vaecli.load(run).pair.prior is not None, "it can be used meanwhile"
        raise KeyboardInterrupt

    monkeypatch.setattr(convert, "fit_flow", interrupted)
    with pytest.raises(Interrupted, match="has the new model without a new flow"):
        vaecli.export(run, prior="flow")
    assert (run / FLOW_FILE).exists() == earlier
    assert len(vaecli.load(run).sample(2, seed=1)) == 2
    if earlier:
        assert (run / FLOW_FILE).read_bytes() == before


def test_a_flow_that_cannot_be_added_leaves_the_new_model(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong with the flow does not say that no file was changed."""
    monkeypatch.setattr(
        convert, "flow_differences", lambda *_: compare(VELOCITY, 1, np.zeros(1), np.ones(1), Tolerance(0, 0))
    )
    with pytest.raises(ParityError, match="velocity") as raised:
        vaecli.export(run, prior="flow", flow_steps=1)
    assert "has the new model without a new flow; try another torch" in str(raised.value.hint)
    assert "no file was changed" not in raised.value.hint


def test_without_the_pictures_of_the_training_there_is_none(run: Path, blobs: Path) -> None:
    content, before = blobs.read_bytes(), {path.name: path.read_bytes() for path in run.glob("*.onnx")}
    try:
        blobs.unlink()
        with pytest.raises(VaeError, match=r"`prior` flow: .*blobs.npy is not on this machine"):
            vaecli.export(run, prior="flow")
    finally:
        blobs.write_bytes(content)
    assert {path.name: path.read_bytes() for path in run.glob("*.onnx")} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": "flow", "flow_steps": 0}, "`flow_steps` 0: not a whole number from 1"),
        ({"prior": "flow", "flow_steps": 10**19}, "`flow_steps` 10000000000000000000: more than 10,000,000"),
        ({"flow_steps": 7}, "`flow_steps` 7: only for `prior` flow"),
    ],
)
def test_the_number_of_steps_is_checked(run: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        vaecli.export(run, **options)


def test_velocities_that_differ_are_refused(exported: Path) -> None:
    graph = open_graph(graph_file.read(exported / FLOW_FILE), "cpu")
    with pytest.raises(ParityError, match="'velocity' at batch 1 differs"):
        flow_differences(graph, FlowGraph(random_network((3,))), 0, Tolerance(1e-5, 1e-4))


def test_the_check_asks_at_several_times_and_of_each_class() -> None:
    asked = set[tuple[float, int]]()

    def run(names: object, state: np.ndarray, labels: np.ndarray, time: float) -> list[np.ndarray]:
        asked.update((time, label) for label in labels.tolist())
        return [np.zeros_like(state), state]

    class Still(torch.nn.Module):
        def forward(self, state: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.zeros_like(state), state

    graph = SimpleNamespace(run=run, file=SimpleNamespace(metadata=SimpleNamespace(latent_dim=2)))
    assert flow_differences(cast(Graph, graph), Still(), 3, Tolerance(0, 0)) == {VELOCITY: 0.0, "flow_latent": 0.0}
    assert asked == {(time, label) for time in (0.0, 0.5, 1.0) for label in range(3)}


def test_the_command_and_vae_info_tell_of_it(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    done = vae("export", "--run", run, "--prior", "flow", "--flow-steps", "2", "--json")
    assert done.code == 0
    assert done.json["flow"] == str(run / FLOW_FILE)
    assert done.json["flow_summary"]["pictures"] == 108
    assert "vae sample draws with it" in done.err
    shown = vae("info", run).out
    assert "draws the samples; " in shown
    assert f"\n{FLOW_FILE} " in shown
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(run / FLOW_FILE, alone)
    assert vaecli.inspect(alone).problems == [f"{FLOW_FILE} is alone, without encoder.onnx and decoder.onnx"]


@pytest.fixture(scope="module")
def trained_map(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training whose latent is a map of 2x2 positions. Not to be changed."""
    folder = tmp_path_factory.mktemp("maps")
    np.save(folder / "x.npy", np.random.default_rng(0).integers(0, 256, (60, 16, 16), np.uint8))
    network = ("--architecture", "conv", "--width", "8", "--depth", "1", "--map-size", "2", "--latent-map", "2")
    settings = ("--epochs", "1", "--seed", "1", "--batch-size", "30", "--device", "cpu", *network)
    assert vae("train", "--data", folder / "x.npy", "--run", folder / "run", *settings).code == 0
    return folder / "run"


def test_a_flow_of_a_large_map_is_fitted_without_being_asked_for(
    trained_map: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: the next export keeps it. A mixture asked for is that alone."""
    run = Path(shutil.copytree(trained_map, tmp_path / "run"))
    assert vaecli.export(run).flow is None, "8 numbers are not many"
    monkeypatch.setattr(stage, "MANY_NUMBERS", 8)
    monkeypatch.setattr(stage, "FLOW_STEPS", STEPS)
    assert vaecli.export(run).flow == run / FLOW_FILE
    before = (run / FLOW_FILE).read_bytes()
    assert "is kept" in notes(run)[1][0].text
    assert (run / FLOW_FILE).read_bytes() == before
    (run / FLOW_FILE).write_bytes(before[:1000])
    result, (note,) = notes(run)
    assert note.warning
    assert "damaged" in note.text
    assert result.flow is not None
    assert graph_file.read(run / FLOW_FILE).metadata.flow == result.flow_summary
    assert vaecli.export(run, prior="mixture").flow is None
