"""`python -m vaecli` is `vae`."""

from __future__ import annotations

import vaecli
from tests.command_line import vae_process


def test_the_module_is_the_command() -> None:
    result = vae_process("--version")
    assert (result.code, result.out) == (0, f"vae {vaecli.__version__}\n")


def test_the_exit_code_is_that_of_the_command() -> None:
    assert vae_process("info", "nothing-here").code == 1
    assert vae_process("nonsense").code == 2
