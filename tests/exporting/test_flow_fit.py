"""A flow fitted to latents, on distributions that are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vaecli import datasets, load
from vaecli.datasets.classes import Classes
from vaecli.errors import VaeError
from vaecli.exporting import flow_fit, flow_network, posteriors
from vaecli.exporting.flow_fit import FittedFlow, train_flow
from vaecli.exporting.flow_network import Velocity
from vaecli.exporting.posteriors import Encoding, Posteriors, encode
from vaecli.run_folder import RunFolder

CENTRES = np.array([[-6.0, 1.0], [2.0, 5.0]])  # of two round clusters
WIDTH = 0.8
STEPS = 400


@pytest.fixture(autouse=True, scope="module")
def _small_networks() -> Iterator[None]:
    """They learn in a second what a test asks for."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"HIDDEN": 64, "WIDEST": 16, "NARROWEST": 16}.items():
            patch.setattr(flow_network, name, value)
        patch.setattr(flow_fit, "LEARNING_RATE", 5e-3)
        yield


def clusters(size: int, seed: int, *, labelled: bool = False) -> Posteriors:
    """`size` posteriors of two clusters, a quarter of them of the first; each posterior has half of the variance."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(size) % 4 > 0).astype(np.int64)
    width = WIDTH / np.sqrt(2)
    mean = CENTRES[labels] + width * generator.standard_normal((size, 2))
    return Posteriors(mean, np.full((size, 2), width), Classes(("a", "b"), labels) if labelled else None)


def fitted(train: Posteriors, held_out: Posteriors, shape: tuple[int, ...], steps: int = STEPS) -> FittedFlow:
    return train_flow(train, held_out, shape, steps, seed=1, on_step=lambda _: None)


@torch.no_grad()
def drawn(flow: FittedFlow, size: int, label: int | None = None, steps: int = 50) -> NDArray[np.float32]:
    """Latents by Euler's method, another one than the solver of the exported model."""
    x = torch.randn(size, len(flow.network.mean), generator=torch.Generator().manual_seed(5))
    labels = None if label is None else torch.full((size,), label)
    for step in range(steps):
        x += flow.network(x, torch.full((size,), step / steps), labels) / steps
    latents: NDArray[np.float32] = flow.network.latent(x).numpy()
    return latents


@pytest.fixture(scope="module")
def of_clusters() -> FittedFlow:
    return fitted(clusters(2000, 0), clusters(500, 1), (2,))


def test_it_draws_the_clusters_that_it_was_fitted_to(of_clusters: FittedFlow) -> None:
    """As many of each, as wide, and hardly anything between them."""
    latents = drawn(of_clusters, 2000)
    apart = np.linalg.norm(latents[:, np.newaxis] - CENTRES, axis=2)
    nearest = apart.argmin(axis=1)
    assert (apart.min(axis=1) < 4 * WIDTH).mean() > 0.95
    assert (nearest == 0).mean() == pytest.approx(0.25, abs=0.05)
    for number, centre in enumerate(CENTRES):
        near = latents[(nearest == number) & (apart.min(axis=1) < 4 * WIDTH)]
        np.testing.assert_allclose(near.mean(axis=0), centre, atol=0.15)
        np.testing.assert_allclose(near.std(axis=0), WIDTH, rtol=0.35)


def test_the_summary_has_the_loss_on_held_out_latents(of_clusters: FittedFlow) -> None:
    """Of standardised latents a velocity of 0 has a loss of 2."""
    summary = of_clusters.summary
    assert (summary.classes, summary.pictures) == ((), 2000)
    assert 0 < summary.steps <= STEPS
    assert 0.1 < summary.loss < 1.5


def test_a_class_is_drawn_alone() -> None:
    flow = fitted(clusters(2000, 0, labelled=True), clusters(500, 1, labelled=True), (2,))
    assert flow.summary.classes == ("a", "b")
    for label, centre in enumerate(CENTRES):
        latents = drawn(flow, 300, label)
        assert (np.linalg.norm(latents - centre, axis=1) < 4 * WIDTH).mean() > 0.95


def test_a_class_without_a_training_picture_has_a_share_of_0() -> None:
    train, held_out = (
        replace(clusters(40, seed), classes=Classes(("a", "b", "c"), np.arange(40) % 2)) for seed in (0, 1)
    )
    summary = fitted(train, held_out, (2,), steps=2).summary
    assert (summary.classes, summary.class_shares) == (("a", "b", "c"), (0.5, 0.5, 0.0))


def test_large_latents_are_few(monkeypatch: pytest.MonkeyPatch, trained: Path) -> None:
    """Of 108 training and 12 held-out pictures, with latents of three numbers."""
    monkeypatch.setattr(flow_fit, "MAX_NUMBERS", 200)
    known, asked = load(trained, "cpu").pair, list[int]()

    def counted(*arguments: Any) -> Posteriors:
        asked.append(len(found := encode(*arguments)))
        return found

    monkeypatch.setattr(posteriors, "encode", counted)
    dataset = datasets.load(RunFolder(trained).read_record().config.data)
    summary = flow_fit.fit_flow(Encoding(known, dataset), (3,), steps=2).summary
    assert (asked, summary.pictures) == ([66, 12], 66)


def test_neighbours_on_a_map_are_alike_where_they_are_in_the_pictures() -> None:
    """Maps that are constant: those that are drawn vary less within a map than between maps, noise much more."""
    generator = np.random.default_rng(0)
    levels = generator.standard_normal((400, 1)) * np.ones((1, 32))
    maps = Posteriors(levels, np.full(levels.shape, 0.05))
    flow = fitted(maps[np.arange(300)], maps[np.arange(300, 400)], (1, 8, 4), steps=100)
    latents = drawn(flow, 100)
    assert latents.std(axis=1).mean() < latents.mean(axis=1).std()


