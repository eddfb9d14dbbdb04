"""The command line: the commands and their summaries, and every error as two lines and an exit code."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from vaecli import __version__, errors, signals, streams
from vaecli.__main__ import COMPLETION
from vaecli.cli import completion
from vaecli.cli.help_page import Command, Group, show_page
from vaecli.untrusted_text import printable

# A command is the function of its name in vaecli/commands/NAME.py. Its help page has the summary, the EXAMPLES of the
# module, and the function's docstring.
# With the summaries here, `vae --help` imports no command, and `vae sample` imports only its own.
COMMANDS = {
    "Make a model": {
        "train": "Train a VAE on pictures with PyTorch, on a GPU where there is one.",
        "export": "Export a trained model to ONNX, fit its prior, and check all graphs against PyTorch.",
        "data": "List the data sets for --data, the recipes for --config, and the pictures prepared so far.",
    },
    "Draw with it": {
        "explore": "Explore the latent space in a browser: drag, draw, mix; or write that page as one file.",
        "sample": "Draw new pictures from an exported model.",
        "reconstruct": "Encode pictures and decode them again: each original above its reconstruction.",
        "interpolate": "Interpolate between the latents of two or more pictures, in order.",
        "arithmetic": "Add and subtract the latents of pictures or classes: A - B + C.",
        "traverse": "Vary one latent dimension at a time, in the order of their KL.",
        "manifold": "Draw a grid of pictures over the plane of two latent dimensions.",
    },
    "Measure and use it": {
        "evaluate": "Measure a model on held-out pictures: ELBO, a bound on -log p(x), active dimensions.",
        "score": "Rank pictures by how strange they are to the model: outliers, defects (anomaly scores).",
        "encode": "Encode pictures to latents: the means of q(z|x), with the pictures' names.",
        "decode": "Decode latents to pictures, one picture a row.",
        "plot": "Plot losses of trainings, the KL of latent dimensions, or latents as points.",
    },
    "Inspect": {
        "info": "Describe a run folder or an .onnx file, or list the runs below a folder, best first.",
        "doctor": "Check what is installed and works on this machine: runtimes, GPU, torch, threads, folders.",
    },
}
HELP = {"--help", "-h"}
# Flags that stand alone, and what helps if something follows: Typer would not read it.
ALONE = {
    "--version": "it stands alone: vae --version",
    "--install-completion": "type vae --install-completion alone, in the shell that it is for",
    "--show-completion": "type vae --show-completion alone, in the shell that it is for",
}
NAMES = {name for commands in COMMANDS.values() for name in commands}


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vae {__version__}")
        raise typer.Exit


def _vae(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """The flags before a command."""


def _not_imported() -> None:
    """The stand-in for a command on the page of `vae --help`."""


def build(wanted: Container[str]) -> typer.Typer:
    """The program, with the `wanted` commands imported; of the others it has the line in `vae --help`."""
    app = typer.Typer(
        name="vae",
        help="Learn from pictures and draw new ones: train a variational autoencoder (VAE), export it to ONNX, use it "
        "anywhere.",
        epilog="Start with: vae train, then vae export, then vae sample --n 9 -o grid.png",
        context_settings={"help_option_names": sorted(HELP), "max_content_width": 100},
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        cls=Group,
    )
    app.callback()(_vae)
    completion.install_for_bash()
    for panel, commands in COMMANDS.items():
        for name, summary in commands.items():
            if name in wanted:
                module = importlib.import_module(f"vaecli.commands.{name}")
                function, examples = getattr(module, name), "\n".join(module.EXAMPLES)
                page = f"{summary}\n\n{inspect.getdoc(function)}"
                app.command(name, cls=Command, help=page, short_help=summary, epilog=examples, rich_help_panel=panel)(
                    function
                )
            else:
                app.command(name, help=summary, rich_help_panel=panel)(_not_imported)
    return app


def _words_to_complete() -> list[str]:
    """The words that are being completed: bash has them in COMP_WORDS, the other shells in _TYPER_COMPLETE_ARGS."""
    return " ".join(os.environ.get(name, "") for name in ("COMP_WORDS", "_TYPER_COMPLETE_ARGS")).split()


def run(args: Sequence[str]) -> int:
    """Run one command line. Returns its exit code; errors are shown, never raised."""
    flags = args[: args.index("--") if "--" in args else len(args)]
    try:
        return _call(args, flags)
    except SystemExit as error:  # of Typer, after it has printed or installed completions
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except (errors.Ending, KeyboardInterrupt, Exception) as error:
        return _report(_in_words(error, args), json="--json" in flags)


def _call(args: Sequence[str], flags: Sequence[str]) -> int:
    """Call what a command line names; `flags` are the arguments before --. Returns its exit code."""
    if len(args) > 1 and args[0] in HELP:
        args = [*args[1:], args[0]]  # vae --help train is vae train --help
    if len(args) > 1 and args[0] in ALONE:
        raise errors.UsageError(f"{args[1]}: not an argument of vae {args[0]}", ALONE[args[0]])
    app = build(_words_to_complete() if COMPLETION in os.environ else args)
    if args and args[0] in NAMES and not HELP.isdisjoint(flags):
        show_page(app, args[0])
        return 0
    _check_current_folder()
    code = app(list(args) or ["--help"], prog_name="vae", standalone_mode=False)
    if code == errors.Interrupted.exit_code:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _check_current_folder() -> None:
    """Raise VaeError where it was removed: libraries end the process in their own words then."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise errors.VaeError("the current folder was removed", "cd to another one") from error


