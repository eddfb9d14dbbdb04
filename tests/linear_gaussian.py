"""An exported pair whose every number has a closed form: linear Gaussian, as in probabilistic PCA.

z ~ N(0, I), x|z ~ N(W z + b, s²). The columns of W are orthogonal, so that the posterior of z is normal with a
diagonal covariance, which an encoder of this kind can hit exactly. Tipping and Bishop, Probabilistic principal
component analysis, 1999, equations 4 and 6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.tiny_model import metadata
from vaecli import model_format
from vaecli.model_format import DECODER_FILE, ENCODER_FILE, IMAGE, LATENT, LOCATION, LOG_SCALE, MEAN, STD, Likelihood

Float64 = NDArray[np.float64]

SHAPE = (1, 4, 4)
PIXELS = 16


@dataclass(frozen=True)
class LinearGaussian:
    """The model, and the encoder q(z|x) = N(A x + c, t²)."""

    w: Float64  # (pixels, d)
    b: Float64  # (pixels,)
    s: float
    a: Float64  # (d, pixels)
    c: Float64  # (d,)
    t: Float64  # (d,)

    @property
    def latent_dim(self) -> int:
        return len(self.t)

    def pictures(self, n: int, seed: int) -> NDArray[np.uint8]:
        """(n, 4, 4, 1): drawn from the model, then rounded and clipped to 8 bits."""
        generator = np.random.default_rng(seed)
        x = generator.standard_normal((n, self.latent_dim)) @ self.w.T + self.b
        x += self.s * generator.standard_normal(x.shape)
        pictures: NDArray[np.uint8] = np.rint(255 * x.clip(0, 1)).astype(np.uint8).reshape(n, *SHAPE[1:], 1)
        return pictures

    def negative_log_p(self, pictures: NDArray[np.uint8]) -> Float64:
        """-log p(x) = -log N(x; b, W Wᵀ + s²): (n,)."""
        centred = _flat(pictures) - self.b
        covariance = self.w @ self.w.T + self.s**2 * np.eye(PIXELS)
        squares = (centred @ np.linalg.inv(covariance) * centred).sum(1)
        nats: Float64 = 0.5 * (squares + np.linalg.slogdet(covariance)[1] + PIXELS * math.log(2 * math.pi))
        return nats

    def reconstruction(self, pictures: NDArray[np.uint8]) -> Float64:
        """The expectation of -log p(x|z) under q: (n,)."""
        x = _flat(pictures)
        squares = ((x - (x @ self.a.T + self.c) @ self.w.T - self.b) ** 2).sum(1) + (self.w**2 @ self.t**2).sum()
        nats: Float64 = 0.5 * squares / self.s**2 + PIXELS * (math.log(self.s) + 0.5 * math.log(2 * math.pi))
        return nats

    def kl(self, pictures: NDArray[np.uint8]) -> Float64:
        """KL(q || p(z)) of each dimension: (n, d)."""
        mean = _flat(pictures) @ self.a.T + self.c
        return 0.5 * (mean**2 + self.t**2 - np.log(self.t**2) - 1)

    def write(self, folder: Path, likelihood: Likelihood = "gaussian") -> Path:
        """encoder.onnx and decoder.onnx; the outputs of a logistic model have the same names."""
        folder.mkdir(parents=True, exist_ok=True)
        data = msgspec.structs.replace(metadata(SHAPE, self.latent_dim, 0), likelihood=likelihood)
        encoder = [
            helper.make_node("Flatten", [IMAGE], ["x"]),
            helper.make_node("Gemm", ["x", "a", "c"], [MEAN]),
            helper.make_node("Mul", [MEAN, "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "t"], [STD]),
        ]
        weights = {"a": self.a.T, "c": self.c, "zero": np.zeros(1), "t": self.t}
        latent = (self.latent_dim,)
        _save(folder / ENCODER_FILE, encoder, weights, {IMAGE: SHAPE}, {MEAN: latent, STD: latent}, data)
        decoder = [
            helper.make_node("Gemm", [LATENT, "w", "b"], ["flat"]),
            helper.make_node("Reshape", ["flat", "shape"], [LOCATION]),
            helper.make_node("Clip", [LOCATION, "black", "white"], [IMAGE]),
            helper.make_node("Mul", [LOCATION, "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "log_s"], [LOG_SCALE]),
        ]
        weights = {
            "w": self.w.T,
            "b": self.b,
            "black": np.zeros(()),
            "white": np.ones(()),
            "zero": np.zeros(1),
            "log_s": np.full(1, math.log(self.s)),
            "shape": np.array([-1, *SHAPE]),
        }
        drawn = dict.fromkeys((IMAGE, LOCATION, LOG_SCALE), SHAPE)
        _save(folder / DECODER_FILE, decoder, weights, {LATENT: latent}, drawn, data)
        return folder


def exact(dead: int = 0, latent_dim: int = 2) -> LinearGaussian:
    """One whose encoder is the true posterior; `dead` more latents carry nothing."""
    generator = np.random.default_rng(0)
    columns, _ = np.linalg.qr(generator.standard_normal((PIXELS, latent_dim)))
    w = columns * np.linspace(0.3, 0.15, latent_dim)
    return with_true_posterior(np.hstack([w, np.zeros((PIXELS, dead))]), np.full(PIXELS, 0.5), s=0.1)


def with_true_posterior(w: Float64, b: Float64, s: float) -> LinearGaussian:
    """The model N(W z + b, s²), and the encoder that is its posterior; the columns of W are orthogonal."""
    t = 1 / np.sqrt(1 + (w**2).sum(0) / s**2)
    a = (t**2)[:, np.newaxis] * w.T / s**2
    return LinearGaussian(w, b, s, a, -a @ b, t)


def most_likely(pictures: NDArray[np.uint8], latent_dim: int, s: float) -> LinearGaussian:
    """The model with this s under which the pictures are most likely: Tipping and Bishop, equation 7."""
    x = _flat(pictures)
    variances, directions = np.linalg.eigh(np.cov(x.T, bias=True))  # ascending
    w = directions[:, -latent_dim:] * np.sqrt(variances[-latent_dim:] - s**2)
    return with_true_posterior(w, x.mean(0), s)


def inexact(dead: int = 0) -> LinearGaussian:
    """The same model with an encoder that is off: its draws too wide and beside their place."""
    true = exact(dead)
    alive = true.t < 1
    wide, aside = np.where(alive, 1.3, 1), np.where(alive, 0.5, 0)
    return LinearGaussian(true.w, true.b, true.s, true.a, true.c + aside * true.t, wide * true.t)


def _flat(pictures: NDArray[np.uint8]) -> Float64:
    flat: Float64 = pictures.reshape(len(pictures), -1) / 255
    return flat


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    weights: Mapping[str, NDArray[Any]],
    inputs: Mapping[str, tuple[int, ...]],
    outputs: Mapping[str, tuple[int, ...]],
    data: model_format.Metadata,
) -> None:
    tensors = [
        numpy_helper.from_array(value.astype(np.int64 if value.dtype.kind == "i" else np.float32), name)
        for name, value in weights.items()
    ]
    sources, results = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [model_format.BATCH, *shape]) for name, shape in end]
        for end in (inputs.items(), outputs.items())
    )
    graph = helper.make_graph(nodes, path.stem, sources, results, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", model_format.OPSET)], ir_version=9)
    helper.set_model_props(model, {model_format.METADATA_KEY: model_format.to_json(data)})
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
