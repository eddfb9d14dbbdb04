"""Turn the parameters in messages into flags: the library names `batch_size`, the command line shows --batch-size."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from vaecli.config import RUN

# Where the flag is not the parameter's name with dashes.
FLAGS = {"source": "--data", "dir": "--data-dir", "reach": "--range", "clobber=True": "leaving out --no-clobber"}


def flag_of(name: str) -> str:
    """The flag of a setting or parameter."""
    return FLAGS.get(name, "--" + name.replace("_", "-"))


def run_flag(run: str | Path) -> str:
    """` --run FOLDER` for a command to copy; nothing for the folder that is taken without it."""
    return "" if Path(run) == RUN else f" --run {shlex.quote(str(run))}"


def model_flags(run: str | Path, label: str | None) -> str:
    """`run_flag`, and ` --label CLASS` where a class was given."""
    return run_flag(run) + ("" if label is None else f" --label {shlex.quote(label)}")


def with_flags(text: str) -> str:
    """A message of the library, with flags for the parameters in backticks."""
    return re.sub(r"`([a-z][a-z_]*(?:=True)?)`", lambda match: flag_of(match[1]), text)
