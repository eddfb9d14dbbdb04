"""`vae info`: what a run folder or an exported file is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from vaecli.commands import options
from vaecli.config import RUN, Config, field, places
from vaecli.console import Console
from vaecli.events import Losses
from vaecli.flags import flag_of
from vaecli.model_format import Metadata, PriorSummary, Reference
from vaecli.run_folder import RunRecord

if TYPE_CHECKING:
    from vaecli.inspection import RunSummary

MOST_CLASSES = 20  # that are listed
RUN_COLUMNS = ("run", "data", "likelihood", "recipe", "held out, nats", "bits/dim", "epochs", "exported")
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
    """Of a folder without a run of its own, the runs below it are listed: per data and likelihood, best first.

    Nothing of the model is run. Files that do not match are a warning, exit code 0.
    """
    console = Console(json=json, quiet=quiet)
    from vaecli.inspection import inspect, runs
    from vaecli.run_folder import RunFolder

    place, result = path or run, console.result
    if place.is_dir() and not RunFolder(place).occupied and (found_runs := runs(place)):
        result.table(f"runs below {place}, best first", RUN_COLUMNS, [_in_cells(one, place) for one in found_runs])
        console.emit({"path": str(place), "kind": "folder of runs", "runs": found_runs})
        return
    found = inspect(place)
    result.line(f"{found.path}: {'a' if found.kind == 'run folder' else 'an'} {found.kind}")
    if found.training is not None:
        result.facts("training", _facts(found.training))
    if found.model is not None:
        result.facts("exported model", _facts(found.model))
    result.facts("files", [(file.name, f"{file.bytes / 1e3:,.1f} kB") for file in found.files])
    for problem in found.problems:
        console.warn(problem)
    console.emit(found)


def _in_cells(run: RunSummary, place: Path) -> list[str]:
    """A run as a row of the table."""
    loss = "" if run.loss is None else f"{run.loss:.2f}"
    bits = "" if run.bits_per_dimension is None else f"{run.bits_per_dimension:.3f}"
    name = str(Path(run.path).relative_to(place))
    exported = "yes" if run.exported else "no"
    return [name, run.data, run.likelihood, run.recipe or "", loss, bits, str(run.epochs), exported]


def _facts(record: msgspec.Struct) -> Iterator[tuple[str, str]]:
    """The fields of a record as names and values; those of the record or metadata in it as its own."""
    for name, value in msgspec.structs.asdict(record).items():
        if isinstance(value, RunRecord | Metadata):
            yield from _facts(value)
        elif (value is not None and value != ()) or name == "prior":
            yield "settings" if name == "config" else name.replace("_", " "), _in_words(value)


def _in_words(value: object) -> str:
    if isinstance(value, Config):
        return ", ".join(_settings(value)) or "all defaults"
    if value is None:
        return "N(0, I)"
    if isinstance(value, PriorSummary):
        known = f", {len(value.classes)} classes: {_listed(value.classes)}" if value.classes else ""
        gain = f"gains {value.gain:.2f} nats over N(0, I) on held-out latents"
        return f"{value.kind} of {value.components}{known}; {gain}"
    if isinstance(value, Losses):
        return f"{value.loss:.2f} = {value.reconstruction:.2f} reconstruction + {value.kl:.2f} KL nats per image"
    if isinstance(value, Reference):
        return f"{len(value)} held-out pictures, for vae score"
    if isinstance(value, msgspec.Struct):
        return ", ".join(f"{name} {text}" for name, text in _facts(value))
    if isinstance(value, tuple):
        return _listed(value) if isinstance(value[0], str) else "x".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _listed(names: tuple[str, ...]) -> str:
    """The first names in a line."""
    return ", ".join(names[:MOST_CLASSES]) + (", …" if len(names) > MOST_CLASSES else "")


def _settings(config: Config) -> Iterator[str]:
    """Each setting that differs from its default, as a flag."""
    for section, key in places():
        value = getattr(getattr(config, section), key)
        if isinstance(value, bool) and value != field(section, key).default:
            yield flag_of(key) if value else flag_of(f"no_{key}")
        elif value != field(section, key).default:
            yield f"{flag_of(key)} {value}"
