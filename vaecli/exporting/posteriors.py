"""The posteriors q(z|x) of training pictures, which a prior is fitted to and judged on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vaecli.config import Binarize
from vaecli.datasets.classes import Classes
from vaecli.datasets.dataset import Dataset, ImageSet, spread
from vaecli.inference.geometry import Float64
from vaecli.inference.pair import Pair
from vaecli.model_format import MEAN, STD
from vaecli.parallel import cut
from vaecli.pictures.arrays import binarized

DRAWS_PER_PICTURE = 4  # latents of each picture on which a density is judged


@dataclass(frozen=True)
class Posteriors:
    """q(z|x) = N(mean, std²) of n pictures, of d independent dimensions."""

    mean: NDArray[np.floating[Any]]  # (n, d)
    std: NDArray[np.floating[Any]]  # (n, d)
    classes: Classes | None = None  # of the pictures, where they are known
    conditional: bool = False  # whether they are q(z|x, y), of a model that needs p(z|y)

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, rows: NDArray[np.int64]) -> Posteriors:
        return Posteriors(self.mean[rows], self.std[rows], self.classes and self.classes[rows], self.conditional)

    def draws(self, generator: np.random.Generator) -> Float64:
        """Latents drawn from each posterior: (n, DRAWS_PER_PICTURE, d)."""
        noise = generator.standard_normal((len(self), DRAWS_PER_PICTURE, self.mean.shape[1]))
        return self.mean[:, np.newaxis] + self.std[:, np.newaxis] * noise

    def some(self, most: int, generator: np.random.Generator) -> Posteriors:
        """At most `most` of them, drawn at random, in their order."""
        return self if len(self) <= most else self[np.sort(generator.permutation(len(self))[:most])]


class Encoding:
    """The posteriors of a data set's pictures. Those that several priors are fitted to are computed once."""

    def __init__(self, pair: Pair, dataset: Dataset, binarize: Binarize = "none", seed: int = 0) -> None:
        """`binarize` is what training made of grey pixels."""
        self.pair, self.dataset, self.seed = pair, dataset, seed
        self._binarize: Binarize = binarize
        self._known: dict[tuple[str, int], Posteriors] = {}

    def of(self, part: Literal["train", "held_out"], most: int) -> Posteriors:
        """Those of at most `most` training or held-out pictures, as `encode` has them."""
        images: ImageSet = getattr(self.dataset, part)
        key = part, min(most, len(images))
        if key not in self._known:
            self._known[key] = encode(self.pair, images, most, self._binarize, self.seed)
        return self._known[key]


def encode(pair: Pair, images: ImageSet, most: int, binarize: Binarize = "none", seed: int = 0) -> Posteriors:
    """The posteriors of at most `most` of the images, evenly spaced. Their pixels are binarised as in the training.

    Raises:
        VaeError: the encoder fails, or a picture cannot be read.
    """
    some = images.rows(spread(most, len(images)))
    pixels = (binarized(batch, binarize, seed) for batch in cut(some, pair.batch_size))
    encoded = list(pair.encode_batches(pixels, labels=pair.labels_of(some.classes)))
    mean, std = (np.concatenate([getattr(part, name) for part in encoded]) for name in (MEAN, STD))
    return Posteriors(mean.astype(np.float64), std.astype(np.float64), some.classes, conditional=pair.conditional)
