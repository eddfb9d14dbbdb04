"""A training that does not fit into memory is refused before it begins."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch

from tests.command_line import assert_refused, vae
from tests.conftest import TINY
from tests.training.tiny_learner import CPU, SHAPE, random_images, tiny_learner
from vaecli import config
from vaecli.errors import VaeError
from vaecli.run_folder import RunFolder
from vaecli.settings import Flags, resolve
from vaecli.training import memory
from vaecli.training.memory import check_memory, check_weights, convert_out_of_memory, free_memory
from vaecli.training.model import VAE

IMAGE = random_images(1)
BATCH = 5
SMALL: Flags = {("model", "hidden"): 64, ("training", "batch_size"): BATCH}
WEIGHTED: Flags = {
    **SMALL,
    ("training", "objective"): "iwae",
    ("training", "importance_samples"): 3,
    ("model", "prior"): "vamp",
    ("model", "pseudo_inputs"): 4,
}


def with_memory(kilobytes: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which so much is free, in no control group."""
    (folder / "meminfo").write_text(f"MemTotal: 9999 kB\nMemAvailable: {kilobytes} kB\nSwapFree: 0 kB\n")
    monkeypatch.setattr(memory, "MEMORY", folder / "meminfo")
    monkeypatch.setattr(memory, "control_group_limits", lambda *_: iter(()))


@pytest.mark.parametrize("flags", [SMALL, WEIGHTED], ids=["elbo", "importance-weighted"])
def test_what_is_counted_is_most_of_what_a_step_keeps(
    flags: Flags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = tiny_learner(flags)
    with memory._counted() as kept:
        learner._loss(random_images(BATCH) / 255, None)
    weights = learner.parameters.vector.untyped_storage().data_ptr()  # of any batch
    kilobytes = sum(size for address, size in kept.items() if address != weights) / 1024
    with_memory(round(1.1 * kilobytes), tmp_path, monkeypatch)
    check_memory(learner, IMAGE, None, BATCH)
    with_memory(round(0.5 * kilobytes), tmp_path, monkeypatch)
    with pytest.raises(VaeError, match="`batch_size` 5: a step takes at least") as refused:
        check_memory(learner, IMAGE, None, BATCH)
    assert ("`pseudo_inputs`" in refused.value.hint) == (flags is WEIGHTED)


def test_the_random_numbers_of_the_training_stay_as_they_were() -> None:
    learner = tiny_learner({**SMALL, ("model", "dropout"): 0.5})
    before = learner.noise.state()
    check_memory(learner, IMAGE, None, BATCH)
    assert torch.equal(learner.noise.state(), before)


def test_what_is_free_is_what_the_system_says_or_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_memory(100, tmp_path, monkeypatch)
    assert free_memory(CPU) == 100 * 1024
    monkeypatch.setattr(memory, "control_group_limits", lambda *_: iter([[5000], [1_000_000]]))
    assert free_memory(CPU) == 5000
    monkeypatch.setattr(memory, "MEMORY", tmp_path / "nothing")
    assert free_memory(CPU) is None
    check_memory(tiny_learner(SMALL), IMAGE, None, 10**12)


def test_the_command_refuses_it_and_an_older_run_stays(
    run: Path, blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = RunFolder(run).checkpoint.read_bytes()
    with_memory(60, tmp_path, monkeypatch)
    result = vae("train", "--data", blobs, "--run", run, "--overwrite", *TINY, "--batch-size", "100")
    assert_refused(result, 1, "--batch-size 100: a step takes at least 0.0 GB", "a smaller --batch-size")
    assert RunFolder(run).checkpoint.read_bytes() == before


def small_model(changes: Flags) -> config.Config:
    return resolve(None, {("model", "hidden"): 16, **changes})


def test_what_is_kept_for_each_weight_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = small_model({("training", "ema"): 0.9, ("model", "prior"): "vamp", ("model", "conditional"): True})
    model = VAE(settings.model, SHAPE, 2)
    weights = sum(weight.numel() for weight in model.parameters())
    with_memory(20 * weights // 1024 + 1, tmp_path, monkeypatch)
    check_weights(model, CPU, "float32", averaged=True)
    with pytest.raises(VaeError, match=r"0\.0 million weights, which take at least 0\.0 GB"):
        check_weights(model, CPU, "float64", averaged=True)
    with_memory(20 * weights // 1024 - 1, tmp_path, monkeypatch)
    check_weights(model, CPU, "float32", averaged=False)
    with pytest.raises(VaeError, match="the network has") as refused:
        check_weights(model, CPU, "float32", averaged=True)
    assert "fewer `pseudo_inputs`" in refused.value.hint


@pytest.mark.parametrize(
    ("architecture", "side", "hint"),
    [
        ("mlp", 1024, "smaller `image_size`: up to 256 pixels a side, `architecture` conv"),
        ("mlp", 256, "`architecture` conv, or a smaller `image_size` or `hidden`"),
        ("mlp", 8, "smaller `image_size` or `hidden`"),
        ("conv", 256, "smaller `width`, `depth`, `map_size` or `latent_dim`"),
    ],
)
def test_a_network_of_too_many_weights_is_refused_with_what_makes_it_smaller(
    architecture: str, side: int, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = resolve(None, {("model", "architecture"): architecture, ("model", "depth"): 1})
    with_memory(1, tmp_path, monkeypatch)
    with pytest.raises(VaeError, match=r"[\d.,]+ [mb]illion weights, which take at least") as refused:
        check_weights(VAE(settings.model, (3, side, side)), CPU, "float32", averaged=False)
    assert hint in refused.value.hint


def test_the_command_refuses_a_network_before_it_is_made(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_memory(10, tmp_path, monkeypatch)
    result = vae("train", "--data", blobs, "--run", tmp_path / "r", *TINY)
    assert_refused(result, 1, "the network has 0.0 million weights", "smaller --image-size or --hidden")
    monkeypatch.undo()
    monkeypatch.setattr("vaecli.training.session.VAE", lambda *_: torch.empty(2**60))
    result = vae("train", "--data", blobs, "--run", tmp_path / "r", *TINY)
    assert_refused(result, 1, "this training takes more memory than there is")


def test_memory_that_runs_out_in_a_step_is_told() -> None:
    with pytest.raises(VaeError, match="this training takes more memory than there is"), convert_out_of_memory():
        torch.empty(2**60)
    with pytest.raises(VaeError, match="more memory than there is"), convert_out_of_memory():
        raise torch.OutOfMemoryError("CUDA out of memory")
    for text in ("CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"):
        with pytest.raises(VaeError, match="more memory than there is"), convert_out_of_memory():
            raise RuntimeError(text)
    with pytest.raises(RuntimeError, match="another"), convert_out_of_memory():
        raise RuntimeError("another")


def test_nothing_is_kept_of_what_is_counted() -> None:
    """Else a process would grow with each training."""
    learner = tiny_learner(SMALL)
    check_memory(learner, IMAGE, None, BATCH)
    del learner
    gc.collect()
    before = live_tensors()
    learner = tiny_learner(SMALL)
    check_memory(learner, IMAGE, None, BATCH)
    del learner
    gc.collect()
    assert live_tensors() == before


def live_tensors() -> int:
    return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())
