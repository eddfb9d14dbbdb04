"""`vaecli.train` from Python: its events and result, what it refuses, what it leaves alone, and how it resumes."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

import vaecli
from tests.command_line import PROJECT, assert_refused, vae_process
from tests.datasets.set_files import little_mnist
from tests.training.conftest import Settings
from vaecli import processors
from vaecli import settings as given_settings
from vaecli.errors import Interrupted, UsageError, VaeError
from vaecli.evaluation.data import choose
from vaecli.events import EpochMetrics, Event, Note, Progress, Step, TrainingDone, TrainingStarted
from vaecli.run_folder import RunFolder
from vaecli.settings import Flags, gather, resolve
from vaecli.training import advice
from vaecli.training.checkpoint import load_checkpoint, load_weights
from vaecli.training.plan import choose_settings, plan_new_run


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def with_setting(settings: Settings, section: str, **values: Any) -> Settings:
    return {**settings, section: {**settings[section], **values}}


def interrupt_at(epoch: int, images: int) -> Callable[[Event], None]:
    """A callback that presses Ctrl-C at this step."""

    def on_event(event: Event) -> None:
        if event == Step(epoch, images):
            raise KeyboardInterrupt

    return on_event


def test_events_arrive_in_order_and_the_last_one_is_the_result(small: Settings, tmp_path: Path) -> None:
    events: list[Event] = []
    result = vaecli.train(with_setting(small, "data", image_size=6), tmp_path / "r", on_event=events.append)
    kinds = [type(event) for event in events]
    start = kinds.index(TrainingStarted)
    assert set(kinds[:start]) == {Progress, Note}, "what loading the pictures has to say"
    assert events[start - 1] == Note("all images were cropped, resized or converted to 6x6x1")
    trained = [TrainingStarted, Note, *2 * [*7 * [Step], EpochMetrics]]
    assert kinds[start : start + len(trained)] == trained
    assert {*kinds[start + len(trained) : -1]} == {Note}
    assert kinds[-1] is TrainingDone
    assert events[-1] == result
    started = events[start]
    assert isinstance(started, TrainingStarted)
    assert (started.train, started.held_out, started.images_in_epoch) == (108, 12, 108)
    assert (started.image_shape, started.seed, started.resumed_after) == ((1, 6, 6), 7, 0)


def test_the_result_is_that_of_the_epochs(small: Settings, tmp_path: Path) -> None:
    result = vaecli.train(small, tmp_path / "r")
    epochs = RunFolder(tmp_path / "r").read_metrics()
    best = min(epochs, key=lambda epoch: epoch.held_out.loss)
    assert (result.run, result.epochs, result.seed) == (str(tmp_path / "r"), 2, 7)
    assert (result.device, result.precision) == ("cpu", "float32")
    assert (result.best_epoch, result.best_loss) == (best.epoch, best.held_out.loss)
    assert result.seconds == pytest.approx(sum(epoch.seconds for epoch in epochs))


def test_an_epoch_is_reported_once_it_is_on_disk(small: Settings, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r")
    reported = []

    def on_event(event: Event) -> None:
        if isinstance(event, EpochMetrics):
            reported.append(event.epoch)
            assert folder.read_metrics()[-1] == event
            assert load_checkpoint(folder.checkpoint).weights.epoch == event.epoch
            assert folder.preview(event.epoch).exists()

    vaecli.train(small, folder.path, on_event=on_event)
    assert reported == [1, 2]


@pytest.mark.parametrize("form", ["Config", "path", "string"])
def test_settings_are_a_config_or_a_toml_file(form: str, small: Settings, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    lines = [f"[{section}]\n" + "".join(f"{k} = {v!r}\n" for k, v in keys.items()) for section, keys in small.items()]
    file.write_text("recipe = 'tutorial'\n" + "".join(lines))
    assert tomllib.loads(file.read_text()) == {"recipe": "tutorial", **small}
    forms: dict[str, given_settings.Settings] = {"Config": resolve(small), "path": file, "string": str(file)}
    vaecli.train(forms[form], tmp_path / "r", flags={("training", "epochs"): 1, ("model", "hidden"): None})
    expected = resolve(small, {("training", "epochs"): 1})
    assert RunFolder(tmp_path / "r").read_record().config == expected
    assert expected.model.hidden == 16, "a flag that is None was not given"


def test_a_seed_is_drawn_and_recorded_where_none_is_given(small: Settings, tmp_path: Path) -> None:
    del small["training"]["seed"]
    results = [vaecli.train(with_setting(small, "training", epochs=1), tmp_path / name) for name in "ab"]
    assert results[0].seed != results[1].seed
    assert results[0].best_loss != results[1].best_loss
    for result in results:
        assert RunFolder(result.run).read_record().config.training.seed == result.seed


def test_a_copied_pair_survives_unless_it_is_to_be_overwritten(small: Settings, grey: Path, tmp_path: Path) -> None:
    run = tmp_path / "r"
    run.mkdir()
    for name in ("encoder.onnx", "decoder.onnx"):
        (run / name).write_bytes((grey / name).read_bytes())
    before = contents(run)
    with pytest.raises(VaeError, match=r"holds encoder.onnx, decoder.onnx\nhint: `overwrite`"):
        vaecli.train(small, run)
    assert contents(run) == before
    vaecli.train(small, run, overwrite=True)
    assert not (run / "encoder.onnx").exists()
    assert not (run / "decoder.onnx").exists()


@pytest.mark.parametrize("outcome", ["trained", "refused"])
def test_the_settings_of_the_process_come_back(small: Settings, tmp_path: Path, outcome: str) -> None:
    """Threads and the flushing of denormals belong to the program that trains."""
    others = processors.usable() + 1  # more than a training takes
    torch.set_num_threads(others)
    torch.set_flush_denormal(False)
    try:
        if outcome == "trained":
            vaecli.train(small, tmp_path / "r")
        else:
            with pytest.raises(VaeError, match="has no classes"):
                vaecli.train(with_setting(small, "model", conditional=True), tmp_path / "r")
        assert torch.get_num_threads() == others
        assert float(torch.tensor(1e-39) * 0.5) != 0
    finally:
        torch.set_num_threads(1)
        torch.set_flush_denormal(False)


def test_a_training_that_patience_stopped_is_finished(small: Settings, tmp_path: Path) -> None:
    still = with_setting(small, "training", epochs=9, patience=2, learning_rate=1e-12)  # rounding keeps each weight
    done = vaecli.train(still, tmp_path / "r")
    assert done.epochs == 3
    before, events = contents(tmp_path / "r"), list[Event]()
    assert vaecli.train(run=tmp_path / "r", resume=True, on_event=events.append) == done
    assert contents(tmp_path / "r") == before
    best = f"2 epochs without a better one than epoch {done.best_epoch} (`patience`)"
    assert events == [Note(f"nothing to do: the training was stopped after epoch {done.epochs}, {best}"), done]


@pytest.mark.parametrize("subfolder", ["", "cats"])
def test_no_training_is_written_into_a_folder_of_pictures(small: Settings, tmp_path: Path, subfolder: str) -> None:
    """As where the run and the data were exchanged."""
    folder = tmp_path / subfolder
    folder.mkdir(exist_ok=True)
    for row in range(10):
        (folder / f"{row}.png").write_bytes(b"mine")
    before = contents(tmp_path)
    with pytest.raises(VaeError, match="this is a folder of pictures"):
        vaecli.train(small, tmp_path, overwrite=True)
    assert contents(tmp_path) == before
    (folder / "9.png").unlink()
    assert vaecli.train(small, tmp_path).epochs == 2, "a few pictures are no data set"


def test_no_training_is_written_below_its_pictures(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There its previews would be pictures of the next training."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for row, image in enumerate(np.load(blobs)[:40]):
        Image.fromarray(image).save(folder / f"{row}.png")
    settings = {"data": {"source": str(folder)}, "training": {"epochs": 1}}
    (tmp_path / "link").symlink_to(folder)
    for run in (folder / "run", folder / "runs" / "one", tmp_path / "link" / "run"):
        with pytest.raises(VaeError, match=r"lies in .*pictures, and its previews"):
            vaecli.train(settings, run)
    monkeypatch.chdir(folder.parent)
    (folder.parent / "mnist-5k").mkdir()
    named = gather({"data": {"source": "mnist-5k"}})
    plan = plan_new_run(RunFolder("mnist-5k/run"), named, lambda _: None, overwrite=False)
    assert plan.settings.data.source == "mnist-5k", "a name is no folder"
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 40


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_somebody_else_survive(small: Settings, tmp_path: Path, overwrite: bool) -> None:
    run = tmp_path / "r"
    (run / "previews").mkdir(parents=True)
    for name in ("notes.txt", "previews/holiday.png", "previews/epoch-1.png"):
        (run / name).write_text("mine")
    before = contents(run)
    vaecli.train(small, run, overwrite=overwrite)
    assert contents(run).items() >= before.items()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_config_of_another_program_is_never_replaced(small: Settings, tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(VaeError, match=r"config\.json: was not written by vae\nhint: move it"):
        vaecli.train(small, tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_config_of_another_program_with_its_weights_is_not_replaced(small: Settings, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / "best.pt").write_bytes(b"weights")
    with pytest.raises(VaeError, match=r"config\.json: was not written by vae"):
        vaecli.train(small, tmp_path, overwrite=True)
    assert (tmp_path / "best.pt").read_bytes() == b"weights"


def test_a_damaged_config_beside_weights_is_that_of_a_training(run: Path) -> None:
    (run / "config.json").write_text("{")
    with pytest.raises(VaeError, match="there is a training in it already"):
        vaecli.train(None, run)


def test_pictures_with_the_names_of_previews_are_not_replaced_unasked(small: Settings, tmp_path: Path) -> None:
    old = tmp_path / "r" / "previews" / "epoch-0009.png"
    old.parent.mkdir(parents=True)
    old.write_text("perhaps mine")
    with pytest.raises(VaeError, match="holds previews"):
        vaecli.train(small, tmp_path / "r")
    assert contents(tmp_path) == {old: b"perhaps mine"}
    vaecli.train(small, tmp_path / "r", overwrite=True)
    assert not old.exists(), "it would be taken for an epoch of the new training"


def test_overwriting_with_settings_that_do_not_suit_the_pictures_loses_nothing(small: Settings, tmp_path: Path) -> None:
    vaecli.train(small, tmp_path / "r")
    before = contents(tmp_path)
    with pytest.raises(VaeError, match="`architecture` conv: the pictures are 8x8"):
        vaecli.train(with_setting(small, "model", architecture="conv"), tmp_path / "r", overwrite=True)
    assert contents(tmp_path) == before


def test_resume_and_overwrite_exclude_each_other(small: Settings, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`resume` and `overwrite`"):
        vaecli.train(small, tmp_path / "r", resume=True, overwrite=True)


def test_a_resumed_training_needs_no_settings_and_equals_an_unbroken_one(small: Settings, tmp_path: Path) -> None:
    whole, part = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "part")
    for run, epochs in ((whole, 3), (part, 1)):
        vaecli.train(resolve(with_setting(small, "training", epochs=epochs, ema=0.9)), run.path)
    events: list[Event] = []
    result = vaecli.train(None, part.path, flags={("training", "epochs"): 3}, resume=True, on_event=events.append)
    assert result.epochs == 3
    started = events[0]
    assert isinstance(started, TrainingStarted)
    assert started.resumed_after == 1
    assert [epoch.epoch for epoch in part.read_metrics()] == [1, 2, 3]
    ours, theirs = load_weights(part.checkpoint), load_weights(whole.checkpoint)
    assert ours.held_out == theirs.held_out
    assert all(torch.equal(ours.model[name], tensor) for name, tensor in theirs.model.items())


def test_a_cosine_that_begins_again_is_told_and_survives_an_interruption(small: Settings, tmp_path: Path) -> None:
    settings = with_setting(small, "training", epochs=2, schedule="cosine", learning_rate=0.002)
    longer = {("training", "epochs"): 4}
    outcomes = []
    for name in ("once", "twice"):
        vaecli.train(settings, tmp_path / name)
        events: list[Event] = []
        if name == "twice":
            with pytest.raises(Interrupted):
                vaecli.train(None, tmp_path / name, flags=longer, resume=True, on_event=interrupt_at(3, 32))
            with pytest.raises(Interrupted):
                vaecli.train(None, tmp_path / name, resume=True, on_event=interrupt_at(4, 32))
        vaecli.train(None, tmp_path / name, flags=longer, resume=True, on_event=events.append)
        outcomes.append(load_weights(RunFolder(tmp_path / name).checkpoint).model)
        assert RunFolder(tmp_path / name).read_record().epochs_before == (2,)
        said = [event.text for event in events if isinstance(event, Note) and "cosine" in event.text]
        assert said == (
            [
                "learning rate: the cosine that was to end after epoch 2 begins again at 0.001 and ends after epoch 4; "
                "a training of 4 epochs from the start is better"
            ]
            if name == "once"
            else []
        )
    assert all(torch.equal(outcomes[0][name], tensor) for name, tensor in outcomes[1].items())


@pytest.mark.parametrize("epochs", [None, 2])
def test_a_finished_training_is_resumed_without_a_change(run: Path, epochs: int | None) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.rglob("*") if path.is_file()}
    events: list[Event] = []
    done = vaecli.train(None, run, flags={("training", "epochs"): epochs}, resume=True, on_event=events.append)
    assert done.epochs == 3
    assert events == [Note("nothing to do: all 3 epochs are trained; `epochs` 6 trains 3 more"), done]
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.rglob("*") if path.is_file()}
    assert after == before


def test_resuming_with_other_settings_is_refused(small: Settings, tmp_path: Path) -> None:
    vaecli.train(small, tmp_path / "r")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="`hidden` 17: the run was begun with 16"):
        vaecli.train(with_setting(small, "model", hidden=17), tmp_path / "r", resume=True)
    assert contents(tmp_path) == before
    file = tmp_path / "other.toml"
    file.write_text("[training]\nbeta = 2.0\n")
    with pytest.raises(VaeError, match=r"other.toml: \[training\] beta 2.0: the run was begun with 1.0"):
        vaecli.train(file, tmp_path / "r", resume=True)


def test_there_must_be_a_training_to_resume(tmp_path: Path) -> None:
    with pytest.raises(VaeError, match="there is no training in"):
        vaecli.train({"training": {"epochs": 2}}, tmp_path / "r", resume=True)
    assert not (tmp_path / "r").exists()


def test_resuming_begins_a_training_whose_data_are_named(small: Settings, tmp_path: Path) -> None:
    """So a script that is started again after each interruption needs no case for the first time."""
    events: list[Event] = []
    run, epochs = tmp_path / "r", ("training", "epochs")
    assert vaecli.train(small, run, flags={epochs: 1}, resume=True, on_event=events.append).epochs == 1
    assert Note(f"no training in {run} to resume: a new one begins") in events
    assert vaecli.train(small, run, flags={epochs: 2}, resume=True).epochs == 2
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "encoder.onnx").touch()
    with pytest.raises(VaeError, match=r"holds encoder\.onnx"):
        vaecli.train(small, tmp_path / "foreign", resume=True)


def test_a_training_whose_checkpoint_is_gone_is_not_begun_anew_over_its_epochs(small: Settings, tmp_path: Path) -> None:
    run = tmp_path / "r"
    vaecli.train(small, run, flags={("training", "epochs"): 2})
    (run / "checkpoint.pt").unlink()
    kept = {name: (run / name).read_bytes() for name in ("best.pt", "metrics.jsonl")}
    with pytest.raises(VaeError, match=r"checkpoint\.pt: no such file, and metrics\.jsonl has 2 epochs"):
        vaecli.train(None, run, resume=True)
    assert kept == {name: (run / name).read_bytes() for name in kept}


def test_the_end_tells_how_much_of_the_pictures_reconstructions_explain(small: Settings, tmp_path: Path) -> None:
    events: list[Event] = []
    vaecli.train(small, tmp_path / "r", on_event=events.append)
    (text,) = (event.text for event in events if isinstance(event, Note) and "explain" in event.text)
    vaecli.export(tmp_path / "r", weights="last")
    model = vaecli.load(tmp_path / "r", "cpu")
    pictures = choose(model.pair).pictures[:]
    x, found = pictures[..., 0] / 255, model.reconstruct(pictures)
    share = 1 - np.square(x - found).sum() / np.square(x - x.mean(axis=0)).sum()
    assert text.startswith(f"reconstructions explain {max(0, share):.0%} of the variance of held-out pictures")
    assert ("they are poor" in text) is bool(share < 0.5)


@pytest.mark.parametrize(("epoch", "kept"), [(1, "no epoch was complete"), (2, "epoch 1 is kept")])
def test_an_interrupted_training_says_what_is_kept_and_resumes(
    small: Settings, tmp_path: Path, epoch: int, kept: str
) -> None:
    expected = vaecli.train(small, tmp_path / "whole")
    run = tmp_path / "r"
    with pytest.raises(Interrupted, match=rf"interrupted: {kept}\nhint: .*vae train --run {run} --resume"):
        vaecli.train(small, run, on_event=interrupt_at(epoch, 32))
    assert len(RunFolder(run).read_metrics() if RunFolder(run).metrics.exists() else []) == epoch - 1
    result = vaecli.train(None, run, resume=True)
    assert (result.epochs, result.best_loss) == (2, expected.best_loss)


def test_a_training_computes_in_whole_float32(small: Settings, tmp_path: Path) -> None:
    seen = set()
    vaecli.train(small, tmp_path / "r", on_event=lambda _: seen.add(torch.backends.cuda.matmul.fp32_precision))
    assert "ieee" in seen


def test_a_training_goes_on_with_pictures_that_have_moved(small: Settings, blobs: Path, tmp_path: Path) -> None:
    here, there, run = tmp_path / "here.npy", tmp_path / "there.npy", tmp_path / "r"
    shutil.copy(blobs, here)
    vaecli.train(small, run, flags={("data", "source"): str(here)})
    here.rename(there)
    moved = {("data", "source"): str(there), ("training", "epochs"): 3}
    assert vaecli.train(None, run, resume=True, flags=moved).epochs == 3
    assert RunFolder(run).read_record().config.data.source == str(there)
    np.save(there, 255 - np.load(there))
    with pytest.raises(VaeError, match="its pictures are not those that this run was begun with"):
        vaecli.train(None, run, resume=True, flags={("data", "source"): str(there), ("training", "epochs"): 4})


def test_an_interrupted_training_leaves_torch_as_it_was(small: Settings, tmp_path: Path) -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    with pytest.raises(Interrupted) as caught:  # the exception, and so its frames, are still alive below
        vaecli.train(small, tmp_path / "r", on_event=interrupt_at(1, 32))
    assert torch.backends.cuda.matmul.fp32_precision == before != "ieee"
    assert float(torch.tensor(1e-39) * 0.5) > 0, "denormal numbers are flushed in training only"
    assert caught.value.exit_code == 130


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"epochs": 3}, "{unused} of 40 latent dimensions are unused; `kl_warmup` 10"),
        (
            {"epochs": 5, "beta": 100.0, "learning_rate": 0.01, "schedule": "constant", "ema": 0.0},
            "none of the 40 latent dimensions is active",
        ),
    ],
    ids=["some", "all"],
)
def test_unused_latent_dimensions_are_noted(
    small: Settings, tmp_path: Path, values: dict[str, float], told: str
) -> None:
    events: list[Event] = []
    settings = with_setting(with_setting(small, "training", **values), "model", latent_dim=40)
    vaecli.train(settings, tmp_path / "r", on_event=events.append)
    *_, epoch, _, note, done = events
    assert isinstance(epoch, EpochMetrics)
    assert isinstance(note, Note)
    assert isinstance(done, TrainingDone)
    if not epoch.active_units:  # of few epochs, chance
        told = "none of the 40 latent dimensions is active"
    assert note.text.startswith(told.format(active=epoch.active_units, unused=40 - epoch.active_units))
    assert note.text.endswith("`kl_warmup` 10, `free_bits` 0.1 or a smaller `beta` may make the model use more of them")


def test_fewer_dimensions_are_proposed_where_reconstructions_are_not_poor(
    small: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advice, "POOR_SHARE", -1000.0)
    events: list[Event] = []
    settings = with_setting(with_setting(small, "training", epochs=3), "model", latent_dim=40)
    vaecli.train(settings, tmp_path / "r", on_event=events.append)
    *_, epoch, _, note, _ = events
    assert isinstance(epoch, EpochMetrics)
    active = epoch.active_units
    assert note == Note(f"{40 - active} of 40 latent dimensions are unused: `latent_dim` {active} would suffice")


def test_warm_ups_longer_than_the_training_are_told(small: Settings, tmp_path: Path) -> None:
    events: list[Event] = []
    flags = {("training", "warmup_steps"): 999, ("training", "kl_warmup"): 50}
    vaecli.train(small, tmp_path / "r", flags=flags, on_event=events.append)
    warnings = [event.text for event in events if isinstance(event, Note) and event.warning]
    assert len(warnings) == 2
    assert warnings[0].startswith("`warmup_steps` 999: the training has ")
    assert warnings[1].startswith("`kl_warmup` 50: the training has 2 epochs")


def test_a_resume_on_another_path_is_told(small: Settings, tmp_path: Path) -> None:
    run, events = tmp_path / "r", list[Event]()
    vaecli.train(small, run)
    config_file = RunFolder(run).config
    recorded = RunFolder(run).read_record()
    config_file.write_text(config_file.read_text().replace(recorded.path, "other kernels"))
    vaecli.train(None, run, flags={("training", "epochs"): 3}, resume=True, on_event=events.append)
    assert any(isinstance(event, Note) and event.warning and "other kernels" in event.text for event in events)


def test_a_source_is_recorded_for_use_from_any_folder(
    small: Settings, blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(blobs.parent)
    vaecli.train(with_setting(small, "data", source=blobs.name, dir="kept"), tmp_path / "r")
    recorded = RunFolder(tmp_path / "r").read_record().config.data
    assert (recorded.source, recorded.dir) == (str(blobs), str(blobs.parent / "kept"))
    vaecli.train({"data": {"source": blobs.name}}, tmp_path / "r", resume=True)
    vaecli.export(tmp_path / "r")
    monkeypatch.chdir(tmp_path)
    assert vaecli.load(tmp_path / "r").evaluate().n == 12


def test_pictures_that_were_moved_are_used_where_they_are_now(
    small: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an export for all it does with them, and by a training that is resumed, from any folder afterwards."""
    old, new, run = tmp_path / "old", tmp_path / "new", tmp_path / "r"
    little_mnist(old)
    vaecli.train(with_setting(small, "data", source="mnist", dir=str(old)), run)
    old.rename(new)
    monkeypatch.chdir(tmp_path)
    heard = list[Event]()
    exported = vaecli.export(run, data_dir="new", on_event=heard.append)
    assert exported.held_out is not None
    assert exported.reference == 56
    assert not [event for event in heard if isinstance(event, Note) and "old" in event.text]
    flags = {("data", "dir"): "new", ("training", "epochs"): 4}
    vaecli.train(None, run, flags=flags, resume=True)
    assert RunFolder(run).read_record().config.data.dir == str(new)


