"""The step that is written out beside autograd: the same gradients, the same losses, for every size it serves."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.training.tiny_learner import CPU, SHAPE, needs_onednn, random_images, source, tiny_learner
from vaecli.settings import Flags, resolve
from vaecli.training.device import choose_precision
from vaecli.training.fast import dense
from vaecli.training.fast.dense import DenseLearner, KernelError
from vaecli.training.learner import Learner
from vaecli.training.loop import measure
from vaecli.training.noise import Noise

pytestmark = needs_onednn
CHOSEN = choose_precision("auto", CPU)  # once: it is measured


@functools.cache
def reason_against(precision: str) -> str:
    """Why the kernels do not run in this precision on this processor; empty where they do."""
    learner = tiny_learner({}, DenseLearner, precision=precision)
    assert isinstance(learner, DenseLearner)
    try:
        learner.check_kernels()
    except KernelError as error:
        return f"oneDNN: {error}"
    return ""


@pytest.fixture(params=["float32", "bfloat16"])
def precision(request: pytest.FixtureRequest) -> str:
    """float32, and bfloat16 where the processor computes it."""
    wanted: str = request.param
    if reason := reason_against(wanted):
        assert wanted == "bfloat16", reason
        pytest.skip(reason)
    return wanted


@pytest.mark.parametrize("chosen", [CHOSEN], ids=[f"processor for {CHOSEN}"])
def test_auto_takes_a_precision_that_the_kernels_compute(chosen: str) -> None:
    """The test's name in `pytest -vv` says which kind of processor the tests ran on."""
    assert reason_against(chosen) == ""
    assert tiny_learner({}, precision=chosen).path.startswith(dense.PATH)


def test_the_path_has_the_reason_where_bfloat16_was_asked_for_and_its_kernels_do_not_run() -> None:
    reason = reason_against("bfloat16").removeprefix("oneDNN: ")
    refused = f"autograd, because the dense kernels do not run here: {reason}"
    assert tiny_learner({}, precision="bfloat16").path == (refused if reason else "dense kernels, oneDNN")


