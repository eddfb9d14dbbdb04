"""checkpoint.pt and best.pt: what is read is what was written, and nothing else is read."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from vaecli.config import Config, ModelConfig, to_json
from vaecli.errors import VaeError
from vaecli.events import Losses
from vaecli.training import checkpoint
from vaecli.training.checkpoint import Checkpoint, Weights, load_checkpoint, load_weights
from vaecli.training.model import VAE

SETTINGS = ModelConfig(hidden=2, latent_dim=1)
CONFIG = to_json(Config(model=SETTINGS)).decode()
WEIGHTS = Weights(
    config=CONFIG,
    image_shape=(1, 2, 3),
    model={
        name: torch.arange(tensor.numel(), dtype=torch.float64).view_as(tensor)
        for name, tensor in VAE(SETTINGS, (1, 2, 3)).state_dict().items()
    },
    epoch=4,
    held_out={"loss": 3.0, "reconstruction": 2.0, "kl": 1.0},
    examples=torch.arange(6, dtype=torch.uint8).view(1, 2, 3, 1),
)
STATE = {
    "vector": None,
    "optimizer": {"exp_avg": torch.zeros(2)},
    "steps": 12,
    "noise": torch.ones(3, dtype=torch.uint8),
}
CHECKPOINT = Checkpoint(WEIGHTS, STATE, best={"epoch": 3, "objective": 2.5}, seconds=6.0)


def test_weights_are_read_from_either_file(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "best.pt", WEIGHTS)
    checkpoint.save(tmp_path / "checkpoint.pt", CHECKPOINT)
    for name in ("best.pt", "checkpoint.pt"):
        found = load_weights(tmp_path / name)
        assert (found.config, found.image_shape, found.epoch) == (CONFIG, (1, 2, 3), 4)
        assert found.losses == Losses(loss=3.0, reconstruction=2.0, kl=1.0)
        torch.testing.assert_close(found.model, WEIGHTS.model, rtol=0, atol=0)
        assert torch.equal(found.examples, WEIGHTS.examples)


def test_a_checkpoint_has_the_state_of_the_training(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "checkpoint.pt", CHECKPOINT)
    found = load_checkpoint(tmp_path / "checkpoint.pt")
    assert (found.best, found.seconds) == ({"epoch": 3, "objective": 2.5}, 6.0)
    assert (found.learner["vector"], found.learner["steps"]) == (None, 12)
    assert torch.equal(found.learner["noise"], STATE["noise"])  # type: ignore[arg-type]  # a tensor


def test_weights_alone_are_no_checkpoint(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "best.pt", WEIGHTS)
    with pytest.raises(VaeError, match=r"best.pt: not a checkpoint of vae, or damaged"):
        load_checkpoint(tmp_path / "best.pt")


def test_beside_a_damaged_best_epoch_the_last_one_may_be_whole(tmp_path: Path) -> None:
    for name, remedy in (("best.pt", "export with `weights` last"), ("checkpoint.pt", "train anew")):
        (tmp_path / name).write_bytes(b"PK")
        with pytest.raises(VaeError) as refused:
            load_weights(tmp_path / name)
        assert remedy in refused.value.hint


class Malicious:
    """An object whose unpickling makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


OTHERS = {
    "a list": [1],
    "a tensor": torch.zeros(2),
    "other keys": {"state_dict": {}},
    "another type": {**asdict(CHECKPOINT), "weights": 3},
}


def write_other(path: Path, kind: str) -> None:
    """A file that is no checkpoint of ours."""
    if kind in OTHERS:
        torch.save(OTHERS[kind], path)
    elif kind == "code":
        torch.save(Malicious(path.with_name("made")), path)
    else:
        checkpoint.save(path, CHECKPOINT)
        whole = path.read_bytes()
        damaged = whole.replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_v9")
        path.write_bytes({"empty": b"", "text": b"hello", "cut": whole[:-100], "damaged": damaged}[kind])


