"""Start-up: `vae --help` beside bare imports, `vae sample` beside a bare ONNX Runtime script. Whole processes.

Of `vae train` the time until its first line, before it imports PyTorch.

python -m tests.benchmarks.startup RUN [ROUNDS]      # RUN holds an exported pair
"""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.timing import in_turns, seconds_to_first_byte, show, wall_seconds

ROUNDS = 21
FIRST_LINE = "vae train, first line"

BARE = """
import sys
import numpy as np
import onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
latent = np.random.default_rng(0).standard_normal((9, session.get_inputs()[0].shape[1]), dtype=np.float32)
(image,) = session.run(["image"], {"latent": latent})
grid = image[:, 0].reshape(3, 3, *image.shape[2:]).swapaxes(1, 2).reshape(3 * image.shape[2], -1)
Image.fromarray((grid * 255).astype(np.uint8)).resize((504, 504), 0).save(sys.argv[2])
"""


def main(run: Path, rounds: int) -> None:
    """Print two tables."""
    python = sys.executable
    vae = Path(python).with_name("vae")
    with tempfile.TemporaryDirectory() as scratch:
        script, grid = Path(scratch, "bare.py"), Path(scratch, "grid.png")
        script.write_text(BARE)
        commands: dict[str, list[str | Path]] = {
            "python -c pass": [python, "-c", "pass"],
            "import typer, rich": [python, "-c", "import typer, rich"],
            "vae --help": [vae, "--help"],
            "vae sample --help": [vae, "sample", "--help"],
            "bare script": [python, script, run / "decoder.onnx", grid],
            "vae sample --n 9": [vae, "sample", "--run", run, "--n", "9", "--seed", "0", "-o", grid],
        }
        contenders: dict[str, Callable[[], list[float]]] = {
            name: functools.partial(milliseconds, wall_seconds, command) for name, command in commands.items()
        }
        training: list[str | Path] = [vae, "train", "--run", Path(scratch, "run")]
        contenders[FIRST_LINE] = functools.partial(milliseconds, seconds_to_first_byte, training)
        found = in_turns(contenders, rounds)
    samples = ("bare script", "vae sample --n 9")
    starts = {name: values for name, values in found.items() if name not in samples}
    show("start-up", "ms", starts, ["import typer, rich"])
    show("nine samples", "ms", {name: found[name] for name in samples}, ["bare script"])


def milliseconds(measure: Callable[[list[str | Path]], float], command: list[str | Path]) -> list[float]:
    """One measurement of a command."""
    return [1000 * measure(command)]


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else ROUNDS)
