"""The values of flags, converted without pydantic where they are plain.

Typer converts every value by pydantic, also one that is not given. Importing it takes a quarter of the time of
`vae sample`. Values that need no interpretation are converted here; all others are left to Typer, which converts them
or says what is wrong with them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
DECIMAL = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?(e[+-]?[0-9]{1,2})?")


class NotPlainError(ValueError):
    """A value that is left to Typer."""


class Conversion:
    """Converts the values of one parameter of a command; `theirs` gives Typer's own conversion."""

    def __init__(self, theirs: Callable[[], Any]) -> None:
        self._theirs = theirs

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:  # noqa: ANN401 - values, and Typer's own Click
        """The value for the command's function.

        Raises UsageError for an empty one, and what Typer does for one that it does not take.
        """
        annotation, info = param.type_descriptor.annotation, param.type_descriptor.parameter_info
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        if "" in (value if several else (value,)):  # as a path it would be the current folder
            from vaecli.cli import usage

            raise usage.empty(param, ctx.command_path)
        try:
            if not several:
                return plain(value, annotation, info)
            if get_origin(annotation) is list and isinstance(value, list | tuple):
                return [plain(one, get_args(annotation)[0], info) for one in value]
        except NotPlainError:
            pass
        return self._theirs().coerce(value, param=param, ctx=ctx)


class PlainValues:
    """For a class of commands: their parameters convert plain values without pydantic."""

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401 - of Typer's own Click
        """All parameters, that of the help page too."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]  # of the class beside it
        for param in params:
            theirs = getattr(param, "get_runtime_param", None)
            if theirs is not None and not isinstance(theirs, partial):  # another version of Typer may not have it
                param.get_runtime_param = partial(Conversion, theirs)
        return params


def plain(value: Any, annotation: Any, info: Any) -> Any:  # noqa: ANN401 - values, types, and Typer's facts
    """A value as the type that a parameter is annotated with. Raises NotPlainError where that needs more."""
    if info.parser is not None:
        raise NotPlainError
    if get_origin(annotation) is Literal and value in get_args(annotation):
        return value
    if annotation is str and isinstance(value, str):
        return value
    if annotation is Path and isinstance(value, str | Path) and not (info.exists or info.resolve_path):
        path = Path(value)
        if not os.path.lexists(path) or (path.is_dir() and os.access(path, os.R_OK)):
            return path
    if annotation in (int, float):
        pattern = INTEGER if annotation is int else DECIMAL
        if type(value) is annotation or (isinstance(value, str) and pattern.fullmatch(value)):
            number = annotation(value)
            if not info.clamp and (info.min is None or number >= info.min) and (info.max is None or number <= info.max):
                return number
    raise NotPlainError
