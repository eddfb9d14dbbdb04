"""What diagrams are made of, and the numbers behind them."""

from __future__ import annotations

import importlib.util
import io
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import vaecli
from tests.tiny_model import write_pair
from vaecli import plots
from vaecli.datasets.classes import of_names, of_numbers
from vaecli.errors import UsageError, VaeError
from vaecli.events import EpochMetrics, Losses
from vaecli.inference.geometry import principal_components
from vaecli.outputs import DIAGRAMS
from vaecli.run_folder import RunFolder

needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib: pip install 'vaecli[plot]'"
)
BEGINNINGS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
POINTS = np.random.default_rng(0).standard_normal((40, 2))


def epoch(number: int, scale: float) -> EpochMetrics:
    def losses(factor: float) -> Losses:
        return Losses(loss=factor * scale, reconstruction=0.8 * factor * scale, kl=0.2 * factor * scale)

    return EpochMetrics(
        epoch=number, seconds=1, images_per_second=1, train=losses(1.1), held_out=losses(1), active_units=3
    )


def falling(n: int) -> list[EpochMetrics]:
    return [epoch(number, 100 + 300 / number) for number in range(1, n + 1)]


def losses(run: Path, epochs: list[EpochMetrics]) -> plots.Diagram:
    """The diagram of a run with these epochs."""
    for metrics in epochs:
        RunFolder(run).append_metrics(metrics)
    return plots.losses(run)


