"""What a person is told about a training: settings that do not fit the pictures, and what to do about a poor model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vaecli.events import EpochMetrics, Note
from vaecli.model_format import LIKELIHOODS
from vaecli.wording import how_many, listed

if TYPE_CHECKING:
    from vaecli.config import Config
    from vaecli.datasets import Dataset
    from vaecli.training.session import Session

POOR_SHARE = 0.5  # of the variance of pictures: reconstructions that explain less hardly look like them
FEW_PICTURES = 300  # to train on: with fewer, the model may overfit
FEW_OF_A_CLASS = 20  # pictures: a conditional model learns little of a class with fewer
DARK = 32  # the largest value of pictures that are nearly black
LITTLE = 0.25  # nats of KL for each latent dimension: a latent with less says hardly anything about a picture
FEW_DIMENSIONS = 4  # of a latent, which cannot describe much
PARTS = {"train", "training", "test", "testing", "val", "valid", "validation"}  # names of parts of a data set
MANY_COPIES = 0.01  # of the pictures that measure the model: so many in training too are a mistake in the data
MANY_VALUES = 3 * 64 * 64  # of a picture, from which dense layers are advised against


def about_warm_ups(session: Session) -> Iterator[Note]:
    """Warnings about warm-ups that are longer than the training."""
    training = session.config.training
    steps = training.epochs * session.learner.steps_per_epoch
    if training.warmup_steps >= steps:
        text = f"`warmup_steps` {training.warmup_steps}: the training has {steps} steps only"
        yield Note(text, warning=True)
    if training.kl_warmup > training.epochs:
        text = f"`kl_warmup` {training.kl_warmup}: the training has {training.epochs} epochs only"
        yield Note(text, warning=True)


def nothing_to_do(session: Session) -> Note:
    """Why a training that is resumed is finished, and how to train on."""
    epochs, best = session.history.epoch, session.history.best
    if session.out_of_patience and best is not None:
        without = f"{session.config.training.patience} epochs without a better one than epoch {best.epoch}"
        return Note(f"nothing to do: the training was stopped after epoch {epochs}, {without} (`patience`)")
    trained = f"all {epochs} epochs are" if epochs > 1 else "its one epoch is"
    return Note(f"nothing to do: {trained} trained; `epochs` {2 * epochs} trains {epochs} more")


def about_pictures(session: Session) -> Iterator[Note]:
    """What of the settings does not fit the pictures."""
    model, data = session.config.model, session.dataset
    channels, height, width = data.image_shape
    count, values = len(data.train), channels * height * width
    if channels == 3 and not LIKELIHOODS[model.likelihood].for_grey_values:
        text = (
            f"`likelihood` {model.likelihood} is for pixels that are black or white, and these pictures are in colour"
        )
        yield Note(f"{text}: `likelihood` logistic suits them", warning=True)
    # In most sets of colour pictures, the first chunk has a colour.
    if channels == 3 and all((images == images[..., :1]).all() for images in data.train.chunks()):
        yield Note("all training pictures are grey, stored as colour: `channels` 1 trains faster")
    highest = data.value_range[1]
    if highest < DARK:  # masks of 0 and 1, or 12 bits of a microscope in 16
        text = f"no value of these pictures is above {highest} of 255: they are nearly black"
        yield Note(f"{text}; scale their values first, so that white is 255", warning=True)
    if model.architecture == "mlp" and values >= MANY_VALUES:
        text = (
            f"`architecture` mlp: dense layers do not know which of the {values:,} values of a picture are neighbours"
        )
        yield Note(f"{text}: `architecture` conv does", warning=True)
    known = data.train.classes
    if known is not None and {name.lower() for name in known.names} <= PARTS:
        yield Note(_about_parts(known.names, session.config.data.source), warning=True)
    if model.conditional and known is not None:
        counts = [(name, int((known.labels == at).sum())) for at, name in enumerate(known.names)]
        few = [f"{name} {number}" for name, number in counts if number < FEW_OF_A_CLASS]
        if few:
            yield Note(
                f"classes with few pictures to train on: {listed(few)}: their samples will be poor", warning=True
            )
    yield from _about_copies(data)
    if count < FEW_PICTURES:
        text = f"{how_many(count, 'picture')} to train on {'is' if count == 1 else 'are'} few: the model may overfit"
        yield Note(f"{text}; `patience` 20 stops it then")


def _about_copies(data: Dataset) -> Iterator[Note]:
    """A warning where pictures that measure the model are also among those to train on. Large data are not compared."""
    import numpy as np  # help pages do not need it

    from vaecli import noise

    measured = data.measured
    if not (data.train.resident and measured.resident):
        return
    tried, known = (np.concatenate(list(map(noise.digests, part.chunks()))) for part in (measured, data.train))
    copies = int(np.isin(tried, known).sum())
    if copies:
        kind = "held-out" if data.validation is None else "validation"
        some = f"{copies:,} of the {how_many(len(measured), f'{kind} picture')}"
        are = "is" if copies == 1 else "are"
        text = f"{some} {are} also among those to train on, pixel for pixel: the {kind} loss is too low"
        yield Note(text, warning=copies >= MANY_COPIES * len(measured))


def about_result(session: Session, last: EpochMetrics) -> Iterator[Note]:
    """How well the trained model reconstructs, and how many latent dimensions it uses. `last` is the last epoch."""
    explained = session.explained_variance()
    if explained is not None:
        yield Note(_explained(explained, session))
    latent_dim = session.learner.model.latent_dim
    poor = explained is not None and explained < POOR_SHARE
    if 2 * last.active_units < latent_dim:
        yield Note(_unused(last.active_units, session, poor=poor))
    elif poor and last.held_out.kl < LITTLE * latent_dim:
        yield Note(
            f"the KL is {last.held_out.kl:.1f} nats for {latent_dim} latent dimensions: they say little about a "
            f"picture; more `epochs` may help{_remedy(session.config)}"
        )


def _explained(share: float, session: Session) -> str:
    """How well pictures are reconstructed, and what to do where that is poor."""
    text = f"reconstructions explain {max(0.0, share):.0%} of the variance of {session.record.data.chosen_by} pictures"
    if share >= POOR_SHARE:
        return text
    clearer = "`likelihood` logistic, " if session.config.model.likelihood == "logistic-mixture" else ""
    lighter = "a smaller `beta`, " if session.config.training.beta > 1 else ""
    latent_dim = session.learner.model.latent_dim
    larger = "a larger `latent_dim`, " if latent_dim <= FEW_DIMENSIONS else ""
    return f"{text}: they are poor; {clearer}{lighter}{larger}more `epochs` or more pictures may help"


def _remedy(config: Config) -> str:
    """What may make a model use more latent dimensions, by settings that the others allow."""
    if config.training.objective != "elbo":  # the KL is no term of its own
        return "; `objective` elbo with `kl_warmup` 10 may make the model use more of them"
    free_bits = "" if config.model.prior == "vamp" else ", `free_bits` 0.1"  # which a mixture has not
    return f"; `kl_warmup` 10{free_bits} or a smaller `beta` may make the model use more of them"


def _unused(active: int, session: Session, *, poor: bool) -> str:
    """What to do about latent dimensions that the model does not use, above all where reconstructions are poor."""
    config, latent_dim = session.config, session.learner.model.latent_dim
    latent_map = config.model.latent_map if config.model.architecture == "conv" else 0
    if not active:
        problem = f"none of the {latent_dim} latent dimensions is active: every sample will be the same picture"
        return f"{problem} (posterior collapse){_remedy(config)}"
    text = f"{latent_dim - active} of {latent_dim} latent dimensions are unused"
    if poor:
        return f"{text}{_remedy(config)}"
    fewer = f"`latent_map` {-(-latent_map * active // latent_dim)}" if latent_map else f"`latent_dim` {active}"
    return f"{text}: {fewer} would suffice"


def _about_parts(names: Sequence[str], source: str) -> str:
    """What to do where the classes are the parts of a data set, which are folders."""
    text = f"the classes of these pictures are {' and '.join(names)}, which look like the parts of a data set"
    places = {name.lower(): Path(source) / name for name in names}
    train = places.get("train") or places.get("training")
    others = {name: place for name, place in places.items() if place != train}
    chooses = next((place for name, place in others.items() if name.startswith("val")), None)
    tested = next((place for name, place in others.items() if name.startswith("test")), None)
    if train is None or not others or not train.is_dir():
        return text
    text += f": `source` {train} `held_out` {chooses or tested}"
    if chooses and tested:
        text += f"; then vae evaluate `source` {tested}, whose pictures have not chosen the epoch"
    return text
