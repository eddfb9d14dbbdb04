"""The help pages: examples first, then what a command is about, then its flags, a line or two each.

Own code, because Typer's pages have a frame around each panel, types in brackets, and take rich and half of a help
page's time.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from vaecli.cli.values import PlainValues

ARGUMENTS, FLAGS = "Arguments", "Flags"  # the usual panels
ADVANCED = "Advanced"  # a panel whose title begins so is shown by --help-all alone
INDENT, COLUMN, GAP = 2, 26, 2  # characters: before a flag, of the widest one beside its text, after it
TYPES = {"int": "N", "float": "X", "str": "NAME", "Path": "PATH", "path": "PATH", "file": "PATH"}


class Command(PlainValues, TyperCommand):
    """A command whose page is ours. Its epilog is the examples, one a line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - of Typer's own Click
        """Parse them, and warn of a flag that is given twice: the last one counts."""
        if not ctx.resilient_parsing:  # as the shell completes
            self._warn_of_repeated(ctx, iter(args[: args.index("--") if "--" in args else None]))
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def _warn_of_repeated(self, ctx: Any, words: Iterator[str]) -> None:  # noqa: ANN401 - as above
        takes = [one for one in self.get_params(ctx) if not (one.multiple or getattr(one, "is_flag", False))]
        owners = {name: param for param in takes for name in param.opts if name.startswith("-")}
        given: dict[str, int] = {}
        for word in words:
            name, equals, _ = word.partition("=")
            if param := owners.get(name):
                given[param.opts[0]] = given.get(param.opts[0], 0) + 1
                if not equals:
                    next(words, None)  # its value
        for name, count in given.items():
            if count > 1:
                typer.echo(f"warning: {name} is given {count} times: the last one counts", err=True)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - of Typer's own Click
        """Write the page. The examples are commands to copy."""
        summary, _, more = (self.help or "").partition("\n\n")
        formatter.write("\n".join(_page(ctx, summary, more, (self.epilog or "").splitlines(), formatter.width)))


