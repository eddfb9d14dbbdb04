"""The hand-written path beside autograd: the same gradients, the same losses, for every size it serves."""

from __future__ import annotations

import msgspec
import pytest
import torch
from torch import Tensor

from vaecli import config
from vaecli.config import Config
from vaecli.training import dense
from vaecli.training.batches import Resident
from vaecli.training.dense import DenseLearner
from vaecli.training.learner import Learner
from vaecli.training.learners import choose_learner
from vaecli.training.loop import measure
from vaecli.training.model import VAE
from vaecli.training.noise import Noise

CPU = torch.device("cpu")


class GivenNoise(Noise):
    """Noise whose masks and normals were drawn before, so that two paths meet the same ones."""

    def __init__(self, masks: list[Tensor], scale: float, normal: Tensor) -> None:
        super().__init__(0, CPU)
        self.given, self.scale, self.drawn = list(masks), scale, normal

    def dropout(self, hidden: Tensor, rate: float) -> Tensor:
        if rate == 0:
            return hidden
        return hidden * self.given.pop(0).view(hidden.shape).to(hidden.dtype) * self.scale

    def opposites(self, samples: int, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        assert self.drawn.shape == (samples, *shape)
        return self.drawn.to(dtype)


def learner(settings: Config, precision: str, kind: type[Learner] | None = None) -> Learner:
    model = VAE(settings.model, (1, 6, 7))
    model.initialise(torch.Generator().manual_seed(1))
    if kind is None:
        return choose_learner(model, Noise(2, CPU), settings, precision, 10)
    return kind(model, Noise(2, CPU), settings, precision, 10)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("activation", "batch", "samples", "hidden", "depth", "latent", "dropout", "beta"),
    [
        ("elu-tanh", 128, 1, 50, 2, 20, 0.1, 1.0),
        ("elu-tanh", 1, 1, 33, 1, 2, 0.5, 4.0),
        ("elu", 7, 2, 64, 4, 5, 0.0, 0.5),
        ("relu", 16, 1, 50, 3, 5, 0.2, 1.0),
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
    settings = config.resolve(
        None,
        {
            ("model", "activation"): activation,
            ("model", "hidden"): hidden,
            ("model", "depth"): depth,
            ("model", "latent_dim"): latent,
            ("model", "dropout"): dropout,
            ("training", "beta"): beta,
            ("training", "importance_samples"): samples,
        },
    )
    fast = learner(settings, precision)
    assert isinstance(fast, DenseLearner)
    x = torch.rand(batch, 1, 6, 7, generator=torch.Generator().manual_seed(3))
    widths = [hidden] * depth + [samples * hidden] * depth
    masks, scale = Noise(4, CPU).masks(batch, widths, dropout, fast.product_dtype)
    drawn = torch.randn(samples, batch, latent, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        losses = fast.gradients(x.flatten(1), masks, scale, drawn)
        fast.parameters.collect()

    exact = learner(settings, "float64", Learner)
    exact.noise = GivenNoise(masks, scale, drawn)
    expected = exact.backward(x.double())
    tolerance = 2e-5 if precision == "float32" else 5e-2
    torch.testing.assert_close(losses.double(), expected, rtol=tolerance / 3, atol=1e-6)
    difference = fast.parameters.gradients.double() - exact.parameters.gradients
    assert float(difference.norm() / exact.parameters.gradients.norm()) < tolerance


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_held_out_loss_is_the_plain_paths(precision: str) -> None:
    settings = config.resolve(None, {("model", "hidden"): 64})
    images = Resident.of(torch.randint(0, 256, (300, 1, 6, 7), dtype=torch.uint8))
    fast, active = measure(learner(settings, precision), images, seed=1)
    plain, plain_active = measure(learner(settings, "float32", Learner), images, seed=1)
    assert fast.loss == pytest.approx(plain.loss, abs=0.02)
    assert active == plain_active


@pytest.mark.parametrize(
    "change",
    [
        {("model", "likelihood"): "gaussian"},
        {("training", "objective"): "iwae"},
        {("training", "free_bits"): 0.1},
        {("model", "architecture"): "conv"},
    ],
)
def test_what_it_does_not_serve_is_left_to_autograd(change: config.Flags) -> None:
    settings = config.resolve(None, change)
    assert not DenseLearner.serves(settings, CPU, "float32")
    assert DenseLearner.serves(config.resolve(None, {}), CPU, "float32")
    assert not DenseLearner.serves(config.resolve(None, {}), CPU, "float64")


def test_where_its_operators_fail_autograd_takes_over_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> Tensor:
        raise RuntimeError("no such operator\nand a long story")

    monkeypatch.setattr(dense, "_onednn", gone)
    plain = learner(config.resolve(None, {("model", "hidden"): 16}), "float32")
    assert type(plain) is Learner
    assert plain.path == "autograd, as the dense kernels do not run here: no such operator"
    before = plain.parameters.vector.detach().clone()
    plain.step(torch.full((8, 1, 6, 7), 200, dtype=torch.uint8))
    assert not torch.equal(plain.parameters.vector, before)


def test_both_paths_learn_alike() -> None:
    """Not the same draws, but the same loss after the same work, within what draws make of it."""
    settings = config.resolve(None, {("model", "hidden"): 32, ("model", "latent_dim"): 2})
    settings = msgspec.structs.replace(settings)
    images = torch.zeros(64, 1, 6, 7, dtype=torch.uint8)
    images[:, :, 2:4] = 255
    found = []
    for kind in (DenseLearner, Learner):
        learning = learner(settings, "float32", kind)
        for _ in range(200):
            learning.step(images)
        found.append(measure(learning, Resident.of(images), seed=1)[0].loss)
    assert found[0] < 5, "it learnt the one picture there is"
    assert found[0] == pytest.approx(found[1], abs=0.5)
