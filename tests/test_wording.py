"""Words of messages: one of something is not plural, and long lists are cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.command_line import vae
from tests.conftest import TINY
from vaecli.wording import MOST_LISTED, listed


def test_one_held_out_picture_is_no_plural(tmp_path: Path) -> None:
    np.save(tmp_path / "two.npy", np.random.default_rng(0).integers(0, 256, (2, 8, 8), np.uint8))
    run = tmp_path / "r"
    trained = vae("train", "--data", tmp_path / "two.npy", "--run", run, "--epochs", "1", "--seed", "1", *TINY)
    assert "1 image to train on, 1 held out" in trained.err
    assert "lowest loss on the 1 held-out image, " in trained.err
    assert "1 picture to train on is few" in trained.err
    exported = vae("export", "--run", run)
    assert "nats per image on 1 picture, in PyTorch" in exported.err
    assert "1 held-out picture of two.npy; 20 held-out pictures are needed" in exported.err
    assert f"{run} on 1 held-out picture of two.npy\n" in vae("evaluate", "--run", run).out


def test_a_list_of_names_is_cut_where_it_is_too_long() -> None:
    names = [f"c{number}" for number in range(MOST_LISTED + 1)]
    assert listed(names[:2]) == listed(names[:2], 2) == "c0, c1"
    assert listed(names, 2) == "c0, c1, …"
    assert listed(names[:-1]) == ", ".join(names[:-1])
    assert listed(names) == f"{listed(names[:-1])}, …"
    assert listed(()) == ""
