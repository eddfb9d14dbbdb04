"""Evaluating: decodes a second of `vae evaluate --importance-samples` beside bare ONNX Runtime loops, and its memory.

python -m tests.benchmarks.evaluating RUN [SAMPLES]      # RUN is an exported model, its pictures on this machine

The time of the same command with one sample is taken off: the start, the encoder, and what does not grow. The bare loop
computes what the likelihood needs, the decoder's outputs other than the picture, and throws it away.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tests.benchmarks.memory import Memory
from tests.benchmarks.sampling import session
from tests.benchmarks.timing import in_turns, show

SAMPLES = 1000  # latents for each held-out picture
ROUNDS = 5
BATCHES = (32, 128, 512)
DECODES = 50_000  # of a turn of the bare loop


def evaluate(run: Path, samples: int) -> tuple[int, float, float]:
    """How many pictures `vae evaluate` measured, its seconds from start to end, and its largest memory in MiB."""
    command = [Path(sys.executable).with_name("vae"), "evaluate", "-r", run, "-k", samples, "--seed", 1, "-q", "--json"]
    start = time.perf_counter()
    with Memory() as seen:
        done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)["n"], time.perf_counter() - start, seen.most / 2**20


def decodes_a_second(run: Path, samples: int) -> list[float]:
    """Of `vae evaluate`, without what it takes with one sample."""
    images, seconds, _ = evaluate(run, samples)
    return [images * (samples - 1) / (seconds - evaluate(run, 1)[1])]


def bare_loop(decoder: Path, batch: int) -> list[float]:
    """Decodes a second of the outputs that a likelihood needs."""
    runtime = session(decoder)
    outputs = [output.name for output in runtime.get_outputs()][1:]
    latent = np.random.default_rng(0).standard_normal((batch, runtime.get_inputs()[0].shape[1]), dtype=np.float32)
    runtime.run(outputs, {"latent": latent})
    rounds = DECODES // batch
    start = time.perf_counter()
    for _ in range(rounds):
        runtime.run(outputs, {"latent": latent})
    return [rounds * batch / (time.perf_counter() - start)]


def main(run: Path, samples: int) -> None:
    """Print two tables."""
    loops = {f"bare loop, batch {batch}": batch for batch in BATCHES}
    contenders = {name: lambda batch=batch: bare_loop(run / "decoder.onnx", batch) for name, batch in loops.items()}
    ours = {f"vae evaluate -k {samples}": lambda: decodes_a_second(run, samples)}
    found = in_turns({**ours, **contenders}, ROUNDS)
    best = max(loops, key=lambda name: sorted(found[name])[ROUNDS // 2])
    show("evaluating, more is better", "decodes/s", found, [best])
    memory = {f"-k {k}": [evaluate(run, k)[2]] for k in (1, samples // 10, samples)}
    show("largest memory of the process", "MiB", memory, ["-k 1"])


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else SAMPLES)
