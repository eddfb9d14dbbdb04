"""`vae doctor`: what is installed and works on this machine, and what to install for what does not."""

from __future__ import annotations

import msgspec
import typer

from vaecli.cli.console import Console, show_error
from vaecli.commands import options
from vaecli.errors import VaeError
from vaecli.flags import with_flags

EXAMPLES = (
    "vae doctor",
    "vae doctor --json",
)  # at the top of the help page


def doctor(
    data_dir: options.DataDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Exit code 0 where a model can be run, at least on the CPU, else 1."""
    console = Console(json=json, quiet=quiet)
    with console.waiting("examining this machine"):
        from vaecli.machine import doctor as examine

        machine = examine(data_dir)
    facts = []
    for name, check in machine.checks.items():
        title = " ".join({"cpu": "CPU", "cuda": "CUDA", "nvidia": "NVIDIA"}.get(word, word) for word in name.split("_"))
        lines = filter(None, (f"{check.state}: {check.found}", check.remedy))
        facts.append((title, [with_flags(line) for line in lines]))
    console.result.facts("", facts)
    record = msgspec.to_builtins(machine)
    if machine.can_use:
        console.result.line("models can be used here" + (", and trained and exported" if machine.can_train else ""))
        console.emit(record)
        return
    check = machine.checks["models_on_cpu"]
    error = VaeError(f"no model can be run here: {check.found}", check.remedy or "")
    show_error(error, json=False)
    # One object, which has the keys of every error.
    console.emit({**record, "error": error.message, "hint": error.hint, "exit_code": error.exit_code})
    raise typer.Exit(error.exit_code)
