"""A training step: what changes from step to step, what is averaged and clipped, and that a restored state is exact."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from tests.training.tiny_learner import SHAPE, STEPS_PER_EPOCH, needs_onednn, random_images, tiny_learner
from vaecli.settings import Flags
from vaecli.training.fast.dense import DenseLearner
from vaecli.training.learner import SCALE_RATE, Learner
from vaecli.training.noise import Noise

IMAGES = random_images(8)
BOTH = [Learner, pytest.param(DenseLearner, marks=needs_onednn)]


def at(learner: Learner, step: int) -> Learner:
    """The learner before its step of this number, counted from 0."""
    learner.steps = step
    return learner


def test_the_learning_rate_is_constant_without_settings() -> None:
    learner = tiny_learner({("training", "learning_rate"): 0.01})
    assert [at(learner, step).learning_rate for step in (0, 1, 1000)] == [0.01, 0.01, 0.01]


def test_the_learning_rate_rises_in_the_warm_up() -> None:
    learner = tiny_learner({("training", "learning_rate"): 0.01, ("training", "warmup_steps"): 4})
    rates = [at(learner, step).learning_rate for step in range(6)]
    assert rates == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01])


def test_the_learning_rate_falls_by_half_a_cosine_towards_zero() -> None:
    settings = {("training", "learning_rate"): 0.01, ("training", "schedule"): "cosine", ("training", "epochs"): 3}
    learner = tiny_learner(settings)
    assert STEPS_PER_EPOCH == 4
    rates = [at(learner, step).learning_rate for step in range(12)]
    assert rates == pytest.approx([0.01 * math.cos(math.pi / 2 * step / 12) ** 2 for step in range(12)])
    assert at(learner, 12).learning_rate == pytest.approx(0, abs=1e-12)
    assert at(learner, 99).learning_rate == pytest.approx(0, abs=1e-12), "it does not rise again"


def test_more_epochs_begin_a_cosine_at_the_rate_of_one_over_all_epochs() -> None:
    settings = {
        ("training", "learning_rate"): 0.01,
        ("training", "schedule"): "cosine",
        ("training", "warmup_steps"): 2,
        ("training", "epochs"): 4,
    }
    learner = at(tiny_learner(settings), 8)  # the training was to end here, after 2 epochs of 4 steps
    learner.change_epochs(2)
    rates = [at(learner, step).learning_rate for step in range(8, 16)]
    expected = [0.005 * math.cos(math.pi / 2 * step / 8) ** 2 for step in range(8)]
    assert rates == pytest.approx([expected[0] / 2, *expected[1:]])  # half a cosine, of which 4 epochs had half left
    resumed = tiny_learner(settings)
    resumed.restore(learner.weights(), {**learner.state(), "steps": 12})
    assert resumed.learning_rate == pytest.approx(expected[4]), "the new cosine survives a checkpoint"


@pytest.mark.parametrize(
    ("schedule", "before", "epochs", "step"),
    [("constant", 2, 4, 8), ("cosine", 4, 4, 8), ("cosine", 4, 2, 8)],
    ids=["constant", "as before", "nothing left"],
)
def test_a_schedule_that_need_not_change_goes_on(schedule: str, before: int, epochs: int, step: int) -> None:
    learner = at(tiny_learner({("training", "schedule"): schedule, ("training", "epochs"): epochs}), step)
    rate = learner.learning_rate
    assert learner.change_epochs(before) is None
    assert learner.learning_rate == rate


@pytest.mark.parametrize("kind", BOTH)
def test_a_step_with_rate_0_changes_nothing(kind: type[Learner]) -> None:
    learner = at(tiny_learner({("training", "schedule"): "cosine", ("training", "epochs"): 1}, kind), 4)
    before = learner.parameters.vector.detach().clone()
    learner.step(IMAGES)
    torch.testing.assert_close(learner.parameters.vector.detach(), before, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", BOTH)
def test_the_first_step_is_the_first_of_adam(kind: type[Learner]) -> None:
    """It moves each weight by the learning rate, whatever its gradient (Kingma and Ba 2015, section 2.1)."""
    learner = tiny_learner({("training", "learning_rate"): 0.01}, kind)
    before = learner.parameters.vector.detach().clone()
    learner.step(IMAGES)
    moved = (learner.parameters.vector.detach() - before).abs()[learner.parameters.gradients.abs() > 1e-4]
    torch.testing.assert_close(moved, torch.full_like(moved, 0.01), rtol=1e-3, atol=0)


def test_the_kl_weight_rises_from_0_to_beta() -> None:
    learner = tiny_learner({("training", "beta"): 4.0, ("training", "kl_warmup"): 2})
    assert [at(learner, step).beta for step in (0, 2, 4, 8, 99)] == [0.0, 1.0, 2.0, 4.0, 4.0]
    assert tiny_learner({("training", "beta"): 4.0}).beta == 4


@pytest.mark.parametrize("kind", BOTH)
def test_the_loss_is_that_of_the_present_kl_weight(kind: type[Learner]) -> None:
    learner = tiny_learner({("training", "beta"): 4.0, ("training", "kl_warmup"): 1}, kind)
    for step, beta in enumerate((0, 1, 2, 3, 4, 4)):
        assert learner.steps == step
        learner.step(IMAGES)
        losses = learner.take_losses()
        assert losses.loss == pytest.approx(losses.reconstruction + beta * losses.kl, rel=1e-5)


def test_losses_are_the_mean_of_the_images_since_they_were_last_taken() -> None:
    learner = tiny_learner({("training", "learning_rate"): 1e-9, ("model", "dropout"): 0.0, ("data", "shuffle"): False})
    found = []
    for images in (IMAGES[:6], IMAGES[6:]):
        learner.step(images)
        found.append(learner.take_losses().reconstruction)
    for images in (IMAGES[:6], IMAGES[6:]):
        learner.step(images)
    assert learner.take_losses().reconstruction == pytest.approx((6 * found[0] + 2 * found[1]) / 8, rel=0.02)
    assert learner.take_losses().loss == 0


@pytest.mark.parametrize("kind", BOTH)
def test_the_moving_average_follows_the_weights_with_its_decay(kind: type[Learner]) -> None:
    learner = tiny_learner({("training", "ema"): 0.3}, kind)
    assert learner.average is not None
    expected = learner.parameters.vector.detach().clone()
    for step in range(1, 7):
        learner.step(IMAGES)
        decay = min(0.3, (1 + step) / (10 + step))  # it rises: 2/11, 3/12, then 0.3
        expected = decay * expected + (1 - decay) * learner.parameters.vector.detach()
        torch.testing.assert_close(learner.average, expected)
    assert 1 - learner.ema_weight == pytest.approx(0.3)


@pytest.mark.parametrize("kind", BOTH)
def test_the_average_is_what_is_saved_and_measured_and_training_goes_on_without_it(kind: type[Learner]) -> None:
    learner = tiny_learner({("training", "ema"): 0.9, ("training", "learning_rate"): 0.1}, kind)
    for _ in range(3):
        learner.step(IMAGES)
    trained = learner.parameters.vector.detach().clone()
    assert learner.average is not None
    with learner.parameters.replaced(learner.average):
        averaged_state = copy.deepcopy(learner.model.state_dict())
    assert all(torch.equal(learner.weights()[name], tensor) for name, tensor in averaged_state.items())
    plain = learner.reconstruct(IMAGES)
    with learner.saved_weights():
        averaged = learner.reconstruct(IMAGES)
    assert not torch.equal(plain, averaged)
    assert torch.equal(learner.reconstruct(IMAGES), plain)
    assert torch.equal(learner.parameters.vector, trained)


def test_without_an_average_the_weights_are_saved_as_a_copy() -> None:
    learner = tiny_learner({})
    saved = learner.weights()
    before = {name: tensor.clone() for name, tensor in saved.items()}
    learner.step(IMAGES)
    assert all(torch.equal(saved[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_restoring_is_exact(kind: type[Learner], ema: float, precision: str) -> None:
    flags: Flags = {
        ("training", "ema"): ema,
        ("training", "weight_decay"): 0.1,
        ("training", "schedule"): "cosine",
        ("training", "kl_warmup"): 2,
        ("data", "binarize"): "dynamic",
    }
    if kind is DenseLearner and precision == "bfloat16":
        kind = type(tiny_learner(flags, precision=precision))  # the kernels, where they run
    whole, part = (tiny_learner(flags, kind, precision=precision) for _ in range(2))
    for _ in range(3):
        whole.step(IMAGES)
    saved = copy.deepcopy((whole.weights(), whole.state()))
    part.step(IMAGES)  # restoring does not rely on a fresh learner
    part.restore(*saved)
    whole.take_losses()
    part.take_losses()
    for learner in (whole, part):
        for _ in range(3):
            learner.step(IMAGES)
    assert torch.equal(part.parameters.vector, whole.parameters.vector)
    assert part.take_losses() == whole.take_losses()
    assert all(torch.equal(part.weights()[name], tensor) for name, tensor in whole.weights().items())


def test_a_long_gradient_is_scaled_down_to_the_norm_that_is_allowed() -> None:
    free, clipped = tiny_learner({}), tiny_learner({("training", "clip_gradient"): 0.5})
    for learner in (free, clipped):
        learner.step(IMAGES)
    norm = float(free.parameters.gradients.norm())
    assert norm > 0.5
    torch.testing.assert_close(clipped.parameters.gradients, free.parameters.gradients * (0.5 / norm))


@pytest.mark.parametrize("kind", BOTH)
def test_weight_decay_is_decoupled_from_the_gradient_and_for_matrices_alone(kind: type[Learner]) -> None:
    flags = {("training", "learning_rate"): 0.1}
    free, decayed = tiny_learner(flags, kind), tiny_learner({**flags, ("training", "weight_decay"): 0.5}, kind)
    start = free.parameters.vector.clone()
    for learner in (free, decayed):
        learner.step(IMAGES)
    expected = 0.1 * 0.5 * start
    expected[free.parameters.matrices.numel() :] = 0
    torch.testing.assert_close(free.parameters.vector - decayed.parameters.vector, expected)


def test_the_scale_has_a_learning_rate_of_its_own_and_no_decay() -> None:
    flags: Flags = {("training", "learning_rate"): 1e-3, ("training", "weight_decay"): 0.9}
    learner = tiny_learner({**flags, ("model", "likelihood"): "gaussian"})
    scale = learner.model.log_scale
    assert scale is not None
    before = float(scale.detach())
    learner.step(IMAGES)
    assert abs(float(scale.detach()) - before) == pytest.approx(SCALE_RATE, rel=1e-3)


@pytest.mark.parametrize("scale_per", ["model", "channel"])
@pytest.mark.parametrize("likelihood", ["gaussian", "logistic"])
def test_a_learned_scale_arrives_at_its_optimum(likelihood: str, scale_per: str) -> None:
    """From above, where it starts in a training; the rest of the network hardly moves."""
    still: Flags = {("training", "learning_rate"): 1e-6, ("model", "dropout"): 0.0}
    learner = tiny_learner({**still, ("model", "likelihood"): likelihood, ("model", "scale_per"): scale_per})
    learner.model.set_scale(1.0)
    for _ in range(300):
        learner.step(IMAGES)
    x, scale = IMAGES / 255, learner.model.log_scale
    assert scale is not None
    with torch.no_grad():
        raw = learner.model.decode(learner.model.encode(x)[0])
        likely = learner.model.likelihood
        nats = [float(likely.reconstruction(raw, x, scale + step).mean()) for step in (-0.7, 0.0, 0.7)]
    assert nats[1] == min(nats)


def test_bfloat16_keeps_weights_moments_and_losses_in_float32() -> None:
    learner = tiny_learner({}, Learner, precision="bfloat16")
    learner.step(IMAGES)
    assert learner.parameters.vector.dtype is torch.float32
    assert {moment.dtype for moment in learner.state()["optimizer"].values()} == {torch.float32}
    measured = learner.measure(IMAGES, Noise(0, learner.device))
    assert (measured.reconstruction.dtype, measured.kl.dtype) == (torch.float32, torch.float32)


def test_measuring_with_more_latents_averages_them() -> None:
    learner = tiny_learner({})
    one, many = (learner.measure(IMAGES, Noise(0, learner.device), samples) for samples in (1, 500))
    assert one.reconstruction.shape == many.reconstruction.shape == (8,)
    assert one.mean.shape == one.kl.shape == (8, 20)
    torch.testing.assert_close(one.bound, one.reconstruction + one.kl.sum(1))
    assert torch.equal(one.kl, many.kl)
    again = learner.measure(IMAGES, Noise(1, learner.device), 500)
    noise = float((again.reconstruction - many.reconstruction).abs().mean())
    assert noise < 0.2 * float((one.reconstruction - many.reconstruction).abs().mean())


def test_a_reconstruction_is_a_picture() -> None:
    image = tiny_learner({}).reconstruct(IMAGES)
    assert image.shape == (8, *SHAPE)
    assert 0 <= float(image.min()) < float(image.max()) <= 1


def test_where_a_bound_is_trained_it_is_what_is_measured() -> None:
    flags = {("training", "objective"): "dreg", ("training", "importance_samples"): 50}
    learner = tiny_learner(flags)
    measured = learner.measure(IMAGES, Noise(0, learner.device))
    assert measured.bound.shape == (8,)
    assert float(measured.bound.mean()) < float((measured.reconstruction + measured.kl.sum(1)).mean())
