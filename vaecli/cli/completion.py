"""What the shell completes after TAB: names of data sets and recipes, run folders, and paths.

Each function takes what is typed so far, and imports what it needs: it runs at each TAB.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from vaecli.files import with_home

# Typer's, which gives words with blanks unquoted and puts a blank after a folder. As names of files bash quotes them,
# and goes on below a folder.
BASH = """
%(complete_func)s() {
    local IFS=$'\\n' answer
    COMPREPLY=( $( env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD %(autocomplete_var)s=complete_bash $1 ) )
    for answer in "${COMPREPLY[@]}"; do
        case $answer in */*|*\\ *) compopt -o filenames 2>/dev/null; break;; esac  # bash 3 has no compopt
    done
}

complete -o default -F %(complete_func)s %(prog_name)s
"""


def install_for_bash() -> None:
    """Let Typer show and install our script for bash."""
    with contextlib.suppress(ImportError, AttributeError):  # another version of Typer may keep them elsewhere
        from typer import _completion_classes, _completion_shared

        _completion_classes.BashComplete.source_template = BASH
        _completion_shared._completion_scripts["bash"] = BASH


def data_sources(incomplete: str) -> list[str]:
    """For --data: the names, folders, arrays and shards."""
    from vaecli.datasets import builtin
    from vaecli.datasets.catalogue import NAMED

    return [*_beginning((builtin.NAME, *NAMED), incomplete), *_paths(incomplete, (".npy", ".npz", ".tar", ".parquet"))]


def recipe_names(incomplete: str) -> list[str]:
    """For --config: the recipes and TOML files."""
    from vaecli import recipes

    return [*_beginning(recipes.names(), incomplete), *_paths(incomplete, (".toml",))]


def run_folders(incomplete: str) -> list[str]:
    """For --run: folders with a run in them, and folders on the way to one."""
    from vaecli.run_folder import RunFolder

    folders = list(_paths(incomplete, ()))
    runs = [folder.rstrip("/") for folder in folders if RunFolder(folder).occupied]
    return [*runs, *(folder for folder in folders if folder.rstrip("/") not in runs)]


def _beginning(names: Iterable[str], incomplete: str) -> Iterator[str]:
    return (name for name in names if name.startswith(incomplete))


def _paths(incomplete: str, endings: tuple[str, ...]) -> Iterator[str]:
    """Folders, with a slash, and files of these endings that begin like this."""
    place, slash, beginning = incomplete.rpartition("/")
    try:
        found = sorted(with_home(place + slash or ".").iterdir())
    except OSError:
        return
    for path in filter(lambda path: path.name.isprintable(), found):
        if path.name.startswith(beginning) and (beginning.startswith(".") or not path.name.startswith(".")):
            if path.is_dir():
                yield f"{place}{slash}{path.name}/"
            elif path.name.lower().endswith(endings or ("\0",)):
                yield f"{place}{slash}{path.name}"
