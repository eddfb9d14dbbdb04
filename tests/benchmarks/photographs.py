"""The folder that the recipe photographs was measured on: crops of the colour photographs in two Python packages.

    python -m tests.benchmarks.photographs FOLDER [COUNT]

Needs scikit-image and scikit-learn. The crops, 3,000 unless told, are JPEGs of many sizes and aspects. They overlap:
a model's loss on those held out says how well it fits these photographs, not photographs.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

PHOTOGRAPHS = {
    "skimage": [
        f"data/{name}"
        for name in (
            "astronaut.png",
            "chelsea.png",
            "coffee.png",
            "hubble_deep_field.jpg",
            "motorcycle_left.png",
            "rocket.jpg",
        )
    ],
    "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
}
SIDES = (64, 320)  # pixels


def photographs() -> list[Image.Image]:
    """The photographs that are installed here; the packages are not imported."""
    found = []
    for package, files in PHOTOGRAPHS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            sys.exit(f"{package} is not installed\n{__doc__}")
        found += [Image.open(Path(spec.origin).parent / file).convert("RGB") for file in files]
    return found


def crops(count: int) -> Iterator[Image.Image]:
    """Crops of the photographs in turn, the same ones each time."""
    rng = np.random.default_rng(1)
    originals = photographs()
    for index in range(count):
        original = originals[index % len(originals)]
        width, height = (int(rng.integers(SIDES[0], min(SIDES[1], side) + 1)) for side in original.size)
        left, top = (
            int(rng.integers(0, whole - part + 1)) for whole, part in zip(original.size, (width, height), strict=True)
        )
        yield original.crop((left, top, left + width, top + height))


def main(folder: Path, count: int) -> None:
    """Write the crops."""
    folder.mkdir(parents=True)
    for index, crop in enumerate(crops(count)):
        crop.save(folder / f"{index:05}.jpg", quality=90)
    print(f"{count} crops of {sum(map(len, PHOTOGRAPHS.values()))} photographs in {folder}")  # noqa: T201


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 3000)
