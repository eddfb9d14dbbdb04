"""An exported model on NumPy arrays: `load` a folder, then encode, decode, sample, reconstruct, interpolate.

Images go in as uint8 or as floats in [0, 1], as (n, h, w) for one channel or (n, h, w, c), channels last as
picture files have them. They come out as float32 in [0, 1], as (n, h, w) for one channel, else (n, h, w, c).
What cannot be used raises `vaecli.errors.VaeError`: its `message` says what is wrong, its `hint` what helps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vaecli import model_format
from vaecli.config import LARGEST_SEED, DeviceChoice, draw_seed
from vaecli.errors import VaeError
from vaecli.inference import header, runtime
from vaecli.inference.batches import cut, default_size, side_by_side
from vaecli.inference.latents import Latents, Method, Vector, between, draws

Images: TypeAlias = NDArray[np.float32]  # (n, h, w) or (n, h, w, c), in [0, 1]
Pixels: TypeAlias = NDArray[np.uint8]  # the same, as files have it
AnyImages: TypeAlias = NDArray[Any]  # either of them, always (n, h, w, c)

TOLERANCE = 1e-3  # how far out of [0, 1] an image may lie; rounded to uint8 it is gone

_TRAINED = ("checkpoint.pt", "best.pt")  # what tells a run that was never exported from a wrong folder


def load(folder: str | Path, device: DeviceChoice = "auto") -> Model:
    """The model in `folder`, which holds `encoder.onnx` and `decoder.onnx`.

    With only one of them there, what that one can do works. The graphs are opened when first used.

    Raises:
        VaeError: there is no model, or a file of it is damaged, not ours, or of another pair.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file, not a run folder" if folder.exists() else "no such run folder"
        raise VaeError(f"{folder}: {what}", "vae train, then vae export, make one; --run names another")
    files = {
        name: header.read(folder / name)
        for name in (model_format.ENCODER_FILE, model_format.DECODER_FILE)
        if (folder / name).exists()
    }
    if not files:
        raise VaeError(f"{folder}: no exported model in it", _how_to_export(folder))
    if len({file.metadata.pair for file in files.values()}) > 1:
        raise VaeError(
            f"{folder}: {' and '.join(files)} are halves of different models",
            "copy both from one place, or export both again",
        )
    return Model(folder, files, device)


def _how_to_export(folder: Path) -> str:
    if any((folder / name).exists() for name in _TRAINED):
        return f"vae export --run {folder}"
    return f"vae train --run {folder}, then vae export --run {folder}"


