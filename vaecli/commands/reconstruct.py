"""`vae reconstruct`: pictures, and what the model makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vaecli.commands.options import (
    DEFAULT_RUN,
    BatchSize,
    Columns,
    Device,
    Dtype,
    Inputs,
    Invert,
    Json,
    NoClobber,
    OutputOrShow,
    Quiet,
    Run,
    Scale,
    Seed,
    Show,
)
from vaecli.commands.using import Use
from vaecli.errors import UsageError

if TYPE_CHECKING:
    from vaecli.inference.model import Model
    from vaecli.pictures.reading import Inputs as ReadInputs

DIGITS_EACH = 2  # of the built-in digits, so many of each are shown where no INPUT is given


def reconstruct(
    output: OutputOrShow = None,
    show: Show = False,
    inputs: Inputs = None,
    stochastic: Annotated[bool, typer.Option("--stochastic", help="Through a draw of q(z|x), not its mean.")] = False,
    seed: Seed = None,
    invert: Invert = False,
    columns: Columns = None,
    scale: Scale = None,
    dtype: Dtype = None,
    batch_size: BatchSize = None,
    device: Device = "auto",
    run: Run = DEFAULT_RUN,
    no_clobber: NoClobber = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Encode pictures and decode them again: each original above its reconstruction. Needs no PyTorch.

    An array or a folder takes the reconstructions alone. Without INPUT: built-in digits, where they fit.
    """
    if seed is not None and not stochastic:
        raise UsageError("--seed: nothing is random without --stochastic", "add --stochastic, or drop --seed")
    use = Use(json=json, quiet=quiet)
    from vaecli.inference.batches import cut
    from vaecli.inference.model import load
    from vaecli.pictures.grid import in_pairs

    destination = use.output(output, show=show, columns=columns, scale=scale, dtype=dtype, clobber=not no_clobber)
    model = load(run, device)
    read = use.read(inputs, model, invert=invert) if inputs else use.told(_digits(model, invert=invert))
    n = len(read.images)
    beside = destination.form == "picture"
    with destination.open(
        2 * n if beside else n,
        model.image_shape,
        stacked=2 if beside else 1,
        columns=None if inputs else 10,
        names=read.names,
        sources=(*inputs, *read.names) if inputs else (),
    ) as writer:
        use.runs_on(model.decoder)
        drawn = use.draw_seed(seed) if stochastic else None
        size = batch_size or model.batch_size
        results = model.reconstructions(cut(read.images, size), drawn, as_uint8=destination.as_uint8)
        with use.console.progress("reconstructing", n, "pictures") as advance:
            for originals, reconstructed in zip(cut(read.images, size), results, strict=True):
                writer.write(in_pairs(originals, reconstructed) if beside else reconstructed)
                advance(len(reconstructed))
    use.wrote(destination, writer, n, stochastic=stochastic, fitted=read.fitted)


def _digits(model: Model, *, invert: bool) -> ReadInputs:
    """Built-in digits that were held out, in rows of 0 to 9."""
    from vaecli.datasets import builtin
    from vaecli.pictures.reading import Inputs as ReadInputs

    if model.image_shape != (1, builtin.SIDE, builtin.SIDE):
        channels, height, width = model.image_shape
        raise UsageError(
            f"no INPUT, and the built-in digits do not fit this model's {height}x{width}x{channels}",
            "name image files, folders, .npy or .npz files, or - for stdin",
        )
    _, held_out = builtin.digits()  # (500, 28, 28, 1), in class order
    by_digit = held_out.reshape(10, builtin.HELD_OUT_PER_DIGIT, *held_out.shape[1:])[:, :DIGITS_EACH]
    images = by_digit.swapaxes(0, 1).reshape(-1, *held_out.shape[1:])
    names = [f"digit-{digit}-{which + 1}" for which in range(DIGITS_EACH) for digit in range(10)]
    notes = (f"no INPUT: {len(images)} of the held-out digits in the package",)
    return ReadInputs(255 - images if invert else images, names, 0, notes)
