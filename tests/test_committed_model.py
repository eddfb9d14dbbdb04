"""The model in assets/tiny was exported by an earlier version: it still opens, and still draws the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vaecli
from tests.command_line import vae

TINY = Path(__file__).parent / "assets/tiny"


def test_it_draws_what_it_drew() -> None:
    kept = np.load(TINY / "samples.npy")
    drawn = np.round(vaecli.load(TINY).sample(3, seed=1) * 255)
    assert drawn.shape == kept.shape == (3, 8, 8)
    assert float(np.abs(drawn - kept).max()) <= 1, "a seed's latents are a promise"


def test_its_encoder_finds_the_latents_of_its_decoder() -> None:
    model = vaecli.load(TINY)
    latents = np.random.default_rng(0).standard_normal((50, 2)).astype(np.float32)
    mean, std = model.encode(model.decode(latents))
    assert np.corrcoef(mean.ravel(), latents.ravel())[0, 1] > 0.9
    assert std.min() > 0


@pytest.mark.parametrize("command", ["sample", "interpolate"])
def test_the_commands_open_it(command: str, tmp_path: Path) -> None:
    assert vae(command, "--run", TINY, "--seed", "1", "-o", tmp_path / "a.png").code == 0
