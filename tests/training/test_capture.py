"""Recorded steps. Without a GPU, recordings are played by hand, and CUDA tensors are pretended."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from vaecli import config
from vaecli.config import Config
from vaecli.training import capture
from vaecli.training.dense import DenseLearner
from vaecli.training.learner import Learner
from vaecli.training.model import VAE
from vaecli.training.noise import Noise

CPU = torch.device("cpu")
SHAPE = (1, 6, 7)
KNOBS: config.Flags = {
    ("model", "hidden"): 24,
    ("training", "schedule"): "cosine",
    ("training", "warmup_steps"): 4,
    ("training", "kl_warmup"): 2,
    ("training", "ema"): 0.9,
    ("training", "epochs"): 3,
}
gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no NVIDIA GPU"),
]


def learner(
    kind: type[Learner], flags: config.Flags, device: torch.device = CPU, precision: str = "float32"
) -> Learner:
    settings = config.resolve(None, flags)
    model = VAE(settings.model, SHAPE)
    model.initialise(torch.Generator().manual_seed(1))
    return kind(model, Noise(2, device), settings, precision, 4)


def batches(device: torch.device = CPU) -> list[Tensor]:
    """Three epochs of three whole batches and a short one."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (3 * 4 * 8, *SHAPE), dtype=torch.uint8, generator=generator)
    return [batch.to(device) for epoch in images.chunk(3) for batch in epoch[:28].split(8)]


class ByHand:
    """Records work without doing it, as a graph does, and does it when it is replayed."""

    def __init__(self) -> None:
        self.replays = 0

    def record(self, work: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
        def replay() -> None:
            self.replays += 1
            work()

        return replay

    def warm_up(self, work: Callable[[], None]) -> None:
        for _ in range(3):
            work()


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> ByHand:
    recorder = ByHand()
    monkeypatch.setattr(capture, "record", recorder.record)
    monkeypatch.setattr(capture, "warm_up", recorder.warm_up)
    return recorder


@pytest.mark.parametrize("kind", [Learner, DenseLearner])
def test_replayed_steps_are_the_plain_ones(kind: type[Learner], by_hand: ByHand) -> None:
    plain, recorded = learner(kind, KNOBS), learner(kind, KNOBS)
    assert capture.capture(recorded, 8) is None
    by_hand.replays = 0
    for batch in batches():
        plain.step(batch)
        recorded.step(batch)
        # A dial is a float32 where it is held.
        torch.testing.assert_close(recorded.parameters.vector, plain.parameters.vector, rtol=1e-4, atol=1e-6)
    assert by_hand.replays == 9, "whole batches are replayed, short ones are not"
    assert recorded.take_losses().loss == pytest.approx(plain.take_losses().loss, rel=1e-5)
    assert recorded.average is not None
    assert plain.average is not None
    torch.testing.assert_close(recorded.average, plain.average, rtol=1e-4, atol=1e-6)


def test_a_capture_changes_nothing_else(by_hand: ByHand) -> None:
    tried, fresh = learner(Learner, KNOBS), learner(Learner, KNOBS)
    capture.capture(tried, 8)
    assert torch.equal(tried.parameters.vector, fresh.parameters.vector)
    assert torch.equal(tried.noise.state(), fresh.noise.state())
    assert tried.steps == 0
    for name, moment in tried.state()["moments"].items():
        assert torch.equal(moment, fresh.state()["moments"][name]), name
    assert tried.take_losses().loss == 0


def test_a_recorded_learner_goes_on_from_a_checkpoint_in_the_same_memory(by_hand: ByHand) -> None:
    whole, part = learner(DenseLearner, KNOBS), learner(DenseLearner, KNOBS)
    capture.capture(part, 8)
    places = [part.parameters.vector.data_ptr(), *(moment.data_ptr() for moment in part.state()["moments"].values())]
    steps = batches()
    for batch in steps[:6]:
        whole.step(batch)
    part.restore(whole.weights(), whole.state())
    for batch in steps[6:]:
        whole.step(batch)
        part.step(batch)
    torch.testing.assert_close(part.parameters.vector, whole.parameters.vector, rtol=1e-4, atol=1e-6)
    assert places == [
        part.parameters.vector.data_ptr(),
        *(moment.data_ptr() for moment in part.state()["moments"].values()),
    ], "a graph reads and writes where these were when it was recorded"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda work, _: lambda: None, "a replayed step has a loss of 0"),
        (lambda work, _: lambda: (work(), work()), "a replayed step has a loss"),
    ],
    ids=["does nothing", "does it twice"],
)
def test_a_replay_that_differs_is_not_used(
    fault: Callable[..., Callable[[], object]], reason: str, by_hand: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "record", fault)
    learning = learner(DenseLearner, KNOBS)
    failure = capture.capture(learning, 8)
    assert failure is not None
    assert reason in failure
    _learns_as_if_never_tried(learning)


