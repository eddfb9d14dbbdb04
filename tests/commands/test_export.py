"""`vae export`: what the files are, that they agree with PyTorch, and that nothing bad takes their place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from tests.command_line import assert_refused, vae
from tests.conftest import TINY
from vaecli import load, noise
from vaecli.errors import ParityError
from vaecli.exporting import parity
from vaecli.exporting.convert import restore_model
from vaecli.exporting.parity import Tolerance, compare
from vaecli.inference.mixture import Mixture
from vaecli.training.checkpoint import load_weights


def test_the_graphs_are_what_the_contract_says(trained: Path) -> None:
    shapes = {}
    for name in ("encoder.onnx", "decoder.onnx", "prior.onnx"):
        model = onnx.load(trained / name, load_external_data=False)
        onnx.checker.check_model(model, full_check=True)
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
        assert all(node.domain == "" for node in model.graph.node)
        assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
        assert not {node.op_type for node in model.graph.node} & {"RandomNormal", "RandomNormalLike", "Dropout"}
        for value in (*model.graph.input, *model.graph.output):
            dimensions = value.type.tensor_type.shape.dim
            constant = value.name in {"log_weights", "means", "factors"}
            batch, *rest = [None, *dimensions] if constant else dimensions
            assert batch is None or batch.dim_param, "the batch is free"
            assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
            shapes[name, value.name] = [dimension.dim_value for dimension in rest]
    image, latent = [1, 8, 8], [3]
    (k,) = shapes["prior.onnx", "log_weights"]
    assert shapes == {
        ("encoder.onnx", "image"): image,
        ("encoder.onnx", "mean"): latent,
        ("encoder.onnx", "std"): latent,
        ("decoder.onnx", "latent"): latent,
        ("decoder.onnx", "image"): image,
        ("decoder.onnx", "logits"): image,
        ("prior.onnx", "noise"): latent,
        ("prior.onnx", "choice"): [],
        ("prior.onnx", "latent"): latent,
        ("prior.onnx", "log_weights"): [k],
        ("prior.onnx", "means"): [k, 3],
        ("prior.onnx", "factors"): [k, 3, 3],
    }
    assert sorted(path.suffix for path in trained.iterdir() if "onnx" in path.name) == [".onnx"] * 3, "no side data"


def test_both_files_say_what_they_are(trained: Path) -> None:
    found = []
    for name in ("encoder.onnx", "decoder.onnx"):
        (entry,) = onnx.load(trained / name).metadata_props
        assert entry.key == "vaecli"
        found.append(json.loads(entry.value))
    assert found[0] == found[1]
    assert found[0]["image_shape"] == [1, 8, 8]
    assert found[0]["latent_dim"] == 3
    assert found[0]["likelihood"] == "bernoulli"
    assert found[0]["data_name"].endswith("blobs.npy")
    assert found[0]["data_hash"] == json.loads((trained / "config.json").read_text())["data"]["hash"]
    assert set(found[0]["versions"]) == {"vaecli", "torch"}
    assert found[0]["training"]["epochs"] == 3


def test_no_path_of_the_exporting_machine_is_in_the_files(trained: Path) -> None:
    for name in ("encoder.onnx", "decoder.onnx"):
        content = (trained / name).read_bytes()
        assert b".py" not in content
        assert str(Path(__file__).parent.parent).encode() not in content


def test_another_implementation_of_onnx_draws_the_same(trained: Path) -> None:
    weights = load_weights(trained / "best.pt")
    model = restore_model(weights)
    latent = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.image(model.decode(latent)).numpy()
    image, _ = ReferenceEvaluator(str(trained / "decoder.onnx")).run(None, {"latent": latent.numpy()})
    np.testing.assert_allclose(np.asarray(image), expected, atol=1e-5)


def test_another_implementation_of_onnx_draws_the_same_latents(trained: Path) -> None:
    mixture = load(trained).pair.prior
    assert mixture is not None
    normal, choice = noise.prior(3, 0, 200, 3), noise.choices(3, 0, 200)
    latent, log_weights, means, factors = (
        np.asarray(output)
        for output in ReferenceEvaluator(str(trained / "prior.onnx")).run(None, {"noise": normal, "choice": choice})
    )
    np.testing.assert_allclose(latent, mixture.latents(normal, choice), atol=1e-5)
    theirs = Mixture(log_weights, means, factors)
    np.testing.assert_allclose(theirs.log_density(latent), mixture.log_density(latent), atol=1e-9)


def test_the_prior_can_be_left_out(run: Path) -> None:
    result = vae("export", "--run", run, "--prior", "normal", "--json")
    assert (result.json["prior"], result.json["prior_summary"]) == (None, None)
    assert not (run / "prior.onnx").exists()


def test_people_are_told_what_the_prior_gains(run: Path) -> None:
    err = vae("export", "--run", run).err
    mixture = load(run, "cpu").pair.prior
    assert mixture is not None
    line = f"prior: a mixture of {mixture.components} Gaussians, fitted to the latents of 108 training pictures"
    assert err.index("fitting the prior to the latents of 108 training pictures") < err.index(line)
    assert "nats over N(0, I) on latents of held-out pictures" in err
    assert f"and {run / 'prior.onnx'}, from epoch" in err


def test_json_reports_the_differences(run: Path) -> None:
    report = vae("export", "--run", run, "--json").json
    assert set(report) >= {"encoder", "decoder", "max_abs_difference", "opset"}
    assert set(report["max_abs_difference"]) == {"image", "logits", "mean", "std", "latent", "log_density"}
    assert report["prior"] == str(run / "prior.onnx")
    assert report["prior_summary"]["components"] >= 1
    assert 0 < max(report["max_abs_difference"].values()) < 1e-4
    assert report["opset"] == 20


def test_the_same_weights_give_the_same_pair_and_other_weights_another(run: Path) -> None:
    def pair() -> str:
        (entry,) = onnx.load(run / "decoder.onnx").metadata_props
        identity: str = json.loads(entry.value)["pair"]
        return identity

    first = pair()
    assert vae("export", "--run", run).code == 0
    assert pair() == first
    assert vae("train", "--run", run, "--resume", "--epochs", "4").code == 0
    assert vae("export", "--run", run, "--weights", "last").code == 0
    assert pair() != first


def test_a_difference_exits_4_and_keeps_the_old_files(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    result = vae("export", "--run", run, "--atol", "0", "--rtol", "0")
    assert_refused(result, 4, "differs from PyTorch", "--atol")
    original = parity.compare

    def shifted(output: str, batch: int, actual: NDArray[np.float32], *rest: Any) -> float:
        return original(output, batch, actual + 1, *rest)

    monkeypatch.setattr(parity, "compare", shifted)
    assert_refused(vae("export", "--run", run), 4, "output 'mean' at batch 1")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_value_that_is_no_number_is_a_difference() -> None:
    one, nan = np.ones(2, np.float32), np.array([1, np.nan], np.float32)
    with pytest.raises(ParityError):
        compare("image", 1, nan, one, Tolerance(1, 1))
    with pytest.raises(ParityError):
        compare("image", 1, one[:1], one, Tolerance(1, 1))
    assert compare("image", 1, one, one, Tolerance(0, 0)) == 0


def test_a_float64_training_exports_float32_graphs(blobs: Path, tmp_path: Path) -> None:
    run = tmp_path / "r"
    flags = ("--run", run, "--epochs", "1", *TINY, "--precision", "float64")
    assert vae("train", "--data", blobs, *flags).code == 0
    assert vae("export", "--run", run).code == 0


def test_a_folder_without_a_training_is_an_error(tmp_path: Path) -> None:
    assert_refused(vae("export", "--run", tmp_path), 1, str(tmp_path), "vae train")


def test_the_pair_is_replaced_together_or_not_at_all(run: Path) -> None:
    (run / "encoder.onnx").unlink()
    (run / "encoder.onnx").mkdir()
    before = (run / "decoder.onnx").read_bytes()
    assert_refused(vae("export", "--run", run), 1, "encoder.onnx")
    assert (run / "decoder.onnx").read_bytes() == before


def test_pictures_that_are_named_and_do_not_fit_change_nothing(blobs: Path, tmp_path: Path) -> None:
    images = np.load(blobs)
    for name, part in (("train", images[:90]), ("test", images[90:])):
        np.save(tmp_path / f"{name}.npy", part)
    data = ("--data", tmp_path / "train.npy", "--held-out", tmp_path / "test.npy")
    small = ("--hidden", "8", "--epochs", "1", "--seed", "1")
    assert vae("train", *data, *small, "--run", tmp_path / "run").code == 0
    assert vae("export", "--run", tmp_path / "run").code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.onnx")}
    (tmp_path / "test.npy").rename(tmp_path / "moved.npy")
    np.save(tmp_path / "other.npy", images[80:])
    for flags, words in (
        (("--prior", "mixture"), "name their place now with --held-out"),
        (("--held-out", tmp_path / "other.npy"), "has other pictures than at the training"),
        (("--data", tmp_path / "gone.npy"), "gone.npy is not on this machine"),
    ):
        assert_refused(vae("export", *flags, "--run", tmp_path / "run"), 1, words)
        assert {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.onnx")} == before
    assert vae("train", "--data", blobs, *small, "--run", tmp_path / "plain").code == 0
    refused = vae("export", "--held-out", tmp_path / "moved.npy", "--run", tmp_path / "plain")
    assert_refused(refused, 2, "--held-out", "was not given such pictures")
