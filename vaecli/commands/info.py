"""`vae info`: what a run folder or an exported file is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaecli.cli.console import Console
from vaecli.commands import options, reports
from vaecli.config import RUN
from vaecli.errors import UsageError

EXAMPLES = (
    "vae info",
    "vae info runs/",
    "vae info runs/a runs/b",
    "vae info decoder.onnx --json",
)  # at the top of the help page


def info(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH...",
            help="A run folder, a folder of runs, or an exported .onnx file; left out: --run. Several folders are "
            "listed together.",
        ),
    ] = None,
    run: options.Run = RUN,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Runs are listed in groups of the same data and likelihood, best first.

    Their losses are those of the training, under its prior. Where runs differ in their seed only, so is the mean of
    their losses. The model is not run. Files that do not belong together give a warning; the exit code is still 0.
    """
    console = Console(json=json, quiet=quiet)
    from vaecli.inspection import inspect, over_seeds, runs
    from vaecli.run_folder import RunFolder

    places = paths or [run]
    for place in places if len(places) > 1 else ():
        if not place.is_dir():
            raise UsageError(f"{place}: not a folder", "name several run folders or folders of runs, or one file")
    listed = len(places) > 1 or (places[0].is_dir() and not RunFolder(places[0]).occupied)
    if listed and (found_runs := runs(*places)):
        seeds = over_seeds(found_runs)
        reports.runs(found_runs, seeds, places, console.result)
        for problem in (problem for one in found_runs for problem in one.problems):
            console.warn(problem)
        path = str(places[0]) if len(places) == 1 else [str(place) for place in places]
        console.emit({"path": path, "kind": "folder of runs", "runs": found_runs, "over_seeds": seeds})
        return
    found = inspect(places[0])
    reports.inspection(found, console.result)
    for problem in found.problems:
        console.warn(problem)
    console.emit(found)
