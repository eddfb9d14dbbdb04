"""The libraries of the matrix products: what each computes, and which one a training has."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

import vaecli
from tests.datasets.set_files import little_digits
from tests.training.tiny_learner import CPU, needs_onednn, tiny_learner
from vaecli.run_folder import RunFolder
from vaecli.settings import Flags
from vaecli.training.fast import products
from vaecli.training.fast.products import BLAS, OneDNN, Products, choose_products

BLAS_NAME = BLAS(CPU).name
INSTANT = 0.02

both = pytest.mark.parametrize(
    "library", [BLAS(CPU), pytest.param(OneDNN(), marks=needs_onednn)], ids=["BLAS", "oneDNN"]
)


def choose(recorded: str = "", dtype: torch.dtype = torch.float32) -> str:
    """The name of what is chosen."""
    return choose_products(CPU, dtype, recorded).name


def make_slow(monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    """Let one product of this library take 20 milliseconds."""
    quick = kind.input_gradient  # type: ignore[attr-defined]  # both have it

    def slow(self: Products, gradient: Tensor, weight: Tensor) -> Tensor:
        time.sleep(INSTANT)
        result: Tensor = quick(self, gradient, weight)
        return result

    monkeypatch.setattr(kind, "input_gradient", slow)


@both
@pytest.mark.parametrize("activation", [None, "tanh", "relu"])
def test_products_are_those_of_float64(library: Products, activation: str | None) -> None:
    generator = torch.Generator().manual_seed(1)
    x, weight, bias, gradient = (
        torch.randn(*shape, generator=generator) for shape in ((8, 40), (24, 40), (24,), (8, 24))
    )
    apply = {None: lambda y: y, "tanh": torch.tanh, "relu": torch.relu}[activation]
    found = library.linear(x, weight, bias, activation)
    assert torch.allclose(found.double(), apply(x.double() @ weight.double().T + bias), atol=1e-5)
    assert torch.allclose(
        library.input_gradient(gradient, weight).double(), gradient.double() @ weight.double(), atol=1e-5
    )
    out = torch.full((24, 40), torch.nan)
    library.weight_gradient_(out, gradient, x)
    assert torch.allclose(out.double(), gradient.double().T @ x.double(), atol=1e-5)


@needs_onednn
def test_a_library_that_is_much_slower_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        make_slow(patched, OneDNN)
        assert choose() == BLAS_NAME
    with monkeypatch.context() as patched:
        make_slow(patched, BLAS)
        assert choose() == "oneDNN"


@needs_onednn
def test_two_libraries_that_are_about_as_fast_are_not_chosen_by_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_ratio", lambda *_: 1.2)
    assert choose() == BLAS_NAME


@needs_onednn
def test_the_recorded_library_is_kept_though_it_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    make_slow(monkeypatch, OneDNN)
    assert choose("oneDNN") == "oneDNN"
    make_slow(monkeypatch, BLAS)
    assert choose(BLAS_NAME) == BLAS_NAME


@needs_onednn
def test_bfloat16_has_onednn_only(monkeypatch: pytest.MonkeyPatch) -> None:
    make_slow(monkeypatch, OneDNN)
    assert choose(dtype=torch.bfloat16) == "oneDNN"


def test_where_onednn_is_missing_or_fails_it_is_the_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Tensor:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(products, "_onednn", fails)
    threads = torch.get_num_threads()
    assert choose() == BLAS_NAME
    assert torch.get_num_threads() == threads
    assert tiny_learner({}).path == f"dense kernels, {BLAS_NAME}"
    monkeypatch.setattr(products, "has_onednn", lambda: False)
    assert choose() == BLAS_NAME


@needs_onednn
@pytest.mark.parametrize(("first", "slow"), [("oneDNN", OneDNN), (BLAS_NAME, BLAS)])
def test_a_resumed_training_keeps_the_library(
    first: str, slow: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are those of a training that was not stopped, though the other library is faster by now."""
    flags: Flags = {
        ("data", "source"): str(little_digits(tmp_path)),
        ("training", "seed"): 1,
        ("training", "precision"): "float32",
        ("training", "device"): "cpu",
        ("model", "hidden"): 8,
    }
    other = BLAS if slow is OneDNN else OneDNN
    with monkeypatch.context() as patched:
        make_slow(patched, other)
        for run, epochs in (("whole", 2), ("stopped", 1)):
            vaecli.train("tutorial", tmp_path / run, flags={**flags, ("training", "epochs"): epochs})
    make_slow(monkeypatch, slow)
    vaecli.train(None, tmp_path / "stopped", flags={("training", "epochs"): 2}, resume=True)
    records = [RunFolder(tmp_path / run).read_record().path for run in ("whole", "stopped")]
    assert records == [f"dense kernels, {first}"] * 2
    weights = [torch.load(tmp_path / run / "checkpoint.pt")["weights"]["model"] for run in ("whole", "stopped")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
