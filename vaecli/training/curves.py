"""A training's curves and previews for TensorBoard, in the folder `tensorboard` of the run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec

from vaecli.events import ChosenBy, EpochMetrics, Event, OnEvent
from vaecli.pictures.decoding import read_picture
from vaecli.run_folder import RunFolder

FOLDER = "tensorboard"


@contextlib.contextmanager
def for_tensorboard(folder: RunFolder, after: int, measured: ChosenBy, on_event: OnEvent) -> Iterator[OnEvent]:
    """Within the block: an `on_event` that writes the numbers and the preview of each epoch, too.

    The curves go on after the epoch `after`: what a killed training, or one that was replaced, has written of later
    epochs is withdrawn. `measured` are the images that each epoch is measured on.
    """
    from torch.utils.tensorboard import SummaryWriter  # it needs the package tensorboard

    writer = SummaryWriter(str(folder.path / FOLDER), purge_step=after + 1)

    def write(event: Event) -> None:
        if isinstance(event, EpochMetrics):
            for name, value in _numbers(event, measured):
                writer.add_scalar(name, value, event.epoch)
            if (preview := folder.preview(event.epoch)).exists():
                picture = read_picture(preview, str(preview))
                writer.add_image("reconstructions", picture, event.epoch, dataformats="HWC")
            writer.flush()
        on_event(event)

    with contextlib.closing(writer):
        yield write


def _numbers(event: EpochMetrics, measured: ChosenBy) -> Iterator[tuple[str, float]]:
    """The names and values of an epoch; losses in nats per image. One diagram has all that is before a slash."""
    for images, losses in (("training", event.train), (measured, event.held_out)):
        for name, value in msgspec.structs.asdict(losses).items():
            yield f"{name}/{images}", value
    yield "active_units", event.active_units
    yield "images_per_second", event.images_per_second
    if event.bits_per_dimension is not None:
        yield f"bits_per_dimension/{measured}", event.bits_per_dimension
