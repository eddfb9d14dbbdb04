"""A decoder of random weights, as `vae export` writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_model import write_decoder
from vaecli import model_format


@pytest.fixture
def decoder(tmp_path: Path) -> Path:
    write_decoder(tmp_path / model_format.DECODER_FILE)
    return tmp_path / model_format.DECODER_FILE
