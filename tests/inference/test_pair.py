"""Batches through an exported pair: sizes, order, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tiny_model import two_gaussians, write_pair, write_prior
from vaecli import load
from vaecli.errors import UsageError, VaeError
from vaecli.inference.pair import LARGEST_BATCH, Pair, open_pair
from vaecli.inference.sampling import samples
from vaecli.model_format import DECODER_FILE, ENCODER_FILE, ImageShape


def test_batches_shrink_as_images_grow(monkeypatch: pytest.MonkeyPatch, grey: Path) -> None:
    pair = load(grey, "cpu")

    def size(shape: ImageShape) -> int:
        monkeypatch.setattr(Pair, "image_shape", shape)
        return pair.pair.batch_size

    sizes = [size((3, side, side)) for side in (8, 28, 64, 256, 1024)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1
    assert size((1, 1, 1)) == LARGEST_BATCH


def test_results_arrive_in_order_batch_by_batch(grey: Path) -> None:
    pair = load(grey, "cpu")
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), np.uint8)
    encoded = list(pair.pair.encode_batches(images[start : start + 7] for start in range(0, 50, 7)))
    assert [len(part.mean) for part in encoded] == [7] * 7 + [1]
    whole = next(pair.pair.encode_batches([images]))
    np.testing.assert_allclose(np.concatenate([part.mean for part in encoded]), whole.mean, atol=1e-6)
    assert np.array_equal(whole.latent, whole.mean)


def test_a_draw_depends_on_the_seed_and_the_picture(grey: Path) -> None:
    pair = load(grey, "cpu")
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
    first, again, other = (next(pair.pair.encode_batches([images], seed)).latent for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)
    np.testing.assert_allclose(next(pair.pair.encode_batches([images[3:4]], 1)).latent, first[3:4], atol=1e-6)
    floats = (images / np.float32(255)).astype(np.float32)
    np.testing.assert_allclose(next(pair.pair.encode_batches([floats], 1)).latent, first, atol=1e-6)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_has_64_bits(grey: Path, seed: int) -> None:
    pair = load(grey, "cpu")
    for call in (lambda: samples(pair.pair, 1, seed), lambda: pair.pair.encode_batches([], seed)):
        with pytest.raises(UsageError, match="`seed`"):
            call()


def test_an_empty_batch_is_refused_whatever_the_graph_would_do(grey: Path) -> None:
    model = load(grey, "cpu")
    for batches in (
        model.pair.encode_batches([np.zeros((0, 8, 8, 1), np.uint8)]),
        model.pair.decode_batches([np.zeros((0, 2), np.float32)]),
    ):
        with pytest.raises(UsageError, match="an empty batch"):
            list(batches)


def test_a_prior_alone_opens_nothing_on_a_gpu(tmp_path: Path) -> None:
    run = write_pair(tmp_path / "run")
    write_prior(run, two_gaussians())
    for name in (ENCODER_FILE, DECODER_FILE):
        (run / name).unlink()
    with pytest.raises(VaeError, match="no such file"):
        open_pair(run, "cuda")
