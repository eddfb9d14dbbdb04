"""`vae sample`: images from draws of the prior."""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import Annotated

import typer

from vaecli.commands import options
from vaecli.commands.using import Reading, Use
from vaecli.config import PRIOR, RUN, TEMPERATURE, SamplePrior

EXAMPLES = (
    "vae sample --n 9 -o grid.png",
    "vae sample --n 4 --seed 1 --show",
    "vae sample --label all --n 8 -o classes.png",
    "vae sample --n 100000 -o samples.npy",
)  # at the top of the help page
ALL = "all"  # the value of --label that means every class


def sample(
    output: options.OutputOrShow = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many pictures; any number.")] = 9,
    show: options.Show = False,
    seed: options.Seed = None,
    temperature: Annotated[
        float,
        typer.Option(
            "--temperature",
            min=0,
            help="Scales the noise within each component of the mixture, or the noise that a flow starts from. Below "
            "1, pictures are more typical and less varied. With N(0, I) it scales the whole latent, which does not "
            "improve samples.",
        ),
    ] = TEMPERATURE,
    prior: Annotated[
        SamplePrior,
        typer.Option(
            "--prior",
            help="model: the flow where vae export has made one, else the mixture, else N(0, I). Or one of these; "
            "normal is refused for a model with a VampPrior.",
        ),
    ] = PRIOR,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="CLASS",
            help="Draw --n pictures of this class, or of every class with 'all', each class in a row. May be repeated. "
            "vae info lists the classes.",
            show_default=False,
        ),
    ] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(
            "--like",
            metavar="INPUT",
            help="Draw from the components of the prior that these pictures belong to: an image file, a folder, a .npy "
            "or .npz. May be repeated.",
            show_default=False,
        ),
    ] = None,
    columns: options.Columns = None,
    scale: options.Scale = None,
    dtype: options.Dtype = None,
    batch_size: options.BatchSize = None,
    device: options.Device = "auto",
    run: options.Run = RUN,
    clobber: options.Clobber = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draws latents from the prior and decodes them. The same seed gives the same pictures. Needs no PyTorch."""
    use = Use(json=json, quiet=quiet)
    from vaecli.inference.sampling import drawn_from, sampled_classes, samples
    from vaecli.pictures.grid import Series

    target = use.pictures(output, show=show, columns=columns, scale=scale, dtype=dtype, clobber=clobber)
    model = use.load(run, device)
    pair = model.pair
    labels: list[str | None] = [*dict.fromkeys(label or ())] or [None]
    if ALL in labels and ALL not in pair.classes:
        labels = [*pair.classes] or [ALL]  # a model without classes refuses the word
    elif ALL in labels:
        use.console.note(f"{ALL} is one of the model's classes; for every class, name each with its own --label")
    names = [name for name in labels if name is not None]
    read = use.read(Reading(like), pair) if like else None
    drawn = use.draw_seed(seed)
    numbered = [f"{name}[{number}]" for name in names for number in range(1, n + 1)]
    classes: list[str] = []  # of the pictures, where they are drawn, too
    if pair.needs_labels and not names and (json or target.form == "folder"):
        classes = [pair.classes[place] for place in sampled_classes(pair, drawn, 0, n).tolist()]
        numbered = [f"{name}[{number}]" for number, name in enumerate(classes, 1)]
    draw = partial(samples, pair, n, drawn, temperature=temperature, prior=prior)
    parts = []
    for name in labels:
        near = None if read is None else pair.for_label(name).encode(read.images)[0]
        parts.append(draw(label=name, like=near, batch_size=batch_size, as_uint8=target.as_uint8))
    use.write(
        lambda: chain.from_iterable(parts),
        target,
        Series(
            n * len(labels),
            pair.image_shape,
            columns=n if len(labels) > 1 else None,
            names=numbered or None,
            captions=names if len(names) > 1 else (),
            sources=read.sources if read else (),
        ),
        "sampling",
        graph=pair.decoder,
        temperature=temperature,
        prior=drawn_from(pair, prior, like=like is not None),
        labels=names,
        classes=classes,
        like=read.names if read else [],
    )