def test_a_dimension_that_holds_nothing_is_drawn_as_it_is() -> None:
    """And one that is constant gets its value."""
    train, held_out = clusters(300, 0), clusters(100, 1)
    for part in (train, held_out):
        part.mean[:, 1], part.std[:, 1] = 7, 0
    latents = drawn(fitted(train, held_out, (2,), steps=20), 10)
    np.testing.assert_allclose(latents[:, 1], 7, atol=1e-4)


def test_the_same_seed_gives_the_same_flow() -> None:
    first, second = (fitted(clusters(100, 0), clusters(20, 1), (2,), steps=5) for _ in range(2))
    for ours, theirs in zip(first.network.state_dict().values(), second.network.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert first.summary == second.summary


def test_the_best_weights_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the least loss on held-out latents, which here is that of the third judgement."""
    losses, real = iter([3.0, 2.0, 1.0, 2.0, 3.0]), flow_fit._loss

    judged = list[dict[str, torch.Tensor]]()

    def told(network: torch.nn.Module, of: flow_fit._Examples) -> torch.Tensor:
        if torch.is_grad_enabled():
            return real(network, of)
        judged.append({name: value.clone() for name, value in network.state_dict().items()})
        return torch.tensor(next(losses))

    monkeypatch.setattr(flow_fit, "_loss", told)
    monkeypatch.setattr(flow_fit, "JUDGEMENTS", 5)
    flow = fitted(clusters(100, 0), clusters(20, 1), (2,), steps=10)
    assert (flow.summary.steps, flow.summary.loss) == (6, 1.0)
    kept = flow.network.state_dict()
    same = [all(torch.equal(kept[name], one[name]) for name in kept) for one in judged]
    assert same == [False, False, True, False, False]


def test_it_ends_where_the_loss_on_held_out_latents_does_not_fall_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    losses, real, told = iter([3.0, 1.0, *[2.0] * 18]), flow_fit._loss, list[int]()

    def judged(network: torch.nn.Module, of: flow_fit._Examples) -> torch.Tensor:
        return real(network, of) if torch.is_grad_enabled() else torch.tensor(next(losses))

    monkeypatch.setattr(flow_fit, "_loss", judged)
    flow = train_flow(clusters(100, 0), clusters(20, 1), (2,), flow_fit.JUDGEMENTS, 1, told.append)
    assert (flow.summary.steps, flow.summary.loss) == (2, 1.0)
    assert told == list(range(1, 2 + flow_fit.PATIENCE + 1))


def test_a_loss_that_is_never_finite_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_fit, "LARGEST_GRADIENT", float("nan"))
    with pytest.raises(VaeError, match="the flow has learned nothing"):
        fitted(clusters(100, 0), clusters(20, 1), (2,), steps=3)


def test_all_held_out_latents_count_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are judged in batches, of which the last may be small."""
    monkeypatch.setattr(
        flow_fit, "_loss", lambda network, of: next(network.parameters()).sum() * 0 + float(len(of.time))
    )
    summary = fitted(clusters(100, 0), clusters(flow_fit.BATCH + 6, 1), (2,), steps=1).summary
    assert summary.loss == pytest.approx((flow_fit.BATCH**2 + 6**2) / (flow_fit.BATCH + 6))


def test_too_little_memory_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch, trained: Path) -> None:
    def lacking(*_: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    monkeypatch.setattr(flow_fit, "train_flow", lacking)
    dataset = datasets.load(RunFolder(trained).read_record().config.data)
    with pytest.raises(VaeError, match="fitting the flow takes more memory") as refusal:
        flow_fit.fit_flow(Encoding(load(trained, "cpu").pair, dataset), (3,), steps=2)
    assert "`prior` mixture" in refusal.value.hint


def test_each_step_is_told_and_threads_are_as_before() -> None:
    told: list[int] = []
    before = torch.get_num_threads()
    train_flow(clusters(100, 0), clusters(20, 1), (2,), 7, 1, told.append)
    assert told == [1, 2, 3, 4, 5, 6, 7]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("shape", [(5,), (3, 4, 4), (2, 5, 7), (1, 16, 12)])
def test_a_network_takes_latents_of_any_shape(shape: tuple[int, ...]) -> None:
    """At first its velocity is 0, and it has a gradient for every weight once its last layer is not."""
    size = int(np.prod(shape))
    network = Velocity(shape, torch.zeros(size), torch.ones(size), classes=3)
    inputs = torch.randn(4, size), torch.rand(4), torch.tensor([0, 1, 2, 0])
    assert not network(*inputs).any()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    network(*inputs).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("shape", [(5,), (2, 8, 8)])
def test_a_velocity_depends_on_place_time_and_class(shape: tuple[int, ...]) -> None:
    size = int(np.prod(shape))
    torch.manual_seed(0)
    network = Velocity(shape, torch.zeros(size), torch.ones(size), classes=2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, time, label = torch.randn(1, size), torch.full((1,), 0.3), torch.tensor([0])
    with torch.no_grad():
        velocity = network(x, time, label)
        assert not torch.allclose(velocity, network(x + 0.1, time, label), atol=1e-4)
        assert not torch.allclose(velocity, network(x, time + 0.1, label), atol=1e-4)
        assert not torch.allclose(velocity, network(x, time, label + 1), atol=1e-4)
