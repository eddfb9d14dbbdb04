"""What an exported model is: its files, their tensors, the metadata in them, and the facts about each likelihood.

Every name of the format stands here once, for the side that writes it and for the side that reads it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import msgspec

ENCODER_FILE = "encoder.onnx"
DECODER_FILE = "decoder.onnx"
PRIOR_FILE = "prior.onnx"  # where there is none, the prior is N(0, I)
FLOW_FILE = "flow.onnx"  # where there is one, samples are drawn with it

IMAGE = "image"  # (batch, c, h, w) float32 in [0, 1]: the encoder's input and the decoder's output
MEAN = "mean"  # (batch, d) float32: of q(z|x)
STD = "std"  # (batch, d) float32: of q(z|x)
LATENT = "latent"  # (batch, d) float32: the decoder's input, and what prior and flow give
LABEL = "label"  # (batch,) int64: of a conditional model, the second input of encoder and decoder
# The prior, a mixture of k Gaussians: its inputs, and beside `latent` its outputs, which are constant. All float32.
NOISE = "noise"  # (batch, d) from N(0, I)
CHOICE = "choice"  # (batch,) uniform in [0, 1): picks the component
LOG_WEIGHTS = "log_weights"  # (k,) natural logarithms
MEANS = "means"  # (k, d)
FACTORS = "factors"  # (k, d, d) lower triangular: the Cholesky factors of the covariances
# The flow: its inputs, with `label` where it knows classes, and beside `latent` its output. All float32.
STATE = "state"  # (batch, d): at time 0 noise from N(0, I); `latent` is what it stands for at time 1
TIME = "time"  # (batch,) in [0, 1]
VELOCITY = "velocity"  # (batch, d): the derivative of the state with respect to time
# The parameters of p(x|z), beside its mean: (batch, c, h, w) float32.
LOGITS = "logits"  # before the sigmoid
LOCATION = "location"  # may lie outside [0, 1]
LOG_SCALE = "log_scale"  # natural logarithm of the standard deviation, or of the logistic's scale
# (batch, components, rows, h, w) float32: for each component and pixel the log weight, the location and log scale of
# each channel, and the coefficients by which locations depend on the channels before: of green on red, of blue on red
# and on green. The location of green is its own + coefficient · (red - ½). `mixture_rows` counts the rows.
MIXTURE = "mixture"

BATCH = "batch"  # the name of the dimension of free size
OPSET = 20
METADATA_KEY = "vaecli"
FORMAT_VERSION = 1
LARGEST_MIXTURE = 100  # components
MOST_CLASSES = 1000
LARGEST_FITTED = 2048  # latent dimensions that a prior is fitted to: its covariances grow with their square
REFERENCE_VERSION = 2

# Numbers that both sides compute with.
KL_FLOOR = 1e-8  # inside the logarithm of the KL that is trained, as in the tutorial
ACTIVE_VARIANCE = 0.01  # of a posterior mean, above which a latent dimension is active (Burda et al. 2016)
MAX_PIXEL = 255  # the brightest 8-bit value

Likelihood = Literal["bernoulli", "continuous-bernoulli", "gaussian", "logistic", "logistic-mixture"]
Binarize = Literal["none", "threshold", "dynamic"]
ImageShape = tuple[int, int, int]  # (channels, height, width)


@dataclass(frozen=True)
class LikelihoodFacts:
    """What is true of a likelihood p(x|z), whoever computes it."""

    parameters: tuple[str, ...]  # the decoder's outputs that it needs
    for_grey_values: bool  # whether it is for grey values, and not for 0 and 1 alone
    eight_bit: bool = False  # a probability of each 8-bit value: has bits per dimension

    @property
    def has_scale(self) -> bool:
        """Whether it has a scale that is learned."""
        return LOG_SCALE in self.parameters or self.is_mixture

    @property
    def scale_can_be_set(self) -> bool:
        """Whether its scale may be given, or be learned for each channel or pixel."""
        return LOG_SCALE in self.parameters

    @property
    def is_mixture(self) -> bool:
        """Whether each pixel has several components."""
        return MIXTURE in self.parameters

    def normalised(self, *, grey: bool) -> bool:
        """Whether it gives probabilities to pictures of 8 bits, `grey` where a pixel is neither black nor white.

        A Bernoulli's is a cross-entropy for grey values. A density at 8-bit values can be as high as one likes.
        """
        return self.eight_bit or not (self.for_grey_values or grey)


# A new likelihood is a row here, a class in training/likelihoods.py and a formula in evaluation/likelihoods.py.
LIKELIHOODS: dict[Likelihood, LikelihoodFacts] = {
    "bernoulli": LikelihoodFacts((LOGITS,), for_grey_values=False),
    "continuous-bernoulli": LikelihoodFacts((LOGITS,), for_grey_values=True),
    "gaussian": LikelihoodFacts((LOCATION, LOG_SCALE), for_grey_values=True),
    "logistic": LikelihoodFacts((LOCATION, LOG_SCALE), for_grey_values=True, eight_bit=True),
    "logistic-mixture": LikelihoodFacts((MIXTURE,), for_grey_values=True, eight_bit=True),
}


def mixture_rows(channels: int) -> int:
    """The rows of a component in MIXTURE, for pictures with this many channels: 3 for grey, 10 for colour."""
    return 1 + 2 * channels + channels * (channels - 1) // 2


def bits_per_dimension(nats: float, likelihood: Likelihood, image_shape: ImageShape) -> float | None:
    """A negative log-likelihood in nats per image as bits per pixel and channel; None for densities."""
    if not LIKELIHOODS[likelihood].eight_bit:
        return None
    return nats / (math.log(2) * math.prod(image_shape))


def parameter_shapes(
    likelihood: Likelihood, image_shape: ImageShape, components: int | None
) -> dict[str, tuple[int, ...]]:
    """The parameters of p(x|z) that the decoder computes, and their shapes without the batch."""
    channels, height, width = image_shape
    mixture = (components or 0, mixture_rows(channels), height, width)
    return {name: mixture if name == MIXTURE else image_shape for name in LIKELIHOODS[likelihood].parameters}


class TrainingSummary(msgspec.Struct, frozen=True, kw_only=True):
    """How the exported weights were trained. Losses in nats per image, on the images that chose the best epoch."""

    epoch: int
    epochs: int
    held_out_loss: float
    held_out_reconstruction: float
    held_out_kl: float
    beta: float
    seed: int
    validation: int = 0  # training images that chose the best epoch; 0: the held-out ones did


class PriorSummary(msgspec.Struct, frozen=True, kw_only=True):
    """How a prior was fitted. Densities are means of log p(z) in nats, over latents of held-out pictures."""

    kind: Literal["mixture"]
    components: int
    classes: tuple[str, ...] = ()  # the names of the classes that components belong to, where they do
    class_sizes: tuple[int, ...] = ()  # how many components each class has; components are in the order of classes
    log_density: float
    normal_log_density: float  # of N(0, I) on the same latents
    pictures: int  # of the training, that it was fitted to

    @property
    def described(self) -> str:
        """For a person: `a mixture of 480 Gaussians`."""
        return "one Gaussian" if self.components == 1 else f"a mixture of {self.components} Gaussians"

    @property
    def gain(self) -> float:
        """What an image's ELBO gains in nats."""
        return self.log_density - self.normal_log_density


