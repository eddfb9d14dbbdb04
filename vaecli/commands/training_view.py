"""What a person sees of a training: a bar, and a table that gains a row with each epoch."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import ClassVar

from vaecli.cli import progress_bar
from vaecli.cli.console import Console
from vaecli.events import EpochMetrics, Event, Step, TrainingDone, TrainingStarted
from vaecli.flags import run_flag
from vaecli.wording import how_many, listed

REFRESH = 0.1  # seconds between two updates of the bar
SHOWN_CLASSES, NAMED_CLASSES = 8, 3  # up to so many are all named; of more, so many
MOST_ROWS = 10  # of the table before its head comes again, on a terminal that shows no more


class TrainingView:
    """The `on_event` of a training: a bar for all of it, and a table that gains a row with each epoch.

    Off a terminal each epoch is one line. All losses are in nats per image; active are the latent dimensions in use.
    """

    # of which images (None: those that each epoch is measured on), heading, width, cell
    COLUMNS: ClassVar[tuple[tuple[str | None, str, int, Callable[[EpochMetrics], str]], ...]] = (
        ("training", "loss", 8, lambda epoch: f"{epoch.train.loss:.2f}"),
        ("training", "recon.", 8, lambda epoch: f"{epoch.train.reconstruction:.2f}"),
        ("training", "KL", 6, lambda epoch: f"{epoch.train.kl:.2f}"),
        (None, "loss", 8, lambda epoch: f"{epoch.held_out.loss:.2f}"),
        (None, "recon.", 8, lambda epoch: f"{epoch.held_out.reconstruction:.2f}"),
        (None, "KL", 6, lambda epoch: f"{epoch.held_out.kl:.2f}"),
        ("", "active", 6, lambda epoch: str(epoch.active_units)),
        ("", "images/s", 9, lambda epoch: f"{epoch.images_per_second:,.0f}"),
    )
    DROP_ORDER = (1, 2, 4)  # columns that are left out, in this order, until a row fits the terminal
    PREPARING = "reading pictures, importing PyTorch"

    def __init__(self, console: Console) -> None:
        self._console = console
        self._epochs = self._images = self._rows = 0
        self._measured = ""  # what the images that each epoch is measured on are called
        self._loss = ""
        self._refreshed = 0.0
        self._preparing = True
        self._headed = False
        self._prepare()

    def _prepare(self) -> None:
        """A sign of life before anything slow is imported."""
        if self._console.animated:
            progress_bar.start_spinner(self._console.rich, self.PREPARING)
        else:
            self._console.note(self.PREPARING)

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Step):
            self._step(event)
        elif isinstance(event, EpochMetrics):
            self._epoch(event)
            self._console.emit(event)
        elif isinstance(event, TrainingStarted):
            self._started(event)
        elif isinstance(event, TrainingDone):
            self._done(event)
            self._console.emit(event)
        else:
            self._console.report(event)
            if (
                self._preparing and self._console.animated and not progress_bar.is_shown()
            ):  # the bar of a Progress is gone
                self._prepare()

    def _started(self, event: TrainingStarted) -> None:
        progress_bar.stop()
        self._preparing = False
        note = self._console.note
        channels, height, width = event.image_shape
        low, high = event.value_range
        sets = [f"{how_many(event.train, 'image')} to train on", f"{event.held_out:,} held out"]
        if event.validation:
            sets.insert(1, f"{event.validation:,} for validation")
        if event.classes:
            named = listed(event.class_names, SHOWN_CLASSES if event.classes <= SHOWN_CLASSES else NAMED_CLASSES)
            sets.append(f"{event.classes} classes ({named})")
        note(f"data: {event.data}, {', '.join(sets)}, {height}x{width}x{channels}, values {low} to {high}")
        count, kind = (event.validation, "validation") if event.validation else (event.held_out, "held-out")
        images = how_many(count, f"{kind} image")
        note(f"will keep: the epoch with the lowest {event.chosen_by} on the {images}, after any KL warm-up")
        note(f"model: {event.parameters:,} parameters, {event.latent_dim} latent dimensions, prior {event.prior}")
        note(f"training: {event.device}, {event.precision}, {event.path}, seed {event.seed}")
        if event.resumed_after:
            note(f"resuming after epoch {event.resumed_after} of {event.epochs}")
        self._epochs, self._images = event.epochs, event.images_in_epoch
        self._measured = "validation" if event.validation else "held out"
        if self._console.animated:
            rich = self._console.rich
            self._shown = list(self.COLUMNS)
            for index in self.DROP_ORDER:
                if self._epoch_width + sum(2 + width for _, _, width, _ in self._shown) > rich.width:
                    self._shown.remove(self.COLUMNS[index])
            progress_bar.start(rich, "", self._progress(event.resumed_after + 1), event.epochs * event.images_in_epoch)
            progress_bar.update(event.resumed_after * event.images_in_epoch)

    def _head(self) -> None:
        """Two lines above the columns: which images, and what of them.

        The table is printed row by row, so a long training scrolls like any output.
        """
        groups = [
            (name, list(columns)) for name, columns in itertools.groupby(self._shown, key=lambda column: column[0])
        ]
        above = []
        for name, columns in groups:
            width = sum(width for _, _, width, _ in columns) + 2 * (len(columns) - 1)
            title = self._measured if name is None else name
            above.append(f" {title} ".center(width, "-") if title and len(columns) > 1 else f"{title:>{width}}")
        below = [f"{heading:>{width}}" for _, heading, width, _ in self._shown]
        for first, cells in (("", above), ("epoch", below)):
            line = "  ".join([f"{first:>{self._epoch_width}}", *cells])
            self._console.rich.print(line, style="bold", markup=False, no_wrap=True)

    def _progress(self, epoch: int) -> str:
        """What stands before the bar."""
        return f"epoch {min(epoch, self._epochs)}/{self._epochs}{self._loss}"

    @property
    def _epoch_width(self) -> int:
        return max(5, 2 * len(str(self._epochs)) + 1)

    def _step(self, event: Step) -> None:
        now = time.monotonic()
        if not self._headed and self._console.animated:  # what there is to note has been noted
            self._headed = True
            self._head()
        if now - self._refreshed > REFRESH:
            self._refreshed = now
            progress_bar.update((event.epoch - 1) * self._images + event.images, self._progress(event.epoch))

    def _epoch(self, epoch: EpochMetrics) -> None:
        if self._console.animated:
            if self._rows and self._rows % max(MOST_ROWS, self._console.rich.height - 4) == 0:
                self._head()
            self._rows += 1
            self._loss = f", loss {epoch.held_out.loss:.2f}"
            cells = "  ".join(f"{cell(epoch):>{width}}" for _, _, width, cell in self._shown)
            counter = f"{epoch.epoch}/{self._epochs}"
            self._console.rich.print(f"{counter:>{self._epoch_width}}  {cells}", markup=False, no_wrap=True)
            return
        held_out, train, kl = epoch.held_out, epoch.train, epoch.held_out.kl
        sign = "-" if kl < 0 else "+"  # under a mixture the KL is an estimate
        weight = "" if epoch.beta in (None, 1) else f"{epoch.beta:g} x "
        self._console.note(
            f"epoch {epoch.epoch}/{self._epochs}: "
            f"loss {train.loss:.2f} ({train.reconstruction:.2f} reconstruction, {weight}{train.kl:.2f} KL); "
            f"{self._measured} {held_out.loss:.2f} ({held_out.reconstruction:.2f} {sign} {abs(kl):.2f}); "
            f"{epoch.active_units} active; "
            f"{epoch.images_per_second:,.0f} images/s"
        )

    def _done(self, event: TrainingDone) -> None:
        progress_bar.stop()
        self._console.note(
            f"done: best epoch {event.best_epoch}, chosen by the {event.chosen_by} images: "
            f"{event.best_loss:.2f} nats per image on them"
        )
        self._console.note(f"next: vae export{run_flag(event.run)}")
