"""The words of reports: what they say of an evaluation, of a run, and of numbers that are not what they seem."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as change

from tests.tiny_model import COLOUR, GREY, write_pair
from vaecli import inspect, load
from vaecli.commands import reports
from vaecli.evaluation.data import choose
from vaecli.evaluation.evaluate import Evaluation, evaluate
from vaecli.inference.pair import Pair
from vaecli.inspection import runs
from vaecli.model import Model
from vaecli.model_format import PriorSummary


class Report:
    """A report as lists of what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tables: dict[str, list[tuple[str, ...]]] = {}

    def line(self, text: str) -> None:
        self.lines.append(text)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.tables[title] = [tuple(row) for row in (columns, *rows)]

    def facts(self, title: str, facts: Iterable[tuple[str, str]]) -> None:
        self.tables[title] = list(facts)


def evaluated(folder: Path, shape: tuple[int, int, int] = GREY, latent_dim: int = 2) -> tuple[Evaluation, Model]:
    """A random model on random pictures."""
    import numpy as np

    model = load(write_pair(folder, shape, latent_dim), "cpu")
    channels, height, width = shape
    np.save(folder / "a.npy", np.random.default_rng(0).integers(0, 256, (30, height, width, channels), np.uint8))
    pictures = choose(model.pair, str(folder / "a.npy"), split="all")
    return evaluate(model.pair, pictures, importance_samples=2), model


def told(result: Evaluation, model: Model) -> Report:
    report: Any = Report()
    reports.evaluation(result, model.pair, report)
    assert isinstance(report, Report)
    return report


def test_losses_have_their_errors_and_dimensions_the_largest_first(tmp_path: Path) -> None:
    result, model = evaluated(tmp_path, latent_dim=25)
    report = told(result, model)
    assert report.lines[0] == f"{tmp_path} on 30 pictures of a.npy"
    heading, negative_elbo, *_, bound = report.tables["evaluation"]
    assert heading == ("", "nats per image", "standard error")
    assert negative_elbo == (
        "negative ELBO",
        f"{result.negative_elbo.nats:.3f}",
        f"{result.negative_elbo.standard_error:.3f}",
    )
    assert bound[0] == "bound, K = 2"
    divergences = [float(row[1]) for row in report.tables["latent dimensions"][1:]]
    assert divergences == sorted(divergences, reverse=True)
    assert len(divergences) == reports.DIMENSIONS
    assert report.lines[-1].startswith("and 5 more dimensions of at most ")


def test_the_kl_of_a_dimension_is_named_after_what_it_is_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, model = evaluated(tmp_path)
    assert told(result, model).tables["latent dimensions"][0][1] == "KL from N(0, 1)"
    monkeypatch.setattr(Pair, "trained_prior", "model")
    assert told(result, model).tables["latent dimensions"][0][1] == "KL from a Gaussian with the prior's mean and std"


def test_one_picture_has_no_standard_error(tmp_path: Path) -> None:
    result, model = evaluated(tmp_path)
    single = replace(result, negative_elbo=replace(result.negative_elbo, standard_error=None))
    assert told(single, model).tables["evaluation"][1][2] == "unknown"


@pytest.mark.parametrize(
    ("shape", "likelihood", "said"),
    [
        (GREY, "bernoulli", "grey pixels under a Bernoulli likelihood"),
        (COLOUR, "bernoulli", "colour under a Bernoulli likelihood"),
        (GREY, "gaussian", "gaussian is a density"),
    ],
)
def test_what_the_losses_do_not_bound_is_said(
    shape: tuple[int, int, int], likelihood: Any, said: str, tmp_path: Path
) -> None:
    result, model = evaluated(tmp_path, shape)
    result = replace(result, likelihood=likelihood)
    assert not result.normalised
    assert any(said in line for line in told(result, model).lines)
    assert not any(said in line for line in told(replace(result, normalised=True), model).lines)


def test_a_run_is_told_by_facts_and_runs_by_a_table(trained: Path) -> None:
    report: Any = Report()
    reports.inspection(inspect(trained), report)
    assert report.lines == [f"{trained}: a run folder"]
    assert dict(report.tables["training"])["epochs"] == "3"
    assert dict(report.tables["exported model"])["latent dim"] == "3"
    assert {name for name, _ in report.tables["files"]} >= {"encoder.onnx", "decoder.onnx"}
    found = inspect(trained)
    assert found.model is not None
    prior = PriorSummary(kind="mixture", components=7, log_density=-20.0, normal_log_density=-22.5, pictures=90)
    for kind, gain in (("normal", "; gains 2.50 nats over N(0, I) on held-out latents"), ("vamp", "")):
        metadata = change(found.model.metadata, prior=prior, trained_prior=kind)
        reports.inspection(change(found, model=change(found.model, metadata=metadata)), report)
        assert dict(report.tables["exported model"])["prior"] == f"mixture of 7{gain}"
    reports.runs(runs(trained.parent), [], [trained.parent], report)
    (table,) = (rows for title, rows in report.tables.items() if title.startswith("runs below"))
    assert trained.name in [row[0] for row in table]
