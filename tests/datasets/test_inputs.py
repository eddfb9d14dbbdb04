"""INPUTs that are data sets: which pictures a name stands for, and which names stand for none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.datasets.set_files import little_mnist
from vaecli.datasets import builtin
from vaecli.datasets.inputs import held_out
from vaecli.errors import VaeError


def test_a_name_stands_for_its_held_out_pictures() -> None:
    found = held_out("mnist-5k", (1, 28, 28))
    assert found is not None
    np.testing.assert_array_equal(found.images, builtin.digits()[1])
    assert found.names[17] == "mnist-5k[17]"
    assert found.notes == ("mnist-5k: its 500 held-out pictures",)


def test_they_are_fitted_to_the_model() -> None:
    found = held_out("mnist-5k", (3, 8, 10))
    assert found is not None
    assert found.images.shape == (500, 8, 10, 3)
    assert "converted to 8x10x3" in found.notes[1]


def test_a_data_set_in_the_data_folder(tmp_path: Path) -> None:
    found = held_out("mnist", (1, 28, 28), str(little_mnist(tmp_path)))
    assert found is not None
    np.testing.assert_array_equal(found.images, builtin.digits()[1][::9])


def test_another_name_is_none() -> None:
    assert held_out("holidays", (1, 28, 28)) is None


def test_almost_a_name() -> None:
    with pytest.raises(VaeError, match="mnist-6k: no such file or folder") as raised:
        held_out("mnist-6k", (1, 28, 28))
    assert "did you mean the data set mnist-5k" in raised.value.hint
