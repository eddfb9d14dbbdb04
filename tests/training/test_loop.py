"""The training loop: the batches of an epoch, its records, and what the held-out pass measures."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.tiny_learner import CPU, random_images, source, tiny_learner
from vaecli.errors import VaeError
from vaecli.events import EpochMetrics, Note, Step
from vaecli.settings import Flags
from vaecli.training import loop
from vaecli.training.learner import Learner, Measurement
from vaecli.training.loop import images_in_epoch, measure, train
from vaecli.training.processes import Part
from vaecli.training.threads import Threads

SMALL: Flags = {("model", "hidden"): 16, ("model", "latent_dim"): 3, ("training", "batch_size"): 8}


def batches_of(learner: Learner, images: Tensor, epochs: int) -> list[Tensor]:
    """The batches that a training of these epochs trains on."""
    seen = []
    plain = learner.step

    def step(batch: Tensor, label: Tensor | None, part: Part) -> None:
        seen.append(batch)
        plain(batch, label, part)

    learner.step = step  # type: ignore[method-assign,assignment]  # to see the batches
    events = list(train(learner, source(images), source(images[:5]), Threads(CPU), after=0, measuring_seed=1))
    assert sum(isinstance(event, EpochMetrics) for event in events) == epochs
    return seen


def test_the_epochs_that_are_missing_are_trained_step_by_step() -> None:
    learner = tiny_learner({**SMALL, ("training", "epochs"): 3})
    events = list(
        train(learner, source(random_images(20)), source(random_images(5)), Threads(CPU), after=1, measuring_seed=1)
    )
    told = [event.epoch if isinstance(event, EpochMetrics) else event for event in events]
    assert told == [Step(2, 8), Step(2, 16), Step(2, 20), 2, Step(3, 8), Step(3, 16), Step(3, 20), 3]
    epoch = events[-1]
    assert isinstance(epoch, EpochMetrics)
    assert epoch.images_per_second == pytest.approx(20 / epoch.seconds)
    assert epoch.threads == torch.get_num_threads()
    assert epoch.train.loss == pytest.approx(epoch.train.reconstruction + epoch.train.kl)


def test_every_epoch_has_every_image_once_in_an_order_of_its_own() -> None:
    images = random_images(20)
    seen = batches_of(tiny_learner({**SMALL, ("training", "epochs"): 2}), images, 2)
    first, second = torch.cat(seen[:3]), torch.cat(seen[3:])
    for epoch in (first, second):
        assert sorted(map(bytes, epoch.numpy())) == sorted(map(bytes, images.numpy()))
    assert not torch.equal(first, second)
    assert not torch.equal(first, images)


def test_without_shuffling_images_keep_their_order_and_drop_last_drops_the_rest() -> None:
    images = random_images(20)
    flags = {**SMALL, ("data", "shuffle"): False, ("data", "drop_last"): True, ("training", "epochs"): 1}
    seen = batches_of(tiny_learner(flags), images, 1)
    assert torch.equal(torch.cat(seen), images[:16])


def test_a_change_of_threads_is_said_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = iter((2, 1, 1))
    monkeypatch.setattr(Threads, "choose", lambda threads, *_: setattr(threads, "count", next(chosen)))
    threads, learner = Threads(CPU), tiny_learner({**SMALL, ("training", "epochs"): 3})
    threads.count = 2
    events = list(
        train(learner, source(random_images(8)), source(random_images(5)), threads, after=0, measuring_seed=1)
    )
    assert [event.text for event in events if isinstance(event, Note)] == [
        "from epoch 2 on: 1 thread, not 2, as that is faster now"
    ]
    assert [event.threads for event in events if isinstance(event, EpochMetrics)] == [2, 1, 1]


@pytest.mark.parametrize(("n", "whole", "dropped"), [(20, 20, 16), (16, 16, 16), (7, 7, 0)])
def test_images_in_an_epoch(n: int, whole: int, dropped: int) -> None:
    assert images_in_epoch(n, 8, drop_last=False) == whole
    assert images_in_epoch(n, 8, drop_last=True) == dropped


def test_a_loss_that_is_not_finite_ends_the_loop_before_its_epoch_is_reported() -> None:
    learner = tiny_learner({**SMALL, ("training", "epochs"): 2})
    events = train(learner, source(random_images(8)), source(random_images(5)), Threads(CPU), after=0, measuring_seed=1)
    assert next(events) == Step(1, 8)
    learner.parameters.vector.data.fill_(float("nan"))
    learner.parameters.refresh()
    with pytest.raises(VaeError, match="epoch 1 is not finite"):
        next(events)


def test_measuring_draws_the_same_latents_every_time() -> None:
    learner, images = tiny_learner(SMALL), source(random_images(40))
    assert measure(learner, images, seed=1) == measure(learner, images, seed=1)
    assert measure(learner, images, seed=1) != measure(learner, images, seed=2)


@pytest.mark.parametrize(
    ("numbers", "latents", "sizes"),
    [
        (2**23, 1, [40]),
        (42 * 15, 1, [15, 15, 10]),
        (42 * 30, 2, [15, 15, 10]),
        (42 * 30, 5, [8] * 5),  # a training batch, whose gradients take more memory
    ],
)
def test_large_pictures_are_measured_a_few_at_once(
    numbers: int, latents: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder makes 42 numbers for a picture of 6x7 pixels."""
    monkeypatch.setattr(loop, "NUMBERS_AT_ONCE", numbers)
    objective = {("training", "objective"): "iwae", ("training", "importance_samples"): latents} if latents > 1 else {}
    learner = tiny_learner({**SMALL, **objective})
    seen, plain = [], learner.measure

    def measured(image: Tensor, *rest: Any) -> Measurement:
        seen.append(len(image))
        return plain(image, *rest)

    learner.measure = measured  # type: ignore[method-assign,assignment]  # to see the batches
    measure(learner, source(random_images(40)), seed=1)
    assert seen == sizes


