"""A job from its inputs to its result: cut, check what is there, do the rest, count."""

from __future__ import annotations

import functools
import operator
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vaecli import processors
from vaecli.config import Split
from vaecli.errors import Interrupted, UsageError, VaeError, check_count
from vaecli.events import BlockDone, Changes, Note, OnEvent, Progress, warn
from vaecli.extras import require
from vaecli.inference.latent_files import ANOTHER_MODEL
from vaecli.inference.pair import Pair
from vaecli.inference.session import CPU
from vaecli.jobs import parquet_folder
from vaecli.jobs.blocks import Block, Plan, close, plan_latents, plan_pictures, plan_split
from vaecli.jobs.tasks import DOING, Decode, Task, graph_of
from vaecli.jobs.worker import Job, Worker
from vaecli.model import Model
from vaecli.outputs import TABLES
from vaecli.tables import text_columns
from vaecli.wording import how_many


@dataclass(frozen=True)
class JobResult:
    """What a job has made."""

    output: Path  # a folder of Parquet files
    rows: int
    errors: int  # rows that have nothing but their name and, in the column `error`, why
    changes: Changes  # to the pictures
    blocks: int  # files
    kept: int  # of them, those that were there before
    columns: tuple[str, ...]  # of the files
    workers: int | None  # None: on a cluster, as many as it has processors or GPUs
    bytes: int  # on the disk
    seconds: float


def run(
    model: Model,
    task: Task,
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    workers: int | None = None,
    ray: str | None = None,
    resume: bool = False,
    split: Split | None = None,
    listed: Sequence[str] = (),
    data_dir: str | None = None,
    invert: bool = False,
    batch_size: int | None = None,
    on_event: OnEvent = warn,
) -> JobResult:
    """Compute `task` of all `inputs` into `output`, a folder of Parquet files that is made.

    Inputs and `split` are those of `Model.read`, except stdin, or for `Decode` a file of latents. They are cut into
    blocks, each done by one of the `workers`: processes of this machine, as many as it has processors, on a GPU one; or
    with `ray`, the address of a cluster (`auto` is the one that runs here, `local` one of this machine alone), actors
    there.
    Inputs, model and output must then be in places that all machines see. With `resume`, blocks that are finished are
    kept. The numbers are the same for any number of workers. After each block comes a `BlockDone`.

    Raises:
        VaeError: an input is missing, a file cannot be read or written, a worker is killed, or none of the rows can be
            computed; `output` holds Parquet files, or with `resume` one of other inputs, settings or another model.
        UsageError: a number is out of range, the model is conditional and no class is `given`, or as the task.
        Interrupted: by Ctrl-C. Finished blocks stay.
    """
    started, folder = time.perf_counter(), Path(output)
    _check(folder, workers, ray, batch_size)
    given = [inputs] if isinstance(inputs, str | Path) else inputs
    names = [str(name) for name in given]
    pair = model.pair
    task.start(pair, 1)  # it raises what is wrong with the settings
    plan = _plan(pair, task, names, split, listed, data_dir, on_event)
    of = len(plan.blocks)
    settings = msgspec.json.encode({"task": task, "label": pair.label, "invert": invert}).decode()
    origin = parquet_folder.Origin(task=settings, model=pair.digest, inputs=plan.digest, pair=pair.metadata.pair)
    job = Job(pair.folder.absolute(), task, folder.absolute(), of, origin, pair.device, pair.label, invert, batch_size)
    with parquet_folder.held(folder) as lock:
        found = parquet_folder.finished(folder, origin, of, resume=resume)
        todo = [(number, block) for number, block in enumerate(plan.blocks) if number not in found]
        if found:
            on_event(Note(f"{len(found)} of {of} blocks are there already"))
        done: list[parquet_folder.Part | BlockDone] = [*found.values()]
        total = workers if ray is not None else _workers(workers, pair, task, len(todo), on_event)
        doing = DOING[type(task)]
        on_event(Progress(doing, len(done), of, "blocks"))
        try:
            with closing(_engine(job, pair, todo, total, ray, lock, on_event)) as results:
                for one in results:
                    done.append(one)
                    on_event(one)
                    on_event(Progress(doing, len(done), of, "blocks"))
        except KeyboardInterrupt as error:
            hint = "`resume` with the same command completes it"
            raise Interrupted(f"interrupted: {len(done)} of {of} blocks are finished", hint) from error
        except VaeError as error:
            error.message += f" ({len(done)} of {of} blocks are finished)"
            error.hint += "; `resume` with the same command completes it, unless an input changes"
            raise
        finally:
            close()
        result = JobResult(
            output=folder,
            rows=sum(one.rows for one in done),
            errors=sum(one.errors for one in done),
            changes=functools.reduce(operator.iadd, (one.changes for one in done), Changes()),
            blocks=of,
            kept=len(found),
            columns=(*text_columns(labelled=task.labelled), *task.columns(pair), parquet_folder.ERROR),
            workers=total,
            bytes=sum(parquet_folder.part_path(folder, number, of).stat().st_size for number in range(of)),
            seconds=time.perf_counter() - started,
        )
    if not result.rows:
        what = "latent" if isinstance(task, Decode) else "picture"
        raise VaeError(f"{folder}: has no rows: there is no {what} in {', '.join(names)}", "look at the inputs")
    for note in result.changes.notes(" to the model's shape"):
        on_event(note)
    first = min((one for one in done if one.first_error), key=lambda one: one.number, default=None)
    if first is not None:
        _tell_of_errors(result, first.first_error or "", on_event)
    return result


