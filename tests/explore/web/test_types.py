"""The page's modules, checked by TypeScript against the types in their comments."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.command_line import PROJECT
from vaecli.explore import page

TYPESCRIPT = "typescript@5.9.3"
NOT_FOUND = ("ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT", "EAI_AGAIN", "ECONNRESET")
HERE = Path(__file__).parent


@pytest.mark.slow
def test_the_modules_are_typed() -> None:
    """By TypeScript, which npm fetches where it is not here yet."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed, which fetches TypeScript")
    fetched = [npm, "exec", "--yes", "--fetch-retries=1", f"--package={TYPESCRIPT}"]
    command = [*fetched, "--", "tsc", "--project", str(HERE), "--listFiles"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode and any(word in done.stderr for word in NOT_FOUND):
        pytest.skip(f"npm's registry cannot be reached: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stdout + done.stderr
    missing = [module for module in page.MODULES if f"explore/web/{module}" not in done.stdout]
    assert not missing, "not among those that were checked"
