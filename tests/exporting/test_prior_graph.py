"""The prior as an ONNX graph: it draws what the mixture draws, and holds the mixture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]  # it ships no types

from tests.tiny_model import two_gaussians
from vaecli import model_format, noise
from vaecli.exporting.prior_graph import prior_graph
from vaecli.model_format import CHOICE, FACTORS, LATENT, LOG_WEIGHTS, MEANS, NOISE


def test_it_draws_what_the_mixture_draws_and_holds_it(tmp_path: Path) -> None:
    mixture, path = two_gaussians(3), tmp_path / "prior.onnx"
    path.write_bytes(prior_graph(mixture, "{}"))
    normal, choice = noise.prior(1, 0, 50, 3), noise.choices(1, 0, 50)
    choice[:2] = 0, np.nextafter(np.float32(1), np.float32(0))  # the first component and the last one
    latents, *held = onnxruntime.InferenceSession(path).run(
        [LATENT, LOG_WEIGHTS, MEANS, FACTORS], {NOISE: normal, CHOICE: choice}
    )
    np.testing.assert_allclose(latents, mixture.latents(normal, choice), rtol=1e-5, atol=1e-5)
    assert latents[0].mean() < 0 < latents[1].mean()
    for found, expected in zip(held, (mixture.log_weights, mixture.means, mixture.factors), strict=True):
        np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_the_metadata_are_in_the_file() -> None:
    model = onnx.load_from_string(prior_graph(two_gaussians(), '{"format": 1}'))
    assert {entry.key: entry.value for entry in model.metadata_props} == {model_format.METADATA_KEY: '{"format": 1}'}
    assert [opset.version for opset in model.opset_import] == [model_format.OPSET]
