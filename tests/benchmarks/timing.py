"""How the benchmarks time: contenders take turns, so that a noisy machine is noisy to all; medians are compared."""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vaecli.processors import usable


def wall_seconds(command: Sequence[str | Path]) -> float:
    """The wall clock of one process, which must succeed."""
    start = time.perf_counter()
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{command}: {done.stderr.decode()}")
    return seconds


def seconds_to_first_byte(command: Sequence[str | Path]) -> float:
    """The wall clock from the start of a process to the first byte on its stderr. Then it is ended."""
    start = time.perf_counter()
    with subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        first = process.stderr.read(1)
        seconds = time.perf_counter() - start
        process.kill()
    if not first:
        sys.exit(f"{command}: said nothing")
    return seconds


def in_turns(contenders: Mapping[str, Callable[[], Sequence[float]]], rounds: int) -> dict[str, list[float]]:
    """What each contender measures, over several rounds in which each has a turn."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            found[name].extend(measure())
    return found


def show(
    title: str, unit: str, found: Mapping[str, Sequence[float]], peers: Sequence[str], absent: Sequence[str] = ()
) -> None:
    """One row a contender: its median, its fastest and slowest, and its ratio to each of `peers`."""
    table = Table(title=f"{title} · {processor()}", title_justify="left")
    for name in ("", f"median {unit}", "min", "max", *(f"x {peer}" for peer in peers)):
        table.add_column(name, justify="right" if name else "left")
    medians = {name: statistics.median(values) for name, values in found.items()}
    for name, values in found.items():
        ratios = (f"{medians[name] / medians[peer]:.2f}" if peer in medians else "-" for peer in peers)
        cells = (f"{number:,.4g}" for number in (medians[name], min(values), max(values)))
        table.add_row(name, *cells, *ratios)
    console = Console(width=118)
    console.print(table)
    for name in absent:
        console.print(f"left out, because it is not installed: {name}", highlight=False)


def processor() -> str:
    """What this machine computes with, and the date."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    return f"{name}, {usable()} cores, {time.strftime('%Y-%m-%d')}"
