"""The data sets known by name: how many images, of which shape, in which files. A table; it opens no file.

File names are relative to the data folder. Where torchvision knows the data set, they are those that it uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any, TypeAlias

Calls: TypeAlias = tuple[dict[str, Any], ...]  # keyword arguments of a torchvision class, one dict for each call


@dataclass(frozen=True)
class IdxFiles:
    """Plain IDX files, MNIST's format. They are memory-mapped where they are."""

    folder: str
    train: str = "train-images-idx3-ubyte"  # file of the training images
    held_out: str = "t10k-images-idx3-ubyte"
    # The classes of the training and the held-out images.
    labels: tuple[str, str] = ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte")
    calls: Calls = ({},)  # which together download every file
    transposed: bool = False  # rows and columns are swapped in the files
    checksums: tuple[tuple[str, str], ...] = ()  # of downloaded or unpacked files in the folder, as in Download

    @property
    def files(self) -> tuple[str, ...]:
        """The files that must exist."""
        return f"{self.folder}/{self.train}", f"{self.folder}/{self.held_out}"


@dataclass(frozen=True)
class Archives:
    """Files that torchvision reads into arrays, which are then cached."""

    files: tuple[str, ...]
    checksums: tuple[str, ...]  # of each file, as in Download; none where nobody publishes them
    calls: Calls = ({"train": True}, {"train": False})  # for the training and the held-out images
    labels: str = "targets"  # the attribute that holds the classes of the images
    channels_first: bool = False  # the arrays are (n, c, h, w)
    package: str | None = None  # needed by torchvision to read the files


@dataclass(frozen=True)
class Download:
    """A file, where it is published, and how to tell that it arrived whole."""

    file: str
    url: str
    checksum: str  # sha256:… of its content, or git:…, the name of git's blob of it


