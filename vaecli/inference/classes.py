"""The classes that a model knows: pictures' classes, given by name or number, as the numbers that its graphs take."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from pathlib import Path
from typing import SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vaecli.errors import UsageError
from vaecli.wording import how_many, listed

Labels: TypeAlias = ArrayLike | Sequence[str | None]  # (n,) names or numbers of classes; None: not known


def number(label: str | SupportsIndex, classes: Sequence[str], folder: Path) -> int:
    """The place in `classes` of one of them, given by name or number. Where the names are numbers, a number is a name.

    Raises UsageError, which names the classes of the model in `folder`.
    """
    if not classes:
        hint = (
            "its training pictures had none, or no prior with classes was better than N(0, I); classes come from "
            "subfolders, labels.csv, y in an .npz, the labels of shards, or a named data set"
        )
        raise UsageError(f"`label` {label}: the prior of the model in {folder} has no classes", hint)
    if not isinstance(label, str):
        try:
            place = operator.index(label)
        except TypeError as error:
            hint = "for a class of each picture: model.encode(images, labels=names)"
            raise UsageError(f"`label`: a {type(label).__name__}, not the name or number of one class", hint) from error
        if all(name.lstrip("-").isdecimal() for name in classes):
            label = str(place)
        elif 0 <= place < len(classes):
            return place
    if label not in classes:
        raise UsageError(f"`label` {label}: no class of this model", f"its classes: {listed(classes)}")
    return classes.index(str(label))


def numbers(
    labels: Labels, classes: Sequence[str], folder: Path, pictures: Sequence[str] | None = None
) -> NDArray[np.int64]:
    """The numbers of the classes of pictures, which a conditional model needs: (n,) names or numbers -> (n,).

    `pictures` are their names, for the error.

    Raises:
        UsageError: the class of a picture is not known (None), or the model in `folder` has no such class.
    """
    known = np.asarray(labels).tolist()
    if unknown := known.count(None):
        example = "" if pictures is None else f", such as {pictures[known.index(None)]},"
        raise class_needed(f"{unknown} of {how_many(len(known), 'picture')}{example}", classes, folder)
    different = dict.fromkeys(known)
    for label in different:
        if isinstance(label, str) and label not in classes:
            hint = f"its classes: {listed(classes)}; `label` takes all pictures for one of them"
            raise UsageError(f"{folder}: no class {label}, which some of these pictures have", hint)
    places = {label: number(label, classes, folder) for label in different}
    return np.array([places[label] for label in known], np.int64)


def class_needed(pictures: str, classes: Sequence[str], folder: Path) -> UsageError:
    """The error where the class of some `pictures` is not known, and the model in `folder` is conditional."""
    hint = (
        "put each picture into the folder of its class, add labels.csv, or use one class for all with `label` (in "
        f"Python: labels=, or model.given): {listed(classes)}"
    )
    return UsageError(f"{folder}: the model is conditional, and the class of {pictures} is not known", hint)
