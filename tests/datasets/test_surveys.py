"""What pictures are like before they are loaded, of every kind of source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets.drawing import draw, draw_folder
from tests.pictures.packing import png, tar
from vaecli import datasets
from vaecli.config import DataConfig
from vaecli.datasets import surveys
from vaecli.datasets.surveys import Survey, grey_share, survey
from vaecli.errors import VaeError


@pytest.fixture
def shards(tmp_path: Path) -> str:
    """A folder of two shards of 20 pictures each, with their classes."""
    files = dict[str, bytes]()
    for row in range(20):
        files |= {f"{row}.png": png(row), f"{row}.cls": b"odd" if row % 2 else b"even"}
    for shard in range(2):
        tar(tmp_path / f"{shard}.tar", files)
    return str(tmp_path)


def test_a_survey_tells_what_the_pictures_are_like_before_they_are_loaded(tmp_path: Path) -> None:
    assert survey(DataConfig(source="mnist-5k")) == Survey(5000, (1, 28, 28), one_size=True)
    assert survey(DataConfig(source="cifar10")) == Survey(60_000, (3, 32, 32), one_size=True)
    (tmp_path / "grey").mkdir()
    folder = draw_folder(tmp_path / "grey", 3)
    assert survey(DataConfig(source=str(folder))) == Survey(3, (1, 4, 5), one_size=True)
    draw(folder / "colour.png", 3, (8, 2), "RGB")
    (folder / "damaged.png").write_bytes(b"nothing")
    assert survey(DataConfig(source=str(folder))) == Survey(5, (3, 4, 8), one_size=False, one_kind=False)
    np.save(tmp_path / "a.npy", np.zeros((7, 5, 6), np.uint8))
    assert survey(DataConfig(source=str(tmp_path / "a.npy"))) == Survey(7, (1, 5, 6), one_size=True)
    with pytest.raises(VaeError, match="no such file or folder"):
        survey(DataConfig(source="no/where"))


def test_how_many_pictures_are_in_shards_is_estimated(shards: str) -> None:
    assert survey(DataConfig(source=shards)) == Survey(40, (1, 6, 6), one_size=True)


def test_what_is_not_read_is_estimated(shards: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surveys, "SURVEYED", 10)
    assert survey(DataConfig(source=shards)).count == pytest.approx(40, rel=0.3)


def test_the_share_of_grey_values_is_that_of_some_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    strokes = (rng.random((30, 16, 16)) > 0.5) * np.uint8(255)
    strokes[:, 0] = 128
    (tmp_path / "folder").mkdir()
    for row, picture in enumerate(strokes):
        Image.fromarray(picture).save(tmp_path / "folder" / f"{row}.png")
    (tmp_path / "folder" / "broken.png").write_bytes(b"no picture")
    np.save(tmp_path / "a.npy", strokes)
    np.save(tmp_path / "floats.npy", strokes / 255)
    files = {f"{row}.png": (tmp_path / "folder" / f"{row}.png").read_bytes() for row in range(30)}
    tar(tmp_path / "a.tar", files)
    for source in ("folder", "a.npy", "floats.npy", "a.tar"):
        assert grey_share(DataConfig(source=str(tmp_path / source))) == pytest.approx(1 / 16), source
    assert grey_share(DataConfig(source="mnist-5k")) == 0


def test_shards_without_a_picture_are_refused_as_such(tmp_path: Path) -> None:
    tar(tmp_path / "notes.tar", {"readme.txt": b"nothing here"})
    for look in (survey, datasets.load):
        with pytest.raises(VaeError, match=r"notes.tar: no picture in it"):
            look(DataConfig(source=str(tmp_path / "notes.tar"), dir=str(tmp_path)))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["notes.tar"]
