"""Training: seconds an epoch of MNIST beside the same network in other engines, and beside its products alone.

The rows "autograd" are our own training without the dense kernels of training/fast/: what these kernels gain.

    VAE_DATA=FOLDER VAE_PEERS=FOLDER VAE_PEERS_PYTHON=PYTHON python -m tests.benchmarks.training [ROUNDS [TABLE...]]

VAE_DATA has MNIST in it. VAE_PEERS has jax_scan.py, tf_graph.py and torch_loader.py, scripts that train this network
and print `… epoch N: SECONDS s` a line; VAE_PEERS_PYTHON runs the first two. Peers that are missing are left out. The
first epoch of each run is dropped: a peer compiles in it. Without a TABLE there are all of them:

- `dense`: the tutorial's network;
- `busy`: the same beside one busy program;
- `conv`: a convolutional network beside torch_conv.py, plain PyTorch in each of its forms;
- `growth`: against the number of images;
- `gpu`: on an NVIDIA GPU, where there is one.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from tests.benchmarks.memory import Memory
from tests.benchmarks.timing import in_turns, show
from vaecli.training.device import DTYPES, choose_precision
from vaecli.training.fast.products import choose_products

EPOCHS = 3  # of a turn, the first of which is dropped
CONVOLVED = 9_000  # images of an epoch of the convolutional network
FORMS = ("eager", "channels_last", "compile", "bfloat16", "bfloat16 channels_last", "bfloat16 compile")  # of torch_conv
SIZES = (5_000, 15_000, 60_000)  # images, for the growth
AUTOGRAD = """
from vaecli.training.fast.dense import DenseLearner
DenseLearner.serves = staticmethod(lambda *_: False)
from vaecli.cli.main import main
main()
"""
LAYERS = ((784, 500), (500, 500), (500, 40), (20, 500), (500, 500), (500, 784))


def vae_epochs(
    folder: str, *flags: str, epochs: int = EPOCHS, device: str = "cpu", autograd: bool = False
) -> tuple[list[float], list[float]]:
    """Seconds of each epoch's steps, and of wall clock from one epoch's line to the next."""
    program = [sys.executable, "-c", AUTOGRAD] if autograd else [str(Path(sys.executable).with_name("vae"))]
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            *program,
            "train",
            "--config",
            "tutorial",
            "--data-dir",
            folder,
            "--run",
            f"{scratch}/run",
            "--epochs",
            str(epochs),
        ]
        command += ["--seed", "1", "--device", device, "--json", *flags]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            events = [(time.perf_counter(), json.loads(line)) for line in process.stdout]
    epoch_lines = [(when, event["seconds"]) for when, event in events if event["event"] == "epoch"]
    walls = [later[0] - earlier[0] for earlier, later in pairwise(epoch_lines)]
    return [seconds for _, seconds in epoch_lines[1:]], walls


def peer_epochs(command: Sequence[str]) -> list[float]:
    """Seconds of each epoch that a peer prints, without the first."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(seconds) for seconds in re.findall(r"epoch \d+: ([\d.]+) s", done.stdout)][1:]


def precisions() -> list[str]:
    """The precisions to measure on this processor: float32, and before it bfloat16 where there are instructions."""
    return ["float32"] if choose_precision("auto", torch.device("cpu")) == "float32" else ["bfloat16", "float32"]


def products_alone(dtype: torch.dtype) -> list[float]:
    """Seconds of an epoch's matrix products and nothing else: three a layer and step, two for the first."""
    products = choose_products(torch.device("cpu"), dtype)
    tensors = [
        [torch.randn(shape).to(dtype) for shape in ((128, inner), (outer, inner), (outer,), (128, outer))]
        for inner, outer in LAYERS
    ]
    weight_gradients = [torch.empty_like(weight) for _, weight, _, _ in tensors]

    def step() -> None:
        for index, (x, weight, bias, gradient) in enumerate(tensors):
            products.linear(x, weight, bias, None)
            products.weight_gradient_(weight_gradients[index], gradient, x)
            if index:
                products.input_gradient(gradient, weight)

    for _ in range(20):
        step()
    start = time.perf_counter()
    for _ in range(469):
        step()
    return [time.perf_counter() - start]


