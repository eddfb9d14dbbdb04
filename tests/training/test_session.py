"""A training in memory: its seeds, its record, the epochs it keeps, and the learner it takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import vaecli
from tests.command_line import PROJECT
from tests.training.conftest import Settings
from tests.training.tiny_learner import tiny_learner
from vaecli import datasets
from vaecli.datasets import Dataset
from vaecli.datasets.dataset import spread
from vaecli.errors import VaeError
from vaecli.events import EpochMetrics, Losses, Step
from vaecli.run_folder import RunFolder
from vaecli.settings import Flags, resolve
from vaecli.training import session as sessions
from vaecli.training.batches import channels_first
from vaecli.training.checkpoint import load_checkpoint, load_weights
from vaecli.training.session import DATA_PREVIEW, EXAMPLES, History, Session


@pytest.fixture
def pictures(small: Settings) -> Dataset:
    return datasets.load(resolve(small).data)


def session(small: Settings, pictures: Dataset, flags: Flags | None = None) -> Session:
    return Session(resolve(small, flags), pictures)


def epoch(number: int, loss: float) -> EpochMetrics:
    losses = Losses(loss=loss, reconstruction=loss, kl=0.0)
    return EpochMetrics(epoch=number, seconds=2.0, images_per_second=1.0, train=losses, held_out=losses, active_units=1)


def test_the_seed_fixes_the_weights_and_the_whole_training(small: Settings, pictures: Dataset) -> None:
    def outcome(seed: int) -> tuple[torch.Tensor, list[float]]:
        begun = session(small, pictures, {("training", "seed"): seed})
        start = begun.learner.parameters.vector.detach().clone()
        return start, [event.held_out.loss for event in begun.run() if isinstance(event, EpochMetrics)]

    (start, losses), (same_start, same_losses), (other_start, other_losses) = outcome(1), outcome(1), outcome(2)
    assert torch.equal(start, same_start)
    assert losses == same_losses
    assert not torch.equal(start, other_start)
    assert losses != other_losses


def test_the_record_has_the_data_and_what_this_machine_chose(small: Settings, pictures: Dataset) -> None:
    record = session(small, pictures).record
    assert (record.data.name, record.data.hash, record.data.image_shape) == ("blobs.npy", pictures.hash, (1, 8, 8))
    assert (record.data.train, record.data.held_out) == (108, 12)
    assert (record.device, record.precision) == ("cpu", "float32")
    assert (record.versions.vaecli, record.versions.torch) == (vaecli.__version__, torch.__version__)
    assert Session(record.config, pictures, "float64").record.precision == "float64", "a resumed training keeps its own"


def test_the_history_keeps_the_best_epoch() -> None:
    history = History()
    for number, loss in enumerate((3.0, 1.0, 2.0, 1.0), 1):
        history = history.after(epoch(number, loss), kl_warmup=0)
    assert history == History(epoch=4, best=epoch(2, 1.0), seconds=8.0)


def test_the_best_epoch_has_the_lowest_value_of_what_is_trained() -> None:
    history = History()
    for number, (loss, objective) in enumerate(((9.0, 5.0), (7.0, 8.0), (8.0, 4.0)), 1):
        history = history.after(msgspec.structs.replace(epoch(number, loss), objective=objective), kl_warmup=0)
    assert history.best is not None
    assert history.best.epoch == 3, "the second one has a lower loss with a KL weight of 1, which was not trained"


def test_a_training_with_importance_weights_is_judged_by_its_bound(small: Settings, pictures: Dataset) -> None:
    flags = {("training", "objective"): "dreg", ("training", "importance_samples"): 20, ("training", "epochs"): 1}
    *_, last = session(small, pictures, flags).run()
    assert isinstance(last, EpochMetrics)
    assert last.objective is not None
    assert last.objective < last.held_out.loss - 0.1, "20 latents are a tighter bound than one"


def test_the_measuring_of_the_objective_follows_what_is_trained(small: Settings, pictures: Dataset) -> None:
    for flags in ({("training", "beta"): 4.0}, {("training", "beta"): 4.0, ("training", "free_bits"): 5.0}):
        *_, last = session(small, pictures, {**flags, ("training", "epochs"): 1}).run()
        assert isinstance(last, EpochMetrics)
        kl = 15.0 if ("training", "free_bits") in flags else last.held_out.kl  # 3 dimensions of 5 nats at least
        assert last.objective == pytest.approx(last.held_out.reconstruction + 4 * kl)


def test_best_weights_are_written_for_the_best_epoch_only(small: Settings, pictures: Dataset, tmp_path: Path) -> None:
    begun, folder = session(small, pictures), RunFolder(tmp_path)
    for number, loss in ((1, 2.0), (2, 3.0)):
        begun.history = begun.history.after(epoch(number, loss), kl_warmup=0)
        begun.save(folder, epoch(number, loss))
    assert load_weights(folder.best).epoch == 1
    kept = load_checkpoint(folder.checkpoint)
    assert (kept.weights.epoch, kept.best["epoch"], kept.seconds) == (2, 1, 4.0)
    assert begun.saved == 2
    assert kept.weights.losses == epoch(2, 3.0).held_out
    assert np.array_equal(kept.weights.examples.numpy(), pictures.train[spread(EXAMPLES, 108)])


def test_a_checkpoint_of_another_network_is_refused(small: Settings, pictures: Dataset, tmp_path: Path) -> None:
    begun, folder = session(small, pictures), RunFolder(tmp_path)
    begun.history = begun.history.after(epoch(1, 1.0), kl_warmup=0)
    begun.save(folder, epoch(1, 1.0))
    with pytest.raises(VaeError, match=r"checkpoint.pt: this version of vae cannot resume"):
        session(small, pictures, {("model", "hidden"): 17}).restore(folder.checkpoint)


def test_patience_counts_from_the_best_epoch(
    small: Settings, pictures: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = [5.0, 4.0, 4.5, 4.0, 4.1, 1.0]
    monkeypatch.setattr(sessions, "train", lambda *_, **__: (epoch(i, loss) for i, loss in enumerate(losses, 1)))
    begun = session(small, pictures, {("training", "patience"): 3})
    assert [event.epoch for event in begun.run() if isinstance(event, EpochMetrics)] == [1, 2, 3, 4, 5]


def test_patience_waits_for_the_end_of_the_kl_warm_up(
    small: Settings, pictures: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = [1.0, 2.0, 3.0, 4.0, 4.5, 4.6, 0.5]
    monkeypatch.setattr(sessions, "train", lambda *_, **__: (epoch(i, loss) for i, loss in enumerate(losses, 1)))
    begun = session(small, pictures, {("training", "patience"): 2, ("training", "kl_warmup"): 4})
    assert [event.epoch for event in begun.run() if isinstance(event, EpochMetrics)] == [1, 2, 3, 4, 5, 6]
    assert begun.history.best == epoch(4, 4.0)


def test_the_events_of_an_epoch_count_the_images(small: Settings, pictures: Dataset) -> None:
    begun = session(small, pictures, {("training", "epochs"): 1, ("data", "drop_last"): True})
    *steps, last = begun.run()
    assert begun.images_in_epoch == 96
    assert steps[-1] == Step(1, 96)
    assert isinstance(last, EpochMetrics)
    assert begun.learner.steps_per_epoch == len(steps) == 6


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            {("data", "drop_last"): True, ("training", "batch_size"): 109},
            "`batch_size` 109: blobs.npy has 108 training images",
        ),
        ({("model", "architecture"): "conv"}, "`architecture` conv: the pictures are 8x8, not 16 to 256"),
    ],
)
def test_settings_that_do_not_suit_the_pictures_are_refused(
    small: Settings, pictures: Dataset, flags: Flags, words: str
) -> None:
    with pytest.raises(VaeError, match=words):
        session(small, pictures, flags)


def test_with_output_bias_the_first_reconstructions_are_the_mean_picture(small: Settings, pictures: Dataset) -> None:
    begun = session(small, pictures, {("model", "output_bias"): True})
    mean = channels_first(pictures.train.whole()).float().mean(0) / 255
    model = begun.learner.model
    with torch.no_grad():
        drawn = model.image(model.decode(torch.zeros(1, 3)))[0]
    assert float((drawn - mean).abs().max()) < 0.002, "all biases but the last are zero"


def test_previews_show_training_images_and_what_the_saved_weights_make_of_them(
    small: Settings, pictures: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[Path, NDArray[np.uint8]] = {}
    monkeypatch.setattr(sessions, "save_grid", lambda images, path: drawn.update({path: images}))
    begun, folder = session(small, pictures, {("training", "ema"): 0.9}), RunFolder(tmp_path)
    begun.save_data_preview(folder)
    assert np.array_equal(drawn[folder.data_preview], pictures.train[spread(DATA_PREVIEW, 108)])
    assert begun.learner.average is not None
    begun.learner.average.zero_()
    begun.save_preview(folder, 12)
    assert drawn[folder.preview(12)].shape == (EXAMPLES, 8, 8, 1)
    assert (drawn[folder.preview(12)] == 128).all(), "a network of zeros draws grey"


@pytest.mark.parametrize(
    ("flags", "path"),
    [
        ({}, "dense kernels"),
        ({("model", "likelihood"): "gaussian"}, "autograd"),
    ],
)
def test_the_fastest_learner_is_chosen(flags: Flags, path: str) -> None:
    assert tiny_learner(flags).path.split(", ")[0] == path


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor cannot flush denormal numbers")
def test_a_training_flushes_denormals_on_every_thread() -> None:
    """In a process of its own, whose threads start in the session: they copy the setting when they do."""
    script = (
        "import torch\n"
        "from vaecli import datasets\n"
        "from vaecli.settings import resolve\n"
        "from vaecli.training.device import training_state\n"
        "from vaecli.training.session import Session\n"
        "torch.set_num_threads(2)\n"
        "settings = resolve(None, {('training', 'seed'): 1, ('training', 'device'): 'cpu'})\n"
        "with training_state():\n"
        "    Session(settings, datasets.load(settings.data))\n"
        "    print(int((torch.full((1 << 22,), 1e-39) * 0.5).count_nonzero()))\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "0\n"


def test_a_learned_scale_starts_at_the_spread_of_the_pictures(small: Settings, pictures: Dataset) -> None:
    begun = session(small, pictures, {("model", "likelihood"): "gaussian", ("model", "scale_per"): "model"})
    values = pictures.train.whole() / 255
    scale = begun.learner.model.log_scale
    assert scale is not None
    about_the_mean_picture = np.sqrt(np.square(values - values.mean(axis=0)).mean())
    assert float(scale.detach().exp()) == pytest.approx(about_the_mean_picture, rel=0.02)