class FlowSummary(msgspec.Struct, frozen=True, kw_only=True):
    """How a flow was fitted."""

    classes: tuple[str, ...] = ()  # the names of the classes that it knows: what the numbers of `label` stand for
    class_shares: tuple[float, ...] = ()  # of each class among the training pictures
    steps: int  # of its training, after which it was best
    loss: float  # mean squared error of the velocity, per dimension, on latents of held-out pictures
    pictures: int  # of the training, that it was fitted to


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """The programs that wrote the file."""

    vaecli: str
    torch: str


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """What held-out pictures score, for comparison: one number a picture in each list, in one order.

    `evaluation/strangeness.py` says what the numbers are. A reader that does not know the version ignores all of it.
    """

    version: int = REFERENCE_VERSION
    excess: list[float]  # nats
    brightness: list[float]
    contrast: list[float]
    detail: list[float]
    local: list[float] = []  # nats a pixel, see `evaluation/disagreement.py`; version 1 has none
    area: float = 0.0  # nats a pixel that the excess of one area in AREAS_ABOVE is above

    def __len__(self) -> int:
        """Held-out pictures."""
        return len(self.excess)

    def looks_inverted(self, brightness: float) -> bool:
        """Whether no held-out picture is as bright or dark as this mean in [0, 1], but some are as its negative."""
        least, most = min(self.brightness), max(self.brightness)
        return not least <= brightness <= most and least <= 1 - brightness <= most

    def __repr__(self) -> str:
        """How many pictures, not their numbers."""
        return f"Reference({len(self)} pictures)"

    def __post_init__(self) -> None:
        """Refuse lists of different lengths."""
        lists = [self.excess, self.brightness, self.contrast, self.detail]
        lists += [self.local] if self.version == REFERENCE_VERSION else []
        if len({len(numbers) for numbers in lists}) != 1:
            raise ValueError("a reference with lists of different lengths")


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON under `vaecli` in each file of a model. Readers ignore keys that they do not know."""

    format: int
    pair: str  # the same in all files of a model, another one for other weights
    image_shape: ImageShape
    latent_dim: int
    likelihood: Likelihood
    components: int | None = None  # of a mixture, for each pixel
    data_name: str
    data_hash: str
    classes: tuple[str, ...] = ()  # of a conditional model: what the numbers of `label` stand for
    binarize: Binarize = "none"  # how training made grey pixels 0 or 1: the likelihood is of these
    training: TrainingSummary
    trained_prior: Literal["normal", "vamp"] = "normal"  # vamp: the model needs prior.onnx
    prior: PriorSummary | None = None  # in the prior's file
    flow: FlowSummary | None = None  # in the flow's file
    versions: Versions
    reference: Reference | None = None  # for `vae score`


def to_json(metadata: Metadata) -> str:
    """The metadata as it stands in the file."""
    return msgspec.json.encode(metadata).decode()


def from_json(text: str) -> Metadata:
    """Read metadata back. Raises msgspec.DecodeError for anything else."""
    return msgspec.json.decode(text.encode(), type=Metadata)