@contextmanager
def busy() -> Iterator[None]:
    """Another program that keeps one processor busy, within the block."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as program:
        try:
            yield
        finally:
            program.kill()


def beside_a_busy_program(folder: str, rounds: int) -> None:
    """Seconds an epoch beside one busy program: ours with the threads that it chooses, and a peer."""
    peers, _ = peer_commands(folder)
    contenders: dict[str, Callable[[], Sequence[float]]] = {
        # More epochs: the threads are chosen in the first one that is long enough for it to pay.
        "vae train, auto": lambda: vae_epochs(folder, "--data", "mnist", epochs=10)[0][-EPOCHS:],
    }
    for name in list(peers)[:1]:
        contenders[name] = lambda command=peers[name]: peer_epochs(command)  # type: ignore[misc]  # as below
    with busy():
        found = in_turns(contenders, rounds)
    show("an epoch of MNIST beside one busy program", "s", found, list(peers)[:1])


def convolutional(folder: str, rounds: int) -> None:
    """Seconds an epoch of a small residual network on some of MNIST, beside the same in plain PyTorch."""
    script = Path(os.environ.get("VAE_PEERS", ""), "torch_conv.py")
    network = ("--architecture", "conv", "--width", "16", "--depth", "1", "--latent-dim", "32", "--dropout", "0")
    with tempfile.TemporaryDirectory() as scratch:
        raw = np.fromfile(Path(folder, "MNIST/raw/train-images-idx3-ubyte"), np.uint8, offset=16)
        np.save(f"{scratch}/some.npy", raw.reshape(-1, 28, 28)[: CONVOLVED * 10 // 9])  # a tenth is held out
        contenders: dict[str, Callable[[], Sequence[float]]] = {}
        for precision in precisions():
            contenders[f"vae train, {precision}"] = lambda precision=precision: vae_epochs(  # type: ignore[misc]  # as below
                folder, "--data", f"{scratch}/some.npy", "--precision", precision, *network
            )[0]
        for form in FORMS if script.is_file() else ():
            if "bfloat16" in form and "bfloat16" not in precisions():
                continue
            command = [sys.executable, str(script), folder, str(EPOCHS), str(CONVOLVED), *form.split()]
            contenders[f"{script.stem} {form}"] = lambda command=command: peer_epochs(command)  # type: ignore[misc]  # as below
        found = in_turns(contenders, rounds)
    absent = [] if script.is_file() else [script.name]
    forms = [name for name in found if name.startswith(script.stem)]
    kinds = [[name for name in forms if ("bfloat16" in name) == mixed] for mixed in (False, True)]
    best = [min(kind, key=lambda name: statistics.median(found[name])) for kind in kinds if kind]
    show(f"a convolutional network, an epoch of {CONVOLVED:,} images", "s", found, best, absent)


def growth(folder: str, rounds: int) -> None:
    """Seconds an epoch and memory against the number of images."""
    memory = {}
    with tempfile.TemporaryDirectory() as scratch:
        raw = np.fromfile(Path(folder, "MNIST/raw/train-images-idx3-ubyte"), np.uint8, offset=16)
        images = raw.reshape(-1, 28, 28)

        def microseconds(n: int) -> list[float]:
            np.save(f"{scratch}/{n}.npy", images[:n])
            with Memory() as seen:
                seconds, _ = vae_epochs(folder, "--data", f"{scratch}/{n}.npy", epochs=5)
            memory[n] = seen.most
            return [1e6 * second / n for second in seconds]

        found = in_turns({f"{n:,} images": partial(microseconds, n) for n in SIZES}, rounds)
    show("growth, microseconds an image", "µs", found, [f"{SIZES[-1]:,} images"])
    print("largest process:", ", ".join(f"{n:,} images {size / 2**20:,.0f} MiB" for n, size in memory.items()))  # noqa: T201


def on_a_gpu(folder: str, rounds: int) -> None:
    """The table of the GPU: epochs beside the DataLoader's on the same card, and a whole training by wall clock."""
    contenders: dict[str, Callable[[], Sequence[float]]] = {}
    for precision in ("auto", "float32"):
        contenders[f"vae train, {precision}"] = lambda precision=precision: vae_epochs(  # type: ignore[misc]  # as below
            folder, "--data", "mnist", "--precision", precision, epochs=10, device="cuda"
        )[0]
    script = Path(os.environ.get("VAE_PEERS", ""), "torch_loader.py")
    if script.is_file():
        contenders[script.name] = lambda: peer_epochs([sys.executable, str(script), folder, str(EPOCHS)])
    found = in_turns(contenders, rounds)
    absent = [] if script.is_file() else [script.name]
    show(f"an epoch of MNIST on {torch.cuda.get_device_name()}", "s", found, list(found)[2:], absent)
    start = time.perf_counter()
    vae_epochs(folder, "--data", "mnist", epochs=100, device="cuda")
    print(f"100 epochs, process start to run folder complete: {time.perf_counter() - start:.1f} s")  # noqa: T201


