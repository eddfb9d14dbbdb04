"""How many threads a training computes with, as the machine becomes busy and quiet again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.training.tiny_learner import CPU, random_images, tiny_learner
from vaecli.settings import Flags
from vaecli.training import threads
from vaecli.training.threads import TIMED_IMAGES, Threads

IMAGES = 600_000  # in an epoch
BATCH = 128
QUIET = {1: 100e-6, 2: 60e-6, 4: 40e-6}  # seconds an image, by number of threads
BUSY = {1: 110e-6, 2: 200e-6, 4: 700e-6}


class Machine:
    """A clock that computing advances, by the number of threads that PyTorch has."""

    def __init__(self) -> None:
        self.now = 0.0
        self.speed = QUIET
        self.rehearsed = 0  # images

    def perf_counter(self) -> float:
        return self.now

    def work(self, images: int) -> None:
        self.now += images * self.speed[torch.get_num_threads()]
        self.rehearsed += images

    def epochs(self, chosen: Threads, speeds: list[dict[int, float]], epochs_left: int = 10) -> list[int]:
        """The number of threads of each epoch."""
        counts = []
        for self.speed in speeds:
            chosen.choose(self.work, BATCH, epochs_left * IMAGES)
            assert torch.get_num_threads() == chosen.count
            counts.append(chosen.count)
            chosen.trained(IMAGES, IMAGES * self.speed[chosen.count])
        return counts


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """One with four processors, and PyTorch's threads as they were afterwards."""
    made, before = Machine(), torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "usable", lambda: 4)
    monkeypatch.setattr(threads, "perf_counter", made.perf_counter)
    torch.set_num_threads(4)
    yield made
    torch.set_num_threads(before)


def test_no_more_threads_are_taken_than_are_granted_or_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    monkeypatch.setattr(threads, "usable", lambda: 4)
    assert str(Threads(CPU)) == "3 threads"
    monkeypatch.setattr(threads, "usable", lambda: 1)
    assert str(Threads(CPU)) == "1 thread"
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)


def test_a_machine_that_becomes_busy_and_quiet_is_followed(machine: Machine) -> None:
    speeds = [QUIET, QUIET, BUSY, BUSY, BUSY, QUIET, QUIET]
    # It is busy from within the third epoch on: that one begins before anything is slow.
    assert machine.epochs(Threads(CPU), speeds) == [4, 4, 4, 1, 1, 4, 4]


def test_a_training_that_begins_on_a_busy_machine_begins_with_fewer(machine: Machine) -> None:
    assert machine.epochs(Threads(CPU), [BUSY, BUSY]) == [1, 1]


def test_a_small_difference_changes_nothing(machine: Machine) -> None:
    assert machine.epochs(Threads(CPU), [{1: 1e-4, 2: 0.9e-4, 4: 1.05e-4}] * 3) == [4, 4, 4]


def test_an_epoch_that_was_slow_for_another_reason_changes_nothing(machine: Machine) -> None:
    slow = {count: 3 * seconds for count, seconds in QUIET.items()}
    assert machine.epochs(Threads(CPU), [QUIET, slow, QUIET]) == [4, 4, 4]


def test_measuring_takes_at_most_a_fiftieth_of_the_time(machine: Machine) -> None:
    machine.epochs(Threads(CPU), [BUSY] * 40)
    trained = 40 * IMAGES * BUSY[1]
    assert 0 < machine.now < 0.03 * trained, "the clock runs while measuring alone"


def test_a_short_training_measures_next_to_nothing(machine: Machine) -> None:
    chosen = Threads(CPU)
    machine.speed = BUSY
    chosen.choose(machine.work, 8, 500)
    assert chosen.count == 4
    assert machine.rehearsed == 2 * TIMED_IMAGES
    chosen.trained(500, 0.02)
    chosen.trained(500, 2.0)  # another program had the processors for a moment
    chosen.choose(machine.work, 8, 500)
    assert machine.rehearsed == 2 * TIMED_IMAGES


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_number_that_is_fixed_stays(machine: Machine, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    if device == "cpu":
        monkeypatch.setenv("OMP_NUM_THREADS", "4")
    chosen = Threads(torch.device(device))
    chosen.resume(1)
    assert machine.epochs(chosen, [BUSY, BUSY]) == [4, 4]
    assert machine.rehearsed == 0


def test_a_resumed_training_begins_with_the_number_that_it_had(machine: Machine) -> None:
    chosen = Threads(CPU)
    for recorded, count in ((None, 4), (2, 2), (64, 4)):
        chosen.resume(recorded)
        assert chosen.count == torch.get_num_threads() == count


@pytest.mark.parametrize("settings", [{}, {("data", "binarize"): "dynamic"}, {("model", "architecture"): "conv"}])
def test_rehearsing_changes_neither_weights_nor_random_numbers(settings: Flags) -> None:
    small: Flags = {("model", "hidden"): 16, ("model", "width"): 8, ("model", "depth"): 1}
    images = random_images(8)

    def after_a_step(*, rehearsed: bool) -> tuple[torch.Tensor, torch.Tensor, object]:
        learner = tiny_learner({**small, **settings})
        learner.step(images)
        if rehearsed:
            learner.dry_run(images[:5])
        learner.step(images)
        return learner.parameters.vector.detach().clone(), learner.noise.state(), learner.take_losses()

    plain, other = after_a_step(rehearsed=False), after_a_step(rehearsed=True)
    assert torch.equal(plain[0], other[0])
    assert torch.equal(plain[1], other[1])
    assert plain[2] == other[2]
