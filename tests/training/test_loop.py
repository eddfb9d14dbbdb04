"""The held-out pass: what it reports of the images, whatever the seed of its latents."""

from __future__ import annotations

import statistics

import pytest
import torch

from vaecli import config
from vaecli.training import loop
from vaecli.training.batches import Resident
from vaecli.training.learners import choose_learner
from vaecli.training.model import VAE
from vaecli.training.noise import Noise


def test_pairs_of_latents_make_the_loss_of_few_images_steadier(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config.resolve(None, {("model", "hidden"): 32, ("training", "learning_rate"): 0.01})
    model = VAE(settings.model, (1, 6, 7))
    model.initialise(torch.Generator().manual_seed(1))
    learning = choose_learner(model, Noise(2, torch.device("cpu")), settings, "float32", 10)
    images = torch.randint(0, 256, (200, 1, 6, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    for _ in range(100):
        learning.step(images)

    def losses() -> list[float]:
        return [loop.measure(learning, Resident.of(images), seed)[0].loss for seed in range(30)]

    paired = losses()
    monkeypatch.setattr(loop, "FEW", 100)
    single = losses()
    assert statistics.stdev(paired) < 0.5 * statistics.stdev(single)
    error = statistics.stdev(single) / len(single) ** 0.5
    assert abs(statistics.mean(paired) - statistics.mean(single)) < 5 * error
