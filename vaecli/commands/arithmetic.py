"""`vae arithmetic`: sums and differences of latents, as a picture."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaecli.commands import options
from vaecli.commands.using import Reading, Use
from vaecli.config import RUN
from vaecli.errors import UsageError

if TYPE_CHECKING:
    from vaecli.inference.pair import Pair

EXAMPLES = (
    "vae arithmetic smiling.png - me.png + you.png -o sum.png",
    "vae arithmetic smiling/ - neutral/ + you.png -o sum.png",
    "vae arithmetic 7 - 1 + 9 -o digits.png",
)  # at the top of the help page
SIGNS = {"+": 1, "-": -1}


def arithmetic(
    expression: Annotated[
        list[str],
        typer.Argument(
            metavar="A - B + C",
            help="Image files, folders, .npy or .npz files, or names of classes, with + or - between them. A folder or "
            "an array stands for the mean of its latents, a class for the mean of its components of the prior.",
        ),
    ],
    output: options.OutputOrShow = None,
    show: options.Show = False,
    invert: options.Invert = False,
    scale: options.Scale = None,
    dtype: options.Dtype = None,
    label: options.Label = None,
    device: options.Device = "auto",
    run: options.Run = RUN,
    clobber: options.Clobber = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """A picture shows the terms as the model draws them, then the result. Arrays and folders hold the result alone.

    Needs no PyTorch.
    """
    use = Use(json=json, quiet=quiet)
    import numpy as np

    from vaecli.pictures.grid import Series

    signs, names = _parsed(expression)
    target = use.pictures(output, show=show, scale=scale, dtype=dtype, clobber=clobber)
    pair = use.load(run, device, label).pair
    _check_spaces(names, pair)
    read = {name: use.read(Reading([name], invert=invert), pair) for name in names if not _is_class(name, pair)}
    means = {name: pair.encode(pictures.images)[0].mean(axis=0) for name, pictures in read.items()}
    terms = np.stack([means[name] if name in means else pair.class_mean(name) for name in names])  # (terms, d)
    result = (np.array(signs)[:, np.newaxis] * terms).sum(axis=0, keepdims=True)
    latents = np.concatenate([terms, result]) if target.form == "picture" else result
    sources = [file for pictures in read.values() for file in pictures.sources]
    use.write(
        lambda: pair.decode_batches([latents.astype(np.float32)], as_uint8=target.as_uint8),
        target,
        Series(len(latents), pair.image_shape, columns=len(latents), sources=sources),
        "decoding",
        graph=pair.decoder,
        expression=expression,
        latent=result[0].tolist(),
    )


def _parsed(expression: list[str]) -> tuple[list[int], list[str]]:
    """The signs and the names of the terms. Raises UsageError."""
    names, between = expression[::2], expression[1::2]
    if len(names) != len(between) + 1 or not set(between) <= SIGNS.keys() or set(names) & SIGNS.keys():
        written = " ".join(expression)
        raise UsageError(f"{written}: not terms with + or - between them", "as in: cat.png - dog.png + wolf.png")
    return [1, *(SIGNS[sign] for sign in between)], names


def _check_spaces(names: list[str], pair: Pair) -> None:
    """Raise UsageError for several terms in one word, as in 7-1+4. A class or a file may have such a name."""
    for name in names:
        parts = re.split(r"([+-])", name)
        glued = len(parts) > 1 and set(parts[::2]) <= set(pair.classes)
        if glued and not _is_class(name, pair) and not Path(name).exists():
            raise UsageError(f"{name}: no such file or class", f"put spaces around + and -: {' '.join(parts)}")


def _is_class(name: str, pair: Pair) -> bool:
    """Whether a name is that of a class of the model: files come first."""
    return name in pair.classes and not Path(name).exists()
