"""The command line: registers the commands, and turns every error into two lines and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from vaecli import __version__, errors
from vaecli.commands.data import data
from vaecli.commands.decode import decode
from vaecli.commands.doctor import doctor
from vaecli.commands.encode import encode
from vaecli.commands.evaluate import evaluate
from vaecli.commands.export import export
from vaecli.commands.info import info
from vaecli.commands.interpolate import interpolate
from vaecli.commands.manifold import manifold
from vaecli.commands.plot import plot
from vaecli.commands.reconstruct import reconstruct
from vaecli.commands.sample import sample
from vaecli.commands.score import score
from vaecli.commands.train import train
from vaecli.commands.traverse import traverse
from vaecli.console import show_error

app = typer.Typer(
    name="vae",
    help="Pictures to a portable generative model: train a VAE, export it to ONNX, use it anywhere.",
    epilog="Start with: vae train, then vae export, then vae sample --n 9 -o grid.png",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    pretty_exceptions_enable=False,
)
COMMANDS = {
    "Make a model": (train, export, data),
    "Draw with it": (sample, reconstruct, interpolate, traverse, manifold),
    "Measure it, and use what it learned": (evaluate, score, encode, decode, plot),
    "Look around": (info, doctor),
}
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vae {__version__}")
        raise typer.Exit


@app.callback()
def vae(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Hold the flags that stand before a command."""


def run(args: Sequence[str]) -> int:
    """Run one command line. Returns its exit code; errors are shown, never raised."""
    json = "--json" in args[: args.index("--") if "--" in args else len(args)]
    try:
        code = app(list(args) or ["--help"], prog_name="vae", standalone_mode=False)
        if code == errors.Interrupted.exit_code:
            raise KeyboardInterrupt
    except errors.VaeError as error:
        return _fail(error, json=json)
    except typer.TyperException as error:  # the command line could not be parsed
        return _fail(_usage_error(error, args), json=json)
    except KeyboardInterrupt:
        return _fail(errors.Interrupted("interrupted", "no file was changed; run the command again"), json=json)
    except OSError as error:
        return _fail(errors.file_error(error.filename or "a file", error), json=json)
    except MemoryError:
        return _fail(errors.VaeError("out of memory", "try a smaller --batch-size"), json=json)
    except Exception as error:  # a fault of ours: even then no traceback unless it is asked for
        if os.environ.get("VAE_TRACEBACK") == "1":
            raise
        fault = errors.VaeError(
            f"unexpected {type(error).__name__}: {error}",
            "this is a fault in vae; VAE_TRACEBACK=1 shows where, please report it",
        )
        return _fail(fault, json=json)
    return code if isinstance(code, int) else 0


def _fail(error: errors.VaeError, *, json: bool) -> int:
    if os.environ.get("VAE_TRACEBACK") == "1":
        import traceback

        traceback.print_exception(error)
    show_error(error, json=json)
    return error.exit_code


def _usage_error(error: typer.TyperException, args: Sequence[str]) -> errors.UsageError:
    """The parser's complaint, with the help page that would have prevented it."""
    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    named = next((argument for argument in args if argument in known), None)
    page = f"vae {named} --help" if named else "vae --help"
    return errors.UsageError(error.format_message().rstrip("."), f"see {page}")


def main() -> NoReturn:
    """The entry point of the command `vae`."""
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody is left to be told
        code = code or 1
    # Taking the libraries down piece by piece would cost as much time again as importing NumPy.
    os._exit(code)
