"""`vae info`: what a run folder or an exported file is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaecli.commands import options, reports
from vaecli.config import RUN
from vaecli.console import Console

EXAMPLES = (
    "vae info",
    "vae info runs/",
    "vae info decoder.onnx --json",
)  # at the top of the help page


def info(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PATH", help="A run folder, a folder of runs, or an exported .onnx file; left out: --run."
        ),
    ] = None,
    run: options.Run = RUN,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """If PATH is a folder of runs, list them, grouped by data and likelihood, best first.

    The model is not run. Files that do not belong together give a warning; the exit code is still 0.
    """
    console = Console(json=json, quiet=quiet)
    from vaecli.inspection import inspect, runs
    from vaecli.run_folder import RunFolder

    place = path or run
    if place.is_dir() and not RunFolder(place).occupied and (found_runs := runs(place)):
        reports.runs(found_runs, place, console.result)
        console.emit({"path": str(place), "kind": "folder of runs", "runs": found_runs})
        return
    found = inspect(place)
    reports.inspection(found, console.result)
    for problem in found.problems:
        console.warn(problem)
    console.emit(found)
