"""A run folder that vanishes while it is trained: the training notices, stops, and says what was in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import vaecli
from vaecli.errors import VaeError
from vaecli.events import EpochMetrics, Event, Step


def removed(run: Path) -> None:
    shutil.rmtree(run)


def moved_and_made_again(run: Path) -> None:
    run.rename(run.with_name("moved"))
    run.mkdir()
    shutil.copy(run.with_name("moved") / "config.json", run)


def without_its_config(run: Path) -> None:
    (run / "config.json").unlink()


def without_its_best_weights(run: Path) -> None:
    (run / "best.pt").unlink()


VANISH: dict[Callable[[Path], None], str] = {
    removed: "removed, moved or replaced during the training; it held epochs 1 to 2",
    moved_and_made_again: "removed, moved or replaced during the training; it held epochs 1 to 2",
    without_its_config: "config.json vanished during the training, of which the folder held epochs 1 to 2",
    without_its_best_weights: "best.pt vanished during the training, of which the folder held epochs 1 to 2",
}


def settings(blobs: Path, epochs: int) -> dict[str, dict[str, object]]:
    return {
        "data": {"source": str(blobs)},
        "model": {"prior": "normal", "hidden": 16, "latent_dim": 3},
        "training": {"epochs": epochs, "batch_size": 16, "device": "cpu", "seed": 7},
    }


@pytest.mark.parametrize("vanish", VANISH)
@pytest.mark.parametrize("epochs", [2, 4])
def test_a_training_notices(blobs: Path, tmp_path: Path, vanish: Callable[[Path], None], epochs: int) -> None:
    """After the last epoch, too."""
    run, seen = tmp_path / "run", []

    def on_event(event: Event) -> None:
        if isinstance(event, EpochMetrics):
            seen.append(event.epoch)
            if event.epoch == 2:
                vanish(run)

    with pytest.raises(VaeError, match=VANISH[vanish]) as caught:
        vaecli.train(settings(blobs, epochs), run, on_event=on_event)
    assert caught.value.exit_code == 1
    assert seen == [1, 2]
    assert run.exists() == (vanish is not removed), "no folder without a config is left"


def test_an_interruption_claims_no_epoch_that_is_gone(blobs: Path, tmp_path: Path) -> None:
    def on_event(event: Event) -> None:
        if event == Step(2, 16):
            shutil.rmtree(tmp_path / "run")
            raise KeyboardInterrupt

    with pytest.raises(VaeError, match="it held epoch 1"):
        vaecli.train(settings(blobs, 3), tmp_path / "run", on_event=on_event)