def dense(folder: str, rounds: int) -> None:
    """Seconds an epoch of the tutorial's network beside other engines, and what an epoch takes beside learning."""
    learning: dict[str, list[float]] = {}
    walls: dict[str, list[float]] = {}

    def ours(precision: str) -> Callable[[], list[float]]:
        def turn() -> list[float]:
            seconds, wall = vae_epochs(folder, "--data", "mnist", "--precision", precision)
            learning.setdefault(precision, []).extend(seconds)
            walls.setdefault(precision, []).extend(wall)
            return seconds

        return turn

    contenders: dict[str, Callable[[], Sequence[float]]] = {}
    for precision in precisions():
        contenders[f"vae train, {precision}"] = ours(precision)
    for precision in precisions():
        contenders[f"autograd, {precision}"] = lambda precision=precision: vae_epochs(  # type: ignore[misc]  # as below
            folder, "--data", "mnist", "--precision", precision, autograd=True
        )[0]
    peers, absent = peer_commands(folder)
    for name, command in peers.items():
        contenders[name] = lambda command=command: peer_epochs(command)  # type: ignore[misc]  # as above
    products = {f"products alone, {precision}": DTYPES[precision] for precision in precisions()}
    for name, dtype in products.items():
        contenders[name] = lambda dtype=dtype: products_alone(dtype)  # type: ignore[misc]  # as below
    found = in_turns(contenders, rounds)
    ratios = [*list(peers)[:1], *products]
    show("an epoch of MNIST, batch 128", "s", found, ratios, absent)
    for precision, wall in walls.items():
        share = statistics.median(wall) / statistics.median(learning[precision]) - 1
        print(f"{precision}: held-out pass, preview, checkpoint and progress add {share:.1%} to an epoch")  # noqa: T201


def peer_commands(folder: str) -> tuple[dict[str, list[str]], list[str]]:
    """The peers that can run here, as commands, and the names of those that cannot."""
    scripts, python = Path(os.environ.get("VAE_PEERS", "")), os.environ.get("VAE_PEERS_PYTHON", sys.executable)
    wanted = {
        "jax_scan.py": ([python, "jax_scan.py", folder, str(EPOCHS)], "jax, optax"),
        "tf_graph.py float64": ([python, "tf_graph.py", folder, "float64", str(EPOCHS)], "tensorflow"),
        "tf_graph.py float32": ([python, "tf_graph.py", folder, "float32", str(EPOCHS)], "tensorflow"),
        "torch_loader.py": ([sys.executable, "torch_loader.py", folder, "2"], "torchvision"),
    }
    there, absent = {}, []
    for name, (command, packages) in wanted.items():
        check = subprocess.run([command[0], "-c", f"import {packages}"], capture_output=True, check=False)
        if (scripts / command[1]).is_file() and check.returncode == 0:
            there[name] = [command[0], str(scripts / command[1]), *command[2:]]
        else:
            absent.append(name)
    return there, absent


TABLES = {"dense": dense, "busy": beside_a_busy_program, "conv": convolutional, "growth": growth, "gpu": on_a_gpu}


def main(rounds: int, names: Sequence[str]) -> None:
    """Print the tables of these names."""
    folder = os.environ.get("VAE_DATA")
    if folder is None or not set(names) <= TABLES.keys():
        sys.exit(__doc__)
    for name in names:
        if name != "gpu" or torch.cuda.is_available():
            TABLES[name](folder, rounds)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, sys.argv[2:] or list(TABLES))