class Model:
    """An exported encoder and decoder, made by `load`."""

    def __init__(self, folder: Path, files: dict[str, header.GraphFile], device: DeviceChoice) -> None:
        self.folder = folder
        self.metadata = next(iter(files.values())).metadata
        self._files = files
        self._device: DeviceChoice = device

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""
        return self.metadata.image_shape

    @property
    def latent_dim(self) -> int:
        """The size d of a latent."""
        return self.metadata.latent_dim

    @property
    def batch_size(self) -> int:
        """How many images are best computed at once."""
        return default_size(self.image_shape)

    @cached_property
    def encoder(self) -> runtime.Graph:
        """The opened encoder: image -> mean, std. Raises VaeError where it cannot be opened."""
        return self._open(model_format.ENCODER_FILE)

    @cached_property
    def decoder(self) -> runtime.Graph:
        """The opened decoder: latent -> image, logits. Raises VaeError where it cannot be opened."""
        return self._open(model_format.DECODER_FILE)

    def _open(self, name: str) -> runtime.Graph:
        if name not in self._files:
            raise VaeError(f"{self.folder / name}: no such file", "copy it beside the other half of its pair")
        return runtime.open_graph(self._files[name], self._device)

    # What Python users call: whole arrays in, whole arrays out.

    def encode(self, images: ArrayLike) -> tuple[Latents, Latents]:
        """Mean and standard deviation of q(z|x): two arrays (n, d) float32.

        Raises:
            VaeError: `images` are not of the model's shape, or not uint8 or floats in [0, 1].
        """
        parts = list(self.encode_batches(cut(self._as_images(images), self.batch_size)))
        return np.concatenate([mean for mean, _ in parts]), np.concatenate([std for _, std in parts])

    def decode(self, latents: ArrayLike) -> Images:
        """The images that `latents` (n, d) stand for: the mean of p(x|z).

        Raises:
            VaeError: `latents` are not (n, d) finite numbers.
        """
        return _joined(self.decode_batches(cut(self._as_latents(latents), self.batch_size)))

    def sample(self, n: int, *, seed: int | None = None, temperature: float = 1.0) -> Images:
        """`n` images decoded from draws of the prior times `temperature`. The same seed, the same latents.

        Raises:
            VaeError: `n` is less than 1, `temperature` negative or not finite, or `seed` not in 64 bits.
        """
        return _joined(self.samples(n, draw_seed() if seed is None else seed, temperature=temperature))

    def reconstruct(self, images: ArrayLike, *, seed: int | None = None) -> Images:
        """Encode and decode `images`: through the mean of q(z|x), or with a seed through a draw of it.

        Raises:
            VaeError: as in `encode`; or `seed` is not in 64 bits.
        """
        return _joined(self.reconstructions(cut(self._as_images(images), self.batch_size), seed))

    def interpolate(self, a: ArrayLike, b: ArrayLike, *, steps: int = 9, method: Method = "slerp") -> Images:
        """`steps` images from `a` to `b`, each of them one image or one latent (d,); see `latents.between`.

        Raises:
            VaeError: `a` or `b` is neither, `steps` is less than 2, or there is no such method.
        """
        if steps < 2:
            raise VaeError(f"steps={steps}: the two ends alone are 2", "take 2 or more")
        if method not in ("slerp", "lerp"):
            raise VaeError(f"method={method!r}: no such way to interpolate", "take slerp or lerp")
        return self.decode(between(self._end(a), self._end(b), steps, method))

    # What commands call: batches in, batches out, always (b, h, w, c), in order, memory flat.

    def samples(
        self,
        n: int,
        seed: int,
        *,
        temperature: float = 1.0,
        batch_size: int | None = None,
        as_uint8: bool = False,
    ) -> Iterator[AnyImages]:
        """`sample` for any number of images.

        Raises:
            VaeError: as in `sample`.
        """
        if n < 1:
            raise VaeError(f"n={n}: nothing to draw", "take 1 or more")
        if not 0 <= temperature < np.inf:
            raise VaeError(f"temperature={temperature}: not a spread", "take 0 or more; 1 is the prior's own")
        drawn = draws(n, self.latent_dim, _checked_seed(seed), batch_size or self.batch_size)
        scaled = (np.float32(temperature) * latents for latents in drawn) if temperature != 1 else drawn
        return self.decode_batches(scaled, as_uint8=as_uint8)

    def encode_batches(self, images: Iterable[AnyImages]) -> Iterator[tuple[Latents, Latents]]:
        """(mean, std) of each batch of images, uint8 or floats in [0, 1]."""
        encoder = self.encoder
        return side_by_side(partial(_encode, encoder), images, encoder.workers)

    def decode_batches(self, latents: Iterable[Latents], *, as_uint8: bool = False) -> Iterator[AnyImages]:
        """The images of each batch of latents (b, d): float32 in [0, 1], or uint8 as files have them."""
        decoder = self.decoder
        return side_by_side(partial(_decode, decoder, as_uint8), latents, decoder.workers)

    def reconstructions(
        self, images: Iterable[AnyImages], seed: int | None = None, *, as_uint8: bool = False
    ) -> Iterator[AnyImages]:
        """The reconstruction of each batch of images.

        With a seed, z = mean + std * noise, the noise being that of `latents.draws`; without, z = mean.

        Raises:
            VaeError: `seed` is not in 64 bits.
        """
        encoder, decoder = self.encoder, self.decoder

        def reconstruct(work: tuple[AnyImages, Latents | None]) -> AnyImages:
            batch, noise = work
            mean, std = _encode(encoder, batch)
            return _decode(decoder, as_uint8, mean if noise is None else mean + std * noise)

        return side_by_side(reconstruct, self._with_noise(images, seed), decoder.workers)

    def _with_noise(
        self, images: Iterable[AnyImages], seed: int | None
    ) -> Iterator[tuple[AnyImages, Latents | None]]:
        generator = None if seed is None else np.random.default_rng(_checked_seed(seed))
        for batch in images:
            noise = None
            if generator is not None:
                noise = generator.standard_normal((len(batch), self.latent_dim), dtype=np.float32)
            yield batch, noise

    def _end(self, value: ArrayLike) -> Vector:
        """One end of an interpolation as a latent (d,)."""
        array = np.asarray(value)
        latents = self._as_latents(array[np.newaxis]) if array.ndim == 1 else self.encode(array[np.newaxis])[0]
        end: Vector = latents[0]
        return end

    def _as_images(self, images: ArrayLike) -> AnyImages:
        """Check `images`, and give one channel its axis: (n, h, w, c)."""
        array = np.asarray(images)
        channels, height, width = self.image_shape
        shaped = array[..., np.newaxis] if array.ndim == 3 and channels == 1 else array
        if shaped.shape[1:] != (height, width, channels) or len(shaped) == 0:
            wanted = f"(n, {height}, {width})" if channels == 1 else f"(n, {height}, {width}, {channels})"
            raise VaeError(
                f"images of shape {array.shape}: this model takes {wanted}",
                "crop and resize them first; one image needs a leading axis: image[None]",
            )
        if array.dtype == np.uint8:
            return shaped
        if not np.issubdtype(array.dtype, np.floating):
            raise VaeError(f"images of type {array.dtype}: not uint8 or floats", "convert them first")
        if not (array.min() >= 0 and array.max() <= 1):  # so that NaN fails, too
            raise VaeError(
                "images with values outside [0, 1], or that are not numbers",
                "divide by the largest value, or pass uint8",
            )
        return shaped

    def _as_latents(self, latents: ArrayLike) -> Latents:
        array = np.asarray(latents)
        if array.ndim != 2 or array.shape[1] != self.latent_dim or len(array) == 0:
            raise VaeError(
                f"latents of shape {array.shape}: this model takes (n, {self.latent_dim})",
                "one latent needs a leading axis: latent[None]",
            )
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise VaeError(f"latents of type {array.dtype} that are not all finite numbers", "look for NaN and inf")
        return array.astype(np.float32)