def test_a_folder_with_a_space_is_quoted_in_a_hint(small: Settings, tmp_path: Path) -> None:
    run = tmp_path / "my run"
    with pytest.raises(Interrupted, match=f"vae train --run '{run}' --resume"):
        vaecli.train(small, run, on_event=interrupt_at(2, 32))
    with pytest.raises(VaeError, match=f"vae export --run '{run}'"):
        vaecli.load(run)


def test_a_data_folder_that_is_a_file_is_told_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('imported')")
    env = {"PYTHONPATH": f"{tmp_path}:{PROJECT}", "VAE_DATA": str(tmp_path / "torch.py")}
    assert_refused(vae_process("train", "--data", "mnist", env=env, cwd=tmp_path), 1, "--data-dir", "is a file")


def test_grey_pictures_that_are_stored_as_colour_are_told(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8).repeat(3, axis=3)
    for colours in (0, 1):
        pictures[:, 0, 0, 0] ^= colours
        np.save(tmp_path / "p.npy", pictures)
        told: list[Event] = []
        flags: Flags = {("data", "source"): str(tmp_path / "p.npy"), ("training", "epochs"): 1}
        vaecli.train("tutorial", run=tmp_path / f"r{colours}", flags=flags, on_event=told.append)
        notes = [event.text for event in told if isinstance(event, Note)]
        assert any("`channels` 1 trains faster" in note for note in notes) == (not colours)


