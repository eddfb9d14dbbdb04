"""INPUTs that are data sets: which pictures a name stands for, and which names stand for none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.datasets.set_files import little_mnist
from tests.notes import texts
from vaecli.config import DataConfig
from vaecli.datasets import builtin, load
from vaecli.datasets.splits import named, of_split
from vaecli.errors import VaeError
from vaecli.model_format import ImageShape
from vaecli.pictures.inputs import PictureInputs


def held_out(name: str, image_shape: ImageShape, directory: str | None = None) -> PictureInputs:
    data = named(name, image_shape, directory)
    assert data is not None
    return of_split(load(data), "held-out")


def test_a_name_stands_for_its_held_out_pictures() -> None:
    found = held_out("mnist-5k", (1, 28, 28))
    np.testing.assert_array_equal(found.images, builtin.digits()[1])
    assert found.names[17] == "mnist-5k-test[17]"
    assert texts(found.notes) == ("500 held-out pictures of mnist-5k",)


def test_names_are_those_of_the_pictures_wherever_the_split_is(tmp_path: Path) -> None:
    pixels = np.arange(40, dtype=np.uint8)[:, np.newaxis, np.newaxis].repeat(8, 1).repeat(8, 2)
    np.save(tmp_path / "a.npy", pixels)
    dataset = load(DataConfig(source=str(tmp_path / "a.npy"), dir=str(tmp_path), validation=6))
    counts = {}
    for split in ("held-out", "validation", "train", "all"):
        found = of_split(dataset, split)
        counts[split] = len(found.images)
        assert found.names == [f"{tmp_path / 'a.npy'}[{value}]" for value in found.images[:, 0, 0, 0]]
    assert counts == {"held-out": 4, "validation": 6, "train": 30, "all": 40}
    assert texts(of_split(dataset, "train").notes)[0] == "30 training pictures of a.npy"


def test_they_are_fitted_to_the_model() -> None:
    found = held_out("mnist-5k", (3, 8, 10))
    assert found.images.shape == (500, 8, 10, 3)
    assert "converted to 8x10x3" in texts(found.notes)[1]


def test_a_data_set_in_the_data_folder(tmp_path: Path) -> None:
    found = held_out("mnist", (1, 28, 28), str(little_mnist(tmp_path)))
    np.testing.assert_array_equal(found.images, builtin.digits()[1][::9])


def test_another_name_is_none() -> None:
    assert named("holidays", (1, 28, 28)) is None


def test_almost_a_name() -> None:
    with pytest.raises(VaeError, match="mnist-6k: no such file or folder") as raised:
        named("mnist-6k", (1, 28, 28))
    assert "did you mean the data set mnist-5k" in raised.value.hint