def lines(svg: str, colour: str) -> list[list[tuple[float, float]]]:
    """The points (x, y) of each line of a colour."""
    found = re.findall(rf'<path d="([^"]*)"[^>]*style="fill: none; stroke: {colour}; stroke-width: 1\.[26]', svg)
    return [[(float(x), float(y)) for x, y in re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", line)] for line in found]


def colours(svg: str) -> list[str]:
    """The colour of each point."""
    return re.findall(r'<use [^>]*style="fill: (#[0-9a-f]{6})', svg)


@needs_matplotlib
def test_a_format_that_diagrams_do_not_have(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="png, svg, pdf"):
        losses(tmp_path, falling(3)).content("jpg")


def scatter(points: NDArray[np.float64] = POINTS, labels: NDArray[np.int64] | None = None) -> plots.Diagram:
    classes = None if labels is None else of_numbers(labels)
    return plots.Diagram(plots.scatter(points, classes, ("x", "y"), "a title"), {})


@needs_matplotlib
@pytest.mark.parametrize("file_format", DIAGRAMS.values())
def test_the_same_diagram_is_the_same_file_in_every_format(file_format: str, tmp_path: Path) -> None:
    losses(tmp_path, falling(3))
    for first, second in (
        [plots.losses(tmp_path).content(file_format) for _ in range(2)],
        [scatter().content(file_format) for _ in range(2)],
    ):
        assert first.startswith(BEGINNINGS[file_format])
        assert second == first


@needs_matplotlib
@pytest.mark.parametrize("n", [1, 2, 40])
def test_losses_of_any_number_of_epochs(n: int, tmp_path: Path) -> None:
    diagram = losses(tmp_path, falling(n))
    assert diagram.facts == {"epochs": n, "best_epoch": n, "best_loss": 100 + 300 / n}
    with Image.open(io.BytesIO(diagram.content("png"))) as image:
        assert image.size == (1600, 512)


@needs_matplotlib
def test_three_panels_have_a_line_each_for_training_and_held_out_images(tmp_path: Path) -> None:
    svg = losses(tmp_path, falling(5)).content("svg").decode()
    for colour in (plots.TRAIN, plots.HELD_OUT):
        panels = lines(svg, colour)[:3]  # the rest is the legend
        assert [len(points) for points in panels] == [5, 5, 5]
        for points in panels:  # y grows downwards
            assert all(x < next_x and y < next_y for (x, y), (next_x, next_y) in pairwise(points))


@needs_matplotlib
def test_the_axes_show_what_follows_the_first_tenth_of_the_epochs(tmp_path: Path) -> None:
    epochs = [epoch(1, 1e6), epoch(2, 1e6), *(epoch(number, 100 - number) for number in range(3, 21))]
    svg = losses(tmp_path, epochs).content("svg").decode()
    *_, (_, third_last), _, (_, last) = lines(svg, plots.HELD_OUT)[0]
    assert last - third_last > 5  # points; without the limits it would be a thousandth of one


@needs_matplotlib
@pytest.mark.parametrize("finite", [0, 4])
def test_losses_that_are_not_finite_leave_the_others_visible(
    finite: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = [*falling(finite), *(epoch(number, float("nan")) for number in range(finite + 1, 6))]
    monkeypatch.setattr(RunFolder, "read_metrics", lambda _: epochs)  # JSON has no NaN
    svg = plots.losses(tmp_path).content("svg").decode()
    panels = lines(svg, plots.HELD_OUT)[:-1]  # the rest is the legend
    assert [len(points) for points in panels] == [finite] * len(panels)


@needs_matplotlib
def test_a_run_without_an_epoch(tmp_path: Path) -> None:
    with pytest.raises(VaeError, match="there is no training"):
        plots.losses(tmp_path)
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(VaeError, match=r"metrics\.jsonl: no epoch"):
        plots.losses(tmp_path)


@needs_matplotlib
def test_points_without_labels_have_one_colour() -> None:
    assert colours(scatter().content("svg").decode()) == [plots.HELD_OUT] * 40


@needs_matplotlib
@pytest.mark.parametrize("classes", [2, 10, 13])
def test_every_class_has_a_colour_of_its_own(classes: int) -> None:
    svg = scatter(labels=np.arange(40) % classes).content("svg").decode()
    found = colours(svg)
    assert len(found) == 40 + classes  # one more for each in the legend
    assert len(set(found)) == classes


def assert_nothing_is_cut_off(content: bytes) -> None:
    """The right edge of a .png is white, where a legend would be cut off."""
    with Image.open(io.BytesIO(content)) as image:
        assert image.height == 864
        assert (np.asarray(image.convert("L"))[:, -4:] == 255).all()


@needs_matplotlib
def test_many_classes_fit_into_the_legend() -> None:
    content = scatter(np.resize(POINTS, (200, 2)), np.arange(200) % 47).content("png")
    assert_nothing_is_cut_off(content)


@needs_matplotlib
@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_latents_lie_where_the_encoder_puts_them(latent_dim: int, tmp_path: Path) -> None:
    """Read back from the drawing, whose two axes have one scale."""
    model = vaecli.load(write_pair(tmp_path / "run", latent_dim=latent_dim), device="cpu")
    pictures = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)[::10]
    np.save(tmp_path / "in.npy", pictures)
    diagram = plots.latents(model, str(tmp_path / "in.npy"))
    means, stds = model.encode(pictures)
    expected, names = means, ["dimension 0", "dimension 1"]
    facts: dict[str, Any] = {"n": 4, "data": "in.npy", "labelled": False}
    if latent_dim == 1:
        expected, names = np.concatenate([means, stds], axis=1), ["mean", "std"]
    if latent_dim == 3:
        centre, directions, facts["variance_shares"] = principal_components(means)
        components = (means - centre) @ directions.T
        expected, share = components.astype(np.float32), facts["variance_shares"][0]
        names = [f"principal component 1, {share:.0%} of the variance"]
    assert diagram.facts == facts
    assert [diagram.figure.axes[0].get_xlabel(), diagram.figure.axes[0].get_ylabel()][: len(names)] == names
    dots = r'<use xlink:href="#[^"]*" x="([\d.]+)" y="([\d.]+)" style="fill: ' + plots.HELD_OUT
    x, y = np.array(re.findall(dots, diagram.content("svg").decode()), float).T
    assert len(x) == 4
    across, up = np.polyfit(expected[:, 0], x, 1), np.polyfit(expected[:, 1], -y, 1)
    assert across[0] == pytest.approx(up[0], rel=1e-3)
    assert np.allclose(np.polyval(across, expected[:, 0]), x, atol=0.1)
    assert np.allclose(np.polyval(up, expected[:, 1]), -y, atol=0.1)


@needs_matplotlib
def test_latents_need_two_pictures_that_are_here(tmp_path: Path) -> None:
    model = vaecli.load(write_pair(tmp_path / "run"), device="cpu")
    with pytest.raises(VaeError, match="are not here"):
        plots.latents(model)
    few = np.zeros((2, 8, 8), np.uint8)
    np.savez(tmp_path / "in.npz", x_train=few, x_test=few[:1])
    with pytest.raises(VaeError, match="one held-out picture is too few"):
        plots.latents(model, str(tmp_path / "in.npz"))


def test_runs_are_named_without_the_folders_that_they_share() -> None:
    assert plots._without_common_folder(["runs/a/x", "runs/a/y"]) == ["x", "y"]
    assert plots._without_common_folder(["runs/a"]) == ["runs/a"]
    assert plots._without_common_folder(["runs/a", "runs/a/b"]) == ["a", "a/b"]
    long, other = f"a{'x' * 40}", f"b{'x' * 40}"
    assert max(map(len, plots._without_common_folder([long, other]))) <= plots.LONGEST_LABEL
    alike = [f"{long}{number}{long}" for number in range(2)]
    assert plots._without_common_folder(alike) == alike, "cut in the middle they would be the same"


@needs_matplotlib
def test_the_axes_keep_their_room_beside_long_names() -> None:
    names = [f"{number:03}.Black_footed_Albatross_of_the_southern_sea" for number in range(30)]
    classes = of_names([names[row % 30] for row in range(300)])
    figure = plots.scatter(np.random.default_rng(0).standard_normal((300, 2)), classes, ("x", "y"), "a title")
    assert_nothing_is_cut_off(plots.Diagram(figure, {}).content("png"))
    (axes,) = figure.axes
    assert axes.get_position().width * figure.get_figwidth() > 4


@needs_matplotlib
def test_a_run_without_an_epoch_is_left_out_of_several(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    losses(tmp_path / "a", falling(3))
    (tmp_path / "b/config.json").touch()
    told: list[Any] = []
    diagram = plots.losses(tmp_path / "a", tmp_path / "b", on_event=told.append)
    assert [note.text for note in told] == [f"left out: {tmp_path}/b: no epoch of its training has ended"]
    assert diagram.facts["epochs"] == 3
    with pytest.raises(VaeError, match="no epoch of its training has ended"):
        plots.losses(tmp_path / "b")