def _in_words(error: BaseException, args: Sequence[str]) -> errors.Ending:
    """What ended the command line, as an error of ours.

    After a signal, any error that is not ours counts as an interruption: compiled code may turn KeyboardInterrupt into
    an error of its own.
    """
    ending: errors.Ending
    if isinstance(error, KeyboardInterrupt) or (signals.received() and not isinstance(error, errors.Ending)):
        ending = errors.Interrupted("interrupted", "no file was changed; run the command again")
    elif isinstance(error, errors.Ending):
        return error
    elif isinstance(error, typer.TyperException):  # the command line could not be parsed
        from vaecli.cli.usage import explain

        ending = explain(error, args, NAMES)
    elif isinstance(error, OSError):
        ending = errors.file_error(error.filename or "a file", error)
    elif isinstance(error, MemoryError):
        ending = errors.VaeError("out of memory", "try a smaller `batch_size`")
    else:  # a bug in vae: a traceback only on request
        ending = errors.VaeError(
            f"unexpected {type(error).__name__}: {error}",
            "this is a bug in vae; VAE_TRACEBACK=1 shows where, please report it",
        )
    ending.__cause__ = error
    return ending


def _report(ending: errors.Ending, *, json: bool) -> int:
    if isinstance(ending, errors.OutputClosed):
        return ending.exit_code
    if isinstance(ending, errors.Interrupted):
        ending.exit_code = signals.exit_code()
        signals.ignore()
    return _fail(ending, json=json)


def _fail(error: errors.Ending, *, json: bool) -> int:
    if os.environ.get("VAE_TRACEBACK") == "1":
        import traceback

        for line in "".join(traceback.format_exception(error)).splitlines():
            sys.stderr.write(f"| {printable(line)}\n")
    from vaecli.cli.console import show_error  # most commands succeed, and help pages do not need it

    show_error(error, json=json)
    return error.exit_code


def main() -> NoReturn:
    """The entry point of the command `vae`."""
    streams.prepare()
    signals.install_handlers(interrupts=COMPLETION not in os.environ)  # while the shell completes, Ctrl-C ends at once
    code = run(sys.argv[1:])
    lost = streams.finish()
    if lost is not None and code == 0:
        code = _fail(lost, json=False)
    if code == errors.Interrupted.exit_code:
        signals.end_by_interrupt()
    # Shutting down the libraries would take 90 ms of the 420 ms of `vae sample` (medians of 13 pairs). Files are
    # closed by now, and connections to other processes of a training end with this one.
    os._exit(code)