def test_replays_with_the_same_noise_are_not_used(by_hand: ByHand, monkeypatch: pytest.MonkeyPatch) -> None:
    learning = learner(DenseLearner, KNOBS)

    def frozen(work: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
        state = generator.get_state()

        def replay() -> None:
            generator.set_state(state)
            work()

        return replay

    monkeypatch.setattr(capture, "record", frozen)
    # What the plain step meets must be that noise too, else the losses differ already.
    monkeypatch.setattr(capture, "warm_up", lambda work: None)
    assert capture.capture(learning, 8) == "two replayed steps have the same noise"
    _learns_as_if_never_tried(learning)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            RuntimeError("operation not permitted when stream is capturing\nand a long story"),
            "operation not permitted",
        ),
        (AssertionError(), "AssertionError"),
    ],
)
def test_a_capture_that_fails_is_told_in_a_line(
    error: Exception, told: str, by_hand: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(work: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
        raise error

    monkeypatch.setattr(capture, "record", refused)
    learning = learner(Learner, KNOBS)
    failure = capture.capture(learning, 8)
    assert failure is not None
    assert failure.startswith(told)
    assert "\n" not in failure
    _learns_as_if_never_tried(learning)


def _learns_as_if_never_tried(learning: Learner) -> None:
    fresh = learner(type(learning), KNOBS)
    for batch in batches():
        learning.step(batch)
        fresh.step(batch)
    assert torch.equal(learning.parameters.vector, fresh.parameters.vector)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Learner]]:
    """Learners on pretended CUDA tensors: reading a value fails, and so does mixing in a tensor of another device."""
    # What is pretended is made where it is and cannot be moved, and there is no pretended fused Adam.
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda optimizer: None)
    monkeypatch.setattr(VAE, "to", lambda model, *_: model)
    monkeypatch.setattr(torch.nn.utils, "skip_init", lambda kind, *sizes, **options: kind(*sizes, **options))
    device = torch.device("cuda", 0)

    def make(kind: type[Learner], settings: Config, shape: tuple[int, int, int], precision: str) -> Learner:
        with device:
            model = VAE(settings.model, shape)
        noise = Noise(0, CPU)
        noise.device, noise._words = device, torch.empty(0, dtype=torch.int64, device=device)
        monkeypatch.setattr(noise, "generator", None)  # CUDA's cannot be pretended; this one stands for the default
        made = kind(model, noise, settings, precision, 4)
        made.dials.hold(device, made.dtype)
        return made

    with FakeTensorMode():
        yield make


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_dense_step_on_a_gpu_reads_nothing_back(precision: str, pretended: Callable[..., Learner]) -> None:
    flags = {**KNOBS, ("training", "clip_gradient"): 5.0, ("training", "weight_decay"): 0.1}
    settings = config.resolve(None, {**flags, ("data", "binarize"): "dynamic"})
    learning = pretended(DenseLearner, settings, SHAPE, precision)
    learning.learn_plainly(torch.zeros(8, *SHAPE, dtype=torch.uint8, device="cuda:0"))
    assert learning.parameters.gradients.device.type == "cuda"
    with pytest.raises(DataDependentOutputException):  # as the end of an epoch does
        learning.take_losses()


@pytest.mark.parametrize("architecture", ["mlp", "conv"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous-bernoulli", "gaussian", "logistic"])
@pytest.mark.parametrize("objective", ["elbo", "iwae", "dreg"])
def test_a_forward_pass_on_a_gpu_reads_nothing_back(
    architecture: str, likelihood: str, objective: str, pretended: Callable[..., Learner]
) -> None:
    flags: dict[tuple[str, str], object] = {("model", "architecture"): architecture, ("model", "width"): 4}
    flags |= {("model", "likelihood"): likelihood, ("training", "objective"): objective}
    flags |= {("training", "importance_samples"): 3} | (
        {("training", "free_bits"): 0.5} if objective == "elbo" else {}
    )
    learning = pretended(Learner, config.resolve(None, flags), (3, 16, 20), "float32")
    terms = learning._terms(torch.zeros(8, 3, 16, 20, device="cuda:0"))
    assert terms.loss.device.type == "cuda"
    assert terms.loss.requires_grad
    with pytest.raises(DataDependentOutputException):
        terms.loss.item()


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=gpu) for kind in (Learner, DenseLearner)])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_cuda_graph_repeats_the_plain_steps(kind: type[Learner], precision: str) -> None:
    found = []
    for recorded in (False, True):
        learning = learner(kind, KNOBS, torch.device("cuda"), precision)
        if recorded:
            assert capture.capture(learning, 8) is None
        for batch in batches(torch.device("cuda")):
            learning.step(batch)
        found.append((learning.take_losses().loss, learning.parameters.vector.detach().cpu()))
    (plain_loss, plain), (loss, weights) = found
    assert loss == pytest.approx(plain_loss, rel=1e-3)
    assert float((weights - plain).norm() / plain.norm()) < 1e-2
