"""A command line that cannot be parsed: what is wrong with it in our words, and what was probably meant."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import typer

from vaecli.errors import UsageError

# What people type who have used another program. Of several flags, the first one that the command has is meant.
COMMANDS = {
    "generate": "sample", "draw": "sample", "fit": "train", "eval": "evaluate", "test": "evaluate", "rank": "score",
    "outliers": "score", "embed": "encode", "latents": "encode", "morph": "interpolate", "convert": "export",
    "show": "info", "inspect": "info", "list": "info FOLDER", "runs": "info FOLDER", "datasets": "data",
    "recipes": "data", "help": "--help",
}  # fmt: skip
FLAGS = {
    "lr": "learning-rate", "batch": "batch-size", "bs": "batch-size", "epoch": "epochs", "count": "n", "num": "n",
    "number": "n", "o": "run", "out": "output|run", "output": "run", "output-dir": "output|run",
    "out-dir": "output|run", "outdir": "output|run", "name": "run", "checkpoint": "run", "latent": "latent-dim",
    "latent-size": "latent-dim", "z-dim": "latent-dim", "zdim": "latent-dim", "dim": "latent-dim",
    "gpu": "device cuda", "cuda": "device cuda", "cpu": "device cpu", "size": "image-size",
    "resolution": "image-size", "force": "overwrite", "continue": "resume", "model": "run", "dataset": "data",
    "recipe": "config", "bits": "likelihood", "verbose": "help", "temp": "temperature", "rows": "columns",
    "class": "label", "arch": "architecture", "network": "architecture", "classes": "label", "num-samples": "n",
    "n-samples": "n", "samples": "n", "ckpt": "run", "kl-weight": "beta",
    "val-split": "validation", "threshold": "flag", "gpus": "device cuda",
    "use-gpu": "device cuda", "no-cuda": "device cpu", "img-size": "image-size", "channel": "channels",
    "loss": "likelihood", "max-epochs": "epochs", "num-epochs": "epochs", "n-epochs": "epochs", "load": "run",
    "output-file": "output", "weights": "run", "resize": "image-size",
}  # fmt: skip
# What a command has no flag for, and what people who type one should do.
MEASURE = "train without them; vae evaluate --data FOLDER measures them afterwards"
CHOOSE = "--held-out FOLDER names pictures that choose the best epoch, --validation N takes N of those of --data"
ADVICE = {
    ("train", "test"): MEASURE, ("train", "test-data"): MEASURE,
    ("train", "val"): CHOOSE, ("train", "val-data"): CHOOSE,
}  # fmt: skip
CLOSE = 0.78  # of two flags, by difflib: below this, a guess is mostly wrong
VALUES = {"gpu": "cuda", "nvidia": "cuda", "fp32": "float32", "fp64": "float64", "bf16": "bfloat16", "cnn": "conv"}


def explain(error: typer.TyperException, args: Sequence[str], commands: Collection[str]) -> UsageError:
    """The error of the parser as one of ours: which part of `args` is wrong, and what helps."""
    first = next((argument for argument in args if not argument.startswith("-")), "")
    context = getattr(error, "ctx", None)
    before = context is not None and context.parent is None  # a flag before the command
    command = first if first in commands and not before else None
    program = f"vae {command}" if command else "vae"
    page = f"see {program} --help"
    option, param = getattr(error, "option_name", None), getattr(error, "param", None)
    if command is None and not option:
        meant = COMMANDS.get(first.lower()) or _nearest(first, commands)
        if meant == "--help" and (asked := next((argument for argument in args if argument in commands), None)):
            meant = f"{asked} --help"
        return UsageError(
            f"{first}: no such command", f"did you mean vae {meant}? vae --help lists them" if meant else page
        )
    if option and type(error).__name__ == "NoSuchOption":
        if before and (named := next((argument for argument in args if argument in commands), None)):
            return UsageError(f"{option}: no such flag before a command", f"flags follow it: vae {named} {option}")
        if named := next((given for given in args if given.startswith(option) and Path(given).exists()), None):
            return UsageError(f"{option}: no such flag of {program}", f"{named} is a file: write ./{named}")
        if option == "--version":
            return UsageError(f"{option}: no such flag of {program}", "it stands alone: vae --version")
        known = _flags_of(error)
        bare = option.lstrip("-").lower()
        synonyms = [f"--{name}" for name in FLAGS.get(bare, "").split("|")]
        if advice := ADVICE.get((command or "", bare)):
            return UsageError(f"{option}: no such flag of {program}", advice)
        same = (synonym for synonym in synonyms if synonym.split()[0] in known)
        meant = next(same, None) or _nearest(f"--{bare}", known, CLOSE)
        return UsageError(f"{option}: no such flag of {program}", f"did you mean {meant}? {page}" if meant else page)
    message = error.format_message().rstrip(".")
    if option:
        return UsageError(option + message.removeprefix(f"Option '{option}'"), page)
    if param is not None:
        failed: list[dict[str, Any]] = getattr(error.__cause__, "errors", list)()
        if failed:
            return _bad_value(_flag(param), failed[0], page)
        return UsageError(f"{_named(param)} is missing", page)
    if extra := re.fullmatch(r"Got unexpected extra argument\(s\) \((.*)\)", message):
        if command == "data" and Path(extra[1]).exists():
            hint = f"it lists data sets and recipes; vae train --data {shlex.quote(extra[1])} says what it reads"
            return UsageError(f"{extra[1]}: not an argument of {program}", hint)
        known = _flags_of(error)
        meant = _flag_of_data_set(extra[1], known) or _flag_of_folder(extra[1], known)
        if meant is None and command != "train":  # vae train NAME may mean --data or --run
            flag = "--output" if "--output" in known else "--run"
            if flag in known and (flag == "--run" or Path(extra[1]).suffix[1:].isalpha()):
                meant = f"{flag} {shlex.quote(extra[1])}"
        page = f"did you mean {meant}? {page}" if meant else page
        return UsageError(f"{extra[1]}: not an argument of {program}", page)
    return UsageError(message, page)


def empty(param: Any, program: str) -> UsageError:  # noqa: ANN401 - of Typer's own Click
    """The error for a parameter of `program`, as `vae train`, that was given ''."""
    return UsageError(f"{_named(param)} is empty", f"is a variable of the shell not set? see {program} --help")


def _named(param: Any) -> str:  # noqa: ANN401 - as above
    return _flag(param) or (param.metavar or str(param.name).upper()).removesuffix("...")


def _flag(param: Any) -> str:  # noqa: ANN401 - as above
    return next((name for name in param.opts if name.startswith("--")), "")


def _bad_value(flag: str, found: dict[str, Any], page: str) -> UsageError:
    """A value that is of the wrong type or out of bounds, as pydantic describes it."""
    value, limits, kind = str(found.get("input")), found.get("ctx", {}), found.get("type", "")
    reasons = {
        "greater_than_equal": f"expected {limits.get('ge')} or more",
        "less_than_equal": f"expected {limits.get('le')} or less",
        "int_parsing": "expected a whole number",
        "float_parsing": "expected a number",
    }
    reason = reasons.get(kind, str(found.get("msg")).removeprefix("Value error, "))
    if " is not one of " in reason:
        choices = reason.partition(" is not one of ")[2].replace("'", "").rstrip(".")
        reason = f"expected one of {choices}"
        meant = VALUES.get(value.lower()) or _nearest(value, choices.split(", "))
        if meant in choices.split(", "):
            page = f"did you mean {meant}? {page}"
    return UsageError(f"{flag} {shlex.quote(value)}: {reason}".lstrip(), page)


def _flag_of_data_set(name: str, known: Collection[str]) -> str | None:
    """--data where that takes the name of a data set; None where there is no such name or flag."""
    from vaecli.datasets.builtin import NAME
    from vaecli.datasets.catalogue import NAMED

    return f"--data {name}" if name in (NAME, *NAMED) and "--data" in known else None


def _flag_of_folder(name: str, known: Collection[str]) -> str | None:
    """The flag that takes a folder: --run where a training or a model is in it, else --data; None of no folder."""
    from vaecli.run_folder import RunFolder

    if not Path(name).is_dir():
        return None
    flags = ("--run", "--data") if RunFolder(name).occupied else ("--data", "--run")
    flag = next((flag for flag in flags if flag in known), None)
    return flag and f"{flag} {shlex.quote(name)}"


def _flags_of(error: typer.TyperException) -> list[str]:
    """Every flag of the command that the error is about."""
    context = getattr(error, "ctx", None)
    params = context.command.get_params(context) if context is not None else []
    return [name for param in params for name in (*param.opts, *param.secondary_opts) if name.startswith("--")]


def _nearest(name: str, known: Collection[str], cutoff: float = 0.6) -> str | None:
    if len(name.strip("-")) < 3:
        return None
    return next(iter(difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=cutoff)), None)
