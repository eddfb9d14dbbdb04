"""A job: the result of a command as a folder of Parquet files, which several processes write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vaecli.commands.using import Reading, Use
from vaecli.errors import UsageError
from vaecli.wording import how_many

if TYPE_CHECKING:
    from vaecli.jobs import Task
    from vaecli.model import Model


@dataclass(frozen=True)
class JobFlags:
    """How a job is done, as the flags say."""

    output: str
    workers: int | None
    ray: str | None
    resume: bool

    def seed(self, use: Use, given: int | None, *, stochastic: bool) -> int | None:
        """Where the job is `stochastic`: the given seed, that of the job that is resumed, or one drawn and told."""
        if not stochastic:
            return None
        if given is None and self.resume:
            from vaecli.jobs.parquet_folder import recorded_seed

            given = recorded_seed(Path(self.output))
        return use.draw_seed(given)

    def run(self, use: Use, model: Model, task: Task, reading: Reading, batch_size: int | None) -> None:
        """Compute `task`, say what was written, and emit it as JSON. Raises VaeError."""
        from vaecli import jobs
        from vaecli.jobs.tasks import graph_of

        listed = reading.listed
        use.start(graph_of(model.pair, task))
        result = jobs.run(
            model,
            task,
            reading.inputs,
            self.output,
            split=reading.split,
            listed=listed,
            data_dir=reading.data_dir,
            invert=reading.invert,
            workers=self.workers,
            ray=self.ray,
            resume=self.resume,
            batch_size=batch_size,
            on_event=use.console.report,
        )
        rows, files = how_many(result.rows, "row"), how_many(result.blocks, "Parquet file")
        speed = f"{rows} in {files}, {result.bytes / 1e6:,.1f} MB, in {use.seconds:.1f} s"
        use.console.note(f"wrote {self.output}: {speed}")
        use.emit(
            output=self.output,
            n=result.rows,
            columns=result.columns,
            form="parquet",
            fitted=result.changes.fitted,
            errors=result.errors,
            blocks=result.blocks,
            kept=result.kept,
            workers=result.workers,
            bytes=result.bytes,
        )


def asked_for(
    output: str | None, workers: int | None, ray: str | None, resume: bool, **others: object
) -> JobFlags | None:
    """The job where `-o` names a folder of Parquet files, else None.

    Raises UsageError where it does not, and one of these is given; and where it does, and one of the `others` is,
    which mean nothing there.
    """
    from vaecli.outputs import is_parquet_folder

    if output is None or not is_parquet_folder(output):
        for name, given in (("workers", workers), ("ray", ray), ("resume", resume or None)):
            if given is not None:
                problem = f"`{name}`: only with `output` NAME.parquet/"
                raise UsageError(problem, "name such a folder, or leave the flag out")
        return None
    for name, other in others.items():
        if other is not None and other is not False:
            problem = f"`{name}`: not with `output` NAME.parquet/, which has a row for each picture"
            raise UsageError(problem, "leave it out")
    return JobFlags(output, workers, ray, resume)
