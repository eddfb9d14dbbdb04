"""The list of data sets: every name, its sizes, and whether it is here."""

from __future__ import annotations

from pathlib import Path

from tests.datasets.set_files import mnist_like
from vaecli.datasets.catalogue import NAMED
from vaecli.datasets.listing import data_sets


def test_data_sets_are_listed_with_what_is_here(kept: Path) -> None:
    mnist_like(kept / "MNIST" / "raw")
    sets = {known.name: known for known in data_sets(kept)}
    assert list(sets) == ["mnist-5k", *NAMED]
    assert sorted(name for name, known in sets.items() if known.here) == ["mnist", "mnist-5k"]
    digits = sets["mnist-5k"]
    assert (digits.train, digits.held_out, digits.shape) == (4500, 500, (28, 28, 1))
    assert sets["cifar10"].shape == (32, 32, 3)
