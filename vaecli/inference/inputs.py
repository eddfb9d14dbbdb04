"""INPUTs for a model: picture files, folders, arrays and data sets, in its shape and with its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vaecli.events import OnEvent, ignore
from vaecli.inference.pair import Pair
from vaecli.model_format import MAX_PIXEL
from vaecli.pictures.inputs import PictureInputs, read_inputs

EXAMINED = 1000  # pictures whose brightness tells whether they are negatives


def read(
    pair: Pair,
    inputs: str | Path | Sequence[str | Path],
    *,
    invert: bool = False,
    listed: Sequence[str] = (),
    data_dir: str | None = None,
    on_event: OnEvent = ignore,
) -> PictureInputs:
    """Read pictures for a model; see `Model.read`.

    Raises:
        VaeError: an input is missing, damaged or no picture.
    """

    def named(name: str) -> PictureInputs | None:
        from vaecli.datasets.inputs import held_out  # most inputs are files

        return held_out(name, pair.image_shape, data_dir, on_event)

    given = [inputs] if isinstance(inputs, str | Path) else inputs
    names = [str(item) for item in given]
    found = read_inputs(names, pair.image_shape, invert=invert, listed=listed, named=named, on_event=on_event)
    if not invert:
        found = replace(found, notes=(*found.notes, *_negatives_note(pair, found)))
    if not pair.classes:
        return found
    from vaecli.datasets.classes import of_inputs

    return replace(found, labels=of_inputs(found, pair.classes))


def _negatives_note(pair: Pair, found: PictureInputs) -> tuple[str, ...]:
    """A sentence where the pictures are brighter or darker than all held-out ones, and their negatives are not."""
    reference = pair.metadata.reference
    if not reference or not reference.brightness:
        return ()
    brightness = float(found.images[:EXAMINED].mean()) / MAX_PIXEL
    if not reference.looks_inverted(brightness):
        return ()
    than = "brighter" if brightness > max(reference.brightness) else "darker"
    return (f"these pictures are {than} than all held-out ones of the training: `invert` takes their negatives",)
