"""What an exported model is: two files, their tensors by name, and the metadata both carry. Written down once."""

from __future__ import annotations

from typing import Literal

import msgspec

ENCODER_FILE = "encoder.onnx"
DECODER_FILE = "decoder.onnx"

IMAGE = "image"  # (batch, c, h, w) float32 in [0, 1]: the encoder's input and the decoder's output
MEAN = "mean"  # (batch, d) float32: of q(z|x)
STD = "std"  # (batch, d) float32: of q(z|x)
LATENT = "latent"  # (batch, d) float32: the decoder's input
# What the decoder says of p(x|z) beside its mean, all (batch, c, h, w) float32:
LOGITS = "logits"  # before the sigmoid, for the two Bernoulli likelihoods
LOCATION = "location"  # of a Gaussian or logistic pixel, which may lie outside [0, 1]
LOG_SCALE = "log_scale"  # natural logarithm of its standard deviation or logistic scale

BATCH = "batch"  # the name of the free dimension
OPSET = 20
METADATA_KEY = "vaecli"
FORMAT_VERSION = 1

Likelihood = Literal["bernoulli", "continuous-bernoulli", "gaussian", "logistic"]
Binarize = Literal["none", "threshold", "dynamic"]
PARAMETERS: dict[Likelihood, tuple[str, ...]] = {
    "bernoulli": (LOGITS,),
    "continuous-bernoulli": (LOGITS,),
    "gaussian": (LOCATION, LOG_SCALE),
    "logistic": (LOCATION, LOG_SCALE),
}


class TrainingSummary(msgspec.Struct, frozen=True, kw_only=True):
    """How the exported weights came to be. Losses in nats per image, on held-out images."""

    epoch: int
    epochs: int
    held_out_loss: float
    held_out_reconstruction: float
    held_out_kl: float
    beta: float
    seed: int


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """What wrote the file."""

    vaecli: str
    torch: str


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON under `vaecli` in both files of a pair. Readers ignore keys that they do not know."""

    format: int
    pair: str  # the same in encoder and decoder, different for every set of weights
    image_shape: tuple[int, int, int]  # (channels, height, width)
    latent_dim: int
    likelihood: Likelihood
    data_name: str
    data_hash: str
    binarize: Binarize = "none"  # what training made of grey pixels, and what the likelihood is of
    training: TrainingSummary
    versions: Versions


def to_json(metadata: Metadata) -> str:
    """The metadata as it stands in the file."""
    return msgspec.json.encode(metadata).decode()


def from_json(text: str) -> Metadata:
    """Read metadata back. Raises msgspec.DecodeError (ValidationError among them) where it is not ours."""
    return msgspec.json.decode(text.encode(), type=Metadata)