def test_the_held_out_loss_has_no_dropout_and_weighs_the_kl_with_1() -> None:
    images = source(random_images(40))
    plain = measure(tiny_learner(SMALL), images, seed=1).losses
    other = measure(
        tiny_learner({**SMALL, ("model", "dropout"): 0.5, ("training", "beta"): 9.0}), images, seed=1
    ).losses
    assert plain == other
    assert plain.loss == plain.reconstruction + plain.kl


def test_the_held_out_loss_of_an_epoch_is_that_of_the_weights_that_are_saved() -> None:
    learner, held_out = tiny_learner({**SMALL, ("training", "epochs"): 1, ("training", "ema"): 0.9}), random_images(5)
    *_, epoch = train(learner, source(random_images(8)), source(held_out), Threads(CPU), after=0, measuring_seed=1)
    assert isinstance(epoch, EpochMetrics)
    assert epoch.held_out != measure(learner, source(held_out), seed=1).losses
    with learner.saved_weights():
        assert epoch.held_out == measure(learner, source(held_out), seed=1).losses


def test_active_units_are_the_dimensions_whose_mean_varies() -> None:
    learner = tiny_learner(SMALL, Learner)
    images = source(random_images(40))
    last = learner.model.encoder.stack.layers[-1].weight  # type: ignore[union-attr,index]  # an MLPEncoder's Linear
    assert isinstance(last, Tensor)
    with torch.no_grad():
        last[:3] *= 10
        assert measure(learner, images, seed=1).active_units == 3
        last[1] = 0  # the second mean is then the same for every image
        assert measure(learner, images, seed=1).active_units == 2


def test_pairs_of_latents_make_the_loss_of_few_images_less_noisy(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = tiny_learner({("model", "hidden"): 32, ("training", "learning_rate"): 0.01})
    pictures = random_images(200)
    images = source(pictures)
    for _ in range(100):
        learner.step(pictures)

    def losses() -> list[float]:
        return [measure(learner, images, seed).losses.loss for seed in range(30)]

    paired = losses()
    monkeypatch.setattr(loop, "MEASURED_TWICE", 100)
    single = losses()
    assert statistics.stdev(paired) < 0.5 * statistics.stdev(single)
    error = statistics.stdev(single) / len(single) ** 0.5
    assert abs(statistics.mean(paired) - statistics.mean(single)) < 5 * error