class Group(PlainValues, TyperGroup):
    """All commands, in panels. Its epilog is the first commands to type."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - as above
        """Write the page."""
        lines = [*_wrap(self.help or "", formatter.width), ""]
        for title, commands in _by_panel([self.commands[name] for name in self.list_commands(ctx)]):
            lines += [
                _bold(title),
                *_two_columns([(one.name, one.get_short_help_str(200)) for one in commands], formatter.width),
                "",
            ]
        lines += _options(self.get_params(ctx), ctx, formatter.width)
        formatter.write("\n".join([*lines, *_wrap(self.epilog or "", formatter.width)]))


def show_page(app: typer.Typer, name: str) -> None:
    """Print the page of one command. Nothing is parsed: for that Typer imports pydantic, half of the time it takes."""
    group = typer.main.get_group(app)
    whole = typer.Context(group, info_name=group.name, **group.context_settings)
    typer.echo(typer.Context(group.commands[name], info_name=name, parent=whole).get_help())


def show_all(ctx: typer.Context, wanted: bool) -> None:
    """The callback of --help-all: print the page with the advanced settings."""
    if wanted:
        ctx.meta[ADVANCED] = True
        typer.echo(ctx.get_help())
        raise typer.Exit


def _page(ctx: typer.Context, summary: str, more: str, examples: Sequence[str], width: int) -> Iterator[str]:
    params = [param for param in ctx.command.get_params(ctx) if not getattr(param, "hidden", False)]
    yield from _wrap(summary, width)
    yield ""
    yield from (f"{'':{INDENT}}{example}" for example in examples)
    yield ""
    for paragraph in filter(None, more.split("\n\n")):
        yield from _wrap(paragraph, width)
        yield ""
    arguments = [param for param in params if param.param_type_name == "argument"]
    usage = " ".join([ctx.command_path, "[FLAGS]", *(_shape(argument) for argument in arguments)])
    yield f"{_bold('Usage')}  {usage}"
    yield ""
    advanced = ctx.meta.get(ADVANCED, False)
    yield from _options([param for param in params if advanced or not _is_advanced(param)], ctx, width)
    hidden = [param for param in params if _is_advanced(param)]
    if hidden and not advanced:
        names = ", ".join(param.opts[0] for param in hidden)
        yield from _wrap(f"{ctx.command_path} --help-all explains {len(hidden)} advanced settings: {names}", width)


def _options(params: Sequence[Any], ctx: typer.Context, width: int) -> Iterator[str]:
    """Arguments and flags with their help, by panel."""
    for title, some in _by_panel(params):
        yield _bold(title)
        yield from _two_columns([(_name(param), _help(param, ctx)) for param in some], width)
        yield ""


def _by_panel(things: Sequence[Any]) -> list[tuple[str, list[Any]]]:
    """Commands or parameters under their titles, in the order in which these appear, but arguments and flags first."""
    panels: dict[str, list[Any]] = {ARGUMENTS: [], FLAGS: []}
    for thing in things:
        usual = ARGUMENTS if getattr(thing, "param_type_name", None) == "argument" else FLAGS
        panels.setdefault(getattr(thing, "rich_help_panel", None) or usual, []).append(thing)
    filled = [(title, some) for title, some in panels.items() if some]
    return sorted(filled, key=lambda panel: panel[0].startswith(ADVANCED))


def _is_advanced(param: Any) -> bool:  # noqa: ANN401 - Typer's
    return str(getattr(param, "rich_help_panel", None)).startswith(ADVANCED)


def _name(param: Any) -> str:  # noqa: ANN401 - Typer's
    """`-n, --n N`, or `--shuffle/--no-shuffle`."""
    if param.param_type_name == "argument":
        return _shape(param)
    names = [*sorted(param.opts, key=len)]
    flags = "/".join([", ".join(names), *param.secondary_opts])
    return flags if param.is_flag else f"{flags} {_type(param)}"


def _shape(argument: Any) -> str:  # noqa: ANN401 - Typer's
    name: str = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _type(param: Any) -> str:  # noqa: ANN401 - Typer's
    """What a value looks like: its choices, or a word for its type."""
    if param.metavar:
        return str(param.metavar)
    described = param.type_descriptor
    if described.is_choice:
        return "|".join(map(str, described.choices))
    return TYPES.get(getattr(described.annotation, "__name__", ""), "NAME")


def _help(param: Any, ctx: typer.Context) -> str:  # noqa: ANN401 - Typer's
    """The sentence of a parameter, its variable, and what holds without it."""
    facts = [f"or the variable {param.envvar}"] if isinstance(param.envvar, str) else []
    shown = getattr(param, "show_default", True)
    default = shown if isinstance(shown, str) else param.get_default(ctx, call=False) if shown else None
    if default is not None and default != "" and not isinstance(default, bool):
        facts.append(f"default: {default}")
    return " ".join(filter(None, (param.help, f"[{'; '.join(facts)}]" if facts else "")))


def _two_columns(rows: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    """Names, and texts wrapped beside them; below a name that is too long."""
    longest = max((len(name) for name, _ in rows if len(name) <= COLUMN), default=0)
    start = INDENT + longest + GAP
    for name, text in rows:
        lines = textwrap.wrap(text, max(20, width - start), break_on_hyphens=False) or [""]
        if len(name) > longest:
            yield from (f"{'':{INDENT}}{line}" for line in _cut_choices(name, width - INDENT))
        else:
            yield f"{'':{INDENT}}{name:{longest}}{'':{GAP}}{lines.pop(0)}".rstrip()
        yield from (f"{'':{start}}{line}" for line in lines)


def _cut_choices(name: str, width: int) -> list[str]:
    """`--flag ONE|TWO|…`, on more than one line where it is too long for one."""
    if len(name) <= width:
        return [name]
    lines = textwrap.wrap(name.replace("|", "| "), width, break_on_hyphens=False, subsequent_indent=" " * INDENT)
    return [line.replace("| ", "|") for line in lines]


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False, break_long_words=False)


def _bold(text: str) -> str:
    """For a terminal; `typer.echo` strips it elsewhere."""
    return text if "NO_COLOR" in os.environ else f"\x1b[1m{text}\x1b[0m"
