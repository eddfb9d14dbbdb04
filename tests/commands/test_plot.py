"""`vae plot` through its command line, and what its diagrams are made of."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.command_line import Result, assert_refused, vae
from tests.tiny_model import write_pair
from vaecli import load, plots
from vaecli.datasets.dataset import hold_out
from vaecli.metrics import EpochMetrics, Losses


def plot(what: str, run: Path, output: Path | str, *more: str | Path) -> Result:
    return vae("plot", what, "--run", run, "-o", output, *more)


@pytest.fixture
def matplotlib() -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'vaecli[plot]'")


def epochs(n: int) -> list[EpochMetrics]:
    def losses(scale: float, epoch: int) -> Losses:
        return Losses(loss=scale * (100 + 300 / epoch), reconstruction=scale * (80 + 300 / epoch), kl=scale * 20)

    return [
        EpochMetrics(
            epoch=epoch,
            seconds=1,
            images_per_second=1,
            train=losses(1.1, epoch),
            held_out=losses(1, epoch),
            active_units=3,
        )
        for epoch in range(1, n + 1)
    ]


def vertices(svg: str, colour: str) -> list[int]:
    """How many points each line of a colour has."""
    lines = re.findall(rf'<path d="([^"]*)"[^>]*style="fill: none; stroke: {colour}; stroke-width: 1\.[26]', svg)
    return [len(re.findall("[ML]", line)) for line in lines]


@pytest.mark.usefixtures("matplotlib")
@pytest.mark.parametrize("what", ["loss", "latents"])
def test_every_form(what: str, trained: Path, tmp_path: Path) -> None:
    for suffix in ("png", "svg", "pdf"):
        result = plot(what, trained, tmp_path / f"o.{suffix}", "--json")
        assert result.code == 0, result.err
        assert result.json["output"] == f"{tmp_path}/o.{suffix}"
    with Image.open(tmp_path / "o.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 400
    assert b"<svg" in (tmp_path / "o.svg").read_bytes()
    assert (tmp_path / "o.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.usefixtures("matplotlib")
@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_same_diagram_is_the_same_file(suffix: str, trained: Path, tmp_path: Path) -> None:
    for name in "ab":
        assert plot("latents", trained, tmp_path / f"{name}.{suffix}").code == 0
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


@pytest.mark.usefixtures("matplotlib")
def test_the_losses_of_every_epoch(trained: Path, tmp_path: Path) -> None:
    record = plot("loss", trained, tmp_path / "o.svg", "--json").json
    best = vae("info", trained, "--json").json["training"]["best"]
    assert record["epochs"] == 3
    assert (record["best_epoch"], record["best_loss"]) == (best["epoch"], best["held_out"]["loss"])
    svg = (tmp_path / "o.svg").read_text()
    assert vertices(svg, plots.HELD_OUT.lower())[:3] == [3, 3, 3]
    assert vertices(svg, plots.TRAIN)[:3] == [3, 3, 3]


@pytest.mark.usefixtures("matplotlib")
@pytest.mark.parametrize("n", [1, 2, 40])
def test_any_number_of_epochs(n: int) -> None:
    content = plots.losses(epochs(n), "a title", "png")
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (1600, 512)


@pytest.mark.usefixtures("matplotlib")
def test_a_loss_that_is_not_a_number_leaves_the_others_to_be_seen() -> None:
    broken = epochs(5)
    broken[4] = EpochMetrics(
        epoch=5,
        seconds=1,
        images_per_second=1,
        train=Losses(loss=float("nan"), reconstruction=float("inf"), kl=1),
        held_out=Losses(loss=float("nan"), reconstruction=float("inf"), kl=1),
        active_units=0,
    )
    assert plots.losses(broken, "a title", "svg").startswith(b"<?xml")


@pytest.mark.usefixtures("matplotlib")
def test_points_are_coloured_by_class_where_that_is_known(digits: Path, trained: Path, tmp_path: Path) -> None:
    record = plot("latents", digits, tmp_path / "known.svg", "--json").json
    assert record.items() >= {"n": 500, "data": "mnist-5k", "labelled": True}.items()
    svg = (tmp_path / "known.svg").read_text()
    assert len(set(re.findall(r'<use [^>]*style="fill: (#[0-9a-f]{6})', svg))) == 10
    record = plot("latents", trained, tmp_path / "unknown.svg", "--json").json
    assert (record["n"], record["labelled"]) == (12, False)
    svg = (tmp_path / "unknown.svg").read_text()
    assert set(re.findall(r'<use [^>]*style="fill: (#[0-9a-f]{6})', svg)) == {plots.HELD_OUT}


@pytest.mark.usefixtures("matplotlib")
@pytest.mark.parametrize("classes", [1, 10, 47])
def test_any_number_of_classes(classes: int) -> None:
    points = np.random.default_rng(0).standard_normal((200, 2))
    content = plots.scatter(points, np.arange(200) % classes, ("x", "y"), "a title", "png")
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (1024, 864)


@pytest.mark.usefixtures("matplotlib")
@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_any_number_of_dimensions(latent_dim: int, tmp_path: Path) -> None:
    run = write_pair(tmp_path / "run", (1, 28, 28), latent_dim)
    record = plot("latents", run, tmp_path / "o.png", "--json").json
    assert ("variance_shares" in record) == (latent_dim > 2)


def test_principal_components_are_those_of_the_covariance() -> None:
    generator = np.random.default_rng(0)
    latents = generator.standard_normal((300, 5)) @ generator.standard_normal((5, 5)) + 7
    values, vectors = np.linalg.eigh(np.cov(latents.T))
    components, shares = plots.principal_components(latents)
    assert np.allclose(shares, values[:-3:-1] / values.sum())
    expected = (latents - latents.mean(axis=0)) @ vectors[:, :-3:-1]
    assert np.allclose(np.abs(components), np.abs(expected))
    assert np.allclose(np.var(components, axis=0, ddof=1), values[:-3:-1])


def test_which_way_a_component_points_is_fixed() -> None:
    latents = np.random.default_rng(0).standard_normal((50, 4)) * [1, 2, 3, 4]
    components, _ = plots.principal_components(latents)
    assert np.corrcoef(components[:, 0], latents[:, 3])[0, 1] > 0.9
    assert np.corrcoef(components[:, 1], latents[:, 2])[0, 1] > 0.9


def test_latents_that_are_all_the_same_have_no_components() -> None:
    components, shares = plots.principal_components(np.ones((5, 3)))
    assert not components.any()
    assert shares == [0, 0]


def test_without_matplotlib_the_extra_is_named(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = plot("loss", trained, tmp_path / "o.png")
    assert_refused(result, 1, "vae plot needs matplotlib", "vaecli[plot]")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("what", "output", "flags", "words"),
    [
        ("loss", "o.jpg", (), ".svg"),
        ("loss", "o", (), ".svg"),
        ("loss", "-", ("--json",), "stdout"),
        ("loss", "o.png", ("--data", "mnist-5k"), "--data"),
        ("curve", "o.png", (), "curve"),
    ],
)
def test_what_cannot_be_meant(trained: Path, what: str, output: str, flags: tuple[str, ...], words: str) -> None:
    result = plot(what, trained, output, *flags)
    assert result.code == 2
    assert words in result.err


@pytest.mark.usefixtures("matplotlib")
def test_nothing_to_plot(grey: Path, run: Path, tmp_path: Path) -> None:
    assert_refused(plot("loss", grey, tmp_path / "o.png"), 1, "metrics.jsonl", "holds no training")
    (run / "metrics.jsonl").write_text("")
    assert_refused(plot("loss", run, tmp_path / "o.png"), 1, "metrics.jsonl", "no epoch")
    assert_refused(plot("latents", grey, tmp_path / "o.png"), 1, "--data")
    assert not (tmp_path / "o.png").exists()


@pytest.mark.usefixtures("matplotlib")
def test_on_stdout_and_where_nothing_may_be_replaced(trained: Path, tmp_path: Path) -> None:
    assert plot("loss", trained, "-").stdout.startswith(b"\x89PNG")
    (tmp_path / "o.png").write_bytes(b"mine")
    assert_refused(plot("loss", trained, tmp_path / "o.png", "--no-clobber"), 1, "exists already")
    assert (tmp_path / "o.png").read_bytes() == b"mine"


@pytest.mark.usefixtures("matplotlib")
def test_points_lie_where_the_encoder_puts_them(grey: Path, tmp_path: Path) -> None:
    """Read back from the drawing, whose two axes have one scale."""
    np.save(tmp_path / "in.npy", np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8))
    assert plot("latents", grey, tmp_path / "o.svg", "--data", tmp_path / "in.npy").code == 0
    dots = r'<use xlink:href="#[^"]*" x="([\d.]+)" y="([\d.]+)" style="fill: ' + plots.HELD_OUT
    x, y = np.array(re.findall(dots, (tmp_path / "o.svg").read_text()), float).T
    held_out = np.load(tmp_path / "in.npy")[hold_out(40)[1]]
    means, _ = load(grey, device="cpu").encode(held_out)
    assert len(x) == 4
    across, up = np.polyfit(means[:, 0], x, 1), np.polyfit(means[:, 1], -y, 1)
    assert across[0] == pytest.approx(up[0], rel=1e-3)
    assert np.allclose(np.polyval(across, means[:, 0]), x, atol=0.1)
    assert np.allclose(np.polyval(up, means[:, 1]), -y, atol=0.1)
