"""`vaecli.train`: what a training may replace, how it is resumed, and in which order its files are written.

PyTorch is imported once everything that can be refused without it has been checked.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vaecli import config as configs
from vaecli import recipes
from vaecli.config import RUN, Config, DataConfig
from vaecli.errors import Interrupted, UsageError, VaeError
from vaecli.events import EpochMetrics, Note, OnEvent, TrainingDone, ignore, reading_note
from vaecli.extras import require, require_training
from vaecli.flags import run_flag
from vaecli.foreign import storable
from vaecli.model_format import LIKELIHOODS
from vaecli.run_folder import RunFolder, RunRecord
from vaecli.settings import Flags, Given, Settings, gather
from vaecli.training.processes import Processes, connect, launched
from vaecli.wording import how_many

if TYPE_CHECKING:
    from vaecli.datasets import Dataset
    from vaecli.training.session import Session

POOR = 0.5  # share of the variance of pictures: with less, reconstructions hardly look like them
FEW = 300  # pictures to train on, below which a person is told so
WARM_UP = 10  # a warm-up of a recipe lasts at most 1 / WARM_UP of a training
DIM = 32  # the largest value of pictures, below which a person is told so
MANY_VALUES = 3 * 64 * 64  # of a picture, from which dense layers are advised against


def train(
    config: Settings = None,
    run: str | Path = RUN,
    *,
    flags: Flags | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_event: OnEvent = ignore,
) -> TrainingDone:
    """Train a VAE and keep it in the folder `run`.

    `config` is a Config, which has all settings; a recipe's name; or some settings, as a dict
    `{"training": {"epochs": 40}}` or a TOML file. These go over the recipe that their key `recipe` names; without that
    key the pictures choose one. `flags` are single settings by (section, key) that take precedence. A run that has
    begun is continued with `resume`, and may then change its epochs, device, previews, log and data folder only;
    `overwrite` replaces it. `on_event` receives notes, progress, and TrainingStarted, Step, EpochMetrics and
    TrainingDone as they happen.

    Raises:
        UsageError: a setting is not allowed, or asks for another run than the one that is resumed.
        VaeError: the folder has a model already, or another training writes to it; the pictures cannot be loaded;
            PyTorch is not installed; a loss is not finite; a file cannot be written: the last saved epoch is kept; or
            the folder vanishes.
        DeviceError: the device asked for is not there.
        Interrupted: Ctrl-C; the last whole epoch is kept.
    """
    if resume and overwrite:
        raise UsageError("`resume` and `overwrite` exclude each other", "give one of them")
    given = gather(config, flags)
    folder, processes = RunFolder(run), launched()
    if processes.count > 1:
        require_training("a training on several processes")
        connect()
    with ExitStack() as stack:

        def plan() -> Plan:
            stack.enter_context(folder.locked())
            # What torchrun starts again after a failure has the same flags: it goes on from the last checkpoint.
            again = processes.restarts > 0 and folder.has_training
            if resume or (again and folder.checkpoint.exists()):
                return _resumed(folder, given)
            return _begun(folder, given, on_event, overwrite=overwrite or again)

        planned = processes.share(plan)
        if not processes.first:
            on_event = ignore
        dataset = _dataset(planned, processes, on_event)
        from vaecli.training.device import training_state  # PyTorch's import takes longer than all of the above

        stack.enter_context(training_state())
        session = _session(planned, dataset, folder, processes, on_event)
        if not processes.first:
            return _follow(session, folder)
        if session.finished:  # no file is written: make and others take a new one for another result
            on_event(Note(_nothing_to_do(session)))
        else:
            _lead(session, planned, folder, processes, on_event)
        done = session.done(folder)
    on_event(done)
    return done


@dataclass(frozen=True)
class Plan:
    """What is to be trained, decided once for all processes."""

    settings: Config
    data: configs.DataConfig  # as it was asked for
    recipe: str | None
    recorded: RunRecord | None = None  # of the run that is resumed
    begun: bool = False  # whether that has an epoch


def _begun(folder: RunFolder, given: Given, on_event: OnEvent, *, overwrite: bool) -> Plan:
    """A new training. What can be refused is refused before anything is removed."""
    asked = given.config()  # refuses settings that no picture could make right
    if folder.has_foreign_config:
        raise VaeError(f"{folder.config}: was not written by vae", "move it, or name another folder")
    if folder.occupied and not overwrite:
        if folder.has_training:
            hint = "`resume` continues it, `overwrite` replaces it, or name another folder"
            raise VaeError(f"`run` {folder.path}: there is a training in it already", hint)
        kept = ", ".join(file.name for file in folder.files if file.exists())
        raise VaeError(f"`run` {folder.path}: holds {kept}", "`overwrite` replaces them, or name another folder")
    _require_packages(asked)
    settings, recipe = choose_settings(given, on_event)
    if settings.training.seed is None:
        settings = configs.with_seed(settings, configs.draw_seed())
    located = _located(settings.data)
    for key, path in (("source", located.source), ("dir", located.dir or "")):
        if storable(path) != path:
            raise VaeError(f"`{key}` {path}: the name is not UTF-8, and {folder.config.name} is", "rename it")
    return Plan(msgspec.structs.replace(settings, data=located), settings.data, recipe)


def _located(data: DataConfig) -> DataConfig:
    """The same pictures, named so that they are found from any folder."""
    from vaecli import datasets

    folder = data.dir and str(Path(data.dir).expanduser().absolute())
    return msgspec.structs.replace(data, source=datasets.located(data.source), dir=folder)


def _require_packages(settings: Config) -> None:
    """Check for what a training with these settings imports. Raises VaeError where it is not installed."""
    require_training("vae train")
    if settings.training.log == "tensorboard":
        require("tensorboard", "`log` tensorboard")


def choose_settings(given: Given, on_event: OnEvent = ignore) -> tuple[Config, str | None]:
    """All settings of a new training, and the recipe they are from. See `train`; PyTorch is not imported.

    Raises VaeError where the pictures cannot be found, and as `Given.config`.
    """
    settings = given.config()
    if not given.needs_recipe:
        return settings, given.recipe
    from vaecli import datasets

    data = settings.data
    found = datasets.survey(data)
    channels, height, width = found.image_shape
    shaped = dict[str, Any]()
    if data.image_size is None and (not found.one_size or max(height, width) > recipes.KEPT):
        shaped["image_size"] = recipes.RESIZED
    if data.channels is None and not found.one_kind:
        shaped["channels"] = channels
    size = data.size or (shaped and (recipes.RESIZED, recipes.RESIZED)) or (height, width)
    chosen = recipes.choose(data.source, (data.channels or channels, *size), found.count)
    resized = (
        f"; their sizes {'are large' if found.one_size else 'differ'}, so they are cropped and resized to "
        f"{recipes.RESIZED}x{recipes.RESIZED} (`image_size`)"
        if "image_size" in shaped
        else ""
    )
    on_event(Note(f"recipe {chosen.name}, for {chosen.why}{resized}; `config` takes another"))
    if data.binarize != "none":  # then the pixels are no grey values
        chosen.settings["model"].pop("likelihood", None)
    recipe = {**chosen.settings, "data": shaped}
    training = given.over(recipe).training
    # In a training that was asked to be short, the recipe's warm-ups are short, too.
    steps = training.epochs * max(1, found.count // training.batch_size)
    for key, longest in (("warmup_steps", steps // WARM_UP), ("kl_warmup", training.epochs // WARM_UP)):
        recipe["training"][key] = min(recipe["training"].get(key, 0), longest)
    return given.over(recipe), chosen.name


def _resumed(folder: RunFolder, given: Given) -> Plan:
    """The training in the run folder, as it was after its last whole epoch."""
    record = folder.read_record()
    settings = given.resumed(record.config)
    _require_packages(settings)
    # A training that was killed in its first epoch may have left a line without a checkpoint.
    if not folder.checkpoint.exists() and folder.metrics.exists() and (epochs := len(folder.read_metrics())) > 1:
        problem = f"{folder.checkpoint}: no such file, and {folder.metrics.name} has {epochs} epochs"
        raise VaeError(problem, "bring it back, or train anew with `overwrite` or in another `run`")
    located = msgspec.structs.replace(settings, data=_located(settings.data))
    return Plan(located, settings.data, record.recipe, record, folder.checkpoint.exists())


def _dataset(plan: Plan, processes: Processes, on_event: OnEvent) -> Dataset:
    """The pictures. Raises VaeError where those of a resumed run have changed."""
    from vaecli import datasets

    settings, record = plan.settings, plan.recorded
    dataset = processes.one_process_first(lambda: datasets.load(plan.data, on_event))
    if record and dataset.hash != record.data.hash:
        raise VaeError(
            f"`source` {settings.data.source}: not the pictures that this run was begun with",
            "restore the same pictures, or train anew with `overwrite` or in another `run`",
        )
    if record and settings.model.conditional and dataset.classes != record.data.classes:
        raise VaeError(
            f"`source` {settings.data.source}: its classes are not those that this run was begun with",
            "restore them, or train anew with `overwrite` or in another `run`",
        )
    return dataset


def _session(plan: Plan, dataset: Dataset, folder: RunFolder, processes: Processes, on_event: OnEvent) -> Session:
    """The training in memory. The first process clears the folder for a new one, or cuts what is to be repeated."""
    from vaecli.training.session import Session

    settings, record = plan.settings, plan.recorded
    precision, path = (record.precision, record.path) if record else (None, None)
    session = Session(settings, dataset, precision, plan.recipe, path, processes)
    if record is None:
        if processes.first:
            folder.clear()
        return session
    resumed = session.restore(folder.checkpoint) if plan.begun else None
    if processes.first:
        folder.cut_metrics(session.history.epoch)
    session.epochs_before = record.epochs_before
    if session.finished:
        return session
    if (resumed and not resumed.exact) or session.learner.path != record.path:
        was = f"{record.device}, {record.path}"
        text = (
            f"the run was begun on {was}; random numbers or rounding differ on this machine, so results will differ "
            "from an uninterrupted training"
        )
        on_event(Note(text, warning=True))
    if resumed and resumed.schedule:
        if session.epochs_before[-1:] != (resumed.epochs_before,):  # else an interruption had it tried before
            session.epochs_before += (resumed.epochs_before,)
        peak, epochs = resumed.schedule.height * settings.training.learning_rate, settings.training.epochs
        on_event(
            Note(
                f"learning rate: the cosine that was to end after epoch {resumed.epochs_before} begins again at "
                f"{peak:.2g} and ends after epoch {epochs}; a training of {epochs} epochs from the start is better"
            )
        )
    return session


def _lead(session: Session, plan: Plan, folder: RunFolder, processes: Processes, on_event: OnEvent) -> None:
    """Train as the first process, which writes and reports."""
    folder.write_record(session.record)
    session.save_data_preview(folder)
    with _logged(session, folder, on_event) as on_event:
        for note in session.dataset.notes:
            on_event(reading_note(note))
        on_event(session.started(folder))
        if processes.count > 1:
            on_event(Note(processes.in_words(session.config.training.batch_size)))
        for note in _too_long(session):
            on_event(Note(note, warning=True))
        if not plan.recorded:
            _unfit(session, on_event)
        _run(session, folder, on_event)


def _follow(session: Session, folder: RunFolder) -> TrainingDone:
    """Train as one of the other processes."""
    for _ in () if session.finished else session.run():
        pass
    return session.done(folder)


def _logged(session: Session, folder: RunFolder, on_event: OnEvent) -> AbstractContextManager[OnEvent]:
    """The same `on_event`, which also writes the log that is asked for."""
    if session.config.training.log == "none":
        return nullcontext(on_event)
    from vaecli.training.curves import for_tensorboard

    on_event(Note(f"curves: tensorboard --logdir {shlex.quote(str(folder.path))}"))
    return for_tensorboard(folder, session.history.epoch, session.record.data.chosen_by, on_event)


def _run(session: Session, folder: RunFolder, on_event: OnEvent) -> None:
    """Train epoch by epoch. An epoch is reported once it is saved."""
    every, last = session.config.training.previews, None
    try:
        for event in session.run():
            if isinstance(event, EpochMetrics):
                _check_folder(session, folder)
                if every and event.epoch % every == 0:
                    session.save_preview(folder, event.epoch)
                session.save(folder, event)
                last = event
            on_event(event)
        _check_folder(session, folder)
    except KeyboardInterrupt as error:
        _check_folder(session, folder)
        kept = f"epoch {session.saved} is kept" if session.saved else "no epoch was complete"
        flag = run_flag(folder.path)
        usable = f", or use it as it is: vae export{flag}" if session.saved else ""
        raise Interrupted(f"interrupted: {kept}", f"resume with: vae train{flag} --resume{usable}") from error
    if last is not None and (explained := session.explained_variance()) is not None:
        on_event(Note(_explained(explained, session)))
    latent_dim = session.learner.model.latent_dim
    if last is not None and 2 * last.active_units < latent_dim:
        on_event(Note(_unused(last.active_units, latent_dim, session.config.model.latent_map)))


def _check_folder(session: Session, folder: RunFolder) -> None:
    """Raise VaeError where what the training has written is gone: the rest of it would be of no use."""
    epochs = {0: "nothing yet", 1: "epoch 1"}.get(session.saved, f"epochs 1 to {session.saved}")
    if not folder.is_the_locked_one:
        raise VaeError(
            f"`run` {folder.path}: the folder was removed, moved or replaced during the training; it held {epochs}",
            "if it was moved, resume it there; else train anew",
        )
    written = (folder.config, *((folder.metrics, folder.best, folder.checkpoint) if session.saved else ()))
    if gone := [file.name for file in written if not file.exists()]:
        raise VaeError(
            f"`run` {folder.path}: {', '.join(gone)} vanished during the training, of which the folder held {epochs}",
            "bring back what is missing, then use `resume`; or train anew with `overwrite`",
        )


def _too_long(session: Session) -> Iterator[str]:
    """Sentences about warm-ups that are longer than the training."""
    training = session.config.training
    steps = training.epochs * session.learner.steps_per_epoch
    if training.warmup_steps >= steps:
        yield f"`warmup_steps` {training.warmup_steps}: the training has {steps} steps only"
    if training.kl_warmup > training.epochs:
        yield f"`kl_warmup` {training.kl_warmup}: the training has {training.epochs} epochs only"


def _nothing_to_do(session: Session) -> str:
    epochs, best = session.history.epoch, session.history.best
    if session.out_of_patience and best is not None:
        without = f"{session.config.training.patience} epochs without a better one than epoch {best.epoch}"
        return f"nothing to do: the training was stopped after epoch {epochs}, {without} (`patience`)"
    trained = f"all {epochs} epochs are" if epochs > 1 else "its one epoch is"
    return f"nothing to do: {trained} trained; `epochs` {2 * epochs} trains {epochs} more"


def _unfit(session: Session, on_event: OnEvent) -> None:
    """Say before the first step what does not fit the pictures."""
    model, data = session.config.model, session.dataset
    channels, height, width = data.image_shape
    count, values = len(data.train), channels * height * width
    if channels == 3 and not LIKELIHOODS[model.likelihood].of_grey:
        text = (
            f"`likelihood` {model.likelihood} is for pixels that are black or white, and these pictures are in colour"
        )
        on_event(Note(f"{text}: `likelihood` logistic suits them", warning=True))
    # In most sets of colour pictures, the first chunk has a colour.
    if channels == 3 and all((images == images[..., :1]).all() for images in data.train.chunks()):
        on_event(Note("all training pictures are grey, stored as colour: `channels` 1 trains faster"))
    highest = data.value_range[1]
    if highest < DIM:  # masks of 0 and 1, or 12 bits of a microscope in 16
        text = f"no value of these pictures is above {highest} of 255: they are nearly black"
        on_event(Note(f"{text}; scale their values first, so that white is 255", warning=True))
    if model.architecture == "mlp" and values >= MANY_VALUES:
        text = (
            f"`architecture` mlp: dense layers do not know which of the {values:,} values of a picture are neighbours"
        )
        on_event(Note(f"{text}: `architecture` conv does", warning=True))
    if count < FEW:
        text = f"{how_many(count, 'picture')} to train on {'is' if count == 1 else 'are'} few: the model may overfit"
        on_event(Note(f"{text}; `patience` 20 stops it then"))


def _explained(share: float, session: Session) -> str:
    """How well pictures are reconstructed, and what to do where that is poor."""
    text = f"reconstructions explain {max(0.0, share):.0%} of the variance of {session.record.data.chosen_by} pictures"
    if share >= POOR:
        return text
    likelihood = session.config.model.likelihood
    clearer = "`likelihood` logistic, " if likelihood == "logistic-mixture" else ""
    return f"{text}: they are poor; {clearer}more `epochs` or more pictures may help"


def _unused(active: int, latent_dim: int, latent_map: int) -> str:
    """What to do about latent dimensions that the model does not use. `latent_map` is the setting, 0 for none."""
    remedy = "if reconstructions are poor, `kl_warmup`, `free_bits` or a smaller `beta` may activate them"
    if not active:
        return f"none of the {latent_dim} latent dimensions is active: every sample will be the same picture; {remedy}"
    unused = latent_dim - active
    fewer = f"`latent_map` {-(-latent_map * active // latent_dim)}" if latent_map else f"`latent_dim` {active}"
    return f"{unused} of {latent_dim} latent dimensions are unused: {fewer} would suffice; {remedy}"