@pytest.mark.parametrize(("highest", "told"), [(16, True), (200, False)])
def test_pictures_that_are_nearly_black_are_told(highest: int, told: bool, small: Settings, tmp_path: Path) -> None:
    np.save(tmp_path / "dim.npy", np.random.default_rng(0).integers(0, highest + 1, (40, 8, 8), np.uint8))
    heard = list[Event]()
    settings = with_setting(small, "data", source=str(tmp_path / "dim.npy"))
    vaecli.train(with_setting(settings, "training", epochs=1), tmp_path / "r", on_event=heard.append)
    notes = [event.text for event in heard if isinstance(event, Note) and event.warning]
    assert any(f"above {highest} of 255" in note for note in notes) == told


def told_of(settings: Settings, run: Path) -> list[str]:
    """The notes of a training."""
    events = list[Event]()
    vaecli.train(settings, run, on_event=events.append)
    return [event.text for event in events if isinstance(event, Note)]


def test_pictures_that_are_held_out_and_trained_on_are_told(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (100, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, x_test=np.concatenate([images[:3], images[3:23] ^ 1]))
    tiny = {"model": {"hidden": 8, "latent_dim": 2, "prior": "normal"}, "training": {"epochs": 1, "device": "cpu"}}
    told = told_of({"data": {"source": str(tmp_path / "a.npz")}, **tiny}, tmp_path / "run")
    words = "3 of the 23 held-out pictures are also among those to train on, pixel for pixel"
    assert any(note.startswith(words) for note in told)
    np.savez(tmp_path / "b.npz", x_train=images, x_test=images[:20] ^ 1)
    told = told_of({"data": {"source": str(tmp_path / "b.npz")}, **tiny}, tmp_path / "other")
    assert not any("pixel for pixel" in note for note in told)


def test_a_class_without_a_picture_to_train_on_is_refused(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    labels = np.arange(30) % 2
    np.savez(tmp_path / "a.npz", x_train=images[:30], y_train=labels, x_test=images[30:], y_test=np.arange(10) % 3)
    settings = {"data": {"source": str(tmp_path / "a.npz")}, "model": {"conditional": True}}
    with pytest.raises(VaeError, match=r"no picture to train on of class 2"):
        vaecli.train(settings, tmp_path / "run")


def test_pictures_that_have_moved_are_to_be_named(small: Settings, run: Path) -> None:
    record = RunFolder(run).read_record()
    data = msgspec.structs.replace(record.config.data, source="/nowhere/pictures.npy")
    config = msgspec.structs.replace(record.config, data=data)
    RunFolder(run).write_record(msgspec.structs.replace(record, config=config))
    with pytest.raises(VaeError, match="no such file") as refusal:
        vaecli.train(None, run, resume=True)
    assert refusal.value.hint == "if the pictures have moved, `source` names their place now"


@pytest.mark.parametrize(
    ("names", "advice"),
    [
        (("train", "val", "test"), "`source` {0}/train `held_out` {0}/val; then vae evaluate `source` {0}/test"),
        (("train", "test"), "`source` {0}/train `held_out` {0}/test"),
        (("train", "validation"), "`source` {0}/train `held_out` {0}/validation"),
    ],
)
def test_parts_of_a_data_set_that_look_like_classes(tmp_path: Path, names: tuple[str, ...], advice: str) -> None:
    for name in names:
        (tmp_path / "tree" / name).mkdir(parents=True)
        for number in range(6):
            Image.new("L", (8, 8), 9 * number + len(name)).save(tmp_path / "tree" / name / f"{number}.png")
    tiny = {"model": {"hidden": 8, "latent_dim": 2, "prior": "normal"}, "training": {"epochs": 1, "device": "cpu"}}
    told = told_of({"data": {"source": str(tmp_path / "tree")}, **tiny}, tmp_path / "run")
    assert any(advice.format(tmp_path / "tree") in note for note in told)


def test_a_latent_that_is_no_map_any_more_is_told(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), np.uint8)
    np.save(tmp_path / "a.npy", images)
    for settings in ({}, {"recipe": "pictures"}):
        told = list[Event]()
        given = gather({"data": {"source": str(tmp_path / "a.npy")}, "model": {"latent_dim": 8}, **settings})
        config, _ = choose_settings(given, told.append)
        assert config.model.latent_map == 0
        assert any("a vector of 8 numbers, not the recipe's map" in str(event) for event in told)
