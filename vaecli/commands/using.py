"""What the commands that use a model have in common: how they state provider, seed and result."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vaecli import config
from vaecli.console import Console
from vaecli.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaecli.inference.held_out import HeldOut
    from vaecli.inference.model import Model
    from vaecli.inference.runtime import Graph
    from vaecli.pictures.reading import Inputs
    from vaecli.pictures.terminal import Shown
    from vaecli.pictures.writing import Dtype, Output, Writer


LOOKED_AT = 1000  # held-out pictures: so many tell how much a latent dimension carries


class Use:
    """One use of a model: what it says to people as it goes, and the JSON at its end."""

    def __init__(self, *, json: bool, quiet: bool) -> None:
        self.console = Console(json=json, quiet=quiet)
        self.seed: int | None = None
        self._start = 0.0
        self._provider = ""

    def draw_seed(self, given: int | None) -> int:
        """The seed that was given, or else one drawn now, which is said."""
        self.seed = given
        if self.seed is None:
            self.seed = config.draw_seed()
            self.console.note(f"seed {self.seed}, drawn")
        return self.seed

    def held_out(self, model: Model, data: str | None, data_dir: str | None, most: int = LOOKED_AT) -> HeldOut | None:
        """Pictures to look at a model with: those of --data, or what there is; see `held_out.held_out`."""
        from vaecli.inference.held_out import held_out

        return held_out(model, data, data_dir, most, self.console.progress)

    def read(self, inputs: Sequence[str], model: Model, *, invert: bool) -> Inputs:
        """The INPUTs in the model's shape, with what there is to say of them. Raises VaeError, UsageError."""
        from vaecli.pictures import reading

        return self.told(reading.read_inputs(inputs, model.image_shape, invert=invert))

    def told(self, read: Inputs) -> Inputs:
        """The same pictures, after what there is to say of them was said."""
        for note in read.notes:
            self.console.note(note)
        return read

    def write(self, images: Iterable[NDArray[Any]], writer: Writer, n: int, doing: str) -> None:
        """Write `n` images as they come, batch by batch, under a bar."""
        with self.console.progress(doing, n, "pictures") as advance:
            for batch in images:
                writer.write(batch)
                advance(len(batch))

    def runs_on(self, graph: Graph) -> None:
        """Say in one line what computes. The seconds that are told count from here."""
        from vaecli import processors
        from vaecli.inference.runtime import CPU

        self._start = time.perf_counter()
        self._provider = graph.provider
        if graph.provider != CPU:
            self.console.note(f"running on {graph.provider}")
        elif graph.fallback:
            self.console.note(f"running on the CPU, because CUDA does not start: {graph.fallback}")
        else:
            count = processors.usable()
            self.console.note(f"running on the CPU, {count} thread{'s' if count > 1 else ''}")

    def output(
        self,
        name: str | None,
        *,
        show: bool,
        columns: int | None = None,
        scale: int | None = None,
        dtype: Dtype | None = None,
        animates: bool = False,
        clobber: bool = True,
    ) -> Output | Shown:
        """Where pictures go: to what `-o` names, onto the screen, or both; --columns and --scale count for both.

        Raises:
            UsageError: to neither, or as `writing.output` and `terminal.screen` do.
        """
        from vaecli.pictures import writing

        if name is None and not show:
            raise UsageError("--output is missing", "name a file or folder/, - for stdout; or --show draws here")
        if name is None and dtype is not None:
            raise UsageError("--dtype: nothing is written", "add --output with the name of a .npy")
        written = name and writing.output(
            name,
            animates=animates,
            columns=columns,
            scale=scale,
            dtype=dtype,
            clobber=clobber,
            json=self.console.json,
        )
        if not show:
            assert written
            return written
        from vaecli.pictures import terminal

        return terminal.Shown(terminal.screen(self.console.rich, columns=columns, scale=scale), written or None)

    def wrote(self, output: Output | Shown, writer: Writer, n: int, **more: Any) -> None:  # noqa: ANN401 - JSON's values
        """Say what came out, for people and, with --json, for machines."""
        if output.name is None:
            if writer.said():
                self.console.note(writer.said())
        elif output.name != "-":
            self.console.note(f"wrote {output.name}: {writer.said()}, in {self.seconds:.1f} s")
        self.emit(output=output.name, n=n, **more, **writer.facts)

    @property
    def seconds(self) -> float:
        """How long it has been since `runs_on`."""
        return time.perf_counter() - self._start

    def emit(self, **result: Any) -> None:  # noqa: ANN401 - JSON's values
        """With --json: the result, with what every use of a model has."""
        common = {"seed": self.seed, "provider": self._provider, "seconds": round(self.seconds, 4)}
        self.console.emit({**result, **common})