def _check(folder: Path, workers: int | None, ray: str | None, batch_size: int | None) -> None:
    """Raise VaeError where a package is missing, and UsageError for an output or a number that cannot be."""
    if folder.suffix.lower() in TABLES:
        raise UsageError(f"`output` {folder}: a job writes a folder of Parquet files", "name one: NAME.parquet/")
    require("parquet", f"writing {folder}")
    if ray is not None:
        require("ray", "`ray`")
    for name, number in (("workers", workers), ("batch_size", batch_size)):
        if number is not None:
            check_count(name, number, 1, "leave it out")


def _tell_of_errors(result: JobResult, first: str, on_event: OnEvent) -> None:
    """Say how many rows have an error, and the `first` one. Raises VaeError where all have."""
    counted = f"{result.errors:,} of {result.rows:,} rows have an error"
    if result.errors == result.rows:
        raise VaeError(f"{result.output}: {counted}: {first}", "look at the inputs")
    on_event(Note(f"{counted}, in the column {parquet_folder.ERROR}: {first}", warning=True))


def _workers(asked: int | None, pair: Pair, task: Task, blocks: int, on_event: OnEvent) -> int:
    """How many processes do so many blocks: those that are asked for, else one for each processor, or for the GPU."""
    if asked is not None and 0 < blocks < asked:
        todo = how_many(blocks, "block")
        on_event(Note(f"`workers` {asked}: {todo} to do, each of which one worker does"))
    usual = processors.usable() if graph_of(pair, task).provider == CPU else 1
    return min(asked or usual, max(1, blocks))


def _plan(
    pair: Pair,
    task: Task,
    names: list[str],
    split: Split | None,
    listed: Sequence[str],
    data_dir: str | None,
    on_event: OnEvent,
) -> Plan:
    if split is not None:
        from vaecli.inference.training_data import to_split

        return plan_split(pair, to_split(pair, names, listed, data_dir), split, on_event)
    if not isinstance(task, Decode):
        return plan_pictures(
            names, pair.image_shape, listed=listed, classes=pair.metadata.classes, data_dir=data_dir, on_event=on_event
        )
    if len(names) != 1:
        raise UsageError(f"{len(names)} files of latents", "name one; a pattern may stand for several")
    plan = plan_latents(names[0], pair.latent_dim)
    if plan.models - {pair.metadata.pair}:
        on_event(ANOTHER_MODEL)
    return plan


def _engine(
    job: Job,
    pair: Pair,
    todo: Sequence[tuple[int, Block]],
    workers: int | None,
    ray: str | None,
    lock: int | None,
    on_event: OnEvent,
) -> Generator[BlockDone]:
    """Where the workers are: in this process, in others, which keep the output's `lock`, or on a cluster."""
    if ray is not None and todo:
        from vaecli.jobs.cluster import on_cluster

        gpu = graph_of(pair, job.task).provider != CPU
        return on_cluster(job, todo, workers, ray, gpu=gpu, on_event=on_event)
    if workers == 1 or not todo:
        worker = Worker(job, pair)
        return (worker(number, block) for number, block in todo)
    from vaecli.jobs.processes import on_processes

    assert workers is not None
    threads = max(1, processors.usable() // workers)
    on_event(Note(f"{workers} processes, {how_many(threads, 'thread')} each"))
    return on_processes(job, todo, workers, threads, lock)
