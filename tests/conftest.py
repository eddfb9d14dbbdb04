"""What several tests start from: a tiny data set, a tiny training of it, and its exported pair."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import itertools
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from threadpoolctl import threadpool_limits

from tests.command_line import vae
from tests.tiny_model import COLOUR, DIGITS, GREY, write_pair

SMALL = ("--hidden", "16", "--latent-dim", "3", "--batch-size", "16")
TINY = (*SMALL, "--prior", "normal", "--device", "cpu", "--precision", "float32")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a slow test first: the last of them would keep one process at work and the others waiting."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _one_table_of_operators() -> None:
    """PyTorch makes its table of ONNX operators anew for each graph, half of an export's time. Here it is made once.

    Once the exporter is imported, that is, which a test of many exports in its own process does at the top.
    """
    registration = sys.modules.get("torch.onnx._internal.exporter._registration")
    registry = getattr(registration, "ONNXRegistry", None)
    if registry is not None and not hasattr(registry.from_torchlib, "cache_info"):
        registry.from_torchlib = staticmethod(functools.cache(registry.from_torchlib))


_graphs: dict[str, bytes] = {}  # that this process has converted, by what they were converted from


@pytest.fixture(autouse=True)
def _one_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights are converted to ONNX once, and dense networks of one form too: their weights are put in.

    What else an export does is done each time, such as to compare what the graphs compute with PyTorch.
    """
    convert = sys.modules.get("vaecli.exporting.convert")
    if convert is None:  # nothing has been exported yet
        return
    real = convert.to_onnx

    def converted(module: Any, inputs: dict[str, torch.Tensor], outputs: Sequence[str]) -> onnx.ModelProto:
        weights = {name: value.numpy() for name, value in module.state_dict().items()}
        config = module.model.config if isinstance(module, convert.EncoderGraph | convert.DecoderGraph) else None
        # Other graphs have numbers that are computed from weights.
        exchangeable = config is not None and config.architecture == "mlp" and "model.log_scale" not in weights
        if config is not None and exchangeable:
            sizes = {name: weight.shape for name, weight in weights.items() if "pseudo_inputs" not in name}
            network = f"{type(module).__name__} {sizes} {config.activation} {config.likelihood} {config.scale_per}"
        else:
            values = b"".join(value.tobytes() for value in weights.values())
            network = f"{module} {config} {hashlib.sha256(values).hexdigest()}"
        shapes = {name: example.shape for name, example in inputs.items()}
        key = f"{network} {shapes} {outputs}"
        if key not in _graphs:
            _graphs[key] = real(module, inputs, outputs).SerializeToString()
        graph = onnx.ModelProto()
        graph.ParseFromString(_graphs[key])
        for tensor in graph.graph.initializer if exchangeable else ():
            if tensor.name in weights:
                tensor.CopyFrom(onnx.numpy_helper.from_array(weights[tensor.name], tensor.name))
        return graph

    monkeypatch.setattr(convert, "to_onnx", converted)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """PyTorch and NumPy compute with one thread in each process of tests: several would wait for each other."""
    torch.set_num_threads(1)
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(autouse=True)
def _same_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed that is drawn is the same in each run of a test, so that its failure can be seen again."""
    numbers = itertools.count(1)
    monkeypatch.setattr("vaecli.config.urandom", lambda size: next(numbers).to_bytes(size, "little"))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test sees the user's settings, or writes where the user's files are."""
    for name in ("VAE_RUN", "VAE_TRACEBACK", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("VAE_DATA", raising=False)


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .npy of 120 grey pictures, 8x8: a bright blob somewhere on black."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:8, :8]
    centres = rng.uniform(2, 6, (120, 2, 1, 1))
    squares = (y - centres[:, 0]) ** 2 + (x - centres[:, 1]) ** 2
    path = tmp_path_factory.mktemp("data") / "blobs.npy"
    np.save(path, np.round(255 * np.exp(-squares / 3)).astype(np.uint8))
    return path


@pytest.fixture(scope="session")
def trained(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with three epochs of training and an exported pair. Not to be changed: copy it."""
    run = tmp_path_factory.mktemp("runs") / "trained"
    assert vae("train", "--data", blobs, "--run", run, "--epochs", "3", "--seed", "7", *TINY).code == 0
    assert vae("export", "--run", run).code == 0
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of `trained` that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="session")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an exported pair of random weights: 8x8 grey, two latent dimensions. Not to be changed."""
    return write_pair(tmp_path_factory.mktemp("models") / "grey", GREY)


@pytest.fixture(scope="session")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for colour pictures, 10 high and 12 wide. Not to be changed."""
    return write_pair(tmp_path_factory.mktemp("models") / "colour", COLOUR)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for pictures of the size of the built-in digits. Not to be changed."""
    return write_pair(tmp_path_factory.mktemp("models") / "digits", DIGITS)


Hide = Callable[..., None]


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Hide:
    """Make packages look as if they were not installed."""

    def hide(*packages: str) -> None:
        known = importlib.metadata.version

        def version(name: str) -> str:
            if name in packages:
                raise importlib.metadata.PackageNotFoundError(name)
            return known(name)

        monkeypatch.setattr(importlib.metadata, "version", version)

    return hide