@dataclass(frozen=True)
class PublishedFiles:
    """Files that published.py downloads and reads into arrays, which are then cached."""

    downloads: tuple[Download, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """The files that must exist."""
        return tuple(download.file for download in self.downloads)


@dataclass(frozen=True)
class NamedSet:
    """A data set that a name stands for."""

    title: str  # what the pictures show
    train: int  # number of images
    held_out: int
    shape: tuple[int, int, int]  # (channels, height, width)
    torchvision_class: str | None  # in torchvision.datasets
    storage: IdxFiles | Archives | PublishedFiles
    validation: int = 0  # how many of the training images, the last ones, are its own validation split
    classes: tuple[str, ...] = ()  # the names of class 0, 1, …, where they are more than numbers


# What torchvision downloads it checks by MD5, some of it over plain HTTP. SHA-256 is checked beside it, where known: of
# MNIST's unpacked files; of Fashion-MNIST, KMNIST and SVHN as tensorflow/datasets publishes it (url_checksums/), of
# CIFAR as Keras does (keras/datasets/).
def _mnist_like(title: str, torchvision_class: str, checksums: dict[str, str], classes: str = "") -> NamedSet:
    known = tuple((name, f"sha256:{checksum}") for name, checksum in checksums.items())
    files = IdxFiles(f"{torchvision_class}/raw", checksums=known)
    names = tuple(classes.split())
    return NamedSet(title, 60_000, 10_000, (1, 28, 28), torchvision_class, files, classes=names)


def _emnist(split: str, title: str, train: int, held_out: int, classes: str = "") -> NamedSet:
    files = IdxFiles(
        "EMNIST/raw",
        f"emnist-{split}-train-images-idx3-ubyte",
        f"emnist-{split}-test-images-idx3-ubyte",
        (f"emnist-{split}-train-labels-idx1-ubyte", f"emnist-{split}-test-labels-idx1-ubyte"),
        calls=({"split": split},),
        transposed=True,
    )
    return NamedSet(title, train, held_out, (1, 28, 28), "EMNIST", files, classes=tuple(classes))


def _cifar(classes: int, checksum: str) -> NamedSet:
    archives = Archives((f"cifar-{classes}-python.tar.gz",), (f"sha256:{checksum}",))
    return NamedSet(f"photographs, {classes} classes", 50_000, 10_000, (3, 32, 32), f"CIFAR{classes}", archives)


# EMNIST's characters in the order of their numbers. The merged sets do not tell some small letters from large ones.
# The letters begin at number 1.
_ALL = digits + ascii_uppercase + ascii_lowercase
_MERGED = digits + ascii_uppercase + "abdefghnqrt"

_QMNIST = IdxFiles(
    "QMNIST/raw",
    "qmnist-train-images-idx3-ubyte",
    "qmnist-test-images-idx3-ubyte",
    ("qmnist-train-labels-idx2-int", "qmnist-test-labels-idx2-int"),
    calls=({"what": "train"}, {"what": "test"}),
)
_USPS = Archives(("usps.bz2", "usps.t.bz2"), ())
_SVHN = Archives(
    ("train_32x32.mat", "test_32x32.mat"),
    (
        "sha256:435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
        "sha256:cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
    ),
    calls=({"split": "train"}, {"split": "test"}),
    labels="labels",
    channels_first=True,
    package="scipy",
)


def _larochelle(part: str, sha256: str) -> Download:
    file = f"binarized_mnist_{part}.amat"
    url = f"http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/{file}"
    return Download(f"binarized-mnist/{file}", url, f"sha256:{sha256}")


# The checksums are those that tensorflow/datasets publishes (datasets/binarized_mnist/checksums.tsv).
_BINARIZED_MNIST = PublishedFiles(
    (
        _larochelle("train", "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
        _larochelle("valid", "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
        _larochelle("test", "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
    )
)
# Nobody publishes a checksum of this file, but the commit that it is taken from names its blob.
_OMNIGLOT = PublishedFiles(
    (
        Download(
            "omniglot/chardata.mat",
            "https://github.com/yburda/iwae/raw/78a6075484bd7dd6f47a4bb9880d2295bc7a5220/datasets/OMNIGLOT/chardata.mat",
            "git:016a3536ffe5e1d38e42563a18d7a78bfaf643ec",
        ),
    )
)

NAMED = {
    "mnist": _mnist_like(
        "handwritten digits",
        "MNIST",
        {
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "binarized-mnist": NamedSet(
        "handwritten digits, each pixel drawn 0 or 1 once (Larochelle)",
        60_000,
        10_000,
        (1, 28, 28),
        None,
        _BINARIZED_MNIST,
        validation=10_000,
    ),
    "omniglot": NamedSet(
        "characters of 50 alphabets (split of Burda et al.)", 24_345, 8_070, (1, 28, 28), None, _OMNIGLOT
    ),
    "fashion-mnist": _mnist_like(
        "clothes",
        "FashionMNIST",
        {
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        "t-shirt trousers pullover dress coat sandal shirt sneaker bag boot",
    ),
    "kmnist": _mnist_like(
        "cursive Japanese characters",
        "KMNIST",
        {
            "train-images-idx3-ubyte.gz": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "train-labels-idx1-ubyte.gz": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "t10k-images-idx3-ubyte.gz": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "t10k-labels-idx1-ubyte.gz": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        },
        "o ki su tsu na ha ma ya re wo",
    ),
    "qmnist": NamedSet(
        "handwritten digits, MNIST with all of its test images", 60_000, 60_000, (1, 28, 28), "QMNIST", _QMNIST
    ),
    "emnist-balanced": _emnist("balanced", "handwritten characters, 47 classes of one size", 112_800, 18_800, _MERGED),
    "emnist-byclass": _emnist("byclass", "handwritten characters, 62 classes", 697_932, 116_323, _ALL),
    "emnist-bymerge": _emnist("bymerge", "handwritten characters, 47 classes", 697_932, 116_323, _MERGED),
    "emnist-digits": _emnist("digits", "handwritten digits", 240_000, 40_000),
    "emnist-letters": _emnist("letters", "handwritten letters", 124_800, 20_800, f" {ascii_lowercase}"),
    "emnist-mnist": _emnist("mnist", "handwritten digits, MNIST made anew", 60_000, 10_000),
    "usps": NamedSet("digits on envelopes", 7_291, 2_007, (1, 16, 16), "USPS", _USPS),
    "svhn": NamedSet("house numbers in photographs", 73_257, 26_032, (3, 32, 32), "SVHN", _SVHN),
    "cifar10": _cifar(10, "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"),
    "cifar100": _cifar(100, "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"),
}
