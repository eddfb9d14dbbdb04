"""Data sets of the literature that torchvision does not know, read from the files that their authors published."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaecli.datasets.classes import Classes, of_numbers
from vaecli.errors import VaeError, file_error, missing_package
from vaecli.model_format import MAX_PIXEL
from vaecli.pictures.arrays import Pixels

# Training and held-out images (n, h, w, c), and the classes of all of them where they have some.
Arrays: TypeAlias = tuple[Pixels, Pixels, Classes | None]

SIDE = 28


def binarized_mnist(paths: Sequence[Path]) -> Arrays:
    """Larochelle's binarised MNIST, from its training, validation and test file: the first two are training images.

    Salakhutdinov and Murray, On the quantitative analysis of deep belief networks, 2008, drew each pixel once, with
    its grey value as probability. A line of a file is an image, 784 times 0 or 1.

    Raises VaeError for a file that is missing or damaged.
    """
    train, validation, test = (_amat(path) for path in paths)
    return np.concatenate((train, validation)), test, None


def omniglot(paths: Sequence[Path]) -> Arrays:
    """Omniglot in 28x28 pixels as Burda et al. (Importance weighted autoencoders, 2016) split it, from chardata.mat.

    Grey values, which that paper draws 0 or 1 from anew in every epoch (`binarize` dynamic). A class is an alphabet.

    Raises VaeError where SciPy is not installed, or the file is missing or damaged.
    """
    try:
        from scipy.io import loadmat  # type: ignore[import-untyped]  # it ships no types
    except ImportError as error:
        raise missing_package("scipy", "train", "reading omniglot") from error
    (path,) = paths
    try:
        found = loadmat(path, variable_names=("data", "testdata", "target", "testtarget"))
        train, test = _columns(found["data"]), _columns(found["testdata"])
        # (alphabets, n), 1 at the image's own
        alphabets = np.concatenate([found[name].argmax(axis=0) for name in ("target", "testtarget")])
        if len(alphabets) != len(train) + len(test):
            raise ValueError("as many alphabets as images were expected")
    except OSError as error:
        raise file_error(path, error) from error
    except Exception as error:  # which one depends on where the file is damaged
        raise _damaged(path, error) from error
    return train, test, of_numbers(alphabets)


def is_published(path: Path, checksum: str | None) -> bool:
    """Whether a file has the checksum of a `catalogue.Download`, or there is none. Raises OSError."""
    if checksum is None:
        return True
    kind, _, expected = checksum.partition(":")
    blob = b"blob %d\0" % path.stat().st_size if kind == "git" else b""  # git hashes that, too
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.new("sha1" if blob else "sha256", blob))
    return digest.hexdigest() == expected


def _amat(path: Path) -> Pixels:
    """The images in one file of binarised MNIST: (n, 28, 28, 1), 0 and 255."""
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise file_error(path, error) from error
    digits = content[content > ord(" ")] - ord("0")
    if not digits.size or digits.size % SIDE**2 or digits.max() > 1:  # characters before 0 have wrapped around
        raise _damaged(path, f"not lines of {SIDE**2} times 0 or 1")
    return (digits * np.uint8(MAX_PIXEL)).reshape(-1, SIDE, SIDE, 1)


def _columns(values: NDArray[np.float64]) -> Pixels:
    """Images in the columns of (784, n), each stored column by column, values in [0, 1]: (n, 28, 28, 1)."""
    if not (values.min() >= 0 and values.max() <= 1):  # NaN fails, too
        raise ValueError("its values are not in [0, 1]")
    images = np.rint(values.T * MAX_PIXEL).astype(np.uint8).reshape(-1, SIDE, SIDE, 1)
    return np.ascontiguousarray(images.swapaxes(1, 2))


def _damaged(path: Path, why: object) -> VaeError:
    return VaeError(f"{path}: damaged ({why})", "remove it; it will be fetched again")


READERS = {"binarized-mnist": binarized_mnist, "omniglot": omniglot}
