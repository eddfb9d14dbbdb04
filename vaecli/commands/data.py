"""`vae data`: the names that --data and --config know, and the prepared pictures in the data folder."""

from __future__ import annotations

from typing import Annotated

import typer

from vaecli.cli.console import Console
from vaecli.commands import options

EXAMPLES = (
    "vae data",
    "vae data --clear",
)  # at the top of the help page


def data(
    data_dir: options.DataDir = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove the prepared pictures, but no downloads.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Pictures that were decoded and resized once are kept in the data folder, so the next training starts at once."""
    console = Console(json=json, quiet=quiet)
    from vaecli import recipes
    from vaecli.datasets import data_sets
    from vaecli.datasets.cache import IMAGES, Cache, data_folder

    folder = data_folder(data_dir)
    cache = Cache(folder)
    entries = cache.entries()
    total = sum(entry.bytes for entry in entries)
    if clear:
        cache.clear()
        console.result.line(
            f"removed {len(entries)} prepared sets of pictures, {_megabytes(total)}, from {cache.folder}"
        )
        console.emit({"data_folder": str(folder), "removed": len(entries), "removed_bytes": total})
        return

    sets, result = data_sets(data_dir), console.result
    result.table(
        "data sets",
        ("--data", "train", "held out", "size", "here"),
        [
            (known.name, f"{known.train:,}", f"{known.held_out:,}", _size(known.shape), "yes" if known.here else "no")
            for known in sets
        ],
    )
    result.line("--data also takes a folder of pictures, a .npy or .npz, or shards, of which a tenth is held out")
    result.line("")
    known_recipes = recipes.known()
    result.facts(
        "recipes for --config, with their held-out loss",
        [(known.name, "; ".join(filter(None, (known.purpose, known.reached, known.time)))) for known in known_recipes],
    )
    result.line("Most losses are of the held-out pictures that chose the epoch, so they are slightly too low.")
    rows, prepared = [], []
    for entry in entries:
        record = entry.record
        if record is not None:
            found = (record.source, f"{record.shape[0]:,}", _size(record.shape[1:]))
        else:
            found = (entry.path.name, "damaged or outdated", "?")
        rows.append((*found, _megabytes(entry.bytes)))
        prepared.append(
            {
                "path": str(entry.path / IMAGES),
                "bytes": entry.bytes,
                "source": record and record.source,
                "shape": record and record.shape,
            }
        )
    if rows:
        result.table("prepared pictures", ("from", "pictures", "size", "on disk"), rows)
    kept = f"{_megabytes(total)} of prepared pictures in {cache.folder}; --clear removes them"
    result.line(kept if entries else f"no prepared pictures in {cache.folder}")
    console.emit(
        {
            "data_folder": str(folder),
            "sets": sets,
            "recipes": known_recipes,
            "prepared": prepared,
            "prepared_bytes": total,
        }
    )


def _size(shape: tuple[int, ...]) -> str:
    """(height, width, channels) as 28x28x1."""
    return "x".join(map(str, shape))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
