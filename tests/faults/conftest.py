"""What makes hundreds of tiny trainings quick."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_timing_of_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which products are faster here is measured for a tenth of a second, as long as a tiny training takes."""
    monkeypatch.setattr("vaecli.training.fast.products._ratio", lambda *_: 1.0)