class GivenNoise(Noise):
    """Noise whose masks and normals were drawn before, so that both learners have the same."""

    def __init__(self, masks: list[Tensor], scale: float, normal: Tensor) -> None:
        super().__init__(0, CPU)
        self.given, self.scale, self.drawn = list(masks), scale, normal

    def dropout(self, hidden: Tensor, rate: float) -> Tensor:
        if rate == 0:
            return hidden
        return hidden * self.given.pop(0).view(hidden.shape).to(hidden.dtype) * self.scale

    def antithetic(self, samples: int, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        assert self.drawn.shape == (samples, *shape)
        return self.drawn.to(dtype)


@pytest.mark.parametrize(
    ("activation", "batch", "samples", "hidden", "depth", "latent", "dropout", "beta"),
    [
        ("elu-tanh", 128, 1, 50, 2, 20, 0.1, 1.0),
        ("elu-tanh", 1, 1, 33, 1, 2, 0.5, 4.0),
        ("elu", 7, 2, 64, 4, 5, 0.0, 0.5),
        ("relu", 16, 1, 50, 3, 5, 0.2, 1.0),
        ("linear", 6, 1, 30, 2, 3, 0.1, 1.0),
        ("elu", 5, 3, 40, 2, 6, 0.3, 2.0),
    ],
)
def test_gradients_are_those_of_autograd(
    precision: str,
    activation: str,
    batch: int,
    samples: int,
    hidden: int,
    depth: int,
    latent: int,
    dropout: float,
    beta: float,
) -> None:
    flags = {
        ("model", "activation"): activation,
        ("model", "hidden"): hidden,
        ("model", "depth"): depth,
        ("model", "latent_dim"): latent,
        ("model", "dropout"): dropout,
        ("training", "beta"): beta,
        ("training", "importance_samples"): samples,
    }
    fast = tiny_learner(flags, precision=precision)
    assert isinstance(fast, DenseLearner)
    x = torch.rand(batch, *SHAPE, generator=torch.Generator().manual_seed(3))
    layers = [(1, hidden)] * depth + [(samples, hidden)] * depth
    masks, scale = Noise(4, CPU).masks(batch, layers, dropout, fast.product_dtype)
    drawn = torch.randn(samples, batch, latent, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        losses = fast.gradients(x.flatten(1), masks, scale, drawn, fast.beta)
        fast.parameters.collect()

    exact = tiny_learner(flags, Learner, precision="float64")
    exact.noise = GivenNoise(masks, scale, drawn)
    expected = exact.backward(x.double())
    tolerance = 2e-5 if precision == "float32" else 5e-2
    torch.testing.assert_close(losses.double(), expected, rtol=tolerance / 3, atol=1e-6)
    difference = fast.parameters.gradients.double() - exact.parameters.gradients
    assert float(difference.norm() / exact.parameters.gradients.norm()) < tolerance


def test_the_held_out_loss_is_that_of_autograd(precision: str) -> None:
    flags = {("model", "hidden"): 64}
    images = source(random_images(300))
    fast = measure(tiny_learner(flags, DenseLearner, precision=precision), images, seed=1)
    plain = measure(tiny_learner(flags, Learner), images, seed=1)
    assert fast.losses.loss == pytest.approx(plain.losses.loss, abs=0.02)
    assert fast.active_units == plain.active_units


@pytest.mark.parametrize(
    "change",
    [
        {("model", "likelihood"): "gaussian"},
        {("training", "objective"): "iwae"},
        {("training", "free_bits"): 0.1},
        {("model", "architecture"): "conv"},
    ],
)
def test_what_it_does_not_serve_is_left_to_autograd(change: Flags) -> None:
    settings = resolve(None, change)
    assert not DenseLearner.serves(settings, CPU, "float32")
    assert DenseLearner.serves(resolve(None, {}), CPU, "float32")
    assert not DenseLearner.serves(resolve(None, {}), CPU, "float64")


def test_where_its_operators_fail_autograd_is_used_and_the_path_has_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> Tensor:
        raise RuntimeError("no such operator\nand a long explanation")

    monkeypatch.setitem(dense.KERNELS, torch.tanh, replace(dense.KERNELS[torch.tanh], gradient=gone))
    with pytest.raises(KernelError, match=r"^no such operator$"):
        tiny_learner({}, DenseLearner).check_kernels()  # type: ignore[attr-defined]  # a DenseLearner
    plain = tiny_learner({("model", "hidden"): 16})
    assert type(plain) is Learner
    assert plain.path == "autograd, because the dense kernels do not run here: no such operator"
    before = plain.parameters.vector.detach().clone()
    plain.step(random_images(8))
    assert not torch.equal(plain.parameters.vector, before)


def test_kernels_that_compute_something_else_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    right = dense.KERNELS[torch.tanh]
    wrong = replace(right, gradient=lambda gradient, y: 1.2 * right.gradient(gradient, y))
    monkeypatch.setitem(dense.KERNELS, torch.tanh, wrong)
    learner = tiny_learner({})
    assert type(learner) is Learner
    assert "their gradients differ from autograd's by" in learner.path


def test_both_paths_learn_alike() -> None:
    """Their draws differ, so the losses agree only about."""
    flags = {("model", "hidden"): 32, ("model", "latent_dim"): 2}
    images = torch.zeros(64, *SHAPE, dtype=torch.uint8)
    images[:, :, 2:4] = 255
    found = []
    for kind in (DenseLearner, Learner):
        learner = tiny_learner(flags, kind)
        for _ in range(200):
            learner.step(images)
        found.append(measure(learner, source(images), seed=1).losses.loss)
    assert found[0] < 5, "it learnt the only picture"
    assert found[0] == pytest.approx(found[1], abs=0.5)
