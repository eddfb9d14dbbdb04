"""Sampling: `vae sample --n 200000 -o x.npy` beside bare ONNX Runtime loops, and decoding beside eager PyTorch.

python -m tests.benchmarks.sampling RUN      # RUN holds a training and its exported pair
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # it brings no types
import torch

from tests.benchmarks.timing import in_turns, show
from vaecli.exporting.convert import restore_model
from vaecli.processors import usable
from vaecli.run_folder import RunFolder
from vaecli.training.checkpoint import load_weights

N = 200_000
ROUNDS = 5
BATCHES = (32, 128, 512, 2048)


def session(decoder: Path) -> onnxruntime.InferenceSession:
    """ONNX Runtime as anyone would open it, with one thread a core that we may use."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable()
    return onnxruntime.InferenceSession(decoder, options, providers=["CPUExecutionProvider"])


def bare_loop(decoder: Path, batch: int) -> list[float]:
    """Images a second of a loop that decodes and throws away, the image output alone."""
    runtime = session(decoder)
    latent = np.random.default_rng(0).standard_normal((batch, runtime.get_inputs()[0].shape[1]), dtype=np.float32)
    runtime.run(["image"], {"latent": latent})
    rounds = N // batch // 4
    start = time.perf_counter()
    for _ in range(rounds):
        runtime.run(["image"], {"latent": latent})
    return [rounds * batch / (time.perf_counter() - start)]


def vae_sample(run: Path) -> list[float]:
    """Images a second by the command's own clock: from the opened model on, writing the file included."""
    return [N / json.loads(_vae_sample(run))["seconds"]]


def vae_sample_whole(run: Path) -> list[float]:
    """Images a second of the whole process, from its start to its end."""
    start = time.perf_counter()
    _vae_sample(run)
    return [N / (time.perf_counter() - start)]


def _vae_sample(run: Path) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        command = [Path(sys.executable).with_name("vae"), "sample", "-r", run, "-n", N, "--seed", 0, "-q", "--json"]
        done = subprocess.run([*map(str, command), "-o", f"{scratch}/x.npy"], check=True, capture_output=True)
        return done.stdout


def decode_batches(decode: Callable[[], object]) -> list[float]:
    """Images a second of batches of 128."""
    decode()
    start = time.perf_counter()
    for _ in range(300):
        decode()
    return [300 * 128 / (time.perf_counter() - start)]


def main(run: Path) -> None:
    """Print two tables."""
    loops = {f"bare loop, batch {batch}": batch for batch in BATCHES}
    contenders = {name: lambda batch=batch: bare_loop(run / "decoder.onnx", batch) for name, batch in loops.items()}
    ours = {f"vae sample --n {N}": lambda: vae_sample(run), "its whole process": lambda: vae_sample_whole(run)}
    found = in_turns({**ours, **contenders}, ROUNDS)
    best = max(loops, key=lambda name: sorted(found[name])[ROUNDS // 2])
    show("sampling, more is better", "images/s", found, [best])

    model, runtime = restore_model(load_weights(RunFolder(run).best)), session(run / "decoder.onnx")
    latent = torch.randn(128, model.latent_dim)
    inputs = {"latent": latent.numpy()}

    def eager() -> object:
        with torch.inference_mode():
            return model.image(model.decode(latent))

    decoders = {
        "eager PyTorch": lambda: decode_batches(eager),
        "ONNX Runtime": lambda: decode_batches(lambda: runtime.run(["image"], inputs)),
    }
    show("decoding batches of 128, more is better", "images/s", in_turns(decoders, ROUNDS), ["eager PyTorch"])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
