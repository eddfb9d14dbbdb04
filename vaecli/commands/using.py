"""Shared by the commands that use a model: opening it, reading inputs, writing results, and the JSON about them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaecli.cli.console import Console
from vaecli.config import DeviceChoice, Split, draw_seed
from vaecli.errors import UsageError
from vaecli.streams import STDIN, STDOUT
from vaecli.wording import how_many, listed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vaecli.inference.pair import Pair
    from vaecli.inference.runtime import Graph
    from vaecli.model import Model
    from vaecli.pictures.grid import Series
    from vaecli.pictures.inputs import PictureInputs
    from vaecli.pictures.writing import PictureOutput


@dataclass(frozen=True)
class Reading:
    """Which pictures a command reads, and how, as the flags say."""

    inputs: Sequence[str] = ()
    split: Split | None = None
    files_from: str | None = None
    data_dir: str | None = None
    invert: bool = False

    @property
    def listed(self) -> list[str]:
        """The names in the list `files_from`. Raises VaeError, UsageError."""
        from vaecli.pictures.inputs import listed_names

        if self.files_from == STDIN and STDIN in self.inputs:
            raise UsageError("- is both an INPUT and the list of `files_from`", "stdin can be read only once")
        return listed_names(self.files_from) if self.files_from is not None else []


class Use:
    """The state of one command: its messages, its seed and stopwatch, and the JSON at its end."""

    def __init__(self, *, json: bool, quiet: bool) -> None:
        self.console = Console(json=json, quiet=quiet)
        self.seed: int | None = None
        self._start: float | None = None  # of the stopwatch
        self._provider = ""

    def load(self, run: Path, device: DeviceChoice, label: str | None = None) -> Model:
        """The exported model, with a warning where its run has a better epoch; a conditional one given the `label`.

        Raises VaeError.
        """
        from vaecli.model import load

        model = load(run, device)
        if label is not None:
            model = model.given(label)
        if outdated := model.outdated:  # reads the run's records
            self.console.warn(outdated)
        return model

    def draw_seed(self, given: int | None) -> int:
        """The given seed, or a random one, which is printed."""
        self.seed = given
        if self.seed is None:
            self.seed = draw_seed()
            self.console.note(f"seed {self.seed}, drawn at random")
        return self.seed

    def read(self, reading: Reading, pair: Pair) -> PictureInputs:
        """The pictures in the model's shape, and notes on how they were read. Raises VaeError, UsageError."""
        from vaecli.inference.model_inputs import read

        self._start = time.perf_counter()
        found = read(
            pair,
            reading.inputs,
            split=reading.split,
            invert=reading.invert,
            listed=reading.listed,
            data_dir=reading.data_dir,
            on_event=self.console.report,
        )
        for note in found.notes:
            self.console.report(note)
        return found

    def labels(self, known: Sequence[str | None], names: Sequence[str] | None, pair: Pair) -> NDArray[np.int64] | None:
        """The numbers of the classes of pictures or latents, where the model needs them.

        `known` are the classes as far as they are known, see `Model.read`, and `names` those of the pictures.

        Where the model is given a class, all pictures are taken for that class; a warning counts those of others.
        Raises UsageError where a class is not known.
        """
        from vaecli.inference.classes import numbers

        if pair.needs_labels:
            return numbers(known, pair.classes, pair.folder, names)
        if pair.label is not None:
            name = pair.classes[pair.label]
            others = [label for label in known if label not in (None, name)]
            if others:
                kinds = listed(sorted(set(filter(None, others))), 3)
                share = f"{len(others)} of {how_many(len(known), 'picture')}"
                self.console.warn(f"{share} are of other classes ({kinds}); --label takes all for {name}")
        return None

    @staticmethod
    def known_classes(pictures: PictureInputs, pair: Pair) -> list[str | None]:
        """The class of each picture for a table; of a model that is given a class, that."""
        if pair.label is not None:
            return [pair.classes[pair.label]] * len(pictures.names)
        return [*pictures.labels] or [None] * len(pictures.names)

    @property
    def started(self) -> bool:
        """Whether it is known what computes."""
        return bool(self._provider)

    def start(self, graph: Graph) -> None:
        """Say what computes, and start the stopwatch of the result's seconds, unless `read` did."""
        from vaecli import processors
        from vaecli.inference.session import CPU

        self._start = self._start or time.perf_counter()
        self._provider = graph.provider
        if graph.provider != CPU:
            self.console.note(f"running on {graph.provider}")
        elif graph.fallback:
            self.console.note(f"running on the CPU, because CUDA does not start: {graph.fallback}")
        else:
            self.console.note(f"running on the CPU, {how_many(processors.usable(), 'thread')}")

    def pictures(
        self,
        name: str | None,
        *,
        show: bool = False,
        clobber: bool | None = None,
        **options: Any,  # noqa: ANN401 - as picture_output has them
    ) -> PictureOutput:
        """Where pictures go: to what `-o` names, onto the terminal with --show, or both. Raises VaeError."""
        from vaecli.pictures.writing import picture_output

        screen = self.console.rich if show else None
        return picture_output(name, clobber=clobber, json=self.console.json, screen=screen, **options)

    def write(
        self,
        images: Callable[[], Iterable[NDArray[Any]]],
        output: PictureOutput,
        series: Series,
        doing: str,
        *,
        graph: Graph,
        **facts: Any,  # noqa: ANN401 - JSON's values
    ) -> None:
        """Write a series of images as they are computed, say what was written, and emit it with `facts` as JSON.

        `images` starts the computation, once the output is open. Raises VaeError.
        """
        from vaecli.events import counted

        with output.open(series) as writer:
            self.start(graph)
            for batch in counted(images(), self.console.report, doing, series.n, "pictures"):
                writer.write(batch)
        if output.name is None:
            self.console.note(writer.summary())
        elif output.name != STDOUT:
            self.console.note(f"wrote {output.name}: {writer.summary()}, in {self.seconds:.1f} s")
        for note in writer.notes:
            self.console.note(note)
        self.emit(**{"output": output.name, "n": series.n, **facts, **writer.facts})

    @property
    def seconds(self) -> float:
        """The time since the first picture was read, or computed where none is read."""
        assert self._start is not None, "`start` comes first"
        return time.perf_counter() - self._start

    def emit(self, **result: Any) -> None:  # noqa: ANN401 - JSON's values
        """With --json: the result, with what every use of a model has."""
        common = {"seed": self.seed, "provider": self._provider, "seconds": round(self.seconds, 4)}
        self.console.emit({**result, **common})