def _joined(parts: Iterable[Images]) -> Images:
    """Batches (b, h, w, c) as one array; a single channel is not worth an axis."""
    images = np.concatenate(list(parts))
    return images[..., 0] if images.shape[-1] == 1 else images


def _checked_seed(seed: int) -> int:
    if not 0 <= seed <= LARGEST_SEED:
        raise VaeError(f"seed={seed}: not in 64 bits", f"take a whole number from 0 to {LARGEST_SEED}")
    return seed


def _encode(encoder: runtime.Graph, images: AnyImages) -> tuple[Latents, Latents]:
    pixels = images.transpose(0, 3, 1, 2)  # (b, c, h, w)
    scaled = pixels / np.float32(255) if images.dtype == np.uint8 else pixels.astype(np.float32)
    mean, std = encoder.run((model_format.MEAN, model_format.STD), np.ascontiguousarray(scaled))
    return mean, std


def _decode(decoder: runtime.Graph, as_uint8: bool, latents: Latents) -> AnyImages:
    (images,) = decoder.run((model_format.IMAGE,), latents)  # (b, c, h, w)
    # A sigmoid keeps within [0, 1]; of a stranger's graph nobody knows.
    if images.min() < -TOLERANCE or images.max() > 1 + TOLERANCE:
        raise VaeError(f"{decoder.file.path}: draws values outside [0, 1]", "export it again")
    images = images.transpose(0, 2, 3, 1)  # (b, h, w, c)
    return to_uint8(images) if as_uint8 else images


def to_uint8(images: Images) -> Pixels:
    """[0, 1] floats as the nearest of 0 to 255."""
    scaled = images * np.float32(255)
    pixels: Pixels = np.rint(scaled, out=scaled).astype(np.uint8)
    return pixels
