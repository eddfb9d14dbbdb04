"""INPUTs for a model: picture files, folders, arrays and data sets or splits of them, in its shape, with classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vaecli.config import Split
from vaecli.events import Note, OnEvent, ignore
from vaecli.inference.pair import Pair
from vaecli.model_format import MAX_PIXEL
from vaecli.pictures.inputs import PictureInputs, read_inputs

EXAMINED = 1000  # pictures whose brightness tells whether they are negatives


def read(
    pair: Pair,
    inputs: str | Path | Sequence[str | Path],
    *,
    split: Split | None = None,
    invert: bool = False,
    listed: Sequence[str] = (),
    data_dir: str | None = None,
    on_event: OnEvent = ignore,
) -> PictureInputs:
    """Read pictures for a model; see `Model.read`.

    Raises:
        VaeError: an input is missing, damaged or no picture.
        UsageError: there is no `split` of these inputs.
    """

    def held_out(name: str) -> PictureInputs | None:
        from vaecli.datasets import load  # most inputs are files
        from vaecli.datasets.splits import named, of_split

        data = named(name, pair.image_shape, data_dir)
        return None if data is None else of_split(load(data, on_event), "held-out")

    given = [inputs] if isinstance(inputs, str | Path) else inputs
    names = [str(item) for item in given]
    if split is None:
        found = read_inputs(names, pair.image_shape, invert=invert, listed=listed, named=held_out, on_event=on_event)
    else:
        from vaecli.datasets.splits import of_split
        from vaecli.inference.training_data import load_split, to_split

        data, dataset = load_split(pair, to_split(pair, names, listed, data_dir), split, on_event)
        found = of_split(dataset, split, data.sources)
        if invert:
            found = replace(found, images=255 - found.images)
    if not invert:
        found = replace(found, notes=(*found.notes, *_negatives_note(pair, found)))
    if split is not None and not pair.conditional:
        return found  # a data set says all that is known of its classes
    from vaecli.datasets.classes import of_inputs

    return replace(found, labels=of_inputs(found, pair.metadata.classes))


def _negatives_note(pair: Pair, found: PictureInputs) -> tuple[Note, ...]:
    """One where the pictures are brighter or darker than all held-out ones, and their negatives are not."""
    reference = pair.metadata.reference
    if not reference or not reference.brightness:
        return ()
    brightness = float(found.images[:EXAMINED].mean()) / MAX_PIXEL
    if not reference.looks_inverted(brightness):
        return ()
    than = "brighter" if brightness > max(reference.brightness) else "darker"
    said = f"these pictures are {than} than all held-out ones of the training: `invert` takes their negatives"
    return (Note(said),)
