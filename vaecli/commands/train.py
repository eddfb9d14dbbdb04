"""`vae train`: pictures to weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaecli import config as configs
from vaecli.commands import extras
from vaecli.commands.options import DEFAULT_RUN, Json, Quiet, Run, setting
from vaecli.console import Console, EpochView
from vaecli.errors import Interrupted, UsageError, VaeError
from vaecli.metrics import EpochMetrics, TrainingDone
from vaecli.model_format import Likelihood
from vaecli.run_folder import RunFolder

if TYPE_CHECKING:
    from vaecli.training.session import Session


def train(
    context: typer.Context,
    data: Annotated[str | None, setting("data", "source")] = None,
    data_dir: Annotated[str | None, setting("data", "dir", envvar="VAE_DATA")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="A TOML file with these settings; flags go over it.")
    ] = None,
    run: Run = DEFAULT_RUN,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the training in --run stands.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the training in --run.")] = False,
    epochs: Annotated[int | None, setting("training", "epochs")] = None,
    batch_size: Annotated[int | None, setting("training", "batch_size")] = None,
    device: Annotated[configs.DeviceChoice | None, setting("training", "device")] = None,
    precision: Annotated[configs.Precision | None, setting("training", "precision")] = None,
    seed: Annotated[int | None, setting("training", "seed")] = None,
    previews: Annotated[int | None, setting("training", "previews")] = None,
    json: Json = False,
    quiet: Quiet = False,
    # Pictures
    image_size: Annotated[str | None, setting("data", "image_size")] = None,
    channels: Annotated[int | None, setting("data", "channels")] = None,
    binarize: Annotated[configs.Binarize | None, setting("data", "binarize")] = None,
    shuffle: Annotated[bool | None, setting("data", "shuffle", "--shuffle/--no-shuffle")] = None,
    drop_last: Annotated[bool | None, setting("data", "drop_last", "--drop-last/--keep-last")] = None,
    # Model
    architecture: Annotated[configs.Architecture | None, setting("model", "architecture")] = None,
    latent_dim: Annotated[int | None, setting("model", "latent_dim")] = None,
    hidden: Annotated[int | None, setting("model", "hidden")] = None,
    width: Annotated[int | None, setting("model", "width")] = None,
    depth: Annotated[int | None, setting("model", "depth")] = None,
    activation: Annotated[configs.Activation | None, setting("model", "activation")] = None,
    dropout: Annotated[float | None, setting("model", "dropout")] = None,
    likelihood: Annotated[Likelihood | None, setting("model", "likelihood")] = None,
    scale: Annotated[float | None, setting("model", "scale")] = None,
    output_bias: Annotated[bool | None, setting("model", "output_bias", "--output-bias/--zero-output-bias")] = None,
    # Objective
    objective: Annotated[configs.Objective | None, setting("training", "objective")] = None,
    importance_samples: Annotated[int | None, setting("training", "importance_samples")] = None,
    beta: Annotated[float | None, setting("training", "beta")] = None,
    kl_warmup: Annotated[int | None, setting("training", "kl_warmup")] = None,
    free_bits: Annotated[float | None, setting("training", "free_bits")] = None,
    # Optimisation
    learning_rate: Annotated[float | None, setting("training", "learning_rate")] = None,
    schedule: Annotated[configs.Schedule | None, setting("training", "schedule")] = None,
    warmup_steps: Annotated[int | None, setting("training", "warmup_steps")] = None,
    ema: Annotated[float | None, setting("training", "ema")] = None,
    weight_decay: Annotated[float | None, setting("training", "weight_decay")] = None,
    clip_gradient: Annotated[float | None, setting("training", "clip_gradient")] = None,
    patience: Annotated[int | None, setting("training", "patience")] = None,
) -> None:
    """Train a VAE on pictures with PyTorch, on a GPU where there is one.

    Without any flag: the built-in digits, and the settings of the classic MNIST VAE.
    """
    console = Console(json=json, quiet=quiet)
    flags = configs.flags(context.params)
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other", "give one of them")
    folder = RunFolder(run)
    if resume:
        session = _resumed(folder, config, flags, console)
    else:
        session = _begun(folder, config, flags, console, overwrite=overwrite)
    folder.write_record(session.record)
    session.save_data_preview(folder)
    _state(session, console)
    _run(session, folder, console)


def _begun(
    folder: RunFolder, file: Path | None, flags: configs.Flags, console: Console, *, overwrite: bool
) -> Session:
    """A new training in an empty run folder. Whatever can be refused is, before anything is removed."""
    config = configs.resolve(file, flags)
    if config.training.seed is None:
        config = configs.with_seed(config, configs.draw_seed())
    if folder.has_training and not overwrite:
        raise VaeError(
            f"--run {folder.path}: there is a training in it already",
            "--resume goes on with it, --overwrite replaces it, or name another folder",
        )
    extras.require_training("vae train")
    from vaecli import datasets
    from vaecli.training.session import Session

    session = Session(config, datasets.load(config.data, console.progress))
    folder.make()
    folder.clear()
    return session


def _resumed(folder: RunFolder, file: Path | None, flags: configs.Flags, console: Console) -> Session:
    """The training in the run folder, as it stood after its last whole epoch."""
    record = folder.read_record()
    config = configs.resume(record.config, file, flags)
    extras.require_training("vae train")
    from vaecli import datasets
    from vaecli.training.session import Session

    dataset = datasets.load(config.data, console.progress)
    if dataset.hash != record.data.hash:
        raise VaeError(
            f"--data {config.data.source}: not the pictures this run was begun with",
            "put the same pictures back, or train anew with --overwrite or another --run",
        )
    session = Session(config, dataset, record.precision)
    if folder.checkpoint.exists():
        session.take_up(folder.checkpoint)
    folder.cut_metrics(session.progress.epoch)
    return session


def _state(session: Session, console: Console) -> None:
    """What was found, before the first epoch."""
    data, config = session.dataset, session.config
    channels, height, width = data.image_shape
    for note in data.notes:
        console.note(note)
    low, high = data.value_range
    console.note(
        f"data: {data.name}, {len(data.train):,} images to train on and {len(data.held_out):,} held out, "
        f"{height}x{width}x{channels}, values {low} to {high}"
    )
    console.note(f"model: {session.parameters:,} parameters, {config.model.latent_dim} latent dimensions")
    console.note(
        f"training: {session.device_name}, {session.precision}, {session.learner.path}, seed {config.training.seed}"
    )
    if session.contended:
        console.note("this machine is busy, and threads wait for each other: OMP_NUM_THREADS=1 may be faster")
    if session.progress.epoch:
        console.note(f"resuming after epoch {session.progress.epoch} of {config.training.epochs}")


def _run(session: Session, folder: RunFolder, console: Console) -> None:
    """Train, save and show, epoch by epoch."""
    epochs, every = session.config.training.epochs, session.config.training.previews
    latent_dim, active = session.config.model.latent_dim, None
    try:
        with EpochView(console, epochs, session.images_in_epoch) as view:
            for event in session.run():
                if isinstance(event, EpochMetrics):
                    if every and event.epoch % every == 0:
                        session.save_preview(folder, event.epoch)
                    session.save(folder, event)
                    view.epoch(event)
                    console.emit(event)
                    active = event.active_units
                else:
                    view.step(event.epoch, event.images)
    except KeyboardInterrupt as error:
        kept = session.saved
        raise Interrupted(
            f"interrupted, with {f'epoch {kept} kept' if kept else 'no whole epoch yet'}",
            f"go on with: vae train --run {folder.path} --resume",
        ) from error
    if active is not None and 2 * active < latent_dim:
        console.note(_collapsed(active, latent_dim))
    progress = session.progress
    console.note(
        f"done: lowest held-out loss {progress.best_loss:.2f} nats per image, in epoch {progress.best_epoch}; "
        f"next: vae export --run {folder.path}"
    )
    console.emit(
        TrainingDone(
            run=str(folder.path),
            epochs=progress.epoch,
            best_epoch=progress.best_epoch,
            best_loss=progress.best_loss,
            seconds=progress.seconds,
            device=session.device.type,
            precision=session.precision,
            seed=session.config.training.seed or 0,
        )
    )


def _collapsed(active: int, latent_dim: int) -> str:
    """What to make of latent dimensions that the model does not use."""
    remedy = "--kl-warmup or --free-bits may wake them, a smaller --beta too"
    if not active:
        return f"the model ignores all of its {latent_dim} latent dimensions and draws one picture for all: {remedy}"
    unused = latent_dim - active
    return f"{unused} of {latent_dim} latent dimensions are unused: --latent-dim {active} would do; {remedy}"
