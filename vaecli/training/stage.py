"""`vaecli.train`: a training from its settings to the files of its run folder, new or resumed.

PyTorch is imported once everything that can be refused without it has been checked.
"""

from __future__ import annotations

import shlex
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from vaecli.config import RUN
from vaecli.errors import Interrupted, UsageError, VaeError
from vaecli.events import EpochMetrics, Note, OnEvent, TrainingDone, ignore, warn
from vaecli.extras import require_training
from vaecli.flags import run_flag
from vaecli.run_folder import RunFolder
from vaecli.settings import Flags, Settings, gather
from vaecli.training import advice
from vaecli.training.plan import Plan, plan_new_run, plan_resumed_run
from vaecli.training.processes import Processes, connect, launched
from vaecli.wording import how_many

if TYPE_CHECKING:
    from vaecli.datasets import Dataset
    from vaecli.training.session import Session


def train(
    config: Settings = None,
    run: str | Path = RUN,
    *,
    flags: Flags | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_event: OnEvent = warn,
) -> TrainingDone:
    """Train a VAE and keep it in the folder `run`.

    `config` is a Config, which has all settings; a recipe's name; or some settings, as a dict
    `{"training": {"epochs": 40}}` or a TOML file. These go over the recipe that their key `recipe` names; without that
    key the pictures choose one. `flags` are single settings by (section, key) that take precedence. A run that has
    begun is continued with `resume`, and may then change its epochs, device, previews, log, data folder and the places
    of its pictures only; where none has begun, it begins if `config` or `flags` name the data (a recipe does not
    count). `overwrite` replaces a run. `on_event` receives notes, progress, and TrainingStarted, Step, EpochMetrics
    and TrainingDone as they happen; left out, warnings are shown as VaeWarning.

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
            source = ("data", "source")
            begins = not folder.has_training and source in given.values and source not in given.from_recipe
            if (resume and not begins) or (again and folder.checkpoint.exists()):
                return plan_resumed_run(folder, given)
            new = plan_new_run(folder, given, on_event, overwrite=overwrite or again)
            if resume:
                on_event(Note(f"no training in {folder.path} to resume: a new one begins"))
            return new

        planned = processes.share(plan)
        if not processes.first:
            on_event = ignore
        dataset = _dataset(planned, processes, on_event)
        from vaecli.training.device import training_state  # PyTorch's import takes longer than all of the above

        stack.enter_context(training_state())
        session = _session(planned, dataset, folder, processes, on_event)
        if not processes.first:
            return _follow(session, folder)
        if session.finished:  # no file is written: for make, a newer file is a changed result
            on_event(advice.nothing_to_do(session))
        else:
            _lead(session, planned, folder, processes, on_event)
        done = session.done(folder)
    on_event(done)
    return done


def _dataset(plan: Plan, processes: Processes, on_event: OnEvent) -> Dataset:
    """The pictures. Raises VaeError where those of a resumed run have changed."""
    from vaecli import datasets

    settings, record = plan.settings, plan.recorded
    try:
        dataset = processes.one_process_first(lambda: datasets.load(plan.data, on_event))
    except VaeError as error:
        source = plan.data.source
        if record is not None and Path(source).is_absolute() and not Path(source).exists():
            error.hint = "if the pictures have moved, `source` names their place now"
        raise
    if record and (what := record.data.difference(dataset, conditional=settings.model.conditional)):
        named = f"`source` {settings.data.source}"
        named += "" if settings.data.held_out is None else f" or `held_out` {settings.data.held_out}"
        raise VaeError(
            f"{named}: its {what} are not those that this run was begun with",
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
            held = folder.occupied
            folder.clear()
            if held:
                on_event(Note(f"removed what {folder.path} held of an earlier training and its export"))
        return session
    resumed = session.restore(folder.checkpoint) if plan.begun else None
    if processes.first:
        lost = session.history.epoch - folder.cut_metrics(session.history.epoch)
        if lost:
            on_event(Note(f"{folder.metrics}: the lines of {how_many(lost, 'epoch')} are lost", warning=True))
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
            on_event(note)
        on_event(session.started(folder))
        if processes.count > 1:
            on_event(Note(processes.in_words(session.config.training.batch_size)))
        new = not plan.recorded
        for told in chain(advice.about_warm_ups(session), advice.about_pictures(session) if new else ()):
            on_event(told)
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
    if last is not None:
        for note in advice.about_result(session, last):
            on_event(note)


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
