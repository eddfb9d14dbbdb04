"""`vae doctor`: what is installed and works on this machine, and what to install for what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from vaecli.commands.options import Json, Quiet, setting
from vaecli.console import Console, show_error
from vaecli.errors import VaeError

if TYPE_CHECKING:
    from vaecli.machine import Machine


def doctor(
    data_dir: Annotated[str | None, setting("data", "dir", envvar="VAE_DATA")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Look at what is installed and really works here: runtimes, GPU, torch, threads, folders.

    Ends with 0 where a model can be run, if only on the CPU, else with 1.
    """
    console = Console(json=json, quiet=quiet)
    with console.waiting("looking at this machine"):
        from vaecli.machine import examine

        machine = examine(data_dir)
    between = "\n" if console.animated else "; "
    console.facts(
        "",
        (
            (_said(name), f"{check.state}: {between.join(filter(None, (check.found, check.remedy)))}")
            for name, check in machine.checks.items()
        ),
    )
    console.note(_verdict(machine))
    record = msgspec.to_builtins(machine)
    if machine.can_use:
        console.emit(record)
        return
    check = machine.checks["models_on_cpu"]
    error = VaeError(f"no model can be run here: {check.found}", check.remedy or "")
    show_error(error, json=False)
    # One object, with what every error has in it.
    console.emit({**record, "error": error.message, "hint": error.hint, "exit_code": error.exit_code})
    raise typer.Exit(error.exit_code)


def _said(name: str) -> str:
    """A check's name, for people."""
    return " ".join({"cpu": "CPU", "cuda": "CUDA", "nvidia": "NVIDIA"}.get(word, word) for word in name.split("_"))


def _verdict(machine: Machine) -> str:
    if machine.can_use:
        return "models can be used here, and trained and exported" if machine.can_train else "models can be used here"
    return "models can be trained here, but neither exported nor used" if machine.can_train else "nothing works here"
