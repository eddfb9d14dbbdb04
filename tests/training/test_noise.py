"""The random numbers of a training: their distributions, their independence, and that a state repeats them."""

from __future__ import annotations

import math

import pytest
import torch

from vaecli.training.noise import Noise

CPU = torch.device("cpu")


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5, 0.9])
def test_dropout_zeroes_the_rate_and_keeps_the_expectation(rate: float) -> None:
    n = 1_000_000
    (mask,), scale = Noise(0, CPU).masks(1000, [(1, n // 1000)], rate, torch.float32)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    error = math.sqrt(rate * (1 - rate) / n)
    assert abs(float(mask.mean()) - (1 - rate)) < 5 * error + 2**-17
    assert scale * (1 - rate) == pytest.approx(1, abs=1e-4)


def test_every_row_and_every_column_of_a_mask_is_dropped_alike() -> None:
    (mask,), _ = Noise(1, CPU).masks(2000, [(1, 500)], 0.1, torch.float32)
    for axis, n in ((0, 2000), (1, 500)):
        spread = float(mask.mean(axis).std())
        assert spread == pytest.approx(math.sqrt(0.1 * 0.9 / n), rel=0.15), "as binomial numbers spread"


def test_neighbouring_units_layers_and_steps_share_no_mask() -> None:
    noise = Noise(2, CPU)
    (first, second), _ = noise.masks(400, [(1, 500), (1, 500)], 0.5, torch.float64)
    first, second = first.clone(), second.clone()
    (third, _), _ = noise.masks(400, [(1, 500), (1, 500)], 0.5, torch.float64)
    pairs = [(first, second), (first, third), (first[:, 1:], first[:, :-1]), (first[:, 4:], first[:, :-4])]
    for a, b in pairs:
        correlation = float(torch.corrcoef(torch.stack((a.flatten(), b.flatten())))[0, 1])
        assert abs(correlation) < 5 / math.sqrt(a.numel())


def test_no_dropout_draws_nothing() -> None:
    noise = Noise(3, CPU)
    before = noise.state()
    assert noise.masks(5, [(1, 7)], 0, torch.float32) == ([], 1.0)
    hidden = torch.rand(5, 7)
    assert noise.dropout(hidden, 0) is hidden
    assert torch.equal(noise.state(), before)


def test_dropout_in_bfloat16_keeps_the_expectation() -> None:
    hidden = torch.ones(2000, 500, dtype=torch.bfloat16)
    assert float(Noise(4, CPU).dropout(hidden, 0.1).double().mean()) == pytest.approx(1, abs=2e-3)


def test_normal_noise_has_the_moments_of_a_normal() -> None:
    drawn = Noise(5, CPU).normal(torch.Size((1_000_000, 1)), torch.float32).double()
    assert float(drawn.mean()) == pytest.approx(0, abs=5e-3)
    assert float(drawn.var()) == pytest.approx(1, abs=1e-2)
    assert float(drawn.pow(3).mean()) == pytest.approx(0, abs=2e-2)
    assert float(drawn.pow(4).mean()) == pytest.approx(3, abs=6e-2)


def test_the_same_state_gives_the_same_numbers() -> None:
    noise = Noise(6, CPU)
    noise.permutation(10)
    state = noise.state()
    first = [noise.normal(torch.Size((3, 1)), torch.float32), noise.masks(2, [(1, 3)], 0.5, torch.float32)[0][0]]
    assert noise.restore(state, step=3)
    again = [noise.normal(torch.Size((3, 1)), torch.float32), noise.masks(2, [(1, 3)], 0.5, torch.float32)[0][0]]
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def test_the_state_of_another_kind_of_device_seeds_anew() -> None:
    other = torch.zeros(16, dtype=torch.uint8)  # a GPU's generator has 16 bytes
    one, again, later = Noise(6, CPU), Noise(6, CPU), Noise(6, CPU)
    assert not one.restore(other, step=3)
    assert not again.restore(other, step=3)
    assert not later.restore(other, step=4)
    drawn = [noise.normal(torch.Size((3, 1)), torch.float32).tolist() for noise in (one, again, later)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_state_without_the_raw_bits_seeds_anew() -> None:
    noise = Noise(6, CPU)
    assert not noise.restore(noise.generator.get_state(), step=3)
    assert not noise.restore(noise.state()[:-8], step=3)
    assert noise.restore(noise.state(), step=3)


def test_nothing_touches_the_global_generator() -> None:
    before = torch.get_rng_state()
    noise = Noise(7, CPU)
    noise.normal(torch.Size((3, 1)), torch.float32)
    noise.masks(2, [(1, 3)], 0.5, torch.float32)
    noise.permutation(4)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("samples", [1, 2, 5, 8])
def test_antithetic_samples_are_normal_and_cancel(samples: int) -> None:
    drawn = Noise(6, CPU).antithetic(samples, torch.Size((40_000, 3)), torch.float64)
    assert drawn.shape == (samples, 40_000, 3)
    pairs = samples // 2
    assert torch.equal(drawn[samples - pairs :], -drawn[:pairs])
    for sample in drawn:  # each by itself is a normal draw
        assert float(sample.mean()) == pytest.approx(0, abs=0.02)
        assert float(sample.var()) == pytest.approx(1, abs=0.02)
    independent = drawn[: samples - pairs].flatten(1)
    if len(independent) > 1:
        correlation = torch.corrcoef(independent) - torch.eye(len(independent))
        assert float(correlation.abs().max()) < 5 / math.sqrt(independent.shape[1])
