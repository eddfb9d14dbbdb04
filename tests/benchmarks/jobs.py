"""Jobs: `vae encode` of 100,000 digits in 50 shards, on 1 and 2 processes and on Ray, beside bare ONNX Runtime loops.

python -m tests.benchmarks.jobs RUN [ROUNDS]      # RUN holds an exported model for 28x28 grey pictures
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from tests.benchmarks.memory import Memory, below
from tests.benchmarks.timing import in_turns, show
from vaecli.datasets import builtin

SHARDS, EACH = 50, 2000
# What anyone would write who knows the libraries: shards in, means out, batches of 256, one thread.
BARE = """
import io, sys, tarfile
import numpy as np, onnxruntime
from PIL import Image
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
waiting, means = [], []
def compute():
    pixels = np.stack(waiting).astype(np.float32)[:, None] / 255
    means.append(session.run(["mean"], {"image": pixels})[0])
    waiting.clear()
for shard in sys.argv[3:]:
    with tarfile.open(shard) as archive:
        for member in archive:
            waiting.append(np.asarray(Image.open(io.BytesIO(archive.extractfile(member).read()))))
            if len(waiting) == 256:
                compute()
if waiting:
    compute()
np.save(sys.argv[2], np.concatenate(means))
"""


def make_shards(folder: Path) -> list[Path]:
    """Digits of the package, each shifted in another way every time it comes."""
    digits, _ = builtin.digits()
    shards = []
    for shard in range(SHARDS):
        shards.append(folder / f"{shard:05}.tar")
        with tarfile.open(shards[-1], "w") as archive:
            for number in range(shard * EACH, (shard + 1) * EACH):
                turn, digit = divmod(number, len(digits))
                buffer = io.BytesIO()
                shifted = np.roll(digits[digit, :, :, 0], (turn % 7 - 3, turn // 7 % 7 - 3), (0, 1))
                Image.fromarray(shifted).save(buffer, "PNG")
                member = tarfile.TarInfo(f"{number:08}.png")
                member.size = len(buffer.getvalue())
                archive.addfile(member, io.BytesIO(buffer.getvalue()))
    return shards


def bare(run: Path, shards: Sequence[Path], scratch: Path, processes: int) -> list[float]:
    """Pictures a second of bare loops, each with its share of the shards."""
    parts = [shards[number::processes] for number in range(processes)]
    start = time.perf_counter()
    running = [
        subprocess.Popen(
            [sys.executable, "-c", BARE, run / "encoder.onnx", scratch / f"bare{number}.npy", *part],
            env={**os.environ, "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"},
        )
        for number, part in enumerate(parts)
    ]
    if any(process.wait() for process in running):
        sys.exit("a bare loop failed")
    return [SHARDS * EACH / (time.perf_counter() - start)]


def encode(run: Path, shards: Path, output: Path, *flags: str) -> list[str]:
    """The command."""
    command = [sys.executable, "-m", "vaecli", "encode", f"{shards}/*.tar", "--run", run, "--device", "cpu", "--json"]
    return [*map(str, command), "-q", "-o", str(output), *flags]


def job(run: Path, shards: Path, scratch: Path, memory: dict[str, int], *flags: str) -> list[float]:
    """Pictures a second of the whole command, from its start to its end."""
    output = Path(tempfile.mkdtemp(dir=scratch)) / "means.parquet"
    start = time.perf_counter()
    with Memory() as seen:
        done = subprocess.run(encode(run, shards, output, *flags), capture_output=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(done.stderr.decode())
    name = " ".join(flags)
    memory[name] = max(memory.get(name, 0), seen.most)
    return [SHARDS * EACH / seconds]


def kill_and_resume(run: Path, shards: Path, output: Path) -> dict[str, Any]:
    """Kill a worker of two in the middle, then resume."""
    with subprocess.Popen(encode(run, shards, output, "--workers", "2"), stdout=subprocess.DEVNULL) as process:
        while len(list(output.glob("part-*"))) < SHARDS // 3:
            time.sleep(0.01)
        os.kill(below(process.pid)[-1], signal.SIGKILL)
        code = process.wait()
    kept = len(list(output.glob("part-*")))
    done = subprocess.run(encode(run, shards, output, "--workers", "2", "--resume"), capture_output=True, check=True)
    result = json.loads(done.stdout)
    names = [name.rpartition("/")[2] for name in pq.read_table(output, columns=["name"])["name"].to_pylist()]
    exact = names == [f"{number:08}.png" for number in range(SHARDS * EACH)]
    return {"exit code": code, "blocks kept": kept, "said": result["kept"], "every name once, in order": exact}


def main(run: Path, rounds: int) -> None:
    """Print a table, the memory, and what came of a kill."""
    with tempfile.TemporaryDirectory() as place:
        scratch, memory = Path(place), dict[str, int]()
        (scratch / "shards").mkdir()
        shards = make_shards(scratch / "shards")
        ways, absent = ["--workers 1", "--workers 2"], ["ray"]
        if importlib.util.find_spec("ray"):
            ways, absent = [*ways, "--ray local --workers 2"], []
        contenders = {f"bare loops: {count}": partial(bare, run, shards, scratch, count) for count in (1, 2)}
        contenders |= {name: partial(job, run, scratch / "shards", scratch, memory, *name.split()) for name in ways}
        found = in_turns(contenders, rounds)
        show("encoding, more is better", "pictures/s", found, ["bare loops: 1", "bare loops: 2"], absent)
        for name, size in memory.items():
            print(f"{name}: the largest process had {size / 1e6:,.0f} MB")  # noqa: T201
        print(kill_and_resume(run, scratch / "shards", scratch / "killed.parquet"))  # noqa: T201
        means = np.stack(pq.read_table(scratch / "killed.parquet", columns=["mean"])["mean"].to_numpy())
        order = [shard * EACH + row for half in range(2) for shard in range(half, SHARDS, 2) for row in range(EACH)]
        loops = np.concatenate([np.load(scratch / f"bare{number}.npy") for number in range(2)])
        print(f"largest difference from the bare loops: {np.abs(means[order] - loops).max():.2g}")  # noqa: T201


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 3)
