"""`vae data`: what --data may name, and the prepared pictures that are kept for the next time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vaecli.commands.options import Json, Quiet, setting
from vaecli.console import Console

if TYPE_CHECKING:
    from vaecli.datasets.cache import Cache


def data(
    data_dir: Annotated[str | None, setting("data", "dir", envvar="VAE_DATA")] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove the prepared pictures, not what was fetched.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the data sets that --data knows by name, and the prepared pictures in the data folder."""
    console = Console(json=json, quiet=quiet)
    from vaecli.datasets import data_folder
    from vaecli.datasets.cache import Cache

    folder = data_folder(data_dir)
    cache = Cache(folder)
    if clear:
        _clear(cache, console)
        return
    from vaecli.datasets import known_sets

    sets = known_sets(folder)
    console.table(
        "data sets",
        ("--data", "train", "held out", "size", "here"),
        [
            (known.name, f"{known.train:,}", f"{known.held_out:,}", _size(known.shape), "yes" if known.here else "no")
            for known in sets
        ],
    )
    console.note("--data also takes a folder of pictures, a .npy or a .npz: a tenth is held out")
    entries = cache.entries()
    total = sum(entry.bytes for entry in entries)
    rows = [
        (entry.record.source, f"{entry.record.shape[0]:,}", _size(entry.record.shape[1:]), _megabytes(entry.bytes))
        if entry.record
        else (entry.path.name, "damaged or outdated", "?", _megabytes(entry.bytes))
        for entry in entries
    ]
    console.table("prepared pictures", ("from", "pictures", "size", "on disk"), rows)
    kept = f"{_megabytes(total)} of prepared pictures in {cache.folder}; --clear removes them"
    console.note(kept if entries else f"no prepared pictures in {cache.folder}")
    console.emit(
        {
            "data_folder": str(folder),
            "sets": sets,
            "prepared": [
                {
                    "path": str(entry.path),
                    "bytes": entry.bytes,
                    "source": entry.record and entry.record.source,
                    "shape": entry.record and entry.record.shape,
                }
                for entry in entries
            ],
            "prepared_bytes": total,
        }
    )


def _clear(cache: Cache, console: Console) -> None:
    entries = cache.entries()
    total = sum(entry.bytes for entry in entries)
    cache.clear()
    console.note(f"removed {len(entries)} prepared sets of pictures, {_megabytes(total)}, from {cache.folder}")
    console.emit({"data_folder": str(cache.folder.parent), "removed": len(entries), "removed_bytes": total})


def _size(shape: tuple[int, ...]) -> str:
    """(height, width, channels), as people write it."""
    return "x".join(map(str, shape))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