def test_a_changed_bit_anywhere_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    checkpoint.save(path, WEIGHTS)
    whole = path.read_bytes()
    for part in (b'"epochs":100', WEIGHTS.examples.numpy().tobytes()):  # of the settings, of a tensor
        at = whole.index(part)
        path.write_bytes(whole[: at + 1] + bytes([whole[at + 1] ^ 1]) + whole[at + 2 :])
        with pytest.raises(VaeError, match=r"best.pt: not a checkpoint of vae, or damaged"):
            load_weights(path)


FOREIGN: dict[str, dict[str, object]] = {
    "settings that are no settings": {"config": "{"},
    "settings out of range": {"config": CONFIG.replace('"hidden":2', '"hidden":0')},
    "a network of 270 GB": {
        "config": CONFIG.replace('"hidden":2', '"hidden":65536').replace('"depth":2', '"depth":16')
    },
    "pictures of another shape": {"image_shape": (3, 2, 3)},
    "no number": {"epoch": "four"},
    "no tensors": {"model": dict.fromkeys(WEIGHTS.model, 1.0)},
    "examples that repeat one byte": {"examples": torch.zeros(1, dtype=torch.uint8).expand(9, 2**20, 2**20, 1)},
    "labels of other examples": {"labels": torch.zeros(8, dtype=torch.int64)},
}


@pytest.mark.parametrize("changed", FOREIGN)
def test_weights_that_do_not_fit_their_settings_are_refused(changed: str, tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    torch.save({**asdict(WEIGHTS), **FOREIGN[changed]}, path)
    with pytest.raises(VaeError, match=r"best.pt: not a checkpoint of vae, or damaged"):
        load_weights(path)


PICKLES = {
    "one object of a terabyte": b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\0\0\0\0\0\1\x85R.",
    "millions of dictionaries": b"\x80\x02](" + 2**21 * b"}" + b"e.",
    "another protocol": b"\x80\x04N.",
}


@pytest.mark.parametrize("what", PICKLES)
def test_what_describes_the_parts_cannot_ask_for_memory(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "load", None)  # so that calling it is another error
    path = tmp_path / "best.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", PICKLES[what])
    assert path.stat().st_size < 10_000
    with pytest.raises(VaeError, match=r"best.pt: not a checkpoint of vae, or damaged") as caught:
        load_weights(path)
    assert caught.value.__cause__ is None


def test_the_state_of_a_training_cannot_repeat_what_is_stored_once(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    repeated = {**STATE, "optimizer": {"exp_avg": torch.zeros(1).expand(2**40)}}
    torch.save({**asdict(CHECKPOINT), "learner": repeated}, path)
    with pytest.raises(VaeError, match=r"checkpoint.pt: not a checkpoint of vae, or damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("load", [load_weights, load_checkpoint])
@pytest.mark.parametrize("kind", ["empty", "text", "cut", "damaged", "code", *OTHERS])
def test_other_files_are_refused_by_name(load: Callable[[Path], object], kind: str, tmp_path: Path) -> None:
    path = tmp_path / "some.pt"
    write_other(path, kind)
    with pytest.raises(VaeError, match=r"some.pt: not a checkpoint of vae, or damaged\nhint: train anew"):
        load(path)
    assert not (tmp_path / "made").exists(), "reading a file runs no code in it"


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VaeError, match=r"best.pt: no such file"):
        load_weights(tmp_path / "best.pt")


@pytest.mark.filterwarnings("always")
def test_a_foreign_file_is_refused_without_a_warning_of_torch(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    (tmp_path / "some.pt").write_bytes(pickle.dumps({}, protocol=4))
    with pytest.raises(VaeError):
        load_weights(tmp_path / "some.pt")
    assert not recwarn.list


def test_where_torch_cannot_write_the_old_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(content: object, stream: BinaryIO, **_: object) -> None:
        stream.write(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file")

    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"old")
    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(VaeError, match=r"checkpoint.pt: could not be written\nhint: free some disk space"):
        checkpoint.save(path, CHECKPOINT)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("checkpoint.pt", b"old")]
